"""Q-plots of chosen events and channels, one event at a time, from a store or straight from recorded data.

    qplot   the store's Q-plots
    series  the store's series, through the Q-transform that `qplot` describes now
    files   the files of `ingest`, through the same; nothing is written

No more is in memory than a chunk of the store, or one event's series.

Shapes: C channel (the strain first), F frequency, T time, N sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from glitchflow.config import Experiment, parse, upgrade
from glitchflow.data.store import dataset as store
from glitchflow.signal.derive import append_derived
from glitchflow.signal.qtransform import QTransform, build_engine
from glitchflow.signal.recorded.events import chosen_channels, event_start, read_channel
from glitchflow.signal.recorded.frames import Gap
from glitchflow.signal.streams import DERIVED, generator


@dataclass(frozen=True)
class Image:
    """The Q-plots of one event."""

    event: int
    energy: NDArray[np.float32]  # (C, F, T), unclamped; zeros for a channel without data
    frequency: NDArray[np.float64]  # (F,) Hz
    step: float  # s from pixel to pixel


def read_qplots(
    experiment: Experiment, events: Sequence[int], channels: Sequence[str], gps: Sequence[float] = ()
) -> Iterator[Image]:
    """In the store's order, as `read_series`."""
    dataset = store.open_store(experiment.dataset)
    qplot = parse(upgrade(dataset.attributes["config"]), dataset.path).qplot
    fixed = qplot.window == "fixed"
    axes = [np.asarray(dataset[name][:]) for name in ("frequency", "time")] if fixed else []
    for event, energy in _stored(dataset, "qplot", events, channels):
        if fixed:
            yield Image(event, energy, axes[0], float(axes[1][1] - axes[1][0]))
        else:
            first = float(np.asarray(dataset["frequency0"][event]))
            rows = np.arange(energy.shape[1], dtype=np.float64)
            yield Image(event, energy, first + qplot.fres * rows, qplot.tres)


def read_series(
    experiment: Experiment, events: Sequence[int], channels: Sequence[str], gps: Sequence[float] = ()
) -> Iterator[Image]:
    """Q-plots made anew, with the present `qplot`, from a store that kept its series."""
    dataset = store.open_store(experiment.dataset)
    made = parse(upgrade(dataset.attributes["config"]), dataset.path)
    engine = _engine(experiment.model_copy(update={"series": made.series}).model_dump_json())
    for event, series in _stored(dataset, "series", events, channels):
        yield _transform(engine, event, series)


def _stored(
    dataset: store.Dataset, name: str, events: Sequence[int], channels: Sequence[str]
) -> Iterator[tuple[int, NDArray]]:
    """An array's channels, event by event; read by whole chunks."""
    columns = [dataset.channels.index(channel) for channel in channels]
    chunk = dataset[name].chunks[0]
    for k in sorted({event // chunk for event in events}):
        values = np.asarray(dataset[name][k * chunk : (k + 1) * chunk])
        yield from ((e, values[e - k * chunk, columns]) for e in sorted(events) if e // chunk == k)


def read_files(
    experiment: Experiment, events: Sequence[int], channels: Sequence[str], gps: Sequence[float]
) -> Iterator[Image]:
    """Recorded events at `gps[event]`. A channel whose files have a gap there has an image of zeros."""
    wanted = experiment.ingest.model_copy(update={"witnesses": list(channels[1:])})
    sources, derived = chosen_channels(wanted, experiment.derived)
    names = [source.name for source in sources]
    columns = [[*names, *(d.name for d in derived)].index(channel) for channel in channels]
    series, engine = experiment.series, _engine(experiment.model_dump_json())
    for event in events:
        start, rows = event_start(series, gps[event]), []
        for source in sources:
            try:
                rows.append(read_channel(source, start, series.duration, series.sample_rate))
            except Gap:
                rows.append(np.zeros(series.samples))
        rng = generator(experiment.seed, DERIVED, event)
        values = append_derived(np.stack(rows), ["", *names[1:]], derived, series.sample_rate, rng)
        yield _transform(engine, event, values[columns])


READERS: dict[str, Callable[[Experiment, Sequence[int], Sequence[str], Sequence[float]], Iterator[Image]]] = {
    "qplot": read_qplots,
    "series": read_series,
    "files": read_files,
}


@lru_cache(maxsize=2)
def _engine(experiment_json: str) -> QTransform:
    experiment = Experiment.model_validate_json(experiment_json)
    return build_engine(experiment.series, experiment.qplot, experiment.whiten, "mask")


def _transform(engine: QTransform, event: int, series: NDArray) -> Image:
    plot = engine(series[None])
    frequency, time = (np.asarray(axis).reshape(-1) for axis in (plot.frequencies, plot.times))
    return Image(event, plot.energy[0].numpy(), frequency, float(time[1] - time[0]))
