"""Channels out of one frame file: HDF5 by h5py, GWF by gwframe or LALFrame where one is there, all else by gwpy.

Each of LALFrame's questions about a channel, its type among them, decodes all of its samples: gwpy asks for the type,
and reads by a stream, which decodes them twice more. What LALFrame refuses gwpy is asked for, which says why.

HDF5 is read here and not by gwpy, which reads a dataset whole where a part is asked for, runs what it finds pickled
among its attributes, and does not know PyCBC's.

Shapes: N sample.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from glitchflow.signal.recorded.checksum import damage, is_gwf

# by a file's suffix, where no format is given
GWF = ("gwf", "gwf.lalframe")
FORMATS = {".gwf": "gwf", ".h5": "hdf5", ".hdf5": "hdf5", ".hdf": "hdf5"}
# attributes that say when a dataset begins, and how far apart its samples are, in s: gwpy's, GWOSC's, PyCBC's
LAYOUTS = (("x0", "dx"), ("Xstart", "Xspacing"), ("start_time", "delta_t"))
SEAM = 0.01  # samples that frames may lie apart: GPS times in double precision are no better
GWOSC, GWOSC_STRAIN = "hdf5.gwosc", "strain/Strain"  # holds one strain and no channel name
# the bits of GWOSC's masks in GWF files, by the end of the channel's name (gwosc.org); HDF5 files name theirs
GWOSC_BITS = {
    "DQMASK": ["DATA", "CBC_CAT1", "CBC_CAT2", "CBC_CAT3", "BURST_CAT1", "BURST_CAT2", "BURST_CAT3"],
    "INJMASK": ["NO_CBC_HW_INJ", "NO_BURST_HW_INJ", "NO_DETCHAR_HW_INJ", "NO_CW_HW_INJ", "NO_STOCH_HW_INJ"],
}


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
# LALFrame's numbers for the types of samples
LAL_TYPES = {
    1: "INT2",
    2: "INT4",
    3: "INT8",
    33: "UINT2",
    34: "UINT4",
    35: "UINT8",
    10: "REAL4",
    11: "REAL8",
    27: "COMPLEX8",
    28: "COMPLEX16",
}
LIKELY = (11, 10)  # types that are tried before a channel's is asked for: that takes as long as to read it
# by channel, LALFrame's number for the type of its samples, which the next file is taken to have
_types: dict[str, int] = {}


def read_samples(
    path: str, form: str, channels: Sequence[str], start: float = -math.inf, stop: float = math.inf
) -> Read:
    """Reads channels out of one file, opened once, over what it has of GPS [start, stop).

    form: gwpy's name of the format; empty: by the file's suffix, or as gwpy guesses. A channel that cannot be read
    costs itself, with the reason in words. What comes back may begin up to 1 s earlier and end up to 1 s later.
    """
    try:
        form = form or FORMATS.get(Path(path).suffix.lower(), "") or (GWF[0] if is_gwf(Path(path)) else "")
        why = damage(Path(path)) if form in GWF else ""
    except OSError as error:
        why = error.strerror or _words(error)
    if why:
        return dict.fromkeys(channels, why)
    return read_whole(path, form, channels, start, stop)


def read_whole(
    path: str, form: str, channels: Sequence[str], start: float = -math.inf, stop: float = math.inf
) -> Read:
    """Reads as `read_samples`, out of a file that is known to be whole."""
    form = form or FORMATS.get(Path(path).suffix.lower(), "")
    reader = _read_hdf5 if form.startswith("hdf5") else _read_gwf if form in GWF else _read_gwpy
    try:
        found = reader(path, form, channels, start, stop)
    except Exception as error:  # noqa: BLE001  gwpy, h5py and their backends raise anything on a bad file
        if len(channels) == 1:
            return {channels[0]: _words(error)}
        # one channel spoils the reading of all: each by itself
        return {name: read_whole(path, form, [name], start, stop)[name] for name in channels}
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


def _read_gwf(path: str, form: str, channels: Sequence[str], start: float, stop: float) -> Read:
    if form == "gwf" and find_spec("gwframe"):
        return _read_gwframe(path, channels, start, stop)
    try:
        return _read_lalframe(path, channels, start, stop)
    except (ImportError, RuntimeError):  # another library is there, or what it reads is none of its frames
        return _read_gwpy(path, form, channels, start, stop)


def _read_gwframe(path: str, channels: Sequence[str], start: float, stop: float) -> Read:
    """Over whole seconds, a channel and a frame at a time: of more, gwframe closes up gaps between frames, cuts what
    lies beyond the file and leaves out channels that are not there or not valid, without a word."""
    import gwframe

    low, high = _whole(start, stop)
    with gwframe.FrameReader(path) as file:
        frames = [k for k, span in enumerate(file.frame_spans) if span.start < high and span.end > low]
        if not frames:
            raise RuntimeError(f"{path} has nothing of GPS {start:g} to {stop:g}")
        found: Read = {}
        for name in channels:
            try:
                parts = [file.read(name, frame_index=k) for k in frames]
                each = [Samples(one.start, _rate(one.dt), one.array, one.unit) for one in parts]
                found[name] = _joined(each, low, high)
            except Exception as error:  # noqa: BLE001  what frameCPP throws is of no one kind
                found[name] = _words(error)[:300]
    return found


def _whole(start: float, stop: float) -> tuple[float, float]:
    """The whole seconds that hold GPS [start, stop)."""
    return (
        math.floor(start) if math.isfinite(start) else start,
        math.ceil(stop) if math.isfinite(stop) else stop,
    )


def _read_lalframe(path: str, channels: Sequence[str], start: float, stop: float) -> Read:
    """Over whole seconds. Raises `RuntimeError` for what it cannot read, and where frames do not follow each other."""
    import lal
    import lalframe

    low, high = _whole(start, stop)
    file, frames = lalframe.FrFileOpenURL(path), []
    for frame in range(lalframe.FrFileQueryNFrame(file)):
        begin = float(lalframe.FrFileQueryGTime(lal.LIGOTimeGPS(), file, frame))
        if begin < high and begin + lalframe.FrFileQueryDt(file, frame) > low:
            frames.append(frame)
    if not frames:
        raise RuntimeError(f"{path} has nothing of GPS {start:g} to {stop:g}")
    return {name: _joined(list(_frames(file, name, frames)), low, high) for name in channels}


def _frames(file: Any, channel: str, frames: list[int]) -> Iterator[Samples]:
    """A channel in some frames of an open file."""
    import lalframe

    first = None
    if channel not in _types:
        tried = ((kind, _tried(file, channel, frames[0], kind)) for kind in LIKELY)
        kind, first = next((one for one in tried if one[1] is not None), (None, None))
        _types[channel] = kind or lalframe.FrFileQueryChanType(file, channel, frames[0])
    if _types[channel] not in LAL_TYPES:
        raise RuntimeError(f"{channel} is of no type of LAL's series")
    for frame in frames:
        found = first if first is not None else _reader(_types[channel])(file, channel, frame)
        first = None
        yield Samples(float(found.epoch), 1 / found.deltaT, found.data.data, _unit(found.sampleUnits))


def _reader(kind: int) -> Callable[[Any, str, int], Any]:
    import lalframe

    return getattr(lalframe, f"FrFileRead{LAL_TYPES[kind]}TimeSeries")


def _tried(file: Any, channel: str, frame: int, kind: int) -> Any:
    """A channel in one frame if it is of this type, else None, and LAL keeps its words to itself."""
    import lal

    level = lal.GetDebugLevel()
    lal.ClobberDebugLevel(0)
    try:
        return _reader(kind)(file, channel, frame)
    except RuntimeError:
        return None
    finally:
        lal.ClobberDebugLevel(level)


def _unit(unit: Any) -> str:
    """A unit of LAL's in words. To import gwpy takes longer than most reading: it is asked for what is rare."""
    import lal

    for known, words in ((lal.DimensionlessUnit, ""), (lal.StrainUnit, "strain")):
        if unit == known:
            return words
    from gwpy.utils.lal import from_lal_unit

    return str(getattr(from_lal_unit(unit), "unit", from_lal_unit(unit)))


