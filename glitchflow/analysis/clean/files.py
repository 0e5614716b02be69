"""Strain as it was recorded, file by file, and files of what was made of it.

Shapes: M sample of a file.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from glitchflow.config import Source
from glitchflow.data.frames import said, write_gwf
from glitchflow.signal.recorded.frames import Piece, read_file
from glitchflow.signal.types import Array, Indices

FRAME = ".gwf"
NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Stretch:
    """Holds strain without a gap, in the file it came from or as one event's series."""

    gps: float  # of the first sample
    sample_rate: float
    values: Array  # (M,) float64
    unit: str
    frame: bool  # whether it was read from GWF
    dtype: str = "float64"  # that it was recorded in, and is written in
    places: Indices = field(default_factory=NONE.copy)  # among the windows, of those that may reach into it

    @property
    def stop(self) -> float:
        """Return the GPS time of its end."""
        return self.gps + len(self.values) / self.sample_rate


def read_piece(source: Source, piece: Piece, places: Indices = NONE) -> Stretch:
    """Read the strain out of one file, whole. Raises `InputError` where it cannot be read."""
    data = read_file(source, piece.path)
    values, kind = data.values.astype(np.float64, copy=False), str(data.values.dtype)
    kept = kind if data.values.dtype.kind == "f" else "float64"  # integers cannot hold what is left
    return Stretch(data.start, data.rate, values, data.unit, piece.path.endswith(FRAME), kept, places)


def write(channels: Mapping[str, Array], stretch: Stretch, directory: Path, form: str) -> None:
    """Write one file of channels (M,), named as LIGO-T010150 asks: detector, description, GPS start, whole seconds.

    The first channel names it; a second one of the same seconds is numbered. form: gwf, hdf5, or as it was read.
    """
    from gwpy.timeseries import TimeSeries, TimeSeriesDict

    first = next(iter(channels))
    start = math.floor(stretch.gps)
    seconds = math.ceil(stretch.stop - 1e-6) - start
    suffix = FRAME if form == "gwf" or (not form and stretch.frame) else ".hdf5"
    described, number = first.replace(":", "_").replace("-", "_"), 1
    path = directory / f"{first[0]}-{described}-{start}-{seconds}{suffix}"
    while path.exists():
        number += 1
        path = directory / f"{first[0]}-{described}_{number}-{start}-{seconds}{suffix}"
    series = {
        name: TimeSeries(
            values.astype(stretch.dtype, copy=False),
            t0=stretch.gps,
            sample_rate=stretch.sample_rate,
            unit=stretch.unit,
            name=name,
            channel=name,
        )
        for name, values in channels.items()
    }
    with said(path, "clean.format"):
        if suffix == FRAME:
            write_gwf(TimeSeriesDict(series), path)
            return
        for name, one in series.items():
            one.write(path, format="hdf5", path=name, append=True)
