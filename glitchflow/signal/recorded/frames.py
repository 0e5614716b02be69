"""The files of recorded channels: which there are, and the times that they cover.

1. patterns, directories and cache lists -> files
2. the GPS span of each file, from its name (LIGO-T010150) or else from the file itself
"""

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from glitchflow.config import Ingest, Source
from glitchflow.errors import InputError
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


def find_files(source: Source) -> tuple[str, ...]:
    """Finds the files that `source.files` names: paths, patterns, directories, or cache / ffl lists.

    Raises `InputError` where a pattern matches nothing.
    """
    found: list[str] = []
    for pattern in source.files:
        path = Path(pattern).expanduser()
        if path.is_dir():
            matches = [str(p) for p in sorted(path.iterdir()) if p.suffix in FRAMES]
        elif path.suffix in CACHES and path.exists():
            matches = _cached(source, path)
        else:
            matches = sorted(glob.glob(str(path)))  # noqa: PTH207  patterns may be absolute
        if not matches:
            raise InputError(f"ingest.channels {source.name}: files = {pattern}: no such file")
        found += matches
    return tuple(found)


def _cached(source: Source, path: Path) -> list[str]:
    from gwpy.io.cache import file_path, read_cache

    try:
        return [
            file_path(entry).removeprefix("file://localhost").removeprefix("file://")
            for entry in read_cache(path)
        ]
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"ingest.channels {source.name}: {path}: not a cache or ffl list: {error}") from None


def pieces(source: Source) -> tuple[Piece, ...]:
    """Lists a channel's files with the time each covers, by start.

    Raises `InputError` as `find_files`, and where a file whose name does not tell its time cannot be read.
    """
    found = []
    for path in find_files(source):
        told = NAMED.match(Path(path).name)
        if told:
            start, seconds = map(float, told.groups())
            found.append(Piece(path, start, start + seconds))
        else:
            found.append(Piece(path, *read_file(source, path).span))
    return tuple(sorted(found, key=lambda p: (p.start, p.path)))


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
