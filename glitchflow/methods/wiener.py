"""The classical subtraction: multichannel Wiener filters of the witnesses' series, and the same used as a mask.

A filter uses the witnesses' phase, which no image has: on families that couple linearly it may beat any network that
sees images alone. It needs stores that kept their `series`.

Shapes: E event, W witness, F frequency, N sample, N' sample of the part that is fitted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from glitchflow.data.view import read_series
from glitchflow.methods.method import Block, Removed, Series, Train
from glitchflow.signal.types import Array, Indices
from glitchflow.signal.wiener import Wiener, fit_wiener

SEGMENT = 1.0  # s of a segment, and of a filter: resolves lines of 1 Hz, and a window holds some of them
EVENTS = (
    1024  # train events that a filter is fitted to at most: more change its taps by less than their error
)
BLOCK = 32  # events whose series are in memory at once


@dataclass(frozen=True)
class Filter:
    """Subtracts what fitted filters predict of the strain."""

    wiener: Wiener
    places: list[int]  # of the witnesses it takes, among those of a block

    def removed(self, block: Block) -> Removed:
        """Predict the strain of a block."""
        assert block.witnesses is not None, "the table of methods says that it needs series"
        return Removed(series=self.wiener.predict(block.witnesses[:, self.places]))


@dataclass(frozen=True)
class Mask:
    """Uses the same prediction as an image method would: its energy, without its phase."""

    filter: Filter
    floor: Array  # (F,) mean energy of the strain where nothing happened

    def removed(self, block: Block) -> Removed:
        """Return the energies of the prediction and the noise, in the strain's own whitening, plane and units."""
        series = self.filter.removed(block).series
        assert series is not None and block.seen is not None, "the table of methods says that it needs series"
        energy = block.seen.energies(block.seen.whiten(series[:, None]))[:, 0]
        return Removed(energy + self.floor.astype(np.float32)[:, None])


def fit_mask(train: Train) -> Mask:
    """Fit filters of all witnesses, those derived from others among them."""
    return Mask(fit(train, derived=True), train.floor)


def fit(train: Train, derived: bool) -> Filter:
    """Fit the filters of the recorded witnesses, or with `derived` of all, those derived from others among them."""
    series = train.series
    assert series is not None, "the table of methods says that it needs series"
    places = list(range(len(series.witnesses))) if derived else series.recorded
    made = series.dataset.config
    events = series.events[:: max(1, len(series.events) // EVENTS)][:EVENTS]  # spread over the split
    length = 2 * round(SEGMENT * made.series.sample_rate / 2)
    stretches = _stretches(series, events, places)
    return Filter(fit_wiener(stretches, length, made.series.sample_rate, made.qplot.frange), places)


def _read(series: Series, events: Indices) -> Iterator[Array]:
    """Series (E, 1 + W, N) of ascending events, the strain first, some at a time."""
    channels = [series.dataset.channels[0], *series.witnesses]
    for start in range(0, len(events), BLOCK):
        yield read_series(series.dataset, events[start : start + BLOCK], channels)


def _stretches(series: Series, events: Indices, places: list[int]) -> Iterator[tuple[Array, Array]]:
    """Strain (E, N') and witnesses (E, W, N') of the part of the series that Q-plots show, and half a segment more:
    averaged over the long quiet rest, a filter would mostly learn the noise."""
    made = series.dataset.config
    span = made.qplot.span if made.qplot.window == "fixed" else made.series.duration
    half = round(min(span + SEGMENT, made.series.duration) * made.series.sample_rate / 2)
    middle = made.series.samples // 2
    for values in _read(series, events):
        shown = values[:, :, middle - half : middle + half]
        yield shown[:, 0], shown[:, 1:][:, places]
