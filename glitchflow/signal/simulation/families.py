"""Families of transients: what each adds to the strain and to the witnesses of one event, and its physics.

A family is a function of (instrument, random numbers, time, GPS time); `FAMILIES` is the table of them. Everything is
on the white scale of each channel, where its noise without power lines has unit variance (see `detector.py`).

Shapes: C channel (the strain first), S channel that hears a transient, N sample, K frequency = N // 2 + 1. time (N,): s
from the transient's centre.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from glitchflow.config import Detector, ScatteredLight, Series
from glitchflow.signal.simulation.couplings import Coupling
from glitchflow.signal.simulation.drift import Drift
from glitchflow.signal.simulation.noise import Spectra
from glitchflow.signal.simulation.sampled import Draws
from glitchflow.signal.simulation.shared import Shared
from glitchflow.signal.types import Array, Indices, Spectrum

Random = np.random.Generator
SOLAR_MASS = 4.925490947e-6  # G M_sun / c^3, s


@dataclass(frozen=True)
class Instrument:
    """Holds the constants of a dataset that its noise and its transients are made with."""

    settings: Detector
    series: Series
    seed: int
    spectra: Spectra  # of the noise; without power lines, of transients
    couplings: dict[str, Coupling]  # of the families that reach channels linearly
    subsystems: dict[str, Coupling]  # of what shakes each of those that have bursts or shared noise
    shared: list[Shared]
    levels: Drift  # of the channels' noise
    leak: Coupling | None  # from the strain into the unsafe witness
    scattering: float  # strain amplitude of the light scattered once
    scattering_drift: Drift
    scatterer: Spectrum | None  # (K,): its motion over what its witness says; None: the same
    draws: Draws | None  # of a generative twin

    @cached_property
    def floor(self) -> Array:
        """The strain's noise without power lines (K,): what multiplies the spectra of transients."""
        return self.spectra.floor(slice(1))[0]

    def noise(self, gps: float) -> Array:
        """Returns what multiplies the spectrum of unit white noise in the strain (K,): its own noise and the shared."""
        own = self.spectra.colour(slice(1))[0] * self.levels.at(gps)[0]
        heard = [np.abs(self.floor * one.at(gps)[0]) for one in self.shared]
        return np.sqrt(sum(np.square(part) for part in [own, *heard])) if heard else own

    def above_noise(self, gps: float) -> Array:
        """Returns the floor over all of the strain's noise (1, K): what lines and shared noise take of an SNR."""
        return self.floor[None] / self.noise(gps)

    def place(self, witness: str) -> int:
        """Returns a witness's place among the witnesses."""
        return self.settings.names.index(witness)

    def leaked(self, strain: Array, gps: float) -> tuple[Array | None, Indices]:
        """Returns what a signal (N,) in the strain makes the unsafe witness say (1, N), and that one's channel (1,).

        A channel that the strain leaks into shows signals too, so that what trusts it harms them: Smith et al., CQG 28,
        235005 (2011), section 4.
        """
        if self.leak is None:
            return None, NOBODY
        response = self.leak.at(gps)[1:]
        return np.fft.irfft(response * np.fft.rfft(strain), n=strain.size), self.leak.places[1:]


NOBODY = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Transient:
    """Holds what a family adds to the channels, on the white scale of each."""

    strain: Array  # (N,)
    witnesses: Array | None = None  # (S, N) of those that hear it
    places: Indices = field(default_factory=NOBODY.copy)  # (S,) of these among the channels
    motion: dict[int, Array] | None = None  # by place among the witnesses: (N,), added in its own unit
    scaled: bool = True  # strain and witnesses to the SNR drawn; else the strength follows from the coupling


# -- families that witnesses see through a linear response ---------------------------------------------------------


def _sine_gaussian(instrument: Instrument, rng: Random, time: Array, gps: float) -> Transient:
    """exp(-(t / tau)^2) cos(2 pi f t + phase), Q = sqrt(2) pi f tau: Chatterji et al., CQG 21, S1809 (2004)."""
    settings = instrument.settings.families.sine_gaussian
    return _linear(
        instrument.couplings["sine_gaussian"], _pulse(rng, time, settings.frequency, settings.q), gps
    )


