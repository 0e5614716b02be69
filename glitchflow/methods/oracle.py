"""The best that any image method can do: the best function of the true witnessed energy, its conditional middle.

No model that knows the witnessed part exactly, but not the noise, has a lower loss.

Shapes: E event, F frequency, T time.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from glitchflow.methods.method import Block, Removed, Train
from glitchflow.score.former_table import Unit
from glitchflow.signal.types import Array, Energies

BINS_A_DECADE = 20  # of W: a curve of energies has no finer features
BIN_FLOOR = 1e-2  # the least W that is told apart: far below the noise's own energy of 1.4
BIN_COUNT = 100  # pixels at least in a bin: a median of fewer is noise


@dataclass(frozen=True)
class Curve:
    """Gives the loss-optimal normalised value of the strain as a function of log W."""

    unit: Unit
    knots: Array  # (bin,) log10 of W
    values: Array  # (bin,)

    def generate(self, witnessed: Energies) -> Energies:
        """Return the strain's energies (E, F, T) for witnessed energies W (E, F, T)."""
        return self.unit.energy(np.interp(_logarithm(witnessed), self.knots, self.values).astype(np.float32))

    def removed(self, block: Block) -> Removed:
        """Return what is generated from a block's truth."""
        assert block.witnessed is not None, "the table of methods says that the oracle needs it"
        return Removed(self.generate(block.witnessed))


def fit_oracle(train: Train) -> Curve:
    """Fit the curve to the train split's own witnessed energies."""
    assert train.witnessed is not None, "the table of methods says that the oracle needs it"
    return fit_curve(train.target, train.witnessed, train.unit)


def fit_curve(target: Energies, witnessed: Energies, unit: Unit) -> Curve:
    """Fit the conditional median (l1) or mean (l2) of normalised pixels in bins of log W, joined by straight lines.

    Shapes: target and witnessed energies W (E, F, T). Rare bins (the loudest) join their lower neighbours until there
    are `BIN_COUNT` pixels.
    """
    place = _logarithm(witnessed).ravel()
    bins = ((place - place.min()) * BINS_A_DECADE).astype(np.int16)
    order = np.argsort(bins, kind="stable")
    edges, start = [0], 0
    for end in np.cumsum(np.bincount(bins)):
        if end - start >= BIN_COUNT:
            edges.append(end)
            start = end
    edges = [*edges[:-1], len(order)] if len(edges) > 1 else [0, len(order)]
    middle = np.median if unit.loss == "l1" else np.mean
    y = target.ravel()
    parts = [order[a:b] for a, b in pairwise(edges)]
    knots = np.array([place[part].mean(dtype=np.float64) for part in parts])
    return Curve(unit, knots, np.array([middle(y[part].astype(np.float64)) for part in parts]))


def _logarithm(witnessed: Energies) -> Energies:
    return np.log10(np.maximum(witnessed, BIN_FLOOR, dtype=np.float32))
