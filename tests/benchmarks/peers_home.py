"""Where a peer runs: an environment of its own, made once, that is asked through files; see peers.py."""

from __future__ import annotations

import json
import subprocess
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glitchflow.signal.types import Array

BRIDGE = Path(__file__).with_name("peers_bridge.py")
PACKAGES = {"franc": "franc==0.3.10", "gw-nomad": "gw-nomad==0.3.0", "hveto": "hveto==2.1.9"}
LIMIT = 1800.0  # s in which a peer has to answer: 15 times what the slowest needs, on a machine that others use too

Said = dict[str, Array]  # what a peer says, by name


class NotRun(Exception):
    """Says in a line why a peer did not run."""


@dataclass(frozen=True)
class Home:
    """Directories: what peers were handed and said, and their environments, which runs can share."""

    path: Path
    environments: Path

    def python(self, peer: str) -> Path:
        """The Python of a peer's own environment, made where it is not there. Raises `NotRun` with pip's last line."""
        where = self.environments / peer
        python, done = where / "bin" / "python", where / "installed"
        if not done.exists():
            print(f"== pip install {PACKAGES[peer]}", flush=True)
            venv.create(where, with_pip=True, clear=True)
            checked([str(python), "-m", "pip", "install", "--quiet", PACKAGES[peer]])
            done.touch()
        return python

    def kept(self, name: str, ask: Callable[[], Said]) -> tuple[Said, dict[str, Any]]:
        """What a peer says under a name, asked once, and `about` it: a name -> number each. Raises `NotRun`."""
        file = self.path / f"{name.replace(' ', '_').replace(',', '')}.npz"
        if not file.exists():
            partial = file.with_suffix(".partial.npz")
            np.savez(partial, **ask())
            partial.replace(file)
        with np.load(file) as found:
            said = dict(found)
        return said, json.loads(str(said.pop("about", "{}")))

    def ask(self, peer: str, job: Mapping[str, Any]) -> tuple[Said, float]:
        """What a peer makes of arrays and numbers, and the minutes that it took. Raises `NotRun` with its error."""
        return ask(self.python(peer), peer, self.path, job)


def ask(python: Path, peer: str, home: Path, job: Mapping[str, Any]) -> tuple[Said, float]:
    """What the bridge to a peer, run by a Python, makes of some arrays and numbers; see `Home.ask`."""
    given, made = home / f"{peer}_given.npz", home / f"{peer}_made.npz"
    np.savez(given, **job)
    began = time.monotonic()
    checked([str(python), str(BRIDGE), peer, str(given), str(made)])
    with np.load(made) as found:
        return dict(found), (time.monotonic() - began) / 60


def checked(command: Sequence[str]) -> None:
    """Run a command to its end. Raises `NotRun` with the last line of what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise NotRun(f"no answer in {LIMIT / 60:g} minutes") from None
    if done.returncode < 0:  # what it said before is no reason
        raise NotRun(f"ended by signal {-done.returncode}")
    if done.returncode:
        raise NotRun(last_line(done.stderr) or f"exit status {done.returncode}")


def last_line(text: str) -> str:
    """The last line of a text that says something, without the bars that would split a table's cell."""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return said[-1].replace("|", "/")[:200] if said else ""
