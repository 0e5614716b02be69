"""A stretch: hours of the simulated detector without a seam, of which any second can be made alone.

    1. noise: white noise is drawn for each channel and GPS second, and coloured by a filter of finite length
    2. transients are drawn for each GPS second; each is made in a window of its own around it, as in an event
    3. both are made in whole blocks on a fixed grid of GPS time, of which a span is cut

Samples depend on (settings, seed, GPS second) alone, bit for bit: a sum's rounding follows from its place in its block,
never from where a span begins. Channels have rates of their own.

Shapes: C channel (the strain first); n = rate x length, one for each channel; N sample of the strain; W sample of a
transient's window, at the strain's rate.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample
from scipy.signal.windows import tukey

from glitchflow.config import Detector, Series, Stretch
from glitchflow.errors import InputError
from glitchflow.signal.simulation.families import FAMILIES, Instrument
from glitchflow.signal.simulation.instrument import draw_instrument
from glitchflow.signal.simulation.noise import channel_asds, colour
from glitchflow.signal.streams import GLITCHES, INJECTED, NOISE, generator
from glitchflow.signal.types import Array, Transient

State = NDArray[np.uint32]

# s: a line of 0.1 Hz rings with a time constant of 1.6 s, and is over in 8 s; the longest transients are over too
REACH = 8
BLOCK = 64  # s: of which a quarter more is made than kept
STATE_RATE = 16  # Hz
SCIENCE, CLEANED, PASSED, NO_DATA = (np.uint32(1 << bit) for bit in range(4))  # bits of the state channel
SIGNAL = "chirp"  # the family that counts as a signal, not as a glitch
PARTS = ("witnessed", "shared", "unwitnessed", "signals")  # what is in the strain beside its own noise


@dataclass(frozen=True)
class Timeline:
    """Holds the constants of a stretch."""

    settings: Detector
    stretch: Stretch
    seed: int
    rates: list[int]  # (C,): Hz
    labels: list[str]  # families; the first is background, the last is of signals
    share: Array  # (family,): of labels[1:] among the glitches
    instrument: Instrument  # for windows of W samples
    filters: list[
        Array
    ]  # (C,), each (K,): the response of the noise's filter on a block with both its margins

    @property
    def names(self) -> list[str]:
        """The channels' names (C,)."""
        return [self.settings.strain, *self.settings.names]


@dataclass(frozen=True)
class Span:
    """Holds what a stretch has in some seconds, and the truth about it."""

    start: int  # GPS second
    stop: int
    channels: list[Array]  # (C,), each (n,)
    parts: dict[str, Array]  # by name of `PARTS`, each (N,): what it adds to the strain
    state: State  # (n,) at STATE_RATE
    transients: list[Transient]  # whose centre lies in it, by time

    def cut(self, start: int, stop: int) -> "Span":
        """The part of it between two GPS seconds."""
        seconds = self.stop - self.start

        def cut(series: NDArray) -> NDArray:
            rate = len(series) // seconds
            return series[(start - self.start) * rate : (stop - self.start) * rate]

        parts = {name: cut(part) for name, part in self.parts.items()}
        inside = [t for t in self.transients if start <= t.gps < stop]
        return Span(start, stop, [cut(c) for c in self.channels], parts, cut(self.state), inside)


@dataclass(frozen=True)
class _Added:
    """One transient, and what it adds to the channels that it reaches."""

    row: Transient
    start: int  # GPS second that its window begins at
    channels: dict[int, Array]  # by the channel's place, each (n,) of the window


def make_timeline(settings: Detector, stretch: Stretch, sample_rate: float, seed: int) -> Timeline:
    """Draws what is constant over a stretch; strain and witnesses at `sample_rate` in Hz.

    The detector is that of the dataset with the same seed. Raises `InputError` for a rate that is not a whole number
    of Hz, where there are to be glitches of no family, and for a noise curve that cannot be read.
    """
    rate = int(sample_rate)
    if rate != sample_rate:
        raise InputError(f"series.sample_rate = {sample_rate:g}: a stretch takes whole numbers of Hz")
    names = [settings.strain, *settings.names]
    rates = [rate] * len(names)
    series = Series(duration=2 * REACH, sample_rate=rate)
    instrument, table = draw_instrument(settings, series, seed)
    slopes = np.array([table["witness_noise_slopes"][name] for name in settings.names])
    filters = [
        _noise_filter(channel_asds(settings, _frequencies(own), slopes)[0][i], own)
        for i, own in enumerate(rates)
    ]
    weights = {name: getattr(settings.families, name).weight for name in FAMILIES if name != SIGNAL}
    glitches = [name for name, weight in weights.items() if weight]
    if stretch.rate and not glitches:
        raise InputError(
            f"stretch.rate = {stretch.rate:g}: no family of simulate.detector.families but {SIGNAL} has a weight"
        )
    share = np.array([*(weights[name] for name in glitches), 0.0])
    labels = ["background", *glitches, SIGNAL]
    return Timeline(settings, stretch, seed, rates, labels, share / (share.sum() or 1), instrument, filters)


