"""Is a channel's coincidence more than chance? An exact test by circular shifts, and Holm's for many channels.

The events stand in blocks of neighbours. Where the witness has nothing to do with the strain, shifting it around
each block by any number of events changes nothing but the luck, so the recorded sum is one draw among those of all
shifts (Lehmann & Romano, Testing Statistical Hypotheses, 15.2). Blocks shift independently of each other, which
gives B^N combinations instead of B, and keeps slow changes of both channels, from block to block, out of it.

Shapes: C channel, S score, N block, B event of a block, K = B shift, R draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammainc, gammaln

from glitchflow.signal.types import Array

PIECE = 1000  # draws at a time: 500 channels with three scores take 12 MB


@dataclass(frozen=True)
class ShiftTest:
    """Holds what the shifts say of each channel, (C,)."""

    p: Array  # of the stronger of its scores
    deviation: Array  # (C, S): recorded, above the mean of the shifts, in their standard deviations
    chance: Array  # (C, S): mean over the shifts, of the sum over all events


def shift_test(sums: Sequence[Array], rng: np.random.Generator, draws: int) -> ShiftTest:
    """Tests scores summed over a block's events, (C, S, K) for each block, one-sidedly; K = 0 is as recorded.

    The test's statistic is a channel's largest score, each in standard deviations over all shifts, so that one test
    covers them. p counts the recorded arrangement among the draws: never 0, and exact for any number of them
    (Phipson & Smyth 2010). The deviations reported leave the recorded shift out of mean and spread.
    """
    mean, spread = _moments(sums, 0)
    spread = np.where(spread > 1e-12, spread, np.inf)  # a channel without any peak has nothing to show
    recorded = sum((block[..., 0] for block in sums), np.zeros_like(mean))
    best = ((recorded - mean) / spread).max(axis=1)
    reached = np.zeros(len(mean))
    for start in range(0, draws, PIECE):
        drawn = np.zeros((*mean.shape, min(PIECE, draws - start)))
        for block in sums:
            drawn += block[..., rng.integers(block.shape[-1], size=drawn.shape[-1])]
        statistic = ((drawn - mean[..., None]) / spread[..., None]).max(axis=1)
        reached += (statistic >= best[:, None] - 1e-9).sum(axis=1)  # equal but for the order of a sum: equal
    chance, other = _moments(sums, 1)
    deviation = np.where(other > 1e-12, (recorded - chance) / np.maximum(other, 1e-12), 0.0)
    return ShiftTest((1 + reached) / (1 + draws), deviation, chance)


def _moments(sums: Sequence[Array], first: int) -> tuple[Array, Array]:
    """Returns mean and standard deviation of the sum over blocks, of shifts drawn from `first` on, (C, S) both."""
    shape = sums[0].shape[:2]
    mean, variance = np.zeros(shape), np.zeros(shape)
    for block in sums:
        mean += block[..., first:].mean(axis=-1)
        variance += block[..., first:].var(axis=-1)
    return mean, np.sqrt(variance)


def poisson_significance(coincidences: ArrayLike, expected: ArrayLike) -> Array:
    """Computes hveto's significance -log10 P(>= n | mu) of n coincidences where chance alone gives mu: Poisson's.

    Smith et al. 2011 (doi:10.1088/0264-9381/28/23/235005), eq. 1: P = sum over k >= n of mu^k e^-mu / k!, with mu = N_H
    N_aux T_win / T_tot of N_H glitches and N_aux windows of T_win in T_tot. Where the sum is too small for double
    precision it is its first terms, mu^n e^-mu / n! / (1 - mu / (n + 1)). No coincidence has significance 0.

    Shapes: both broadcast against each other.
    """
    n, mu = np.broadcast_arrays(np.asarray(coincidences, np.float64), np.asarray(expected, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = gammainc(np.maximum(n, 1), mu)
        first = n * np.log(mu) - mu - gammaln(n + 1) - np.log1p(-mu / (n + 1))
        log = np.where(p > 0, np.log(p), first)
    return np.where(n > 0, -log / np.log(10), 0.0) + 0.0


def smallest_p(sizes: Sequence[int], draws: int) -> float:
    """Returns the smallest p-value that blocks of so many events and so many draws can give."""
    return max(1 / (1 + draws), float(np.exp(-np.log(sizes).sum())))


def holm(p: ArrayLike) -> Array:
    """Adjusts p-values for their number, (C,): those <= alpha hold a false one with chance alpha at most.

    Holm, Scand. J. Statist. 6, 65 (1979), which scipy does not have; it holds whatever the tests have in common,
    as here the strain.
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted
