"""Whether draws are as high, as long and as broad as real glitches: Kolmogorov-Smirnov distances of what Q-plots show.

Shapes: E event, F frequency, T time; Q-plots of one family, in noise on both sides.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp, kstwobign

from glitchflow.signal.types import Array, Energies

LOUD = 6.0  # energies above it are a glitch's: noise passes it in one pixel of 64, 2^-6


@dataclass(frozen=True)
class Distance:
    """Says how far the law of one number is from that of another, of so many events."""

    value: float  # the largest difference of their distribution functions, 0 to 1
    chance: float  # what two samples of this size of one law stay below 95 times of 100


def shapes(energy: Energies, frequency: Array, time: Array) -> dict[str, Array]:
    """Measure what pixels louder than `LOUD` show: columns (E,), NaN where there are none.

    peak_frequency: of the loudest pixel, Hz. duration, bandwidth: the standard deviation of times in s, and of
    frequencies in Hz, each pixel weighted by its energy.

    Shapes: energy (E, F, T), frequency (F,) in Hz, time (T,) in s.
    """
    loud = np.where(energy > LOUD, energy, 0.0).astype(np.float64)
    seen = loud.any(axis=(1, 2))
    peak = frequency[np.argmax(energy.max(axis=2), axis=1)]
    return {
        "peak_frequency": np.where(seen, peak, np.nan),
        "duration": _spread(loud.sum(axis=1), time),
        "bandwidth": _spread(loud.sum(axis=2), frequency),
    }


def _spread(weight: Array, axis: Array) -> Array:
    """The weighted standard deviation (E,) along an axis (A,) of weights (E, A); NaN where all are 0."""
    total = weight.sum(axis=1)
    share = weight / np.where(total > 0, total, np.nan)[:, None]
    off = axis - (share @ axis)[:, None]
    return np.sqrt((share * off**2).sum(axis=1))


def distance(first: Array, second: Array) -> Distance:
    """Measure the two-sample Kolmogorov-Smirnov distance of numbers (any,), (any,); NaN are left out.

    What chance makes is the law's limit for many (Smirnov 1948, Ann. Math. Stat. 19, 279). Both numbers are NaN where
    nothing is left on a side.
    """
    a, b = (side[~np.isnan(side)] for side in (first, second))
    if not len(a) or not len(b):
        return Distance(np.nan, np.nan)
    chance = kstwobign.ppf(0.95) * np.sqrt(1 / len(a) + 1 / len(b))
    return Distance(float(ks_2samp(a, b).statistic), min(1.0, float(chance)))


def distances(first: Mapping[str, Array], second: Mapping[str, Array]) -> dict[str, Distance]:
    """Measure the distance of each column that both have."""
    return {name: distance(first[name], second[name]) for name in first if name in second}