def _ringdown(instrument: Instrument, rng: Random, time: Array, gps: float) -> Transient:
    """exp(-t / tau) cos(2 pi f t + phase) from t = 0 on, Q = pi f tau: a mechanical resonance after a knock.

    A damped sinusoid as in Creighton, PRD 60, 022001 (1999), who treats it as a signal.
    """
    settings = instrument.settings.families.ringdown
    frequency = np.exp(rng.uniform(*np.log(settings.frequency)))
    tau = rng.uniform(*settings.q) / (np.pi * frequency)
    phase = rng.uniform(0, 2 * np.pi)
    after = np.maximum(time, 0.0)
    source = (time >= 0) * np.exp(-after / tau) * np.cos(2 * np.pi * frequency * after + phase)
    return _linear(instrument.couplings["ringdown"], source, gps)


def _whistle(instrument: Instrument, rng: Random, time: Array, gps: float) -> Transient:
    """A beat note of two oscillators, one of which sweeps past the other: f(t) = low + (high - low) (t / length)^2.

    Class "Whistle" of Gravity Spy (Zevin et al., CQG 34, 064003, 2017); radio-frequency beats: Nuttall et al., CQG
    32, 245005 (2015). Those reach kHz: here the sweep is put inside the Q-plot's band, where the V turns.
    """
    settings = instrument.settings.families.whistle
    low, high, length = (rng.uniform(*r) for r in (settings.low, settings.high, settings.length))
    inside = np.clip(time / length, -1.0, 1.0)
    phase = 2 * np.pi * length * (low * inside + (high - low) * inside**3 / 3) + rng.uniform(0, 2 * np.pi)
    fade = np.sin(0.5 * np.pi * np.minimum(1.0, 5 * (1 - np.abs(inside)))) ** 2  # over a fifth at each end
    return _linear(instrument.couplings["whistle"], fade * np.cos(phase), gps)


def _linear(coupling: Coupling, source: Array, gps: float) -> Transient:
    series = np.fft.irfft(coupling.at(gps) * np.fft.rfft(source), n=source.size)
    return Transient(series[0], series[1:], coupling.places[1:])


# -- families that no linear filter of a witness predicts ----------------------------------------------------------


def _scattered_light(instrument: Instrument, rng: Random, time: Array, gps: float) -> Transient:
    """G sum_n r^(n - 1) sin(n (4 pi x(t) / wavelength + static phase)) of a burst of slow motion x(t).

    Accadia et al., CQG 27, 194011 (2010); arches over arches from light that goes between scatterer and test mass
    n times: Soni et al., CQG 38, 025016 (2021). The fringe frequency of bounce n is 2 n |v| / wavelength. The
    witness measures x, or y with x = (1 + error) / (1 + i f / pole) y: nobody calibrates sensors of suspensions to
    better than 5-20 %, and what scatters hangs behind a mechanical pole. The scatterer is one and the same, so G is
    fixed and the SNR follows from the motion: were it drawn per event, no witness could know it. With `reflectivity`
    it is, and none does. The static phase drifts by more than a wavelength between events and is unknown.
    """
    settings = instrument.settings.families.scattered_light
    fringe, motion, length = (rng.uniform(*r) for r in (settings.fringe, settings.motion, settings.length))
    said = _burst(settings, fringe, motion, length, time)
    x = (
        said
        if instrument.scatterer is None
        else np.fft.irfft(instrument.scatterer * np.fft.rfft(said), n=said.size)
    )
    stray = _stray_light(settings, x, rng.uniform(0, 2 * np.pi), instrument.floor)
    gain = instrument.scattering * float(instrument.scattering_drift.at(gps)[0])
    if settings.reflectivity:
        gain *= float(np.exp(settings.reflectivity * rng.standard_normal()))
    return Transient(gain * stray, motion={instrument.place(settings.witness): said}, scaled=False)


def draw_scatterer(settings: ScatteredLight, frequency: Array, rng: Random) -> tuple[Spectrum | None, float]:
    """Draws the scatterer's motion over its witness's (K,), at the frequencies in Hz; with the error of the scale."""
    error = float(rng.uniform(*settings.calibration) * rng.choice([-1.0, 1.0]))
    if not error and settings.pole is None:
        return None, 0.0
    pole = np.inf if settings.pole is None else settings.pole
    return np.asarray((1 + error) / (1 + 1j * frequency / pole), np.complex128), error


