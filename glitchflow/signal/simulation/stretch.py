"""A stretch: hours of the simulated detector without a seam, of which any second can be made alone.

    1. noise: white noise is drawn for each channel and GPS second, and coloured by a filter of finite length; noise
       that channels share likewise
    2. transients are drawn for each GPS second, signals too; each is made in a window of its own, as in an event
    3. faults spoil what there is
    4. all this is made in whole blocks on a fixed grid of GPS time, of which a span is cut

Samples depend on (settings, seed, GPS second) alone, bit for bit: a sum's rounding follows from its place in its block,
never from where a span begins. Channels have rates of their own.

Shapes: C channel (the strain first); n = rate x length, one for each channel; N sample of the strain; K frequency of a
block with both its margins.
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
from glitchflow.signal.simulation.drift import Drift
from glitchflow.signal.simulation.families import Instrument
from glitchflow.signal.simulation.faults import UNLOCKED, Fault, draw_faults, spoil
from glitchflow.signal.simulation.instrument import draw_instrument
from glitchflow.signal.simulation.noise import channel_spectra
from glitchflow.signal.simulation.timeline import Happening, Made, add, draw_transients, make_happening
from glitchflow.signal.streams import INJECTED, NOISE, generator
from glitchflow.signal.types import Array, Spectrum

State = NDArray[np.uint32]

# s: a line of 0.1 Hz rings with a time constant of 1.6 s, and is over in 8 s; the longest transients are over too
REACH = 8
BLOCK = 64  # s: of which a quarter more is made than kept
WHOLE = BLOCK + 2 * REACH
STATE_RATE = 16  # Hz
SCIENCE, CLEANED, PASSED, NO_DATA = (np.uint32(1 << bit) for bit in range(4))  # bits of the state channel
SIGNAL = "chirp"  # the family that counts as a signal, not as a glitch
NUMBERED = 2**20  # injected signals from here on: beyond the other transients of a second
PARTS = ("witnessed", "shared", "unwitnessed", "signals")  # what is in the strain beside its own noise


@dataclass(frozen=True)
class StretchMaker:
    """Holds the constants of a stretch."""

    stretch: Stretch
    rates: list[int]  # (C,): Hz
    instrument: Instrument  # for the windows of transients
    filters: list[Spectrum]  # (C,), each (K,): of the noise, at the channel's own rate
    shared: list[Spectrum]  # of each noise that is shared: (S, K), at the strain's rate

    @property
    def settings(self) -> Detector:
        """The detector's."""
        return self.instrument.settings

    @property
    def names(self) -> list[str]:
        """The channels' names (C,)."""
        return [self.settings.strain, *self.settings.names]


@dataclass(frozen=True)
class Row:
    """Says of a transient what the truth says of it."""

    gps: float  # of its centre, s
    family: str
    snr: float  # matched-filter SNR in the strain; 0 where that is not reached
    witnessed: bool
    subsystem: str  # the one that alone is shaken; empty: it reaches the strain

    @property
    def part(self) -> str:
        """The part of the strain that it belongs to."""
        return "signals" if self.family == SIGNAL else "witnessed" if self.witnessed else "unwitnessed"


@dataclass(frozen=True)
class Span:
    """Holds what a stretch has in some seconds, and the truth about it."""

    start: int  # GPS second
    stop: int
    channels: list[Array]  # (C,), each (n,)
    parts: dict[str, Array]  # by name of `PARTS`, each (N,): what it adds to the strain
    state: State  # (n,) at STATE_RATE
    rows: list[Row]  # of transients whose centre lies in it, by time
    faults: list[Fault]  # so much of them as lies in it, by time

    def cut(self, start: int, stop: int) -> "Span":
        """The part of it between two GPS seconds."""
        seconds = self.stop - self.start

        def cut(series: NDArray) -> NDArray:
            rate = len(series) // seconds
            return series[(start - self.start) * rate : (stop - self.start) * rate]

        parts = {name: cut(part) for name, part in self.parts.items()}
        inside = [row for row in self.rows if start <= row.gps < stop]
        faults = [
            replace(one, start=max(one.start, start), end=min(one.end, stop))
            for one in self.faults
            if one.start < stop and one.end > start
        ]
        return Span(start, stop, [cut(c) for c in self.channels], parts, cut(self.state), inside, faults)


