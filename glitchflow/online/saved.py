"""What is remembered, as bytes and back: a line of JSON that says what follows, then the arrays one after the other.

No pickle: nothing that is read is run. A file that is not whole, or of another twin, is said to be so.
"""

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from glitchflow.online.hours import Log
from glitchflow.online.line import Memory
from glitchflow.online.source import Second
from glitchflow.signal.recorded.samples import Samples
from glitchflow.signal.types import Array
from glitchflow.twin.step import State, Step

PLAIN = {
    "second",
    "written",
    "rates",
    "odd",
    "kind",
    "place",
}  # fields of a memory that JSON takes as they are
LOG = TypeAdapter(Log)
Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class Saved:
    """Holds what a watch goes on from: a memory, the twin and the settings that it goes with, and what was logged."""

    memory: Memory
    identity: dict[str, Any]
    log: Log


def pack(saved: Saved) -> bytes:
    """Write it as bytes."""
    memory = saved.memory
    arrays: Arrays = [memory.known, memory.state.recent, memory.state.said, memory.state.heard]
    recent = []
    for second in memory.recent:
        arrays += [one.values for one in second.found.values()]
        found = {name: (one.start, one.rate, one.unit) for name, one in second.found.items()}
        recent.append({"gps": second.gps, "found": found, "missing": dict(second.missing)})
    said = []
    for one in memory.said:
        arrays += [one.estimate, one.removed, one.white]
        said.append([one.start, one.treated, one.silent, one.passed, one.alone])
    content = b"".join(np.ascontiguousarray(values).tobytes() for values in arrays)
    head = {
        "identity": saved.identity,
        "log": LOG.dump_python(saved.log, mode="json"),
        "plain": {name: getattr(memory, name) for name in sorted(PLAIN)},
        "end": memory.state.end,
        "recent": recent,
        "said": said,
        "arrays": [(str(values.dtype), values.shape) for values in arrays],
        "crc": zlib.crc32(content),
    }
    return json.dumps(head).encode() + b"\n" + content


def unpack(content: bytes) -> Saved:
    """Read what `pack` wrote. Raises ValueError for anything else."""
    try:
        return _unpacked(content)
    except (KeyError, TypeError, AttributeError, OverflowError, StopIteration, RuntimeError) as error:
        raise ValueError(f"is not what was kept: {type(error).__name__}: {error}") from None


def _unpacked(content: bytes) -> Saved:
    line, _, rest = content.partition(b"\n")
    head = json.loads(line)
    if zlib.crc32(rest) != head["crc"]:
        raise ValueError("differs from its checksum")
    arrays = iter(_arrays(head["arrays"], rest))
    known, kept, edge, heard = (next(arrays) for _ in range(4))
    recent = tuple(
        Second(
            second["gps"],
            {name: Samples(a, rate, next(arrays), unit) for name, (a, rate, unit) in second["found"].items()},
            second["missing"],
        )
        for second in head["recent"]
    )
    said = tuple(_step(next(arrays), next(arrays), next(arrays), *one) for one in head["said"])
    state = State(head["end"], kept, edge, heard)
    memory = Memory(recent=recent, known=known, state=state, said=said, **head["plain"])
    return Saved(memory, head["identity"], LOG.validate_python(head["log"]))


def _step(
    estimate: Array,
    removed: Array,
    white: Array,
    start: int,
    treated: bool,
    silent: list[str],
    passed: list[Any],
    alone: bool = False,  # which earlier versions did not keep
) -> Step:
    return Step(start, estimate, removed, white, treated, tuple(silent), tuple(map(tuple, passed)), alone)


def _arrays(told: Iterable[tuple[str, list[int]]], content: bytes) -> Arrays:
    found, place = [], 0
    for kind, shape in told:
        values = np.frombuffer(content, kind, count=int(np.prod(shape)), offset=place).reshape(shape)
        found.append(values)
        place += values.nbytes
    return found
