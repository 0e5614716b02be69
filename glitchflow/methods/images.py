"""Methods that work on images: one number, one image, the loudest witness, or a sum of the witnesses' energies.

They are fitted to energies, by the likelihood that `skill` is measured with (score/skill.py).

Shapes: E event, W witness, F frequency, T time. Inside: P = E x T pixels of a row.
"""

from dataclasses import dataclass

import numpy as np

from glitchflow.methods.method import Block, Removed, Train
from glitchflow.signal.types import Array, Energies

FIT_PIXELS = 2**15  # of a row that the sum is fitted to: its likelihood is flat beyond
STEPS = 60  # of the sum's fit: the likelihood moves by less than 1e-3 from there on
TINY = 1e-9  # keeps a weight that fell to 0 from dividing 0 by 0


@dataclass(frozen=True)
class Constant:
    """Expects the same energies in every event."""

    image: Energies  # (F, T) or ()

    def removed(self, block: Block) -> Removed:
        """Return the image for every event."""
        events, _, rows, columns = block.energies.shape
        return Removed(np.broadcast_to(self.image, (events, rows, columns)))


def fit_nothing(train: Train) -> Constant:
    """Expect no energy, and remove nothing."""
    return Constant(np.zeros((), np.float32))


def fit_constant(train: Train) -> Constant:
    """Expect the mean energy of all pixels: the most likely constant."""
    return Constant(np.asarray(train.target.mean(dtype=np.float64), np.float32))


def fit_mean(train: Train) -> Constant:
    """Expect each pixel's mean energy over the events: the most likely image."""
    return Constant(train.target.mean(axis=0, dtype=np.float64).astype(np.float32))


@dataclass(frozen=True)
class Gate:
    """Removes everything that the window shows."""

    def removed(self, block: Block) -> Removed:
        """Return a mask of ones."""
        return Removed(mask=np.ones((len(block.events), *block.energies.shape[2:]), np.float32))


def fit_gate(train: Train) -> Gate:
    """Fit nothing."""
    return Gate()


@dataclass(frozen=True)
class Loudest:
    """Expects of the strain what the loudest witness shows, pixel by pixel; below the threshold nothing."""

    threshold: float = 0.0

    def removed(self, block: Block) -> Removed:
        """Return the loudest witness's energies."""
        loudest = block.energies.max(axis=1)
        return Removed(np.where(loudest >= self.threshold, loudest, np.float32(0)))


def fit_loudest(train: Train) -> Loudest:
    """Fit nothing: copy a witness."""
    return Loudest()


def fit_thresholded(train: Train) -> Loudest:
    """Take `clean.threshold`, below which the strain stays as it is."""
    return Loudest(train.threshold)


@dataclass(frozen=True)
class Sum:
    """Expects an energy of each row's own, plus each witness's energy times a share of the row's own."""

    offset: Array  # (F,)
    shares: Array  # (W, F), at least 0

    def removed(self, block: Block) -> Removed:
        """Return the sum over the witnesses."""
        total = np.einsum("wf,ewft->eft", self.shares.astype(np.float32), block.energies, optimize=True)
        return Removed(total + self.offset.astype(np.float32)[:, None])


def fit_linear(train: Train) -> Sum:
    """Fit the sum's offset and shares, row by row, to the greatest likelihood of exponential energies.

    Shares are not negative, for energies of independent parts add. A share is the same at all times of a row: when a
    disturbance comes is drawn anew in every event. By multiplicative updates, sum(x T / G^2) / sum(x / G), as
    non-negative factors are fitted with the Itakura-Saito divergence (Fevotte, Bertin & Durrieu 2009, Neural Comput.
    21, 793).
    """
    _, witnesses, rows, columns = train.energies.shape
    some = slice(0, len(train.energies[: max(1, FIT_PIXELS // columns)]))
    offset, shares = np.empty(rows), np.empty((witnesses, rows))
    for row in range(rows):
        x = np.ones((witnesses + 1, train.target[some].shape[0] * columns))
        x[1:] = train.energies[some, :, row].transpose(1, 0, 2).reshape(witnesses, -1)
        y = train.target[some, row].ravel().astype(np.float64)
        weights = _likeliest(x, y, float(train.floor[row]))
        offset[row], shares[:, row] = weights[0], weights[1:]
    return Sum(offset, shares)


def _likeliest(x: Array, y: Array, floor: float) -> Array:
    """Weights (1 + W,) of x (1 + W, P), the first all ones, under which energies y (P,) are the likeliest."""
    weights = np.full(len(x), 0.1 / max(1, len(x) - 1))
    weights[0] = floor
    for _ in range(STEPS):
        expected = weights @ x + TINY
        weights *= (x @ (y / expected**2)) / (x @ (1 / expected) + TINY)
    return weights
