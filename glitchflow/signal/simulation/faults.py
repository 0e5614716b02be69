"""Faults at known places: dropouts, stuck values, saturation, samples that are no number, dead channels, loss of lock.

What data acquisition does to channels: gaps, railed converters and frozen channels are where data quality flags begin
(Davis et al., CQG 38, 135014, 2021). Faults depend on (configuration, seed, period of GPS time) alone, so that any time
can be asked for alone; what is drawn is the truth that a stretch lists.

Shapes: C channel (the strain first), N sample.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from glitchflow.config import Detector
from glitchflow.signal.streams import FAULTS, generator
from glitchflow.signal.types import Array

# s: in each a channel has at most one fault, which lies inside: a block of a stretch has it whole
PERIOD = 64
LENGTH = (0.1, 8.0)  # s, drawn log-uniformly: from a packet that is lost to a front end that is started again
LOCKING = (2, 19)  # periods until the detector is locked again, drawn uniformly: 2 to 20 minutes
RAIL = 1.0  # of its own standard deviation: where a saturated channel is held
DEAD, UNLOCKED = "dead", "unlocked"


@dataclass(frozen=True)
class Fault:
    """Holds one fault: what, where and when."""

    channel: str
    kind: str  # of `KINDS`
    start: float  # GPS s
    end: float


def _stuck(series: Array) -> Array:
    return np.full_like(series, series[0])


def _saturated(series: Array) -> Array:
    rail = RAIL * series.std()
    return np.clip(series, -rail, rail)


def _not_a_number(series: Array) -> Array:
    return np.full_like(series, np.nan)


# what a fault makes of the samples (N,) that it lasts for
PASSING: dict[str, Callable[[Array], Array]] = {
    "dropout": np.zeros_like,
    "stuck": _stuck,
    "saturation": _saturated,
    "nan": _not_a_number,
}
KINDS = PASSING | {DEAD: np.zeros_like, UNLOCKED: np.zeros_like}


def draw_faults(settings: Detector, seed: int, start: float, end: float) -> list[Fault]:
    """Draws the faults that touch the GPS span [start, end), as time goes on.

    Those of witnesses pass, or last all the span where a channel is dead. Those of the strain are losses of lock.
    """
    faults = settings.faults
    found = [Fault(name, DEAD, start, end) for name in settings.names if name in faults.dead]
    periods = range(max(0, int(start // PERIOD)), int(-(-end // PERIOD)))  # nothing was before GPS 0
    if faults.rate:
        found += [one for period in periods for one in _passing(settings, seed, period)]
    if faults.unlocked:
        longer = range(max(0, periods.start - LOCKING[1]), periods.stop)
        found += [one for period in longer for one in _lost(settings, seed, period)]
    return sorted((one for one in found if one.start < end and one.end > start), key=lambda one: one.start)


def spoil(values: Array, names: list[str], faults: list[Fault], start: float, rate: float) -> None:
    """Does to channels (C, N) of these names, which begin at GPS time `start` at `rate` Hz, what faults do to them."""
    for one in faults:
        begin, end = (
            min(max(0, round((edge - start) * rate)), values.shape[1]) for edge in (one.start, one.end)
        )
        row = values[names.index(one.channel)]
        if begin < end:
            row[begin:end] = KINDS[one.kind](row[begin:end])


def _passing(settings: Detector, seed: int, period: int) -> Iterator[Fault]:
    """The faults of witnesses in one period of GPS time."""
    rng, every = generator(seed, FAULTS, 0, period), np.array(settings.every)
    telling = set(settings.names) - set(settings.faults.dead)
    # drawn for all of them, so that `only` some that are made have what they would among all
    struck = rng.random(every.size) < settings.faults.rate * PERIOD / 3600
    for name in every[struck].tolist():
        length = float(np.exp(rng.uniform(*np.log(LENGTH))))
        begin = period * PERIOD + float(rng.uniform(0, PERIOD - length))
        kind = list(PASSING)[int(rng.integers(len(PASSING)))]
        if name in telling:
            yield Fault(name, kind, begin, begin + length)


def _lost(settings: Detector, seed: int, period: int) -> Iterator[Fault]:
    """A loss of lock that begins in one period of GPS time."""
    rng = generator(seed, FAULTS, 1, period)
    if rng.random() < settings.faults.unlocked * PERIOD / 3600:
        begin = period * PERIOD + float(rng.uniform(0, PERIOD))
        yield Fault(settings.strain, UNLOCKED, begin, begin + PERIOD * float(rng.uniform(*LOCKING)))