def scattering_gain(settings: Detector, time: Array, colour: Array) -> float:
    """Returns the strain amplitude G that gives the middle of the ranges of motion the middle of the SNRs asked for.

    Shapes: time (N,) in s around 0, colour (K,) of the strain.
    """
    light = settings.families.scattered_light
    fringe, motion, length = (float(np.mean(r)) for r in (light.fringe, light.motion, light.length))
    x = _burst(light, fringe, motion, length, time)
    middle = float(np.sqrt(np.prod(settings.snr)))
    return middle / float(np.linalg.norm(_stray_light(light, x, np.pi / 4, colour)))


def _burst(settings: ScatteredLight, fringe: float, motion: float, length: float, time: Array) -> Array:
    """A slow oscillation x(t) under a Gaussian, in the unit of the wavelength, with this highest fringe."""
    amplitude = fringe * settings.wavelength / 2 / (2 * np.pi * motion)
    return amplitude * np.exp(-0.5 * (time / length) ** 2) * np.sin(2 * np.pi * motion * time)


def _stray_light(settings: ScatteredLight, x: Array, static: float, colour: Array) -> Array:
    """The stray light's strain, of unit amplitude for one bounce, on the white scale."""
    phase = 4 * np.pi / settings.wavelength * x + static
    field = np.zeros_like(x)
    for n in range(1, settings.bounces + 1):
        field += settings.reflection ** (n - 1) * (np.sin(n * phase) - np.sin(n * static))
    return _whitened(field, colour)


def _bilinear(instrument: Instrument, rng: Random, time: Array, gps: float) -> Transient:
    """A vibration times a slow swing: strain = strength * filter (a(t) b(t)).

    A beam off a mirror's centre turns its angle into length, in proportion to the offset: Barsotti, Evans &
    Fritschel, CQG 27, 084026 (2010), and for subtraction by products of witnesses Mukund et al., PRD 101, 102006
    (2020). Alone, neither a nor b is seen in the strain. The witness of the vibration sees a through its coupling,
    that of the swing b itself, below the Q-plot's band. The SNR drawn sets a; b has its own range.
    """
    settings, coupling = instrument.settings.families.bilinear, instrument.couplings["bilinear"]
    frequency = np.exp(rng.uniform(*np.log(settings.frequency)))
    phase, turn = rng.uniform(0, 2 * np.pi, 2)
    swing, motion, length, vibration = (
        rng.uniform(*r) for r in (settings.swing, settings.motion, settings.length, settings.vibration)
    )
    a = np.exp(-0.5 * (time / vibration) ** 2) * np.cos(2 * np.pi * frequency * time + phase)
    b = swing * np.exp(-0.5 * (time / length) ** 2) * np.sin(2 * np.pi * motion * time + turn)
    response = coupling.at(gps)
    seen = np.fft.irfft(response[1:] * np.fft.rfft(a), n=time.size)
    strain = settings.strength * np.fft.irfft(response[0] * np.fft.rfft(a * b), n=time.size)
    return Transient(strain, seen, coupling.places[1:], motion={instrument.place(settings.witnesses[1]): b})


# -- families that no witness sees ---------------------------------------------------------------------------------


def _blip(instrument: Instrument, rng: Random, time: Array, gps: float) -> Transient:
    """A pulse of about one cycle in the strain that no witness sees: Cabero et al., CQG 36, 155010 (2019)."""
    settings = instrument.settings.families.blip
    strain = _pulse(rng, time, settings.frequency, settings.q)
    return Transient(strain, *instrument.leaked(strain, gps))


def _chirp(instrument: Instrument, rng: Random, time: Array, gps: float) -> Transient:
    """The inspiral of a compact binary, which no witness sees."""
    settings = instrument.settings.families.chirp
    mass = np.exp(rng.uniform(*np.log(settings.mass)))
    h = inspiral(time, mass, rng.uniform(0, 2 * np.pi), settings.start)
    strain = _whitened(h, instrument.floor)
    return Transient(strain, *instrument.leaked(strain, gps))


