"""Stretches of recorded channels out of many GWF or HDF5 files, read through gwpy.

    1. patterns, directories and cache lists -> files
    2. the GPS span of each file, from its name (LIGO-T010150) or else from the file itself
    3. the files that a stretch touches -> one gap-less series

Shapes: N sample.
"""

from __future__ import annotations

import glob
import itertools
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from glitchflow.config import Ingest, Source
from glitchflow.errors import InputError

if TYPE_CHECKING:
    from gwpy.timeseries import TimeSeries

CACHES = (".cache", ".lcf", ".ffl")  # lists of files, as LAL and Virgo write them
FRAMES = (".gwf", ".h5", ".hdf5", ".hdf")


class Gap(InputError):
    """Says that the recording has no usable data at a time that was asked for."""


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


def coverage(source: Source) -> list[tuple[float, float]]:
    """Returns the GPS stretches that a channel's files cover, joined where they meet, ascending."""
    joined: list[tuple[float, float]] = []
    for piece in pieces(source):
        if joined and piece.start <= joined[-1][1] + 1e-6:
            joined[-1] = (joined[-1][0], max(joined[-1][1], piece.stop))
        else:
            joined.append((piece.start, piece.stop))
    return joined


def read_stretch(source: Source, start: float, stop: float, margin: float = 0.0) -> TimeSeries:
    """Reads the channel over GPS [start, stop), and up to `margin` seconds more at each end where the files have it.

    Raises `Gap` where the files do not cover the stretch, `InputError` where a file cannot be read.
    """
    covered = next((c for c in coverage(source) if c[0] <= start + 1e-6 and stop - 1e-6 <= c[1]), None)
    if covered is None:
        spans = ", ".join(f"{a:.3f}-{b:.3f}" for a, b in itertools.islice(coverage(source), 3)) or "nothing"
        raise Gap(f"ingest.channels {source.name}: its files cover GPS {spans}, not {start:.3f}-{stop:.3f}")
    start, stop = max(start - margin, covered[0]), min(stop + margin, covered[1])
    paths = [p.path for p in pieces(source) if p.start < stop and p.stop > start]
    return _read(source, paths, start=start, end=stop)


def _cached(source: Source, path: Path) -> list[str]:
    from gwpy.io.cache import file_path, read_cache

    try:
        return [
            file_path(entry).removeprefix("file://localhost").removeprefix("file://")
            for entry in read_cache(path)
        ]
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"ingest.channels {source.name}: {path}: not a cache or ffl list: {error}") from None


@lru_cache(maxsize=64)  # every event asks for it
def native_rate(source: Source) -> float | None:
    """The rate in Hz that a channel was recorded at; None where its first file does not tell."""
    first = pieces(source)[0]
    try:
        return float(_read(source, [first.path], start=first.start, end=first.start + 1).sample_rate.value)
    except InputError:  # shorter than a second, or damaged: the events themselves will say
        return None


def pieces(source: Source) -> tuple[Piece, ...]:
    """Lists a channel's files with the time each covers, by start. Raises `InputError` as `find_files`."""
    from gwpy.io.cache import file_segment

    found = []
    for path in find_files(source):
        try:
            start, stop = map(float, file_segment(path))
        except ValueError:  # the name does not tell
            start, stop = map(float, _read(source, [path]).span)
        found.append(Piece(path, start, stop))
    return tuple(sorted(found, key=lambda p: (p.start, p.path)))


def _read(source: Source, paths: list[str], **stretch: float) -> TimeSeries:
    from gwpy.timeseries import TimeSeries

    # a GWOSC file holds one strain and no channel name
    named = [] if source.format == "hdf5.gwosc" else [source.channel or source.name]
    options = {"format": source.format} if source.format else {}
    try:
        return TimeSeries.read(paths, *named, **options, **stretch)
    except Exception as error:  # noqa: BLE001  gwpy and its backends raise anything on a bad file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"ingest.channels {source.name}: {', '.join(paths[:3])} cannot be read: {reason}"
        ) from None
