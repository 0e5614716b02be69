"""Intervals: binomial for shares of events, bootstrap over events for everything else.

Shapes: values are (event,), one number per event; NaN marks an event for which a score is not defined.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import DegenerateDataWarning, bootstrap

from glitchflow.signal.types import Array, Indices

RESOLVABLE_EVENTS = 10  # Poisson: ten events are known to a third, fewer say little more than "some"
BATCH = (
    2**20
)  # numbers drawn at once: 1,000 resamples of 10^6 events whole would take 16 GB, pieces of 2^20 take 16 MB


class Bootstrap(NamedTuple):
    """Says how intervals over events are made."""

    seed: int
    resamples: int


@dataclass(frozen=True)
class Interval:
    """Holds a value and its confidence interval."""

    value: float
    low: float
    high: float

    def root(self) -> "Interval":
        """Returns the interval of the square root; of numbers >= 0, or NaN."""
        return Interval(*(float(np.sqrt(v)) for v in (self.value, self.low, self.high)))


UNDEFINED = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Proportion:
    """Holds shares of events, hits / trials, with binomial intervals; all four arrays have one shape."""

    hits: NDArray[np.int64]
    trials: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def value(self) -> NDArray[np.float64]:
        """Returns hits / trials, NaN without trials."""
        return np.where(self.trials > 0, self.hits / np.maximum(self.trials, 1), np.nan)

    @property
    def resolvable(self) -> NDArray[np.bool_]:
        """Is False where fewer than 10 events make up the share: then quote `high` as a limit, not the value."""
        return self.hits >= RESOLVABLE_EVENTS


def proportion(hits: ArrayLike, trials: ArrayLike, confidence: float = 0.95) -> Proportion:
    """Estimates the share hits / trials with its Wilson score interval, [0, 1] without trials.

    Wilson 1927, JASA 22, 209; scipy has it for one share at a time. hits and trials broadcast against each other.
    Raises ValueError for a hit count outside 0..trials.
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
    """Averages over events (NaN left out), with a percentile bootstrap interval (Efron 1979), from `seed`.

    Shape: (event,). Without any event all three numbers are NaN.
    """
    v = np.asarray(values, np.float64)
    there = v[~np.isnan(v)]
    return bootstrap_sums(lambda total: total / len(there), [there], seed, resamples, confidence)


def bootstrap_difference(
    first: ArrayLike, second: ArrayLike, seed: int, resamples: int = 1000, confidence: float = 0.95
) -> Interval:
    """Averages first - second, paired event by event, with a bootstrap interval.

    Shapes: (event,) both. An event where either is NaN is left out. Raises ValueError where the shapes differ.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a paired difference needs the same events in both: shapes {a.shape} and {b.shape}")
    return bootstrap_mean(a - b, seed, resamples, confidence)


def bootstrap_ratio(
    numerator: ArrayLike, denominator: ArrayLike, seed: int, resamples: int = 1000, confidence: float = 0.95
) -> Interval:
    """Divides the sum of numerators by that of denominators, with a bootstrap interval; events are drawn in pairs.

    Shapes: (event,) both. Raises ValueError where the shapes differ.
    """
    a, b = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a ratio of sums needs the same events in both: shapes {a.shape} and {b.shape}")
    return bootstrap_sums(quotient, [a, b], seed, resamples, confidence)


def bootstrap_sums(
    statistic: Callable[..., Any],
    columns: Sequence[ArrayLike],
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Computes a function of sums over events, statistic(sum of each of `columns`), with a bootstrap interval.

    An event's numbers are drawn together. Shapes: (event,) each. Without any event all three numbers are NaN.
    """
    given = [np.asarray(column) for column in columns]
    events = min(map(len, given))

    def summed(*drawn: Array, axis: int = -1) -> Any:
        return statistic(*(column.sum(axis=axis, dtype=np.float64) for column in drawn))

    if not 1 < events <= BATCH // resamples or not all(np.isfinite(column).all() for column in given):
        return _bootstrap(summed, given, seed, resamples, confidence)
    counts = _counts(seed, resamples, events)
    drawn = statistic(*(counts @ column for column in given))
    return _interval(float(summed(*given)), drawn, confidence)


