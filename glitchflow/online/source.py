"""A directory in which frame files appear, and the samples of one second after the other that come out of them.

    files, by rename or copied slowly, in any order --look--> what is there --take--> a second, as soon as all of its
    channels are there, or have been waited for

A channel is waited for where it was found before: in files of the same description (LIGO-T050017: S-DESCRIPTION-GPS-s),
which may hold all channels or a group of them. What was waited for in vain, and of which nothing later is there, is not
waited for again before such a file comes. A file that cannot be read is read again at each look while its time is
waited for.

Shapes: N sample of a file, n of a second.
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from glitchflow.signal.recorded.checksum import damage
from glitchflow.signal.recorded.frames import FRAMES, NAMED, Piece
from glitchflow.signal.recorded.samples import FORMATS, Read, Samples, read_whole

NOWHERE = ""  # the description of the files of a channel that none has
FAR = 60  # s ahead of what was taken last, from where on a file by itself is one with a wrong time
SILENT = 30.0  # s that the next file is late at least before its source is called silent
STREAM = 3  # files that far ahead are believed


@dataclass(frozen=True)
class Second:
    """Holds what there is of one GPS second: (n,) samples by channel, and why there are none of others."""

    gps: int
    found: Mapping[str, Samples]
    missing: Mapping[str, str]


@dataclass
class Inbox:
    """Knows the files of a directory, when each was first seen, and what was read of those that are still needed."""

    directory: Path
    channels: Mapping[str, str]  # by name: what it is called in the files
    wait: float  # s
    seen: dict[Piece, float] = field(default_factory=dict)  # monotonic time, of those whose time is not over
    over: set[Piece] = field(default_factory=set)  # the others
    read: dict[Piece, Read] = field(default_factory=dict)
    bad: dict[Piece, str] = field(default_factory=dict)  # why a file cannot be read
    homes: dict[str, str] = field(default_factory=dict)  # by channel, the description of files that have it
    gone: set[str] = field(default_factory=set)  # descriptions that were waited for in vain
    came: dict[int, float] = field(
        default_factory=dict
    )  # monotonic time of the last file of each second taken
    holds: dict[str, set[str]] = field(default_factory=dict)  # by description, what its last file has
    unknown: list[str] = field(default_factory=list)  # channels that no file had, and nobody was told so
    due: float = math.inf  # monotonic time by which the next second of strain should be there
    last: int = 0  # the last second of strain
    late: int = 0  # files that came when their time was over
    damaged: int = 0  # files that were given up
    begun: bool = False  # whether it was looked into before: what lay there already is not late


def look(inbox: Inbox, after: int, now: float) -> None:
    """List the files that reach beyond GPS second `after`, at monotonic time `now`; what is over is forgotten.

    A directory that cannot be listed just now has nothing new.
    """
    try:
        there = set(listed(inbox.directory))
    except OSError:
        return
    for piece in there - inbox.seen.keys() - inbox.over:
        if piece.stop > after:
            inbox.seen[piece] = now
            inbox.gone.discard(described(piece))
        else:
            inbox.over.add(piece)
            inbox.late += inbox.begun
    for piece in [one for one in inbox.seen if one not in there or one.stop <= after]:
        inbox.over.add(piece)
        inbox.read.pop(piece, None)
        inbox.damaged += inbox.bad.pop(piece, None) is not None
        del inbox.seen[piece]
    inbox.over &= there
    inbox.begun = True


def listed(directory: Path) -> Iterator[Piece]:
    """List the frame files in a directory whose names say what they cover. Raises `OSError` where it cannot be read."""
    with os.scandir(directory) as entries:
        for entry in entries:
            told = NAMED.match(entry.name)
            if told and entry.name.endswith(FRAMES) and not entry.name.startswith("."):
                start, seconds = map(float, told.groups())
                yield Piece(entry.path, start, start + seconds)


def described(piece: Piece) -> str:
    """Return the detector and the description in a file's name."""
    return "-".join(os.path.basename(piece.path).split("-")[:2])  # noqa: PTH119  a Path for each costs more


def oldest(inbox: Inbox, after: int = 0) -> int | None:
    """Return the first second from `after` on that a file has; None where there is none."""
    seconds = (
        max(after, math.ceil(piece.start)) for piece in _believed(inbox, after) if piece.stop >= after + 1
    )
    return min(seconds, default=None)


def _believed(inbox: Inbox, gps: int) -> list[Piece]:
    """The files whose times can be: one alone that is far ahead says nothing of what is to come before it."""
    far = {piece.start for piece in inbox.seen if piece.start > gps + FAR}
    if not gps or len(far) >= STREAM:
        return list(inbox.seen)
    return [piece for piece in inbox.seen if piece.start <= gps + FAR]


