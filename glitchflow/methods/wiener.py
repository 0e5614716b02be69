"""The classical subtraction: multichannel Wiener filters of the witnesses' series, and the same used as a mask.

A filter uses the witnesses' phase, which no image has: on families that couple linearly it may beat any network that
sees images alone. It needs stores that kept their `series`.

Shapes: E event, W witness, F frequency, N sample.
"""

from dataclasses import dataclass

import numpy as np

from glitchflow.methods.method import Block, Removed, Train
from glitchflow.signal.types import Array
from glitchflow.signal.wiener import Wiener, fit_wiener


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
    """Fit filters of all witnesses, those derived from others among them, to the time about events alone."""
    return Mask(fit(train, derived=True, about=True), train.floor)


def fit_robust(train: Train) -> Filter:
    """Fit the filters of the recorded witnesses to the time that they explain best: not to a witness's own bursts."""
    series = train.series
    assert series is not None, "the table of methods says that it needs series"
    made = series.dataset.config
    highest = series.highest[series.recorded]
    wiener = fit_wiener(series.trimmed, made.series.sample_rate, made.qplot.frange, highest)
    return Filter(wiener, series.recorded)


def fit(train: Train, derived: bool, about: bool = False) -> Filter:
    """Fit the filters of the recorded witnesses, or with `derived` of all, those derived from others among them; to
    all time or, with `about`, to that about events."""
    series = train.series
    assert series is not None, "the table of methods says that it needs series"
    places = list(range(len(series.witnesses))) if derived else series.recorded
    made = series.dataset.config
    parts, highest = (part.of(places) for part in series.spectra(about)), series.highest[places]
    return Filter(fit_wiener(parts, made.series.sample_rate, made.qplot.frange, highest), places)
