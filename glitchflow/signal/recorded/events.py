"""Recorded events: series cut from GWF and HDF5 files around given GPS times, read through gwpy.

Shapes: C channel (the strain first), N sample.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
from scipy.signal import resample_poly

from glitchflow.config import Derived, Ingest, Series, Source, named
from glitchflow.signal.derive import append_derived
from glitchflow.signal.recorded.frames import Gap, find_files, native_rate, read_stretch, strain_of
from glitchflow.signal.recorded.triggers import Trigger
from glitchflow.signal.streams import DERIVED, generator
from glitchflow.signal.types import Array, Event, Flags, Recipe

PADDING = 2.0  # s read beyond each end where a channel is resampled, for the filter to settle


@dataclass(frozen=True)
class _Recording:
    """What the events of a recording are cut from."""

    sources: list[Source]  # the strain first
    derived: list[Derived]
    series: Series
    seed: int
    triggers: list[Trigger]
    labels: list[str]


def recorded(
    ingest: Ingest, series: Series, derived: list[Derived], seed: int, block: float, triggers: list[Trigger]
) -> Recipe:
    """Returns the events of `ingest`, one for each of `triggers` (see `find_triggers`).

    block: s within which neighbours share a split. An event whose strain the files do not cover, or that has NaN there,
    is `skipped`, with the reason; a witness without data is zeros, and not `valid`.
    Raises `InputError` where no channel or no file is given.
    """
    sources, derived = chosen_channels(ingest, derived)
    for source in sources:
        find_files(source)
    labels = ["background", *(sorted({t.label for t in triggers} - {"background"}) or ["recorded"])]
    return Recipe(
        events=len(triggers),
        channels=[*(c.name for c in sources), *(d.name for d in derived)],
        labels=labels,
        witnessed=[],
        couplings={},
        event=partial(_event, _Recording(sources, derived, series, seed, triggers, labels)),
        split_key=lambda i: int(triggers[i].gps // block),
        recorded=True,
        notes={"triggers": [[t.gps, t.label, t.snr if t.snr == t.snr else None] for t in triggers]},
        label=lambda i: labels.index(triggers[i].label),
        attributes={"rates": _rates(sources, series.sample_rate)},
    )


def _rates(sources: list[Source], sample_rate: float) -> dict[str, float]:
    """The rates of the channels that were recorded at a lower one than their series are brought to, in Hz."""
    found = {source.name: native_rate(source) for source in sources}
    return {name: rate for name, rate in found.items() if rate is not None and rate < sample_rate}


def chosen_channels(ingest: Ingest, derived: list[Derived]) -> tuple[list[Source], list[Derived]]:
    """Returns the recorded channels, strain first, and the derived ones that `ingest.witnesses` asks for (none: all).

    A derived channel brings along those it is computed from. Raises `InputError` where none are given.
    """
    strain = strain_of(ingest)
    wanted = set(named("ingest.witnesses", ingest.witnesses))
    if not wanted:
        return ingest.channels, derived
    for item in reversed(derived):  # a channel may be derived from one that was derived before it
        wanted |= set(item.channels) if item.name in wanted else set()
    chosen = [source for source in ingest.channels[1:] if source.name in wanted]
    return [strain, *chosen], [d for d in derived if d.name in wanted]


def event_start(series: Series, gps: float) -> float:
    """Returns the GPS time of an event's first sample: one of the common rate, so that all channels start together."""
    return round((gps - series.duration / 2) * series.sample_rate) / series.sample_rate


def _event(recording: _Recording, index: int) -> Event:
    sources, derived, series = recording.sources, recording.derived, recording.series
    trigger = recording.triggers[index]
    start = event_start(series, trigger.gps)
    rest = (None, recording.labels.index(trigger.label), start + series.duration / 2, trigger.snr)
    rows, gaps = [], {}
    for source in sources:
        try:
            rows.append(read_channel(source, start, series.duration, series.sample_rate))
        except Gap as gap:
            rows.append(np.zeros(series.samples))
            gaps[source.name] = str(gap)
    if sources[0].name in gaps:
        empty = np.zeros((len(sources) + len(derived), series.samples))
        return Event(empty, *rest, skipped=gaps[sources[0].name])
    names = ["", *(c.name for c in sources[1:])]  # no channel may be derived from the strain
    rng = generator(recording.seed, DERIVED, index)
    values = append_derived(np.stack(rows), names, derived, series.sample_rate, rng)
    return Event(values, *rest, valid=_valid([c.name for c in sources], derived, set(gaps)))


def _valid(names: list[str], derived: list[Derived], gaps: set[str]) -> Flags:
    """(C,): False for a channel with a gap, and for one that is derived from such a channel."""
    for item in derived:
        gaps |= {item.name} if gaps & {*item.channels} else set()
    return np.array([name not in gaps for name in (*names, *(item.name for item in derived))])


def read_channel(source: Source, start: float, duration: float, sample_rate: float) -> Array:
    """Reads `duration` seconds of one channel from GPS `start`, at `sample_rate` in Hz: (N,) float64.

    Resampled by a polyphase filter (scipy's) from data a little longer where there is more.
    Raises `Gap` where the files do not cover the time or have NaN in it.
    """
    data = read_stretch(source, start, start + duration, PADDING)
    resampled = float(data.sample_rate.value) != sample_rate
    bad = np.flatnonzero(~np.isfinite(data.value))  # before the resampling, which would spread it
    near = np.abs(data.times.value[bad] - start - duration / 2) <= duration / 2 + PADDING * resampled
    if near.any():
        raise Gap(f"ingest.channels {source.name}: not a number at GPS {data.times.value[bad][near][0]:.4f}")
    values = np.asarray(data.value, dtype=np.float64)
    if resampled:
        # not gwpy's resample: by ratios that are not whole it multiplies the spectrum by a Hamming window
        ratio = Fraction(sample_rate / float(data.sample_rate.value)).limit_denominator(2**16)
        values = resample_poly(values, ratio.numerator, ratio.denominator, padtype="line")
    first = round((start - float(data.t0.value)) * sample_rate)
    return values[first : first + round(duration * sample_rate)]


def first_sample(source: Source, start: float, duration: float, sample_rate: float) -> float:
    """Returns the GPS time of the first sample that `read_channel` gives where it resamples.

    It is `start`, but for the file's own grid.

    Raises `Gap` as `read_channel`.
    """
    begin = float(read_stretch(source, start, start + duration, PADDING).t0.value)
    return begin + round((start - begin) * sample_rate) / sample_rate