def take(inbox: Inbox, gps: int, now: float) -> Second | None:
    """Take a second out of the files; None where it has to be waited for."""
    later = [inbox.seen[piece] for piece in _believed(inbox, gps) if piece.stop > gps]
    if not later:
        return None
    over = now >= min(later) + inbox.wait
    covering = [piece for piece in inbox.seen if piece.start <= gps and piece.stop >= gps + 1]
    found: dict[str, Samples] = {}
    whole: set[str] = set()  # descriptions of which a file could be read
    for piece in sorted(covering, key=lambda one: (inbox.seen[one], one.path)):
        read = _read(inbox, piece, last=over)
        if read is None:
            continue
        whole.add(described(piece))
        for name in inbox.channels.keys() - found.keys():
            samples = _part(read.get(inbox.channels[name]), gps)
            if samples is not None:
                found[name] = samples
                inbox.homes[name] = described(piece)
    lacking = inbox.channels.keys() - found.keys()
    inbox.came[gps] = max((inbox.seen[piece] for piece in covering), default=now)
    if not over and any(_awaited(inbox, name, whole) for name in lacking):
        return None
    inbox.unknown += sorted(lacking - inbox.homes.keys())
    homes = {inbox.homes.setdefault(name, NOWHERE) for name in lacking}
    if homes - whole:
        alive = {described(piece) for piece in _believed(inbox, gps) if piece.start > gps}
        inbox.gone |= homes - whole - alive
    why = next((inbox.bad[piece] for piece in covering if piece in inbox.bad), "no file has it")
    return Second(gps, found, dict.fromkeys(sorted(lacking), why))


def awaited(inbox: Inbox, now: float) -> None:
    """Note, at the beginning, that strain is waited for from now on, in files as long as those that are there."""
    try:
        long = max((piece.stop - piece.start for piece in listed(inbox.directory)), default=0)
    except OSError:  # it cannot be listed just now
        long = 0
    inbox.due = now + long + max(inbox.wait, SILENT)


def heard(inbox: Inbox, strain: str, now: float, gps: int) -> None:
    """Note that the strain of a second is there.

    The next one is due with the next file, of the same length, which may be late by `wait`, and by `SILENT` anyway.
    """
    long = (piece.stop - piece.start for piece in inbox.seen if holds(inbox, piece, strain, gps))
    inbox.due, inbox.last = now + max(long, default=0) + max(inbox.wait, SILENT), gps


def holds(inbox: Inbox, piece: Piece, name: str, gps: int) -> bool:
    """Say whether a file is of the kind that has had a channel, and of a second."""
    return piece.start <= gps < piece.stop and described(piece) == inbox.homes.get(name)


def _awaited(inbox: Inbox, name: str, whole: set[str]) -> bool:
    """Whether a channel may still come: in a file of the kind that has had it, or of any where none has yet."""
    home = inbox.homes.get(name)
    return home is None or not (home == NOWHERE or home in inbox.gone or home in whole)


def _read(inbox: Inbox, piece: Piece, last: bool) -> Read | None:
    """What a file holds; None where it cannot be read, which is tried again, but for the last time."""
    if piece in inbox.read:
        return inbox.read[piece]
    if last and piece in inbox.bad:
        return None
    try:
        reason = damage(Path(piece.path))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    if reason:
        inbox.bad[piece] = f"{piece.path} {reason}"
        return None
    inbox.bad.pop(piece, None)
    try:
        names = names_in(piece.path)
    except (OSError, RuntimeError):  # it is gone again, or cut and of a version without a sum
        inbox.bad[piece] = f"{piece.path} cannot be read"
        return None
    inbox.holds[described(piece)] = names
    wanted = [name for name in dict.fromkeys(inbox.channels.values()) if name in names]
    inbox.read[piece] = read_whole(piece.path, "", wanted) if wanted else {}
    return inbox.read[piece]


def names_in(path: str) -> set[str]:
    """Name the channels in a file: LALFrame complains loudly of one that is not there."""
    if FORMATS[Path(path).suffix] == "hdf5":
        import h5py

        found: list[str] = []
        with h5py.File(path) as file:
            file.visit(found.append)
        return set(found)
    if find_spec("gwframe"):
        from gwframe.inspect import get_channels

        try:
            return set(get_channels(path))
        except Exception as error:  # what frameCPP throws is of no one kind, and must not end a watch
            raise RuntimeError(f"{path}: {error}") from error
    from gwpy.io.gwf import get_channel_names

    return set(get_channel_names(path))


def _part(samples: Samples | str | None, gps: int) -> Samples | None:
    """The samples (n,) of one second; None where there is none, or not all of it."""
    if samples is None or isinstance(samples, str) or samples.rate != round(samples.rate):
        return None
    first, count = round((gps - samples.start) * samples.rate), round(samples.rate)
    if first < 0 or first + count > len(samples.values):
        return None
    values = np.array(samples.values[first : first + count])  # which does not keep the whole file
    return Samples(samples.start + first / samples.rate, samples.rate, values, samples.unit)