def _sampled(instrument: Instrument, rng: Random, time: Array, gps: float) -> Transient:
    """A draw of a generative twin as it was drawn, with its own strength: its SNR follows from the noise it meets."""
    assert instrument.draws is not None, "a family without events"
    strain = instrument.draws.strain(int(rng.integers(instrument.draws.count)), time)
    return Transient(_whitened(strain, instrument.floor), scaled=False)


def last_orbit(mass: float) -> float:
    """Returns the frequency in Hz at which two equal masses of a chirp mass (solar masses) leave their innermost stable
    orbit: c^3 / (6^(3/2) pi G M), M = 2^(6/5) Mc."""
    return 1 / (np.pi * 6**1.5 * (SOLAR_MASS * mass) * 2**1.2)


def inspiral(time: Array, mass: float, phase: float, start: float) -> Array:
    """Computes the Newtonian inspiral (N,) of two equal masses, up to their sum's innermost stable orbit at time 0.

    mass: chirp mass in solar masses; phase at time 0 in rad; start: Hz at which it fades in, later where the series
    begins later. With tau the time left, m = G Mc / c^3: phase -2 (tau / 5m)^(5/8), frequency (5 / 256 tau)^(3/8)
    m^(-5/8) / pi, amplitude tau^(-1/4): Cutler & Flanagan, PRD 49, 2658 (1994), equations 2.2 and 2.13. It goes on as
    a damped oscillation of Q = pi at its last frequency, so as not to end in a click: no model of the merger.
    """
    m, last = SOLAR_MASS * mass, last_orbit(mass)
    end, begin = (5 / 256 * (np.pi * f) ** (-8 / 3) * m ** (-5 / 3) for f in (last, min(start, last)))
    begin = min(begin, end - 0.95 * float(time[0]))
    # powers are slow, and most of a series is before (all zeros) or after (where `left` stands still)
    first, merged = np.searchsorted(time, (end - begin, 0.0))
    found, first = np.zeros(len(time)), max(0, first - 1)
    left = np.append(end - time[first:merged], end)  # the last is of all that is after
    turns = -2 * (left / (5 * m)) ** 0.625
    fade = np.sin(0.5 * np.pi * np.clip((begin - left) / (0.1 * begin), 0.0, 1.0)) ** 2
    loud = fade * (left / end) ** -0.25
    found[first:merged] = loud[:-1] * np.cos(turns[:-1] + phase)
    after = time[merged:]
    found[merged:] = loud[-1] * np.exp(-after * last) * np.cos(turns[-1] + 2 * np.pi * last * after + phase)
    return found


def _pulse(rng: Random, time: Array, frequencies: tuple[float, float], qs: tuple[float, float]) -> Array:
    """A sine-Gaussian of unit amplitude with parameters drawn from the ranges given."""
    frequency = np.exp(rng.uniform(*np.log(frequencies)))
    tau = rng.uniform(*qs) / (np.sqrt(2) * np.pi * frequency)
    return np.exp(-((time / tau) ** 2)) * np.cos(2 * np.pi * frequency * time + rng.uniform(0, 2 * np.pi))


def _whitened(h: Array, colour: Array) -> Array:
    """A series in units of strain on the strain's white scale."""
    return np.fft.irfft(np.fft.rfft(h) / colour, n=h.size)


@dataclass(frozen=True)
class FamilyMaker:
    """Says how a family's transients are made, and what of them witnesses see."""

    make: Callable[[Instrument, Random, Array, float], Transient]
    witnessed: bool
    coupled: bool  # through a linear response that is drawn for it


FAMILIES = {
    "sine_gaussian": FamilyMaker(_sine_gaussian, witnessed=True, coupled=True),
    "ringdown": FamilyMaker(_ringdown, witnessed=True, coupled=True),
    "whistle": FamilyMaker(_whistle, witnessed=True, coupled=True),
    "scattered_light": FamilyMaker(_scattered_light, witnessed=True, coupled=False),
    "bilinear": FamilyMaker(_bilinear, witnessed=True, coupled=True),
    "blip": FamilyMaker(_blip, witnessed=False, coupled=False),
    "chirp": FamilyMaker(_chirp, witnessed=False, coupled=False),
    "sampled": FamilyMaker(_sampled, witnessed=False, coupled=False),
}
