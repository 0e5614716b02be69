"""One recorded channel over a stretch of time: put together out of files, and resampled.

Shapes: R recorded sample, M sample at the common rate.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

import numpy as np
from scipy.signal import firwin, resample_poly

from glitchflow.progress import say
from glitchflow.signal.recorded.samples import Samples
from glitchflow.signal.types import Array

HALF, BETA = (
    10,
    5.0,
)  # scipy's resampling filter: half its length in samples of the lower rate, its Kaiser window


@dataclass(frozen=True)
class Row:
    """Holds the recorded samples of one channel over a stretch, from a whole second on; NaN where there are none."""

    begin: int  # GPS s
    rate: float
    values: Array  # (R,)

    @staticmethod
    def empty(begin: int, end: int, rate: float) -> "Row":
        """Returns one without samples, from second `begin` to `end`."""
        return Row(begin, rate, np.full(round((end - begin) * rate), np.nan))

    def put(self, found: Samples) -> None:
        """Takes over the samples of one file; where files overlap, what is no number takes nothing's place."""
        place = round((found.start - self.begin) * self.rate)
        low, high = max(place, 0), min(place + len(found.values), len(self.values))
        if low < high:
            values = found.values[low - place : high - place]
            np.copyto(self.values[low:high], values, where=~np.isnan(values))

    def resampled(self, first: int, last: int, rate: float) -> Array:
        """Returns the samples from `first` to `last`, counted from GPS 0 at `rate`; NaN where recorded ones are.

        By a polyphase filter (scipy's). At the edge of what is usable the last sample is held.
        """
        low = first - round(self.begin * rate)
        if self.rate == rate:
            return np.where(np.isfinite(found := self.values[low : low + last - first]), found, np.nan)
        # not gwpy's resample: by ratios that are not whole it multiplies the spectrum by a Hamming window
        ratio = Fraction(rate / self.rate).limit_denominator(2**16)
        up, down = ratio.numerator, ratio.denominator
        bad = ~np.isfinite(self.values)
        if bad.all():
            return np.full(last - first, np.nan)
        edges = np.flatnonzero(np.diff(bad, prepend=False, append=False)).tolist()
        gaps = list(zip(edges[::2], edges[1::2]))
        for begin, end in gaps:  # before the filter, which would spread them: each is the nearest sample
            middle = 0 if not begin else end if end == bad.size else (begin + end - 1) // 2 + 1
            self.values[begin:middle] = self.values[begin - 1]
            self.values[middle:end] = self.values[min(end, bad.size - 1)]
        found = resample_poly(self.values, up, down, window=_filter(up, down))[low : low + last - first]
        for begin, end in gaps:
            found[max(0, begin * up // down - low) : max(0, -(-end * up // down) - low)] = np.nan
        return found


@lru_cache(maxsize=32)
def _filter(up: int, down: int) -> Array:
    """scipy's own low-pass of `resample_poly`, but that each of its `up` phases passes a constant as it is.

    So an offset needs no line taken out first, which would make a sample depend on where its stretch ends.
    """
    fastest = max(up, down)
    taps = firwin(2 * HALF * fastest + 1, 1 / fastest, window=("kaiser", BETA))
    for phase in range(up):
        taps[phase::up] /= up * taps[phase::up].sum()
    return taps


def grid_offset(start: float, rate: float) -> float:
    """Returns the s by which samples lie beside whole multiples of 1 / `rate`; one of them is at GPS `start`.

    By so much later were the samples recorded that `cut` takes for those of its own grid.
    """
    places = start * rate
    offset = places - round(places)
    return offset / rate if abs(offset) > 0.01 else 0.0  # GPS times in double precision are no better


def tell_offset(name: str, start: float, rate: float) -> None:
    """Says, once of a channel, that its first sample, at GPS `start`, is not on the grid of its `rate` in Hz."""
    if offset := grid_offset(start, rate):
        _say_offset(name, f"{1e3 * abs(offset):.3g} ms {'later' if offset > 0 else 'earlier'}")


@cache
def _say_offset(name: str, how: str) -> None:
    say(f"{name}: begins between samples of its rate; the nearest are taken, and what it recorded was {how}")
