"""Methods that work on images: one number, one image, or a regression on the witnesses' pixels.

They are fitted in normalised values, to the same loss on the same events as the network.

Shapes: E event, W witness, F frequency, T time. Inside: x (pixel, feature, event), y (pixel, event).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glitchflow.methods.method import Block, Removed, Train
from glitchflow.score.former_table import Unit
from glitchflow.signal.types import Energies

# of each witness's own variance: no effect on a real coupling, finite where a witness is constant
RIDGE = 1e-3
# least |residual| is in units of the target's own mean absolute deviation: below a thousandth of it, weights of
# 1 / |residual| only follow rounding; 30 steps reach the optimum of linear programming within 0.3 %
IRLS_STEPS, IRLS_FLOOR = 30, 1e-3


@dataclass(frozen=True)
class Affine:
    """Predicts an image that is the same for all events, plus slopes times the witnesses' pixels."""

    unit: Unit
    offset: NDArray[np.float32]  # (F, T) or ()
    slopes: NDArray[np.float32] | None = None  # (W, F, T)

    def predict(self, images: Energies) -> Energies:
        """Predict the strain's normalised images (E, F, T) for those of the witnesses (E, W, F, T)."""
        events, _, *image = images.shape
        prediction = np.broadcast_to(self.offset, (events, *image)).astype(np.float32)
        if self.slopes is not None:
            for witness, slope in enumerate(self.slopes):
                prediction += slope * images[:, witness]
        return prediction

    def removed(self, block: Block) -> Removed:
        """Return the energies that are generated for a block."""
        return Removed(self.unit.energy(self.predict(block.images)))


def fit_zero(train: Train) -> Affine:
    """Generate nothing: energy zero everywhere."""
    return Affine(train.unit, train.unit.normalise(np.zeros((1, 1, 1), np.float32))[0, 0, 0])


def fit_constant(train: Train) -> Affine:
    """Generate one number: the median (l1) or the mean (l2) of all pixels."""
    middle = np.median(train.target) if train.unit.loss == "l1" else train.target.mean(dtype=np.float64)
    return Affine(train.unit, np.asarray(middle, np.float32))


def fit_mean(train: Train) -> Affine:
    """Generate each pixel's mean over the events."""
    return Affine(train.unit, train.target.mean(axis=0, dtype=np.float64).astype(np.float32))


def fit_median(train: Train) -> Affine:
    """Generate each pixel's median over the events."""
    return Affine(train.unit, np.median(train.target, axis=0).astype(np.float32))


def fit_linear(train: Train) -> Affine:
    """Regress each pixel on the witnesses' values there: least squares (l2), or least absolute deviations (l1).

    It goes row by row of the image, so that what the fit works on stays in the processor's cache.
    """
    inputs, target, loss = train.inputs, train.target, train.unit.loss
    witnesses, rows, columns = inputs.shape[1:]
    offset, slopes = np.empty((rows, columns), np.float32), np.empty((witnesses, rows, columns), np.float32)
    for row in range(rows):
        x = np.ascontiguousarray(inputs[:, :, row].transpose(2, 1, 0), dtype=np.float64)
        y = np.ascontiguousarray(target[:, row].T, dtype=np.float64)
        offset[row], slopes[:, row] = _regress(x, y, loss)
    return Affine(train.unit, offset, slopes)


def _regress(x: NDArray[np.float64], y: NDArray[np.float64], loss: str) -> tuple[NDArray, NDArray]:
    """Regressions of y (pixel, event) on x (pixel, feature, event): intercepts (pixel,), slopes (feature, pixel).

    l1 by iteratively reweighted least squares: weights 1 / |residual| make the squares absolute values
    (Schlossmacher 1973, doi:10.2307/2284512), and the sum of absolute residuals falls at every step.
    """
    # On standardised features and target the ridge and the floor mean the same in every normalisation.
    middle, width = x.mean(axis=2), x.std(axis=2)
    width = np.where(width > 0, width, 1.0)
    centre = np.median(y, axis=1) if loss == "l1" else y.mean(axis=1)
    scale = np.abs(y - centre[:, None]).mean(axis=1)
    scale = np.where(scale > 0, scale, 1.0)
    y = (y - centre[:, None]) / scale[:, None]
    design = np.ones((x.shape[0], x.shape[1] + 1, x.shape[2]))
    np.divide(x - middle[:, :, None], width[:, :, None], out=design[:, 1:])
    # A little on the intercept too would pull it to the median or mean: none there.
    ridge = np.diag([0.0] + [RIDGE * x.shape[2]] * x.shape[1])

    weights, previous = np.ones_like(y), np.inf
    for _ in range(IRLS_STEPS if loss == "l1" else 1):
        weighted = design * weights[:, None]
        normal = weighted @ design.transpose(0, 2, 1) + ridge
        solution = np.linalg.solve(normal, weighted @ y[:, :, None])[..., 0]
        residual = np.abs(y - (solution[:, None] @ design)[:, 0])
        weights = 1 / np.maximum(residual, IRLS_FLOOR)
        cost = residual.mean()
        if previous - cost < 1e-5 * previous:
            break
        previous = cost
    slopes = solution[:, 1:] * scale[:, None] / width
    return solution[:, 0] * scale + centre - (slopes * middle).sum(axis=1), slopes.T
