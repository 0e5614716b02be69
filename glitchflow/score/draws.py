"""Whether glitches that are drawn are like those that are real, and not those that were learned from.

Two generators that know nothing stand beside each score: noise with the mean spectrum of the real ones, and the real
ones themselves, shifted. The first is unlike them, the second remembers them; a score that either wins is none.

Shapes: D draw, E event, N sample; white series of one family, without noise.
"""

from dataclasses import dataclass

import numpy as np

from glitchflow.score.statistics import Bootstrap, Interval, bootstrap_apart, proportion
from glitchflow.signal.types import Array

AT_ONCE = 64  # draws that are compared with all events at once
SHIFT = 0.1  # of a series, by which a remembered event is moved at most, either way
CERTAIN = 0.99  # quantile of what events match that were never learned from: beyond it a draw is remembered


@dataclass(frozen=True)
class Nearness:
    """Says how near draws are to the events learned from, beside events that were not."""

    ratio: Interval  # median match of draws over that of other events: 1 where they are as near
    remembered: Interval  # share of draws nearer than `CERTAIN` of the other events are


def nearest(series: Array, events: Array) -> Array:
    """Return the match (D,) of each series (D, N) with the event (E, N) that it is most like, 0 to 1.

    The match is the greatest normalised correlation over shifts in time and the sign; zeros match nothing.
    """
    size = 2 * events.shape[1]  # without a wrap
    known = np.fft.rfft(_unit(events), size).conj()
    found = np.zeros(len(series))
    for first in range(0, len(series), AT_ONCE):
        some = np.fft.rfft(_unit(series[first : first + AT_ONCE]), size)
        for event in known:
            match = np.abs(np.fft.irfft(some * event, size)).max(1)
            place = slice(first, first + len(some))
            found[place] = np.maximum(found[place], match)
    return found


def nearness(draws: Array, learned: Array, others: Array, interval: Bootstrap) -> Nearness:
    """Compare the matches of draws with the events learned from, and those of other events (E, N) with them.

    For the intervals draws and other events are drawn anew, each by themselves; the events learned from stay. That of
    the share is at least the binomial one: where no draw is remembered, none is among those drawn anew.
    """
    matches = (nearest(draws, learned), nearest(others, learned))
    share = bootstrap_apart(_beyond, matches, *interval)
    binomial = proportion(round(share.value * len(draws)), len(draws))
    share = Interval(share.value, min(share.low, float(binomial.low)), max(share.high, float(binomial.high)))
    return Nearness(bootstrap_apart(_ratio_of_medians, matches, *interval), share)


def _ratio_of_medians(drawn: Array, real: Array, axis: int = -1) -> Array:
    return np.asarray(np.median(drawn, axis=axis) / np.median(real, axis=axis))


def _beyond(drawn: Array, real: Array, axis: int = -1) -> Array:
    """The share of draws beyond the quantile `CERTAIN` of the real ones."""
    return (drawn > np.quantile(real, CERTAIN, axis=axis, keepdims=True)).mean(axis=axis)


def of_mean_spectrum(events: Array, count: int, rng: np.random.Generator) -> Array:
    """Draw Gaussian noise (D, N) of the mean power spectrum of events (E, N): what knows their spectrum alone."""
    power = np.square(np.abs(np.fft.rfft(_unit(events)))).mean(0)
    white = rng.standard_normal((count, events.shape[1]))
    return _unit(np.fft.irfft(np.fft.rfft(white) * np.sqrt(power), events.shape[1]))


def remembered(events: Array, count: int, rng: np.random.Generator) -> Array:
    """Draw events (D, N) themselves, each moved by up to `SHIFT`, with zeros where nothing is known."""
    reach = round(SHIFT * events.shape[1])
    found = np.zeros((count, events.shape[1]))
    for row, place, shift in zip(
        found, rng.integers(len(events), size=count), rng.integers(-reach, reach + 1, size=count), strict=True
    ):
        moved = np.roll(events[place], shift)
        moved[slice(0, shift) if shift >= 0 else slice(shift, None)] = 0
        row[:] = moved
    return found


def _unit(series: Array) -> Array:
    """Return series (..., N) of unit norm; zeros stay."""
    norm = np.linalg.norm(series, axis=-1, keepdims=True)
    return series / np.where(norm > 0, norm, 1)
