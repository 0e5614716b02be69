"""State in time: how a detector changes by the hour, as pure functions of (seed, name, GPS time).

    splitmix64 of (seed, name, knot) --> innovations --> AR(1) on knots of 64 s --> linear in between

Noise floors of detectors change from minute to minute and over hours (Mozzon et al., CQG 37, 215014, 2020), and so do
the paths of noise into the strain (Vajente et al., PRD 101, 042003, 2020).

Any time can be asked for alone, in any order and by any process, and gives the same bits: nothing is carried along.

Shapes: W process, T time, M knot whose innovation is drawn, K knot.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from glitchflow.signal.streams import STATE
from glitchflow.signal.types import Array, Flags, Indices

KNOT = 64.0  # s between knots: what lasts less long than a few frames is no drift
# knots whose innovations make a value: 1.8 hours. With a memory of an hour what is left out is 3 % of the variance,
# which the scale makes good
REACH = 100
Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class Wander:
    """Holds Gaussian processes of mean 0 and variance 1 at the knots, correlated over `memory` s: AR(1)."""

    keys: Keys  # (W,)
    memory: float  # s in which the correlation falls to 1 / e

    def at(self, gps: Array | float) -> Array:
        """Return the processes at GPS times of any shape: (W, *shape)."""
        times = np.asarray(gps, dtype=np.float64) / KNOT
        before = np.floor(times).astype(np.int64)
        if not self.keys.size or not times.size:
            return np.zeros((self.keys.size, *times.shape))
        first, last = int(before.min()), int(before.max()) + 1
        knots = self._knots(first, last - first + 1)
        share, place = times - before, before - first
        return (1 - share) * knots[:, place] + share * knots[:, place + 1]

    def take(self, rows: Flags) -> "Wander":
        """Return some of the processes (W,)."""
        return Wander(self.keys[rows], self.memory)

    def _knots(self, first: int, count: int) -> Array:
        """Values (W, K) at `count` knots from `first` on: the recursion, begun anew REACH knots before each of them.

        Element by element, so that a knot has the same bits in a span of any length.
        """
        decay = np.exp(-KNOT / self.memory)
        innovations = normal(self.keys, np.arange(first - REACH + 1, first + count))
        value = np.zeros((self.keys.size, count))
        for step in range(REACH):
            value = decay * value + innovations[:, step : step + count]
        return value * np.sqrt((1 - decay**2) / (1 - decay ** (2 * REACH)))


def draw_wander(seed: int, names: Sequence[str], memory: float) -> Wander:
    """Return the processes of these names, one a name, that a dataset's seed gives; memory in s."""
    keys = [
        np.random.SeedSequence(seed, spawn_key=(STATE, zlib.crc32(name.encode()))).generate_state(
            1, np.uint64
        )
        for name in names
    ]
    return Wander(np.concatenate(keys) if keys else np.empty(0, np.uint64), memory)


def normal(keys: Keys, numbers: Indices) -> Array:
    """Draw unit normal numbers (W, M): for each key its own sequence, of which `numbers` (M,) are wanted.

    SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), whose n-th number is a function of key + n alone, through the
    normal's quantiles. A generator of numpy's for each of 100 names and 100 knots would cost 0.2 s an event.
    """
    with np.errstate(over="ignore"):
        x = keys[:, None] + numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return ndtri(((x >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


@dataclass(frozen=True)
class Drift:
    """Changes gains by the hour: exp(size x(t)), and 0 while a coupling is away.

    x is an AR(1) process for each gain. Another says whether the coupling is there: it is away while that process is in
    its lowest `away` quantiles, so that it goes for a time of the order of the memory.
    """

    size: float
    wander: Wander
    away: float = 0.0  # share of the time
    presence: Wander | None = None

    def at(self, gps: Array | float) -> Array:
        """Return the factors on the gains at GPS times of any shape: (W, *shape)."""
        shape = (self.wander.keys.size, *np.shape(gps))
        factor = np.exp(self.size * self.wander.at(gps)) if self.size else np.ones(shape)
        if self.away and self.presence is not None:
            factor *= self.presence.at(gps) > ndtri(self.away)
        return factor

    def take(self, rows: Flags) -> "Drift":
        """Return the drift of some of the gains (W,)."""
        presence = None if self.presence is None else self.presence.take(rows)
        return Drift(self.size, self.wander.take(rows), self.away, presence)
