"""Recorded events: series cut from GWF and HDF5 files around given GPS times, read through gwpy.

Shapes: C channel (the strain first), N sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from glitchflow.config import Derived, Ingest, Series, Source, named
from glitchflow.errors import InputError
from glitchflow.progress import say
from glitchflow.signal.derive import append_derived, spread_invalid
from glitchflow.signal.recorded.frames import strain_of
from glitchflow.signal.recorded.recording import (
    Recording,
    cut,
    event_start,
    is_read,
    open_recording,
    recorded_rates,
)
from glitchflow.signal.recorded.triggers import Trigger
from glitchflow.signal.streams import DERIVED, generator
from glitchflow.signal.types import Event, Recipe

FAMILIES = 2**15  # that labels of two bytes tell apart


@dataclass(frozen=True)
class _Recorded:
    """What recorded events are made from."""

    recording: Recording
    derived: list[Derived]
    seed: int
    triggers: list[Trigger]
    labels: list[str]


def recorded(
    ingest: Ingest,
    series: Series,
    derived: list[Derived],
    seed: int,
    triggers: list[Trigger],
    lot: int = 0,
    rates: Mapping[str, float] | None = None,
) -> Recipe:
    """Returns the events of `ingest`, one for each of `triggers` (see `find_triggers`).

    lot: events that one task makes, which are read together; 0 where nothing is made of them yet, and the rates of all
    channels are wanted, of which a task is told (`rates`). An event whose strain the files do not cover, or that has
    NaN there, is `skipped`, with the reason; a witness without data is zeros, and not `valid`.
    Raises `InputError` where no channel or no file is given, for more families than a store can number, and, without
    `lot`, for a channel that no file has.
    """
    sources, derived = chosen_channels(ingest, derived)
    labels = ["background", *(sorted({t.label for t in triggers} - {"background"}) or ["recorded"])]
    if len(labels) > FAMILIES:
        raise InputError(
            f"ingest.times.label = {ingest.times.label or labels[1]}: {len(labels) - 1} families, of which a store"
            f" takes {FAMILIES - 1}; name a column of families"
        )
    if not lot and len(sources) + len(derived) < 2:
        say(
            f"{sources[0].name} has no witness beside it in ingest.channels: only a generative twin"
            " (model.name=flow) can be trained on that"
        )
    starts = [event_start(series, trigger.gps) for trigger in triggers]
    recording = open_recording(sources, series, starts, lot, rates)
    known = {} if lot else recorded_rates(recording)
    # what is noted was noted when the store was begun: no task needs another copy
    listed = [] if lot else [[t.gps, t.label, t.snr if t.snr == t.snr else None] for t in triggers]
    return Recipe(
        events=len(triggers),
        channels=[*(c.name for c in sources), *(d.name for d in derived)],
        labels=labels,
        witnessed=[],
        couplings={},
        event=partial(_event, _Recorded(recording, derived, seed, triggers, labels)),
        split_key=int,
        recorded=True,
        times=np.array([trigger.gps for trigger in triggers]),
        notes={"triggers": listed, "rates": known},
        label=lambda i: labels.index(triggers[i].label),
        is_read=partial(is_read, recording),
        attributes={"rates": {name: rate for name, rate in known.items() if rate < series.sample_rate}},
    )


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


def refuse_silent(rates: Mapping[str, float], derived: list[Derived], frange: Sequence[float]) -> None:
    """Raises `InputError` for a channel whose recorded rate, in Hz, has nothing in the band, and from which no other
    is derived."""
    (low, high), used = frange, {name for item in derived for name in item.channels}
    for name, rate in rates.items():
        if rate / 2 <= low and name not in used:
            raise InputError(
                f"ingest.channels {name}: was recorded at {rate:g} Hz, and qplot.frange = [{low:g}, {high:g}] lies"
                f" above {rate / 2:g} Hz, half of that: leave it out, or name it in derived"
            )


def _event(recorded: _Recorded, index: int) -> Event:
    recording, derived, series = recorded.recording, recorded.derived, recorded.recording.series
    trigger, names = recorded.triggers[index], [source.name for source in recording.sources]
    centre = float(recording.starts[index]) + series.duration / 2
    rest = (None, recorded.labels.index(trigger.label), centre, trigger.snr)
    rows, gaps = cut(recording, index)
    if names[0] in gaps:
        empty = np.zeros((len(names) + len(derived), series.samples))
        return Event(empty, *rest, skipped=gaps[names[0]])
    rng = generator(recorded.seed, DERIVED, index)
    # no channel may be derived from the strain
    values = append_derived(rows, ["", *names[1:]], derived, series.sample_rate, rng)
    valid = np.array([name not in gaps for name in names] + [True] * len(derived))
    spread_invalid(valid, [*names, *(item.name for item in derived)], derived)
    return Event(values, *rest, valid=valid)
