"""Cleaned seconds -> frames of one second, and what is remembered beside them: both, or none of them.

    online/S-SIM_GLITCHFLOW-1400000000-1.gwf    NAME_CLEAN, NAME_NOISE, NAME_STATE, NAME_P, NAME_TWIN
    online/state                                 what the next second depends on
    online/hours/                                segments and vetoes: see hours.py

1. the frames are written under other names, brought to the disk and read back as far as their checksum
2. the state takes the place of the one before it: from now on these seconds are out
3. the frames get their names, and what is kept by the hour is written

Killed before 2, the same seconds are made again, of the same samples; killed before 3, what begins next finishes it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from glitchflow.data import objects
from glitchflow.data.frames import ENDINGS, frame_name, write_frame
from glitchflow.errors import RunError
from glitchflow.online.hours import Log, entered, put
from glitchflow.online.line import STATE_RATE, Cleaned, Memory
from glitchflow.online.saved import Saved, pack, unpack
from glitchflow.signal.recorded.checksum import damage
from glitchflow.signal.recorded.frames import NAMED

STATE, HOURS, HIDDEN = "state", "hours", ".new."
DESCRIPTION = "GLITCHFLOW"


@dataclass(frozen=True)
class Outbox:
    """Says where frames of a strain go, in which format, and by which twin they were made."""

    directory: Path
    strain: str
    form: str  # gwf or hdf5
    twin: int  # the first 32 bits of its weights' SHA-256
    identity: dict[str, Any]  # of the twin and the settings that a state goes with


@dataclass(frozen=True)
class Found:
    """Holds what a run goes on from."""

    memory: Memory | None = None  # None where nothing was remembered, or by another twin
    written: int = 0  # the GPS second that comes out next; 0 where none came yet
    log: Log = field(default_factory=Log)  # whoever made it


def commit(outbox: Outbox, memory: Memory, log: Log, seconds: Sequence[Cleaned]) -> Log:
    """Put out cleaned seconds, and what is remembered after them; return the log with them.

    Raises `RunError` or `OSError` where the disk refuses: nothing is out then, and it can be done again.
    """
    names = [_write(outbox, second) for second in seconds]
    after = entered(log, seconds)
    _put(outbox.directory / STATE, pack(Saved(memory, outbox.identity, after)))
    for name in names:
        (outbox.directory / f"{HIDDEN}{name}").replace(outbox.directory / name)
    objects.sync(outbox.directory)
    put(outbox.directory / HOURS, outbox.strain, after, log)
    return after


def recover(outbox: Outbox) -> Found:
    """Finish what a kill left, and find what there is to go on from.

    Raises `RunError` where the state cannot be read.
    """
    path, found = outbox.directory / STATE, Found()
    if path.exists():
        try:
            saved = unpack(path.read_bytes())
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read: {error}; delete it to begin anew") from None
        memory = saved.memory if saved.identity == outbox.identity else None
        found = Found(memory, saved.memory.written, saved.log)
    for left in outbox.directory.glob(f"{HIDDEN}*"):
        told = NAMED.match(left.name.removeprefix(HIDDEN))
        if told and float(told[1]) < found.written and left.suffix in ENDINGS.values():
            left.replace(left.with_name(left.name.removeprefix(HIDDEN)))
        else:
            left.unlink()
    put(outbox.directory / HOURS, outbox.strain, found.log, Log())
    return found


def asked(directory: Path) -> str:
    """Name the twin that a state goes with, by the SHA-256 of its weights; empty where there is none."""
    try:
        return str(unpack((directory / STATE).read_bytes()).identity["twin"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def try_out(outbox: Outbox) -> None:
    """Write a frame and delete it. Raises `RunError` where that cannot be done."""
    none = np.zeros(STATE_RATE)
    name = _write(outbox, Cleaned(0, none, none, none, none.astype(np.uint32), none, none, (), ()))
    (outbox.directory / f"{HIDDEN}{name}").unlink()


def prune(outbox: Outbox, before: float) -> None:
    """Delete the frames, and what is kept by the hour, that end before a GPS time."""
    for path in (*outbox.directory.iterdir(), *(outbox.directory / HOURS).glob("*")):
        told = NAMED.match(path.name)
        if told and float(told[1]) + float(told[2]) <= before:
            path.unlink(missing_ok=True)


def _write(outbox: Outbox, second: Cleaned) -> str:
    """Write one frame under a name that nobody looks for; return the name it will have."""
    name = frame_name(outbox.strain, DESCRIPTION, second.gps, 1, outbox.form)
    path, strain = outbox.directory / f"{HIDDEN}{name}", outbox.strain
    series = {
        f"{strain}_CLEAN": second.clean,
        f"{strain}_NOISE": second.noise,
        f"{strain}_STATE": second.state,
        f"{strain}_P": second.p.astype(np.float32),
        f"{strain}_TWIN": np.full(STATE_RATE, outbox.twin, np.uint32),
    }
    write_frame(path, second.gps, 1, series, outbox.form, "online.format")
    objects.sync(path)
    if reason := damage(path):  # LALFrame does not say that a disk is full
        raise RunError(f"{path}: cannot be written: it {reason}")
    return name


def _put(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{HIDDEN}{path.name}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
