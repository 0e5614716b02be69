"""The files of recorded channels: which there are, and the times that they cover.

1. patterns, directories and cache lists -> files
2. the GPS span of each file, from its name (LIGO-T010150) or else from the file itself
"""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from glitchflow.config import Ingest, Source
from glitchflow.errors import InputError
from glitchflow.progress import say
from glitchflow.signal.recorded.samples import Samples, read_samples

CACHES = (".cache", ".lcf", ".ffl")  # lists of files, as LAL and Virgo write them
FRAMES = (".gwf", ".h5", ".hdf5", ".hdf")
# detector-description-start-seconds.suffix, GPS s (LIGO-T010150). To import gwpy, which knows them, takes a task longer
NAMED = re.compile(r"[^-]+-[^-]+-(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)\.[A-Za-z]")


@dataclass(frozen=True)
class Piece:
    """Holds one file and the GPS times it covers."""

    path: str
    start: float
    stop: float


def strain_of(ingest: Ingest) -> Source:
    """Returns the first of `ingest.channels`, the strain. Raises `InputError` where none is given."""
    if not ingest.channels:
        raise InputError("ingest.channels = []: name the strain and at least one witness")
    return ingest.channels[0]


def find_files(files: Sequence[str], key: str) -> tuple[str, ...]:
    """Finds what `key` names: paths, patterns, directories, or cache / ffl lists.

    A name that is there is no pattern, whatever characters are in it. Raises `InputError` where one matches nothing, or
    is a URL other than file://: files are opened many times, by many tasks, and so are to be copied here once.
    """
    found: list[str] = []
    for pattern in files:
        plain = _path(pattern) if pattern.startswith("file://") else pattern
        path = Path(plain).expanduser()
        if "://" in plain:
            matches = [plain]
        elif path.is_dir():
            matches = [str(p) for p in sorted(path.iterdir()) if p.suffix in FRAMES]
        elif path.suffix in CACHES and path.exists():
            matches = _cached(path, key)
        elif path.exists():
            matches = [str(path)]
        elif path.parent.is_dir():
            matches = sorted(map(str, path.parent.glob(path.name)))
        else:
            matches = sorted(glob.glob(str(path)))  # noqa: PTH207  patterns may be absolute
        if not matches:
            raise InputError(f"{key} = {pattern}: no such file")
        if far := next((match for match in matches if "://" in match), ""):
            where = far if far == pattern else f"{pattern}: {far}"
            raise InputError(f"{key} = {where}: is a URL; copy the files here first, and name the copies")
        found += matches
    return tuple(found)


def _cached(path: Path, key: str) -> list[str]:
    from gwpy.io.cache import file_path, read_cache

    try:
        return [_path(file_path(entry)) for entry in read_cache(path)]
    except (ValueError, TypeError, OSError, RuntimeError) as error:  # LAL's own are RuntimeErrors
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{key} = {path}: not a cache or ffl list: {reason}") from None


def _path(entry: str) -> str:
    """The path in a URL of a cache, where spaces are %20."""
    path = entry.removeprefix("file://localhost").removeprefix("file://")
    return unquote(path) if "%" in path and not Path(path).exists() else path


def pieces(source: Source) -> tuple[Piece, ...]:
    """Lists a channel's files with the time each covers, by start.

    A file whose name does not tell its time and that cannot be read is left out, which is said. Raises `InputError` as
    `find_files`, and where all are such.
    """
    found, unread = [], []
    for path in find_files(source.files, f"ingest.channels {source.name}: files"):
        told = NAMED.match(Path(path).name)
        if told:
            start, seconds = map(float, told.groups())
            found.append(Piece(path, start, start + seconds))
            continue
        try:
            found.append(Piece(path, *read_file(source, path).span))
        except InputError as error:
            unread.append(str(error))
    if unread and not found:
        raise InputError(unread[0])
    if unread:
        _say(
            f"{unread[0]}"
            + (f" (and {len(unread) - 1} more such files)" if unread[1:] else "")
            + "; it is left out"
        )
    return tuple(sorted(found, key=lambda p: (p.start, p.path)))


@cache
def _say(line: str) -> None:
    """Once in a process: a channel's files are looked for more than once."""
    say(line)


def read_file(source: Source, path: str) -> Samples:
    """Reads a channel out of one file, whole. Raises `InputError` where it cannot be read."""
    name = source.channel or source.name
    found = read_samples(path, source.format, [name])[name]
    if isinstance(found, str):
        raise InputError(f"ingest.channels {source.name}: {path} cannot be read: {found}")
    return found


def joined(files: tuple[Piece, ...]) -> list[tuple[float, float]]:
    """Returns the GPS stretches that files cover, joined where they meet, ascending."""
    found: list[tuple[float, float]] = []
    for piece in files:
        if found and piece.start <= found[-1][1] + 1e-6:
            found[-1] = (found[-1][0], max(found[-1][1], piece.stop))
        else:
            found.append((piece.start, piece.stop))
    return found


def coverage(source: Source) -> list[tuple[float, float]]:
    """Returns the GPS stretches that a channel's files cover, joined where they meet, ascending."""
    return joined(pieces(source))
