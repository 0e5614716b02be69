"""Recorded frames appear once more, at their own pace or faster, whole or with faults: what `watch` is tried by.

    files --plan--> deliveries, when and how damaged --deliver--> files that appear by rename

Which file meets which fault follows from the seed and the files alone.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glitchflow.data.frames import write_frame
from glitchflow.errors import InputError
from glitchflow.online.ending import Stop, ended
from glitchflow.online.source import listed, names_in
from glitchflow.signal.recorded.frames import Piece
from glitchflow.signal.recorded.samples import FORMATS, Samples, read_samples

LATE, LATER = 1.0, 30.0  # s by which a delayed file comes too late, and the second of two
STALL = 3600.0  # s
GPS_EPOCH, LEAP = 315_964_800, 18  # of GPS in Unix time, and the leap s since
HIDDEN = ".new."
Series = dict[str, NDArray]


@dataclass(frozen=True)
class Delivery:
    """Says what is put where, and when."""

    piece: Piece
    start: int  # GPS s, of the part of the file that is delivered
    seconds: int
    due: float  # s after the first one's begin, at its own pace
    fault: str = ""
    copy: bool = False  # under a second name


@dataclass(frozen=True)
class Replay:
    """Says how frames are replayed."""

    into: Path
    speed: float = 1.0  # times their own pace; 0: all at once
    now: bool = False  # with the GPS time at which they appear
    cut: int = 0  # s of a file; 0: as they are
    faults: tuple[str, ...] = ()
    every: int = 20  # files, of which one meets each fault
    seed: int = 1


def replay(frames: Path, settings: Replay) -> str:
    """Put the frame files of a directory into another one, which is made; return what was done, in words.

    Raises `InputError` where there are none, for a fault that nobody knows, and for a length that divides not theirs.
    """
    unknown = [name for name in settings.faults if name not in FAULTS]
    if unknown:
        raise InputError(f"--fault {unknown[0]}: not one of {', '.join(FAULTS)}")
    pieces = sorted(listed(frames), key=lambda piece: (piece.start, piece.path)) if frames.is_dir() else []
    if not pieces:
        raise InputError(f"{frames}: no frame files there")
    settings.into.mkdir(parents=True, exist_ok=True)
    if settings.into.samefile(frames):
        raise InputError(f"{settings.into}: is where the frames are; name another directory")
    deliveries = plan(pieces, settings)
    with ended() as stop:
        done = deliver(deliveries, settings, stop)
    met = Counter(one.fault for one in deliveries if one.fault)
    words = ", ".join(f"{name} {count}" for name, count in sorted(met.items()) if count)
    return f"{done} of {len(deliveries)} files into {settings.into}" + (f"; {words}" if words else "")


def plan(pieces: Sequence[Piece], settings: Replay) -> list[Delivery]:
    """Say what is delivered when, in the order of time."""
    origin, found = pieces[0].start, list[Delivery]()
    for piece in pieces:
        whole = round(piece.stop - piece.start)
        length = settings.cut or whole
        if whole % length:
            raise InputError(f"--cut {length}: {piece.path} is of {whole} s")
        for start in range(round(piece.start), round(piece.stop), length):
            found.append(Delivery(piece, start, length, start + length - origin))
    for number, name in enumerate(dict.fromkeys(settings.faults)):
        rng = np.random.default_rng([settings.seed, number])
        hit = rng.random(len(found)) < 1 / settings.every
        found = FAULTS[name](name, found, hit, rng)
    return sorted(found, key=lambda one: one.due)


def deliver(
    deliveries: Sequence[Delivery], settings: Replay, stop: Stop, clock: Callable[[], float] = time.monotonic
) -> int:
    """Put one file after the other, when its time has come; return how many. clock: in s."""
    begun, shift = clock(), 0
    if settings.now and deliveries:
        shift = int(time.time()) - GPS_EPOCH + LEAP - min(one.start for one in deliveries)
    for number, one in enumerate(deliveries):
        while (
            settings.speed and (left := begun + one.due / settings.speed - clock()) > 0 and not stop.is_set()
        ):
            stop.wait(left)
        if stop.is_set():
            return number
        _put(one, settings, shift)
    return len(deliveries)


def _put(one: Delivery, settings: Replay, shift: int) -> None:
    """Make a file and give it its name."""
    source = Path(one.piece.path)
    detector, description, *_ = source.name.split("-")
    description += "_COPY" * one.copy
    start = one.start + shift
    name = f"{detector}-{description}-{start}-{one.seconds}{source.suffix}"
    hidden, part = settings.into / f"{HIDDEN}{name}", one.seconds < one.piece.stop - one.piece.start
    if shift or part or one.fault in SERIES:
        change = SERIES.get(one.fault, dict)
        form = "hdf5" if FORMATS[source.suffix.lower()] == "hdf5" else "gwf"
        write_frame(hidden, start, one.seconds, change(_series(one)), form, "--into")
    else:
        shutil.copyfile(source, hidden)
    if one.fault in BYTES:
        hidden.write_bytes(BYTES[one.fault](hidden.read_bytes()))
    hidden.replace(settings.into / name)


def _series(one: Delivery) -> Series:
    """The channels of the part of a file that is delivered."""
    found = {}
    for name, samples in read_samples(one.piece.path, "", sorted(names_in(one.piece.path))).items():
        if isinstance(samples, Samples):
            first = round((one.start - samples.start) * samples.rate)
            found[name] = samples.values[first : first + round(one.seconds * samples.rate)]
    return found


# -- faults ----------------------------------------------------------------------------------------------------------

Hit = NDArray[np.bool_]
Fault = Callable[[str, list[Delivery], Hit, np.random.Generator], list[Delivery]]


def _drop(_name: str, given: list[Delivery], hit: Hit, _rng: np.random.Generator) -> list[Delivery]:
    return [one for one, lost in zip(given, hit) if not lost]


def _delay(name: str, given: list[Delivery], hit: Hit, rng: np.random.Generator) -> list[Delivery]:
    late = rng.uniform(LATE, LATER, len(given))
    return [
        replace(one, due=one.due + s, fault=name) if x else one
        for one, x, s in zip(given, hit, late.tolist())
    ]


def _double(name: str, given: list[Delivery], hit: Hit, rng: np.random.Generator) -> list[Delivery]:
    late = rng.uniform(0, LATE, len(given)).tolist()
    again = [replace(one, due=one.due + s, fault=name, copy=True) for one, x, s in zip(given, hit, late) if x]
    return given + again


def _reorder(name: str, given: list[Delivery], hit: Hit, _rng: np.random.Generator) -> list[Delivery]:
    """Each that is hit changes places with the next one."""
    dues = [one.due for one in given]
    for (a, b), x in zip(pairwise(range(len(given))), hit):
        if x:
            dues[a], dues[b] = dues[b], dues[a]
    return [one if one.due == due else replace(one, due=due, fault=name) for one, due in zip(given, dues)]


def _stall(name: str, given: list[Delivery], _hit: Hit, rng: np.random.Generator) -> list[Delivery]:
    """Once, for an hour, nothing comes, and then all of it."""
    begin = given[int(rng.integers(len(given)))].due
    stalled = [begin <= one.due < begin + STALL for one in given]
    return [
        replace(one, due=begin + STALL, fault=one.fault or name) if x else one
        for one, x in zip(given, stalled)
    ]


def _marked(name: str, given: list[Delivery], hit: Hit, _rng: np.random.Generator) -> list[Delivery]:
    """What is delivered is damaged; of several faults of this kind the last one stays."""
    return [replace(one, fault=name) if x else one for one, x in zip(given, hit)]


def _truncate(content: bytes) -> bytes:
    return content[: 2 * len(content) // 3]


def _flip(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def _nan(series: Series) -> Series:
    """A quarter of all channels of samples is NaN."""
    found = dict(series)
    for name, values in series.items():
        if values.dtype.kind == "f":
            found[name] = values.copy()
            found[name][len(values) // 2 : 3 * len(values) // 4] = np.nan
    return found


def _missing(series: Series) -> Series:
    """The last channel of samples is not there."""
    lost = [name for name in series if series[name].dtype.kind == "f"][-1:]
    return {name: values for name, values in series.items() if name not in lost}


BYTES: Mapping[str, Callable[[bytes], bytes]] = {"truncate": _truncate, "flip": _flip}
SERIES: Mapping[str, Callable[[Series], Series]] = {"nan": _nan, "missing": _missing}
FAULTS: Mapping[str, Fault] = {
    "drop": _drop,
    "delay": _delay,
    "double": _double,
    "reorder": _reorder,
    "stall": _stall,
    **dict.fromkeys([*BYTES, *SERIES], _marked),
}
