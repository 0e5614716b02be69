"""p(glitch): how probable it is that the strain has a glitch in a sixteenth of a second, by how loud a twin says it is.

    series w' --slots--> SNR of each sixteenth --Chance, fitted on validation--> probability

Isotonic regression (Barlow et al. 1972) takes nothing for granted but that what is louder is no less probable; iDQ
(Essick et al. 2020, doi:10.1088/2632-2153/abab5f) calibrates by kernel densities what it ranks.

Shapes: n slot, K knot, B bin.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from glitchflow.score.statistics import proportion
from glitchflow.signal.types import Array, Flags

SLOT = 16  # Hz
LEAST = 20  # slots behind a bin of the reliability curve, as far as there are so many
BINS = (0, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97, 1.0)


def slots(white: Array, rate: float) -> Array:
    """Returns the SNR of each sixteenth of a second of white series (..., N) that begin with one: (..., n)."""
    count = round(white.shape[-1] / rate * SLOT)
    edges = np.floor(np.arange(count + 1) * (rate / SLOT) + 1e-9).astype(int)
    total = np.concatenate([np.zeros_like(white[..., :1]), np.cumsum(np.square(white), axis=-1)], axis=-1)
    return np.sqrt(np.maximum(np.diff(total[..., edges], axis=-1), 0))


@dataclass(frozen=True)
class Chance:
    """Says how probable a glitch is by the SNR of a slot: linearly between knots (K,) that ascend."""

    snr: list[float]
    p: list[float]

    def of(self, loud: Array) -> Array:
        """Returns the probabilities of SNRs of any shape."""
        return np.interp(loud, self.snr, self.p)


def fit(loud: Array, truth: Flags) -> Chance | None:
    """Fits the probability that `truth` is so to SNRs (n,) each; None where it never, or always, is.

    The value of each step stands over the mean of what is in it, so that what lies between grows evenly. No
    probability is 0 or 1: of n slots in a step one more of either kind is thought, half each (Krichevsky & Trofimov).
    """
    if not truth.any() or truth.all():
        return None
    order = np.argsort(loud, kind="stable")
    snr, yes = loud[order], truth[order].astype(np.float64)
    steps = isotonic_regression(yes).blocks
    sizes = np.diff(steps)
    means, hits = np.add.reduceat(snr, steps[:-1]) / sizes, np.add.reduceat(yes, steps[:-1])
    p = np.maximum.accumulate((hits + 0.5) / (sizes + 1))
    return Chance(means.tolist(), p.tolist())


def reliability(p: Array, truth: Flags) -> list[dict[str, Any]]:
    """Returns, of slots (n,) by their probability in bins, what was said and what came: `said` (mean), `came` (share)
    with a 95 % interval `low`, `high` (Wilson's), and `slots`. Neighbouring bins of few slots are one."""
    found: list[dict[str, Any]] = []
    place, taken = np.digitize(p, BINS[1:-1]), np.zeros(len(p), bool)
    for b in range(len(BINS) - 1):
        taken |= place == b
        if taken.sum() >= LEAST or (b == len(BINS) - 2 and taken.any()):
            came = proportion(int(truth[taken].sum()), int(taken.sum()))
            row = {"said": float(p[taken].mean()), "came": float(came.value)}
            found.append(row | {"low": float(came.low), "high": float(came.high), "slots": int(taken.sum())})
            taken[:] = False
    return found
