"""Channels out of one frame file: HDF5 by h5py, everything else by gwpy.

HDF5 is read here and not by gwpy, which reads a dataset whole where a part is asked for, runs what it finds pickled
among its attributes, and does not know PyCBC's.

Shapes: N sample.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

# by a file's suffix, where no format is given
FORMATS = {".gwf": "gwf", ".h5": "hdf5", ".hdf5": "hdf5", ".hdf": "hdf5"}
# attributes that say when a dataset begins, and how far apart its samples are, in s: gwpy's, GWOSC's, PyCBC's
LAYOUTS = (("x0", "dx"), ("Xstart", "Xspacing"), ("start_time", "delta_t"))
GWOSC, GWOSC_STRAIN = "hdf5.gwosc", "strain/Strain"  # holds one strain and no channel name


@dataclass(frozen=True)
class Samples:
    """Holds samples of one channel, as they were recorded."""

    start: float  # GPS time of the first, s
    rate: float  # Hz
    values: NDArray[Any]  # (N,), real, of the type in the file
    unit: str = ""

    @property
    def span(self) -> tuple[float, float]:
        """Returns the GPS times of the first sample and of the end of the last."""
        return self.start, self.start + len(self.values) / self.rate


Read = dict[str, Samples | str]  # by channel; in words, why one cannot be read


def read_samples(
    path: str, form: str, channels: Sequence[str], start: float = -math.inf, stop: float = math.inf
) -> Read:
    """Reads channels out of one file, opened once, over what it has of GPS [start, stop).

    form: gwpy's name of the format; empty: by the file's suffix, or as gwpy guesses. A channel that cannot be read
    costs itself, with the reason in words. What comes back may begin up to 1 s earlier and end up to 1 s later.
    """
    form = form or FORMATS.get(Path(path).suffix.lower(), "")
    reader = _read_hdf5 if form.startswith("hdf5") else _read_gwpy
    try:
        found = reader(path, form, channels, start, stop)
    except Exception as error:  # noqa: BLE001  gwpy, h5py and their backends raise anything on a bad file
        if len(channels) == 1:
            return {channels[0]: _words(error)}
        # one channel spoils the reading of all: each by itself
        return {name: read_samples(path, form, [name], start, stop)[name] for name in channels}
    return {name: _checked(one) for name, one in found.items()}


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _checked(found: Samples | str) -> Samples | str:
    """Imaginary parts are not dropped silently, and there is a rate."""
    if isinstance(found, str):
        return found
    if np.iscomplexobj(found.values):
        return "its samples are complex, which no series here is"
    if found.values.ndim != 1 or found.values.dtype.kind not in "fiub":
        return f"its values are {found.values.dtype} of shape {found.values.shape}, not a series"
    return found


def _read_gwpy(path: str, form: str, channels: Sequence[str], start: float, stop: float) -> Read:
    from gwpy.timeseries import TimeSeries, TimeSeriesDict

    options: dict[str, Any] = {"format": form} if form else {}
    # whole seconds: between them lalframe leaves out a sample where frames meet
    options |= {"start": math.floor(start)} if math.isfinite(start) else {}
    options |= {"end": math.ceil(stop)} if math.isfinite(stop) else {}
    if form.startswith("gwf"):
        found = TimeSeriesDict.read(path, list(channels), **options)
    else:
        found = {name: TimeSeries.read(path, name, **options) for name in channels}
    return {
        name: Samples(float(one.t0.value), float(one.sample_rate.value), one.value, str(one.unit))
        for name, one in found.items()
    }


def _read_hdf5(path: str, form: str, channels: Sequence[str], start: float, stop: float) -> Read:
    with h5py.File(path) as file:
        return {
            name: _dataset(file, GWOSC_STRAIN if form == GWOSC else name, start, stop) for name in channels
        }


def _dataset(file: h5py.File, name: str, start: float, stop: float) -> Samples | str:
    """The part of a dataset that lies in GPS [start, stop)."""
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        return f"no dataset {name}; there are: {', '.join(list(file)[:8]) or 'none'}"
    attributes: Mapping[str, Any] = dataset.attrs
    layout = next((keys for keys in LAYOUTS if all(key in attributes for key in keys)), None)
    if layout is None:
        return (
            f"dataset {name}: no attributes {', '.join(' and '.join(keys) for keys in LAYOUTS)} say its times"
        )
    begin, step = (float(attributes[key]) for key in layout)
    count = dataset.shape[0] if dataset.ndim else 0
    first = math.floor(min(max((start - begin) / step, 0), count))
    last = math.ceil(min(max((stop - begin) / step, 0), count))
    unit = attributes.get("unit", attributes.get("Yunits", ""))
    unit = unit.decode() if isinstance(unit, bytes) else str(unit)
    rate = 1 / step if abs(1 / step - round(1 / step)) > 1e-6 else round(1 / step)  # dx = 0.002 is 500 Hz
    return Samples(begin + first * step, float(rate), dataset[first:last], unit)
