"""Q-plots of chosen events and channels, one event at a time, from a store or straight from recorded data.

    qplot   the store's Q-plots
    series  the store's series, through the Q-transform that `qplot` describes now
    files   the files of `ingest`, through the same; nothing is written

No more is in memory than a shard of the store, which is checked whole, or one event's series.

Shapes: C channel (the strain first), F frequency, T time, N sample.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from glitchflow.config import QPlot, Series, Whiten
from glitchflow.data.content import Content
from glitchflow.data.store import Dataset
from glitchflow.data.view import axes
from glitchflow.signal.derive import append_derived, band_limits, spread_invalid
from glitchflow.signal.qtransform import QTransform, build_engine
from glitchflow.signal.recorded.events import chosen_channels
from glitchflow.signal.recorded.recording import cut, event_start, open_recording
from glitchflow.signal.streams import DERIVED, generator


@dataclass(frozen=True)
class Image:
    """The Q-plots of one event."""

    event: int
    energy: NDArray[np.float32]  # (C, F, T), unclamped; zeros for a channel without data
    frequency: NDArray[np.float64]  # (F,) Hz
    step: float  # s from pixel to pixel


@dataclass(frozen=True)
class Origin:
    """Where events come from: a dataset, where there is one, and the content that is asked for now.

    gps: of recorded events, by index, where there is no dataset.
    """

    content: Content
    dataset: Dataset | None = None
    gps: Sequence[float] = ()


def read_qplots(origin: Origin, events: Sequence[int], channels: Sequence[str]) -> Iterator[Image]:
    """Read the stored Q-plots of events, in the store's order."""
    dataset = _dataset(origin)
    qplot, columns = dataset.config.qplot, [dataset.channels.index(channel) for channel in channels]
    for inside, (values,) in dataset.blocks(np.sort(events), "qplot", channels=columns):
        for event, energy in zip(inside.tolist(), values):
            frequency, time = axes(dataset, event)
            step = float(time[1] - time[0]) if qplot.window == "fixed" else qplot.tres
            yield Image(event, energy, frequency, step)


def read_series(origin: Origin, events: Sequence[int], channels: Sequence[str]) -> Iterator[Image]:
    """Make the Q-plots of events anew, with the present `qplot`, from a store that kept its series."""
    dataset, columns = _dataset(origin), [_dataset(origin).channels.index(channel) for channel in channels]
    key = _stored(dataset, origin.content, channels)
    for event in sorted(events):
        series = dataset.all_series(np.array([event]))[0, columns]
        yield _transform(_engine(key), event, series, _dead(dataset, event)[columns])


def images(
    dataset: Dataset, events: NDArray[np.int64], series: NDArray, channels: Sequence[str]
) -> NDArray[np.float32]:
    """The Q-plots (E, C, F, T) of events of a store, of series (E, C, N) of these channels that are handed in."""
    key, columns = _stored(dataset, dataset.config, channels), [dataset.channels.index(c) for c in channels]
    found = [
        _transform(_engine(key), event, one, _dead(dataset, event)[columns]).energy
        for event, one in zip(events.tolist(), series)
    ]
    return np.stack(found)


def _stored(dataset: Dataset, content: Content, channels: Sequence[str]) -> "_Settings":
    """The transform that the content asks for, of series that a store kept."""
    columns = [dataset.channels.index(channel) for channel in channels]
    asd = dataset["asd"][:][columns] if content.whiten.asd == "dataset" else None
    series = content.model_copy(update={"series": dataset.config.series})
    return _settings(series, channels, dataset.attributes.get("rates", {}), asd)


def _dead(dataset: Dataset, event: int) -> NDArray[np.bool_]:
    """Which of all channels (C,) have no data in an event."""
    return ~(dataset["valid"][event] if "valid" in dataset else np.ones(len(dataset.channels), bool))


def _dataset(origin: Origin) -> Dataset:
    assert origin.dataset is not None  # what has no dataset is read from files
    return origin.dataset


def read_files(origin: Origin, events: Sequence[int], channels: Sequence[str]) -> Iterator[Image]:
    """Read recorded events from their files. A channel whose files have a gap there has an image of zeros."""
    content, series = origin.content, origin.content.series
    wanted = content.ingest.model_copy(update={"witnesses": list(channels[1:])})
    sources, derived = chosen_channels(wanted, content.derived)
    names = [source.name for source in sources]
    columns = [[*names, *(d.name for d in derived)].index(channel) for channel in channels]
    recording = open_recording(sources, series, [event_start(series, origin.gps[event]) for event in events])
    for window, event in enumerate(events):
        rows, gaps = cut(recording, window)
        valid = np.array([name not in gaps for name in names] + [True] * len(derived))
        rng = generator(content.seed, DERIVED, event)
        values = append_derived(rows, ["", *names[1:]], derived, series.sample_rate, rng)
        spread_invalid(valid, [*names, *(d.name for d in derived)], derived)
        key = _settings(content, channels, recording.rates)  # a channel that was not read yet has no image
        yield _transform(_engine(key), event, values[columns], ~valid[columns])


READERS: dict[str, Callable[[Origin, Sequence[int], Sequence[str]], Iterator[Image]]] = {
    "qplot": read_qplots,
    "series": read_series,
    "files": read_files,
}


@dataclass(frozen=True)
class _Settings:
    """What a Q-transform is built from; the ASD follows from the rest, as long as the dataset is the same."""

    series: Series
    qplot: QPlot
    whiten: Whiten
    channels: tuple[str, ...]
    limits: tuple[float, ...] | None
    asd: NDArray[np.float64] | None = field(default=None, compare=False)


def _settings(
    content: Content, channels: Sequence[str], rates: Mapping[str, float], asd: NDArray | None = None
) -> _Settings:
    limits = band_limits(channels, rates, content.derived)
    known = None if limits is None else tuple(limits.tolist())
    return _Settings(content.series, content.qplot, content.whiten, tuple(channels), known, asd)


@lru_cache(maxsize=2)
def _engine(settings: _Settings) -> QTransform:
    limits = None if settings.limits is None else np.array(settings.limits)
    return build_engine(settings.series, settings.qplot, settings.whiten, "mask", settings.asd, limits)


def _transform(engine: QTransform, event: int, series: NDArray, dead: NDArray[np.bool_]) -> Image:
    """What an engine makes of one event's series (C, N); zeros for `dead` channels (C,)."""
    plot = engine(series[None])
    plot.energy[0, dead] = 0
    frequency, time = (np.asarray(axis).reshape(-1) for axis in (plot.frequencies, plot.times))
    return Image(event, plot.energy[0].numpy(), frequency, float(time[1] - time[0]))