def _joined(parts: list[Samples], start: float, stop: float) -> Samples:
    """What frames, ascending, have of GPS [start, stop); between those that do not meet there is NaN."""
    first, (_, end) = parts[0], parts[-1].span
    pieces = [first.values]
    for before, after in pairwise(parts):
        hole = (after.start - before.span[1]) * before.rate
        if after.rate != before.rate or hole < -SEAM or abs(hole - round(hole)) > SEAM:
            raise RuntimeError(f"the frame of GPS {after.start:.3f} does not follow the one before it")
        if round(hole):
            pieces.append(np.full(round(hole), np.nan))
        pieces.append(after.values)
    low, late = (round(max(0.0, t) * first.rate) for t in (start - first.start, end - stop))
    values = np.concatenate(pieces) if len(pieces) > 1 else first.values
    return Samples(first.start + low / first.rate, first.rate, values[low : len(values) - late], first.unit)


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
    return {name: _from_gwpy(one) for name, one in found.items()}


def _from_gwpy(one: Any) -> Samples:
    return Samples(float(one.t0.value), float(one.sample_rate.value), one.value, str(one.unit))


def _read_hdf5(path: str, form: str, channels: Sequence[str], start: float, stop: float) -> Read:
    with h5py.File(path) as file:
        return {
            name: _dataset(file, GWOSC_STRAIN if form == GWOSC and name not in file else name, start, stop)
            for name in channels
        }


def bit_names(path: str, channel: str) -> list[str]:
    """Returns the names of a state channel's bits, from 0 on, as GWOSC's files have them; none where nothing tells.

    Raises `OSError` for an HDF5 file that cannot be read.
    """
    if h5py.is_hdf5(path):
        place, _, mask = channel.rpartition("/")
        try:
            with h5py.File(path) as file:
                group = file.get(place or "/", {})
                beside = [name for name in group if name.startswith(mask[:-4] + "Shortnames")]
                found = file[f"{place}/{beside[0]}"][:].tolist() if beside else []
        except Exception as error:  # noqa: BLE001  h5py raises anything on a bad file
            raise OSError(_words(error)) from None
        return [one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in found]
    return next((names for end, names in GWOSC_BITS.items() if channel.endswith(end)), [])


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
    return Samples(begin + first * step, _rate(step), dataset[first:last], unit)


def _rate(step: float) -> float:
    """Of samples `step` s apart, in Hz: 0.002 s is 500 Hz."""
    return 1 / step if abs(1 / step - round(1 / step)) > 1e-6 else float(round(1 / step))