def draw_stretch(settings: Detector, stretch: Stretch, sample_rate: float, seed: int) -> StretchMaker:
    """Draws what is constant over a stretch; the strain at `sample_rate` in Hz, as all without a rate of their own.

    The detector is that of the dataset with the same seed. Raises `InputError` for a rate that is not a whole number
    of Hz, and for a noise curve that cannot be read.
    """
    rates = channel_rates(settings, sample_rate)
    instrument, table = draw_instrument(settings, Series(duration=2 * REACH, sample_rate=rates[0]), seed)
    wide, _ = draw_instrument(settings, Series(duration=WHOLE, sample_rate=rates[0]), seed)
    slopes = np.array([table["witness_noise_slopes"][name] for name in settings.names])
    shared = [
        _finite(one.coupling.response * one.shape * wide.spectra.floor(one.places), rates[0])
        for one in wide.shared
    ]
    filters = dict[int, Spectrum]()
    for rate in set(rates):
        frequency = np.arange(WHOLE * rate // 2 + 1, dtype=np.float64) / WHOLE
        spectra = channel_spectra(settings, frequency, slopes, rate)
        mine = (i for i, one in enumerate(rates) if one == rate)
        filters |= {i: _finite(spectra.colour(slice(i, i + 1))[0], rate) for i in mine}
    return StretchMaker(stretch, rates, instrument, [filters[i] for i in range(len(rates))], shared)


def channel_rates(settings: Detector, sample_rate: float) -> list[int]:
    """Returns the rate of each channel (C,) in Hz. Raises `InputError` for one that is not a whole number."""
    given = {name: settings.rates.get(name, sample_rate) for name in [settings.strain, *settings.names]}
    for name, rate in given.items():
        if rate != int(rate):
            raise InputError(f"{name}: a stretch takes rates of whole numbers of Hz, not {rate:g}")
    return [int(rate) for rate in given.values()]


def make_spans(maker: StretchMaker, edges: Sequence[int]) -> Iterator[Span]:
    """Makes the spans between ascending GPS seconds, one after the other; a block that two of them share, once."""
    block = lru_cache(maxsize=1)(partial(_block, maker))
    for start, stop in pairwise(edges):
        blocks = range(start // BLOCK, (stop - 1) // BLOCK + 1)
        yield _joined([block(k).cut(max(start, k * BLOCK), min(stop, (k + 1) * BLOCK)) for k in blocks])


def _joined(spans: list[Span]) -> Span:
    if len(spans) == 1:  # as it is, without a copy of all channels
        return spans[0]
    return Span(
        spans[0].start,
        spans[-1].stop,
        [np.concatenate(rows) for rows in zip(*(s.channels for s in spans))],
        {name: np.concatenate([s.parts[name] for s in spans]) for name in spans[0].parts},
        np.concatenate([s.state for s in spans]),
        [row for s in spans for row in s.rows],
        [fault for s in spans for fault in s.faults],
    )


def _block(maker: StretchMaker, k: int) -> Span:
    """Block k of the grid: noise, what transients add to it, and what faults leave of both."""
    start, stop = k * BLOCK, (k + 1) * BLOCK
    channels = [_noise(maker, i, start) for i in range(len(maker.rates))]
    parts = {name: np.zeros_like(channels[0]) for name in PARTS}
    for i, series in _shared_noise(maker, start):
        target = parts["shared"] if i == 0 else channels[i]
        target += series
    rows = []
    for drawn in _happenings(maker, start - REACH, stop + REACH):
        made = make_happening(maker.instrument, drawn)
        row = Row(made.gps, made.family, made.snr, made.witnessed, drawn.subsystem)
        rows.append(row)
        _add(maker, made, parts[row.part], channels, start)
    for part in parts.values():
        channels[0] += part
    faults = draw_faults(maker.settings, maker.instrument.seed, start, stop)
    for one in faults:
        place = maker.names.index(one.channel)
        for series in [channels[place]] if place else [channels[0], *parts.values()]:
            spoil(series[None], [one.channel], [one], start, maker.rates[place])
    rows.sort(key=lambda row: row.gps)
    return Span(start, stop, channels, parts, _state(faults, start), rows, faults).cut(start, stop)


def _state(faults: list[Fault], start: int) -> State:
    """The state (n,) of a block: science mode, but where the detector is not locked."""
    state = np.full(BLOCK * STATE_RATE, SCIENCE)
    for one in faults:
        if one.kind == UNLOCKED:
            first, last = (
                int(np.clip((t - start) * STATE_RATE, 0, state.size)) for t in (one.start, one.end)
            )
            state[first : last + 1] = NO_DATA
    return state


# -- noise ---------------------------------------------------------------------------------------------------------


def _finite(response: NDArray, rate: int) -> Spectrum:
    """The response (..., K) of a filter cut to `REACH` s on each side of no delay.

    Its outer half is faded out, so that the floor between lines is not filled by a sharp end's leakage.
    """
    impulse = np.fft.irfft(response)
    half = REACH * rate
    fading = tukey(2 * half + 1, 0.5)[half:]
    impulse[..., : half + 1] *= fading
    impulse[..., -half:] *= fading[:0:-1]
    impulse[..., half + 1 : -half] = 0.0
    return np.fft.rfft(impulse)


def _white(maker: StretchMaker, name: str, rate: int, start: int) -> Spectrum:
    """The spectrum (K,) of unit white noise of a name, over a block with both its margins."""
    number, seconds = zlib.crc32(name.encode()), range(start - REACH, start + BLOCK + REACH)
    seed = maker.instrument.seed
    return np.fft.rfft(
        np.concatenate([generator(seed, NOISE, number, s).standard_normal(rate) for s in seconds])
    )


def _filtered(spectrum: Spectrum, rate: int) -> Array:
    """The series (n,) of a block, by overlap-save: what wraps around at both ends is cut away."""
    return np.fft.irfft(spectrum, WHOLE * rate)[REACH * rate : -REACH * rate]


def _gain(drift: Drift, row: int, start: int, rate: int) -> Array | float:
    """The gain (n,) of one of a drift's channels through a block."""
    if not drift.size and not drift.away:
        return 1.0
    one = drift.take(np.arange(drift.wander.keys.size) == row)
    return one.at(start + np.arange(BLOCK * rate) / rate)[0]


def _noise(maker: StretchMaker, channel: int, start: int) -> Array:
    """A channel's own noise (n,) in a block."""
    rate = maker.rates[channel]
    white = _white(maker, maker.names[channel], rate, start)
    return _gain(maker.instrument.levels, channel, start, rate) * _filtered(
        white * maker.filters[channel], rate
    )


def _shared_noise(maker: StretchMaker, start: int) -> Iterator[tuple[int, Array]]:
    """What each channel hears of each noise that is shared, with the channel's place: (n,).

    It is made at the strain's rate; at another the same spectrum is cut, or goes on with zeros.
    """
    common = maker.rates[0]
    for one, filters in zip(maker.instrument.shared, maker.shared):
        white = _white(maker, f"shared {one.name}", common, start)
        for row, place in enumerate(one.places.tolist()):
            rate = maker.rates[place]
            heard = _filtered(white * filters[row] * (rate / common), rate)
            yield place, _gain(one.coupling.drift, row, start, rate) * heard


# -- transients ----------------------------------------------------------------------------------------------------


def _happenings(maker: StretchMaker, start: int, stop: int) -> Iterator[Happening]:
    """The detector's transients whose centre lies between two GPS seconds, then the signals that are injected."""
    settings, seed = maker.settings, maker.instrument.seed
    yield from draw_transients(settings, seed, start, stop)
    for second in range(start, stop):
        rng = generator(seed, INJECTED, second)
        for number in range(rng.poisson(maker.stretch.signals / 3600)):
            offset, snr = float(rng.random()), float(np.exp(rng.uniform(*np.log(settings.snr))))
            yield Happening(second, NUMBERED + number, offset, SIGNAL, snr)


def _add(maker: StretchMaker, made: Made, part: Array, channels: list[Array], start: int) -> None:
    """Add a transient to its part of the strain (N,), and to the witnesses (n,) of a block, at their own rates."""
    common = maker.rates[0]
    add(part, start * common, made.strain, made.start)
    for place, series in made.heard.items():
        rate, first = maker.rates[place], made.start
        if rate != common:  # from and to whole seconds, which begin with a sample at any rate
            second, lead = divmod(first, common)
            whole = np.zeros(-(-(lead + series.size) // common) * common)
            whole[lead : lead + series.size] = series
            series, first = resample(whole, whole.size // common * rate), second * rate
        add(channels[place], start * rate, series, first)
