"""The classical subtraction beside the network: multichannel Wiener filters of the witnesses' series.

A filter uses the witnesses' phase, which no image has: on families that couple linearly it may beat any network that
sees images alone. It needs stores that kept their `series`.

Shapes: E event, W witness, F frequency, T time, N sample, N' sample of the part that is fitted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from glitchflow.data.view import read_series, strain_engine
from glitchflow.methods.method import Block, Removed, Series, Train
from glitchflow.methods.oracle import Curve, fit_curve
from glitchflow.signal.qtransform import QTransform
from glitchflow.signal.types import Array, Energies, Indices
from glitchflow.signal.wiener import Wiener, fit_wiener

SEGMENT = 1.0  # s of a segment, and of a filter: resolves lines of 1 Hz, and a window holds some of them
EVENTS = (
    1024  # train events that a filter is fitted to at most: more change its taps by less than their error
)
BLOCK = 32  # events whose series are in memory at once
CURVE_EVENTS = 256  # that the energies' curve is fitted to: 4096 pixels each at 64 x 64


@dataclass(frozen=True)
class Filter:
    """Holds a fitted filter, the strain's Q-transform, and what the energy of a prediction says of the strain's."""

    wiener: Wiener
    places: list[int]  # of the witnesses it takes, among those of a block
    engine: QTransform
    curve: Curve

    def removed(self, block: Block) -> Removed:
        """Predict the strain of a block and subtract it, in the recorded strain's own whitening, plane and units.

        Generated is the loss-optimal function of the prediction's energy, as the oracle is of the witnessed part's.
        """
        assert block.strain is not None and block.witnesses is not None, "the table says that it needs series"
        predicted = self.wiener.predict(block.witnesses[:, self.places])
        energy, left = (
            _energy(self.engine, block.strain, part) for part in (predicted, block.strain - predicted)
        )
        return Removed(self.curve.generate(energy), left)


def fit(train: Train, derived: bool) -> Filter:
    """Fit the filters of the recorded witnesses, or with `derived` of all, those derived from others among them."""
    series = train.series
    assert series is not None, "the table of methods says that it needs series"
    places = list(range(len(series.witnesses))) if derived else series.recorded
    made = series.dataset.config
    events = series.events[:: max(1, len(series.events) // EVENTS)][:EVENTS]  # spread over the split
    length = 2 * round(SEGMENT * made.series.sample_rate / 2)
    stretches = _stretches(series, events, places)
    wiener = fit_wiener(stretches, length, made.series.sample_rate, made.qplot.frange)
    engine, some = strain_engine(series.dataset), events[:CURVE_EVENTS]
    energy = np.concatenate(
        [
            _energy(engine, values[:, 0], wiener.predict(values[:, 1:][:, places]))
            for values in _read(series, some)
        ]
    )
    target = train.unit.normalise(np.maximum(series.dataset.events("qplot", some)[:, 0], 0))
    return Filter(wiener, places, engine, fit_curve(target, energy, train.unit))


def _energy(engine: QTransform, strain: Array, part: Array) -> Energies:
    """Energies (E, F, T) of a part of the strain (E, N), both (E, N), whitened as the strain is."""
    companion = engine(strain[:, None], companion=part).companion
    assert companion is not None
    return np.maximum(companion.numpy(), 0).astype(np.float32)


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