def bootstrap_apart(
    statistic: Callable[..., Any],
    samples: Sequence[ArrayLike],
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Computes statistic(*samples, axis=-1) of samples that are drawn each by itself, with a bootstrap interval.

    Shapes: (any,) each. Where one of them is empty all three numbers are NaN.
    """
    return _bootstrap(statistic, [np.asarray(one) for one in samples], seed, resamples, confidence, False)


def bootstrap_quantile(
    values: ArrayLike, share: float, seed: int, resamples: int = 1000, confidence: float = 0.95
) -> Interval:
    """Returns the quantile of events (NaN left out) below which a `share` of them lies, with a bootstrap interval.

    Shape: (event,). Without any event all three numbers are NaN.
    """
    v = np.asarray(values, np.float64)

    def quantile(drawn: Array, axis: int = -1) -> Any:
        return np.quantile(drawn, share, axis=axis)

    return _bootstrap(quantile, [v[~np.isnan(v)]], seed, resamples, confidence)


def bootstrap_pooled_quantile(
    values: ArrayLike, share: float, seed: int, resamples: int = 1000, confidence: float = 0.95
) -> Interval:
    """Returns the quantile of the numbers of all events together, with a bootstrap interval: the lowest number that at
    least a `share` of them does not exceed.

    An event is drawn with all its numbers. Shape: (event, several), NaN where an event has fewer. Without any number
    all three are NaN.
    """
    v = np.asarray(values, np.float64)
    v = v[~np.isnan(v).all(axis=1)]
    last = np.where(np.isnan(v), np.inf, v)  # a sort is many times faster than numpy's nanquantile

    def quantile(drawn: Indices, axis: int = -1) -> Any:
        pooled = np.sort(last[drawn].reshape(*drawn.shape[:-1], -1), axis=axis)
        place = np.ceil(share * np.isfinite(pooled).sum(axis=axis, keepdims=True)).astype(int) - 1
        return np.take_along_axis(pooled, np.maximum(place, 0), axis)[..., 0]

    return _bootstrap(quantile, [np.arange(len(v))], seed, resamples, confidence)


def quotient(above: Any, below: Any) -> Any:
    """Divides; NaN where there is nothing to divide by. Shapes: any two that broadcast."""
    return np.asarray(above) / np.where(below == 0, np.nan, below)


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: must lie between 0 and 1")
    return confidence


@functools.lru_cache(4)  # one for each family of an evaluation, whose scores are many
def _counts(seed: int, resamples: int, events: int) -> Array:
    """How often each resample has each event, (resample, event), as scipy.stats.bootstrap draws them.

    Sums are one product of matrices then: a tenth of the time in which scipy copies every resample's events.
    """
    drawn = np.random.default_rng(seed).integers(0, events, (resamples, events))
    places = (drawn + events * np.arange(resamples)[:, None]).ravel()
    return np.bincount(places, minlength=resamples * events).reshape(resamples, events).astype(np.float64)


def _bootstrap(
    statistic: Callable[..., Any],
    samples: Sequence[Any],
    seed: int,
    resamples: int,
    confidence: float,
    paired: bool = True,
) -> Interval:
    _checked(confidence)
    fewest = min(map(len, samples))
    if fewest == 0:
        return UNDEFINED
    value = float(statistic(*samples))
    if fewest == 1:  # scipy wants two; one event can only be drawn again
        return Interval(value, value, value)
    with warnings.catch_warnings():
        # scipy's own interval is NaN, with a warning, where one resample is, as a ratio to nothing
        warnings.simplefilter("ignore", DegenerateDataWarning)
        drawn = bootstrap(
            samples,
            statistic,
            n_resamples=resamples,
            batch=max(1, BATCH // max(map(len, samples))),
            vectorized=True,
            paired=paired,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    return _interval(value, drawn, confidence)


def _interval(value: float, drawn: Array, confidence: float) -> Interval:
    """The percentile interval of what resamples gave, those that are defined."""
    tail = (1 - _checked(confidence)) / 2
    defined = drawn[np.isfinite(drawn)]
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
    return Interval(value, float(low), float(high))
