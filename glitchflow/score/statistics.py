"""Intervals: binomial for shares of events, bootstrap over events for everything else.

Shapes: values are (event,), one number per event; NaN marks an event for which a score is not defined.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

RESOLVABLE_EVENTS = 10  # a share decided by fewer events than this is noise


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval."""

    value: float
    low: float
    high: float

    def excludes(self, number: float = 0.0) -> bool:
        """Whether `number` lies outside the interval."""
        return not self.low <= number <= self.high


@dataclass(frozen=True)
class Proportion:
    """Shares of events, hits / trials, with binomial intervals; all four arrays have one shape."""

    hits: NDArray[np.int64]
    trials: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def value(self) -> NDArray[np.float64]:
        """hits / trials; NaN without trials."""
        return np.where(self.trials > 0, self.hits / np.maximum(self.trials, 1), np.nan)

    @property
    def resolvable(self) -> NDArray[np.bool_]:
        """False where fewer than 10 events make up the share: then quote `high` as a limit, not the value."""
        return self.hits >= RESOLVABLE_EVENTS


def proportion(hits: ArrayLike, trials: ArrayLike, confidence: float = 0.95) -> Proportion:
    """The share hits / trials with its Wilson score interval (Wilson 1927, JASA 22, 209); [0, 1] without trials.

    hits and trials broadcast against each other. Raises ValueError for a hit count outside 0..trials.
    """
    h, n = np.broadcast_arrays(np.asarray(hits, np.int64), np.asarray(trials, np.int64))
    if np.any(h < 0) or np.any(h > n):
        raise ValueError("proportion: hits must lie between 0 and trials")
    z = ndtri(0.5 + _checked(confidence) / 2)
    m = np.maximum(n, 1)
    p = h / m
    middle = (p + z**2 / (2 * m)) / (1 + z**2 / m)
    half = z / (1 + z**2 / m) * np.sqrt(p * (1 - p) / m + z**2 / (4 * m**2))
    # at 0 and at all hits the ends are exactly 0 and 1; rounding must not say otherwise
    low = np.where((n == 0) | (h == 0), 0.0, middle - half)
    high = np.where((n == 0) | (h == n), 1.0, middle + half)
    return Proportion(h.copy(), n.copy(), low, high)


def bootstrap_mean(values: ArrayLike, seed: int, resamples: int = 1000, confidence: float = 0.95) -> Interval:
    """Mean over events (NaN left out) with its percentile bootstrap interval (Efron 1979), from `seed`.

    Shape: (event,). Without any event all three numbers are NaN.
    """
    v = np.asarray(values, np.float64)
    v = v[~np.isnan(v)]
    return _bootstrap(lambda index: v[index].mean(), len(v), seed, resamples, confidence)


def bootstrap_difference(
    first: ArrayLike, second: ArrayLike, seed: int, resamples: int = 1000, confidence: float = 0.95
) -> Interval:
    """Mean of first - second, paired event by event, with its bootstrap interval.

    Shapes: (event,) both. An event where either is NaN is left out. Raises ValueError where the shapes differ.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a paired difference needs the same events in both: shapes {a.shape} and {b.shape}")
    return bootstrap_mean(a - b, seed, resamples, confidence)


def bootstrap_ratio(
    numerator: ArrayLike, denominator: ArrayLike, seed: int, resamples: int = 1000, confidence: float = 0.95
) -> Interval:
    """Sum of numerators over sum of denominators, with its bootstrap interval; events resampled in pairs.

    Shapes: (event,) both. Raises ValueError where the shapes differ.
    """
    a, b = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a ratio of sums needs the same events in both: shapes {a.shape} and {b.shape}")

    def ratio(index: NDArray[np.int64] | slice) -> float:
        below = b[index].sum()
        return a[index].sum() / below if below != 0 else np.nan

    return _bootstrap(ratio, len(a), seed, resamples, confidence)


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: must lie between 0 and 1")
    return confidence


def _bootstrap(statistic: Callable, events: int, seed: int, resamples: int, confidence: float) -> Interval:
    tail = (1 - _checked(confidence)) / 2
    if events == 0:
        return Interval(np.nan, np.nan, np.nan)
    generator = np.random.default_rng(seed)
    draws = np.array([statistic(generator.integers(events, size=events)) for _ in range(resamples)])
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, [tail, 1 - tail]) if len(draws) else (np.nan, np.nan)
    return Interval(float(statistic(slice(None))), float(low), float(high))
