"""All channels about one time: from the files that a dataset was recorded in, or an event of the dataset.

Shapes: R recorded channel, C channel (derived ones too), N sample, F frequency, T time, V view.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glitchflow.analysis.opened import sources_of, windows_of
from glitchflow.config import Source
from glitchflow.data.store import Dataset
from glitchflow.data.view import axes, engine_of, read_series, strain_engine
from glitchflow.errors import InputError
from glitchflow.progress import say
from glitchflow.signal.derive import spread_invalid
from glitchflow.signal.qtransform import Seen, look
from glitchflow.signal.recorded.recording import cut, event_start, open_recording
from glitchflow.signal.types import Array, Energies, Flags


@dataclass(frozen=True)
class Window:
    """Holds what was recorded about a time, as long as the dataset's events."""

    dataset: Dataset
    gps: float  # of the middle of the series
    event: int | None  # of the dataset that shows this time; None where its files alone do
    series: Array  # (C, N) in each channel's unit; 0 where one has no data
    valid: Flags  # (C,)

    @property
    def rate(self) -> float:
        """Return the Hz of the series."""
        return self.dataset.config.series.sample_rate

    @cached_property
    def seen(self) -> Seen:
        """Look at the strain as the dataset's Q-plots do."""
        return look(strain_engine(self.dataset), self.series[:1])

    @cached_property
    def energies(self) -> Energies:
        """Make the Q-plots (C, F, T) of all channels, at least 0."""
        engine = engine_of(self.dataset, self.dataset.channels, "mask")
        return engine(self.series[None]).energy[0].clamp_min(0).numpy()

    @property
    def axes(self) -> tuple[Array, Array]:
        """Return the frequencies (F,) in Hz and times (T,) in s from `gps` of its Q-plots."""
        return axes(self.dataset, self.event or 0)

    def views(self, removed: Array) -> tuple[Array, Energies]:
        """Return the white series (V, N) and energies (V, F, T) of what is recorded, removed (N,) and left."""
        taken = self.seen.whiten(removed[None, None])[0, 0]
        series = np.stack([self.seen.white[0], taken, self.seen.white[0] - taken])
        return series, self.seen.energies(series[None])[0]


def window_at(dataset: Dataset, channels: Sequence[Source], gps: float) -> Window:
    """Cut a window whose middle is at a GPS time out of recorded files, else take the event that shows it.

    channels: where files are now. Raises `InputError` where neither has the strain at this time.
    """
    event = _event_at(dataset, gps)
    if dataset.recorded and "time" in dataset:
        try:
            return from_files(dataset, channels, gps, event)
        except InputError as reason:  # frames are often gone before anyone asks
            if event is None or "series" not in dataset:
                raise
            say(f"{reason}; taken instead: the series of event {event}, which the dataset keeps")
    if event is None or "series" not in dataset:
        lacking = "no event shows this time" if event is None else "it keeps no series: store.series=float32"
        raise InputError(f"{gps:.3f}: {dataset.path}: {lacking}")
    some = np.array([event])
    valid = dataset.events("valid", some)[0] if "valid" in dataset else np.ones(len(dataset.channels), bool)
    middle = float(dataset.events("gps", some)[0])
    return Window(dataset, middle, event, read_series(dataset, some, dataset.channels)[0], valid)


def _event_at(dataset: Dataset, gps: float) -> int | None:
    """The event whose Q-plot shows a time, nearest to its middle."""
    found = windows_of(dataset, np.arange(len(dataset)))
    there = np.flatnonzero((found.start <= gps) & (gps < found.stop))
    off = np.abs(found.start[there] + found.stop[there] - 2 * gps)
    return int(found.events[there[off.argmin()]]) if len(there) else None


def from_files(dataset: Dataset, channels: Sequence[Source], gps: float, event: int | None) -> Window:
    """Cut a window of a dataset's channels out of files; `event`: of the dataset, that shows this time.

    Raises `InputError` where they have no strain there.
    """
    names, made = dataset.recorded_channels, dataset.config
    sources = sources_of(dataset, channels, names)
    recording = open_recording(sources, made.series, [event_start(made.series, gps)], 1)
    values, gaps = cut(recording, 0)
    if names[0] in gaps:
        raise InputError(f"{gps:.3f}: {gaps[names[0]]}")
    middle = float(recording.starts[0]) + made.series.duration / 2
    whole = dataset.derived(np.array([event or 0]), values[None])[0]
    valid = np.array([name not in gaps for name in names] + [True] * (len(whole) - len(names)))
    spread_invalid(valid, dataset.channels, made.derived)
    whole[~valid] = 0
    return Window(dataset, middle, event, whole, valid)
