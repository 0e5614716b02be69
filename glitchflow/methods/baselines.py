"""What a network has to beat, fitted to the same loss on the same events, in normalised units.

Shapes: inputs (event, witness, frequency, time), target and predictions (event, frequency, time), both normalised as
for the network; witnessed W (event, frequency, time) in energies. Inside: x (pixel, feature, event), y (pixel, event).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

LOSSES = ("l1", "l2")
RIDGE = (
    1e-3  # of each witness's own variance: no effect on a real coupling, finite where a witness is constant
)
IRLS_STEPS, IRLS_FLOOR = 30, 1e-3  # least |residual|, in units of the target's own mean absolute deviation
BINS_A_DECADE, BIN_FLOOR, BIN_COUNT = (
    20,
    1e-2,
    100,
)  # oracle: bins of log W, the least W told apart, the least count


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline: `offset`, plus `slopes` times the witnesses, or a curve over log W.

    Shapes: offset (frequency, time) or (), slopes (witness, frequency, time), knots and curve (bin,).
    """

    name: str
    loss: str
    offset: NDArray[np.float32]
    slopes: NDArray[np.float32] | None = None
    knots: NDArray[np.float64] | None = None
    curve: NDArray[np.float64] | None = None

    def predict(self, inputs: Array, witnessed: Array | None = None) -> Array:
        """The strain's normalised Q-plots (event, frequency, time) for the witnesses' (or, the oracle, for W)."""
        if self.knots is not None and self.curve is not None:
            return np.interp(_logarithm(_required(witnessed)), self.knots, self.curve).astype(np.float32)
        events, _, *image = inputs.shape
        prediction = np.broadcast_to(self.offset, (events, *image)).astype(np.float32)
        if self.slopes is not None:
            for witness, slope in enumerate(self.slopes):
                prediction += slope * inputs[:, witness]
        return prediction


def fit(
    name: str,
    inputs: Array,
    target: Array,
    loss: str,
    witnessed: Array | None = None,
    zero: float = 0.0,
) -> Baseline:
    """Fits the baseline of that name (a key of `BASELINES`) to the train split.

    zero      the normalised value of energy zero, given as `zero`
    constant  one number: the median (l1) or mean (l2) of all pixels
    mean      per-pixel mean
    median    per-pixel median
    linear    per-pixel regression on the witnesses' values at that pixel, with intercept: least squares (l2),
              iteratively reweighted for l1
    oracle    the best function of W = `witnessed`: its conditional median (l1) or mean (l2) in logarithmic bins. No
              model that knows the witnessed part exactly, but not the noise, can do better: the floor of the loss.

    Raises ValueError for an unknown name or loss, shapes that do not match, no event, or an oracle without W.
    """
    if name not in BASELINES:
        raise ValueError(f"baseline {name!r} is unknown: allowed are {', '.join(BASELINES)}")
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r}: baselines are fitted to {' or '.join(LOSSES)}")
    if inputs.ndim != 4 or len(inputs) == 0 or target.shape != (len(inputs), *inputs.shape[2:]):
        raise ValueError(
            f"inputs {inputs.shape} and target {target.shape} must be (event, witness, frequency, time) and "
            "(event, frequency, time) of the same events, at least one"
        )
    if witnessed is not None and witnessed.shape != target.shape:
        raise ValueError(f"witnessed {witnessed.shape} and target {target.shape} differ in shape")
    if name == "zero":
        return Baseline(name, loss, np.asarray(zero, np.float32))
    if name == "oracle":
        return _oracle(target, loss, _required(witnessed))
    if name == "linear":
        return _linear(inputs, target, loss)
    statistic: Callable[..., NDArray] = {
        "constant": np.median if loss == "l1" else _mean,
        "mean": _mean,
        "median": np.median,
    }[name]
    return Baseline(
        name, loss, np.asarray(statistic(target, axis=None if name == "constant" else 0), np.float32)
    )


BASELINES = ("zero", "constant", "mean", "median", "linear", "oracle")


def _mean(values: Array, axis: int | None) -> NDArray[np.float64]:
    return values.mean(axis=axis, dtype=np.float64)


def _required(witnessed: Array | None) -> Array:
    if witnessed is None:
        raise ValueError("baseline 'oracle' needs the witnessed energies, which only a synthetic dataset has")
    return witnessed


def _linear(inputs: Array, target: Array, loss: str) -> Baseline:
    """Row by row of the image, so that what the fit works on stays in the processor's cache."""
    witnesses, rows, columns = inputs.shape[1:]
    offset, slopes = np.empty((rows, columns), np.float32), np.empty((witnesses, rows, columns), np.float32)
    for row in range(rows):
        x = np.ascontiguousarray(inputs[:, :, row].transpose(2, 1, 0), dtype=np.float64)
        y = np.ascontiguousarray(target[:, row].T, dtype=np.float64)
        offset[row], slopes[:, row] = _regress(x, y, loss)
    return Baseline("linear", loss, offset, slopes)


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


def _logarithm(witnessed: Array) -> NDArray[np.float32]:
    return np.log10(np.maximum(witnessed, BIN_FLOOR, dtype=np.float32))


def _oracle(target: Array, loss: str, witnessed: Array) -> Baseline:
    """Conditional median or mean in bins of log W of at least `BIN_COUNT` pixels, joined by straight lines."""
    place = _logarithm(witnessed).ravel()
    bins = ((place - place.min()) * BINS_A_DECADE).astype(np.int16)
    order = np.argsort(bins, kind="stable")
    counts = np.bincount(bins)
    # Rare bins (the loudest) join their lower neighbours until there are enough pixels for a median.
    edges, start = [0], 0
    for end in np.cumsum(counts):
        if end - start >= BIN_COUNT:
            edges.append(end)
            start = end
    edges = [*edges[:-1], len(order)] if len(edges) > 1 else [0, len(order)]
    middle = np.median if loss == "l1" else np.mean
    y = target.ravel()
    parts = [order[a:b] for a, b in pairwise(edges)]
    knots = np.array([place[part].mean(dtype=np.float64) for part in parts])
    curve = np.array([middle(y[part].astype(np.float64)) for part in parts])
    return Baseline("oracle", loss, np.zeros((), np.float32), knots=knots, curve=curve)
