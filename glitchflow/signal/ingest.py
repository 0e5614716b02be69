"""Recorded events: series cut from GWF and HDF5 files around given GPS times, read through gwpy.

Shapes: C channel (the strain first), N sample.
"""

from __future__ import annotations

import glob
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from glitchflow.config import Experiment, InputError
from glitchflow.config.schema import Source
from glitchflow.signal.derive import append_derived
from glitchflow.signal.simulate import DERIVED, Event, Recipe, generator

if TYPE_CHECKING:
    from gwpy.timeseries import TimeSeries

PADDING = 2.0  # s read beyond each end where a channel is resampled, for the filter to settle


def recorded(experiment: Experiment) -> Recipe:
    """The events of `ingest`: one for each of `ingest.times`.

    Raises `InputError` where no channel, no time or no file is given.
    """
    ingest = experiment.ingest
    if not ingest.channels:
        raise InputError("ingest.channels = []: name the strain and at least one witness")
    if not ingest.times:
        raise InputError("ingest.times = []: give at least one GPS time")
    for source in ingest.channels:
        _files(source)
    labels = sorted(set(ingest.labels) - {"background"}) or ["recorded"]
    return Recipe(
        events=len(ingest.times),
        channels=[*(c.name for c in ingest.channels), *(d.name for d in experiment.derived)],
        labels=["background", *labels],
        witnessed=[],
        couplings={},
        event=partial(_event, experiment, ["background", *labels]),
        split_key=lambda i: int(ingest.times[i] // experiment.split.block),
        recorded=True,
    )


def _event(experiment: Experiment, labels: list[str], index: int) -> Event:
    ingest, series = experiment.ingest, experiment.series
    # every channel starts at the same sample of the common rate, the one nearest to what was asked
    start = round((ingest.times[index] - series.duration / 2) * series.sample_rate) / series.sample_rate
    rows = [read_channel(c, start, series.duration, series.sample_rate) for c in ingest.channels]
    names = ["", *(c.name for c in ingest.channels[1:])]  # no channel may be derived from the strain
    rng = generator(experiment.seed, DERIVED, index)
    values = append_derived(np.stack(rows), names, experiment.derived, series.sample_rate, rng)
    label = labels.index(ingest.labels[index]) if ingest.labels else 1
    return Event(values, None, label, start + series.duration / 2, float("nan"))


def read_channel(source: Source, start: float, duration: float, sample_rate: float) -> NDArray[np.float64]:
    """`duration` seconds of one channel from GPS `start`, at `sample_rate`: (N,) float64.

    Resampled by a polyphase filter (scipy's) from data a little longer where there is more.
    Raises `InputError` where the files do not cover the time or have gaps or NaN in it.
    """
    data = _read(source)
    end = start + duration
    if data.t0.value > start + 1e-6 or data.span[1] < end - 1e-6:
        raise InputError(
            f"ingest.channels {source.name}: its files cover GPS {data.span[0]:.3f} to {data.span[1]:.3f},"
            f" not {start:.3f} to {end:.3f}"
        )
    resampled = float(data.sample_rate.value) != sample_rate
    around = PADDING if resampled else 0.0
    data = data.crop(max(start - around, data.span[0]), min(end + around, data.span[1]))
    bad = np.flatnonzero(~np.isfinite(data.value))  # before the resampling, which would spread it
    if bad.size:
        raise InputError(f"ingest.channels {source.name}: not a number at GPS {data.times.value[bad[0]]:.4f}")
    values = np.asarray(data.value, dtype=np.float64)
    if resampled:
        # not gwpy's resample: by ratios that are not whole it multiplies the spectrum by a Hamming window
        ratio = Fraction(sample_rate / float(data.sample_rate.value)).limit_denominator(2**16)
        values = resample_poly(values, ratio.numerator, ratio.denominator, padtype="line")
    first = round((start - float(data.t0.value)) * sample_rate)
    return values[first : first + round(duration * sample_rate)]


@lru_cache(maxsize=16)
def _read_files(files: tuple[str, ...], channel: str, form: str) -> TimeSeries:
    from gwpy.timeseries import TimeSeries

    named = [] if form == "hdf5.gwosc" else [channel]  # a GWOSC file holds one strain and no channel name
    return TimeSeries.read(list(files), *named, **({"format": form} if form else {}))


def _read(source: Source) -> TimeSeries:
    files = _files(source)
    try:
        return _read_files(files, source.channel or source.name, source.format)
    except Exception as error:  # noqa: BLE001  gwpy and its readers raise anything on a bad file
        reason = " ".join(str(error).split())
        raise InputError(
            f"ingest.channels {source.name}: {', '.join(files)} cannot be read: {reason}"
        ) from None


def _files(source: Source) -> tuple[str, ...]:
    found: list[str] = []
    for pattern in source.files:
        matches = sorted(glob.glob(str(Path(pattern).expanduser())))  # noqa: PTH207  patterns may be absolute
        if not matches:
            raise InputError(f"ingest.channels {source.name}: files = {pattern}: no such file")
        found += matches
    return tuple(found)
