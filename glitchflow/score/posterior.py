"""Whether draws of what an event may have been are as sure of it as they are right, and what they leave of it.

`left` is the power of what is wrong over that of what was there, of all events together. A perfect sampler whose draws
know all but a phase leaves 1 + 1 / D with the mean of D draws, and little with the best of many; one that knows nothing
more than another leaves 1 with the mean, and with the best of any number.

Shapes: E event, D draw, N sample; white series of one family. w (E, N) is the truth, draws (E, D, N).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import kstest

from glitchflow.score.statistics import Bootstrap, Interval, bootstrap_ratio
from glitchflow.signal.types import Array

EVEN = 20  # of so many ranks a tenth, and a half, are whole numbers: as many draws less one are looked at
HEARD = 0.1  # mean power nearby, in units of the noise's, from which on a sample is not silent


def left_by_mean(w: Array, draws: Array, count: int, interval: Bootstrap) -> Interval:
    """Return what the mean of the first `count` draws leaves: 0 is perfect, 1 for nothing."""
    return bootstrap_ratio(_power(w - _first(draws, count).mean(1)), _power(w), *interval)


def left_by_best(w: Array, draws: Array, count: int, interval: Bootstrap) -> Interval:
    """Return what the best of the first `count` draws leaves, which the truth has chosen."""
    return bootstrap_ratio(_power(w[:, None] - _first(draws, count)).min(1), _power(w), *interval)


def coverage(w: Array, draws: Array, share: float, near: int, interval: Bootstrap) -> Interval:
    """Return the share of samples that lie within the draws' central interval of that share, where not all is silent.

    share: 0.5 or 0.9. Truth and draws are told apart by nothing where draws are right (Cook, Gelman & Rubin 2006, J.
    Comput. Graph. Stat. 15, 675), so that samples are chosen by the power of all of them within `near` samples: by the
    truth's alone, the loud would be chosen, by the draws' alone the quiet. Raises ValueError for fewer than 19 draws.
    """
    some = _first(draws, max(1, (draws.shape[1] + 1) // EVEN) * EVEN - 1)
    ranks = (some < w[:, None]).sum(1) + 0.5
    inside = np.abs(ranks / (some.shape[1] + 1) - 0.5) < share / 2
    power = np.square(np.concatenate([w[:, None], some], 1)).mean(1)
    window = np.ones(near) / near
    loud = np.stack([np.convolve(row, window, "same") for row in power]) > HEARD
    return bootstrap_ratio((inside & loud).sum(1).astype(float), loud.sum(1).astype(float), *interval)


@dataclass(frozen=True)
class Light:
    """Says what draws of scattered light are, by the templates of the motion that their witness saw."""

    outside: Interval  # share of their power that no template makes
    distance: float  # Kolmogorov-Smirnov, of the first draws' phases from uniform ones
    chance: float  # that uniform phases are as far off


def light(draws: Array, templates: Array, interval: Bootstrap) -> Light:
    """Measure draws against templates (E, A, N), of which the first two are sine and cosine of the first bounce."""
    power = templates @ templates.transpose(0, 2, 1)
    amplitudes = np.linalg.solve(power, templates @ draws.transpose(0, 2, 1))  # (E, A, D)
    made = amplitudes.transpose(0, 2, 1) @ templates
    outside = bootstrap_ratio(_power(draws - made).sum(1), _power(draws).sum(1), *interval)
    phase = np.arctan2(amplitudes[:, 0], amplitudes[:, 1]) / (2 * np.pi) % 1
    found = kstest(phase.ravel(), "uniform")
    return Light(outside, float(found.statistic), float(found.pvalue))


def _first(draws: Array, count: int) -> Array:
    if draws.shape[1] < count:
        raise ValueError(f"{draws.shape[1]} draws: must be at least {count}")
    return draws[:, :count]


def _power(series: Array) -> Array:
    return np.asarray(np.square(series).sum(-1), np.float64)
