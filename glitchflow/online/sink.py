"""Cleaned seconds -> frames of one second, and what is remembered beside them: both, or none of them.

    online/S-SIM_GLITCHFLOW-1400000000-1.gwf    NAME_CLEAN, NAME_NOISE, NAME_STATE, NAME_TWIN
    online/state                                 what the next second depends on

1. the frames are written under other names, brought to the disk and read back as far as their checksum
2. the state takes the place of the one before it: from now on these seconds are out
3. the frames get their names

Killed before 2, the same seconds are made again, of the same samples; killed before 3, what begins next finishes it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glitchflow.data import objects
from glitchflow.data.frames import ENDINGS, frame_name, write_frame
from glitchflow.errors import RunError
from glitchflow.online.checksum import damage
from glitchflow.online.line import STATE_RATE, Cleaned, Memory
from glitchflow.online.saved import pack, unpack
from glitchflow.signal.recorded.frames import NAMED

STATE, HIDDEN = "state", ".new."
DESCRIPTION = "GLITCHFLOW"


@dataclass(frozen=True)
class Outbox:
    """Says where frames of a strain go, in which format, and by which twin they were made."""

    directory: Path
    strain: str
    form: str  # gwf or hdf5
    twin: int  # the first 32 bits of its weights' SHA-256
    identity: dict[str, Any]  # of the twin and the settings that a state goes with


def commit(outbox: Outbox, memory: Memory, seconds: Sequence[Cleaned]) -> None:
    """Put out cleaned seconds, and what is remembered after them.

    Raises `RunError` or `OSError` where the disk refuses: nothing is out then, and it can be done again.
    """
    names = [_write(outbox, second) for second in seconds]
    _put(outbox.directory / STATE, pack(memory, outbox.identity))
    for name in names:
        (outbox.directory / f"{HIDDEN}{name}").replace(outbox.directory / name)
    objects.sync(outbox.directory)


def recover(outbox: Outbox) -> tuple[Memory | None, int]:
    """Finish what a kill left; give what was remembered, None where nothing was or by another twin, and the GPS second
    that comes out next, 0 where none came yet.

    Raises `RunError` where the state cannot be read.
    """
    path, memory, identity = outbox.directory / STATE, None, None
    if path.exists():
        try:
            memory, identity = unpack(path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: cannot be read: {error}; delete it to begin anew") from None
    written = memory.written if memory else 0
    for left in outbox.directory.glob(f"{HIDDEN}*"):
        told = NAMED.match(left.name.removeprefix(HIDDEN))
        if told and float(told[1]) < written and left.suffix in ENDINGS.values():
            left.replace(left.with_name(left.name.removeprefix(HIDDEN)))
        else:
            left.unlink()
    return (memory if identity == outbox.identity else None), written


def try_out(outbox: Outbox) -> None:
    """Write a frame and delete it. Raises `RunError` where that cannot be done."""
    nothing = np.zeros(STATE_RATE)
    name = _write(outbox, Cleaned(0, nothing, nothing, nothing.astype(np.uint32), (), ()))
    (outbox.directory / f"{HIDDEN}{name}").unlink()


def prune(outbox: Outbox, before: float) -> None:
    """Delete the frames that end before a GPS time."""
    for path in outbox.directory.iterdir():
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