def make_spans(line: Timeline, edges: Sequence[int]) -> Iterator[Span]:
    """Makes the spans between ascending GPS seconds, one after the other; blocks that two of them share, once."""
    block = lru_cache(maxsize=1)(partial(_block, line))
    for start, stop in pairwise(edges):
        blocks = range(start // BLOCK, (stop - 1) // BLOCK + 1)
        yield _joined([block(k).cut(max(start, k * BLOCK), min(stop, (k + 1) * BLOCK)) for k in blocks])


def _joined(spans: list[Span]) -> Span:
    return Span(
        spans[0].start,
        spans[-1].stop,
        [np.concatenate(rows) for rows in zip(*(s.channels for s in spans))],
        {name: np.concatenate([s.parts[name] for s in spans]) for name in spans[0].parts},
        np.concatenate([s.state for s in spans]),
        [t for s in spans for t in s.transients],
    )


def _block(line: Timeline, k: int) -> Span:
    """Block k of the grid: noise, and what transients add to it."""
    start, stop = k * BLOCK, (k + 1) * BLOCK
    channels = [_noise(line, i, start, stop) for i in range(len(line.rates))]
    parts = {name: np.zeros_like(channels[0]) for name in PARTS}
    rows = []
    for one in _transients(line, start - REACH, stop + REACH):
        rows.append(one.row)
        for i, series in one.channels.items():
            target = parts[_part(line, one.row)] if i == 0 else channels[i]
            _add(target, start, series, one.start, line.rates[i])
    for part in parts.values():
        channels[0] += part
    state = np.full(BLOCK * STATE_RATE, SCIENCE)
    rows.sort(key=lambda row: row.gps)
    return Span(start, stop, channels, parts, state, rows).cut(start, stop)


def _part(line: Timeline, row: Transient) -> str:
    """The part of the strain that a transient belongs to."""
    return "signals" if line.labels[row.label] == SIGNAL else "witnessed" if row.witnessed else "unwitnessed"


def _add(target: Array, start: int, series: Array, begin: int, rate: int) -> None:
    """Add a series that begins at a GPS second to one of the same rate that begins at another, where they meet."""
    first = (begin - start) * rate
    low, high = max(first, 0), min(first + len(series), len(target))
    target[low:high] += series[low - first : high - first]


# -- noise ---------------------------------------------------------------------------------------------------------


def _frequencies(rate: int) -> Array:
    """Those of a block with both its margins (K,), up to half the rate."""
    seconds = BLOCK + 2 * REACH
    return np.arange(seconds * rate // 2 + 1, dtype=np.float64) / seconds


def _noise_filter(asd: Array, rate: int) -> Array:
    """The response (K,) of a zero-phase filter, `REACH` s long on each side, that gives unit white noise an ASD (K,).

    Its outer half is faded out, so that the floor between lines is not filled by a sharp end's leakage.
    """
    impulse = np.fft.irfft(asd * np.sqrt(rate / 2))
    half = REACH * rate
    fading = tukey(2 * half + 1, 0.5)[half:]
    impulse[: half + 1] *= fading
    impulse[-half:] *= fading[:0:-1]
    impulse[half + 1 : -half] = 0.0
    return np.real(np.fft.rfft(impulse))


def _noise(line: Timeline, channel: int, start: int, stop: int) -> Array:
    """Coloured noise (n,) of a block, by overlap-save: what wraps around at both ends is cut away."""
    rate, name = line.rates[channel], zlib.crc32(line.names[channel].encode())
    white = [
        generator(line.seed, NOISE, name, second).standard_normal(rate)
        for second in range(start - REACH, stop + REACH)
    ]
    made = colour(np.concatenate(white), line.filters[channel])
    return made[REACH * rate : -REACH * rate]


# -- transients ----------------------------------------------------------------------------------------------------


def _transients(line: Timeline, start: int, stop: int) -> Iterator[_Added]:
    """The transients whose centre lies between two GPS seconds, second by second."""
    signal = np.arange(len(line.share)) == len(line.share) - 1
    for second in range(start, stop):
        for stream, rate, share in (
            (GLITCHES, line.stretch.rate, line.share),
            (INJECTED, line.stretch.signals / 3600, signal),
        ):
            yield from _draw(line, generator(line.seed, stream, second), second, rate, share)


def _draw(
    line: Timeline, rng: np.random.Generator, second: int, rate: float, share: Array
) -> Iterator[_Added]:
    """The transients of one GPS second: how many, and of each its time, family, strength and parameters."""
    for _ in range(rng.poisson(rate)):
        offset = rng.uniform()
        label = 1 + int(rng.choice(len(share), p=share))
        snr = float(np.exp(rng.uniform(*np.log(line.settings.snr))))
        yield _make(line, rng, second, offset, Transient(label, second + offset, snr, False))


def _make(line: Timeline, rng: np.random.Generator, second: int, offset: float, wanted: Transient) -> _Added:
    """One transient, `offset` s into a GPS second, in the window of `REACH` s on each side of that second's begin."""
    instrument, family = line.instrument, FAMILIES[line.labels[wanted.label]]
    time = np.arange(2 * REACH * line.rates[0]) / line.rates[0] - REACH - offset
    made = family.make(instrument, rng, time, wanted.gps)
    norm = float(np.linalg.norm(colour(made.strain[None], instrument.above_noise(wanted.gps))))
    scale = wanted.snr / norm if made.scaled else 1.0
    channels = {0: colour(scale * made.strain, instrument.floor[0])}
    for i, row in zip(made.places, () if made.witnesses is None else made.witnesses):
        channels[int(i)] = colour(scale * row, instrument.floor[i])
    for place, moved in (made.motion or {}).items():
        channels[1 + place] = channels.get(1 + place, 0.0) + moved
    for i, series in channels.items():
        if line.rates[i] != line.rates[0]:
            channels[i] = resample(series, 2 * REACH * line.rates[i])
    row = replace(wanted, snr=scale * norm, witnessed=family.witnessed)
    return _Added(row, second - REACH, channels)
