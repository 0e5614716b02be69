"""Synthetic events: series of the strain and its witnesses, with the truth of what the witnesses explain.

An event depends on (configuration, seed, event index) alone. Everything is built on the scale where each
channel's stationary noise is white with unit variance and coloured at the end, so that the matched-filter SNR of
a transient in the strain is the norm of its white series: rho^2 = 4 int |h|^2 / S df = sum_n w_n^2.

Shapes: C channel (the strain first), N sample, K frequency = N // 2 + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin2

from glitchflow.config import Experiment, import_path
from glitchflow.config.schema import ScatteredLight
from glitchflow.signal.derive import append_derived

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Event:
    """One simulated event."""

    series: Array  # (C, N): the strain in units of strain, a witness in its own unit
    witnessed: (
        Array | None
    )  # (N,): the part of the strain that the witnesses explain; None where nobody knows
    label: int  # index into Recipe.labels; 0 is background
    gps: float  # GPS time of the centre of the series, s
    snr: float  # matched-filter SNR of the transient in the strain; 0 for background
    energy: NDArray[np.float32] | None = None  # (C, F, T): Q-plots are all there is; series is then empty
    skipped: str = ""  # why a recorded event cannot be used; series is then all zeros


@dataclass(frozen=True)
class Recipe:
    """Where events come from: `event(index)` is a pure function of the index."""

    events: int
    channels: list[str]
    labels: list[str]
    witnessed: list[str]  # the labels whose strain a witness explains; none in recorded data
    couplings: dict[str, Any]  # drawn once per dataset; JSON
    event: Callable[[int], Event]
    split_key: Callable[[int], int]  # events with the same key share a split
    recorded: bool = False  # recorded events share a split with their neighbours in time
    notes: dict[str, Any] = field(default_factory=dict)  # kept in the store beside the arrays; JSON


def generator(seed: int, *stream: int) -> np.random.Generator:
    """The random numbers of one purpose, independent of every other (numpy's SeedSequence)."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))


COUPLINGS, EVENTS, DERIVED, SPLIT, SHUFFLE, BACKGROUND = range(6)  # streams


def build_recipe(experiment: Experiment) -> Recipe:
    """The recipe an experiment names. Raises `InputError` for an import path that cannot be imported."""
    name = experiment.simulate.recipe
    make = RECIPES.get(name) or import_path(name, "simulate.recipe", sorted(RECIPES))
    return make(experiment)


# -- recipe "notebook" -------------------------------------------------------------------------------------------


def notebook(experiment: Experiment) -> Recipe:
    """The original notebook's recipe: witnesses are sums of sines, the strain their weighted sum, plus noise."""
    settings = experiment.simulate.notebook
    weights = generator(experiment.seed, COUPLINGS).uniform(*settings.weights, settings.witnesses)
    return Recipe(
        events=experiment.simulate.events,
        channels=[settings.strain, *settings.names, *(d.name for d in experiment.derived)],
        labels=["background", "sines"],
        witnessed=["sines"],
        couplings={} if settings.redraw_weights else {"weights": weights.tolist()},
        event=partial(_notebook_event, experiment, weights),
        split_key=int,
    )


def _notebook_event(experiment: Experiment, weights: Array, index: int) -> Event:
    settings, series = experiment.simulate.notebook, experiment.series
    rng = generator(experiment.seed, EVENTS, index)
    time = np.arange(series.samples) / series.sample_rate
    noise_samples = 1 if settings.constant_noise else series.samples
    if settings.redraw_weights:
        weights = rng.uniform(*settings.weights, settings.witnesses)
    witnesses = np.empty((settings.witnesses, series.samples))
    for row in witnesses:
        count = rng.integers(settings.sines[0], settings.sines[1] + 1)
        amplitude = rng.uniform(*settings.amplitude, count)[:, None]
        frequency = rng.uniform(*settings.frequency, count)[:, None]
        phase = rng.uniform(0, 2 * np.pi, count)[:, None]
        row[:] = (amplitude * np.sin(2 * np.pi * frequency * time + phase)).sum(0)
        row += settings.witness_noise * rng.standard_normal(noise_samples)
    witnessed = weights @ witnesses
    strain = witnessed + settings.strain_noise * rng.standard_normal(noise_samples)
    snr = float(np.linalg.norm(witnessed) / settings.strain_noise) if settings.strain_noise else float("inf")
    return _finish(experiment, index, np.vstack([strain, witnesses]), settings.names, witnessed, 1, snr)


# -- recipe "detector" -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transient:
    """What a family adds to one event, on the white scale of each channel."""

    strain: Array  # (N,)
    witnesses: Array  # (C - 1, N)
    motion: Array | None = None  # (C - 1, N), added in the witnesses' own units
    scaled: bool = True  # strain and witnesses to the SNR drawn; else the strength follows from the coupling


@dataclass(frozen=True)
class _Detector:
    """The constants of a dataset of the `detector` recipe."""

    experiment: Experiment
    colour: Array  # (C, K): multiplies the spectrum of unit white noise
    response: NDArray[np.complex128]  # (C, K): of each channel to a linear disturbance, on the white scale
    witnesses: list[str]
    scattering: float  # strain amplitude of the scattered light

    @property
    def rate(self) -> float:
        return self.experiment.series.sample_rate

    @property
    def samples(self) -> int:
        return self.experiment.series.samples


def detector(experiment: Experiment) -> Recipe:
    """Stationary coloured noise plus one transient of a named family; DESIGN: what a twin can be judged on."""
    settings = experiment.simulate.detector
    rng = generator(experiment.seed, COUPLINGS)
    samples, rate = experiment.series.samples, experiment.series.sample_rate
    frequency = np.arange(samples // 2 + 1, dtype=np.float64) * (rate / samples)
    slopes = rng.uniform(0.0, 1.5, len(settings.witnesses))
    asd = np.stack([advanced_detector_asd(frequency), *(_power_law(frequency, slope) for slope in slopes)])
    asd *= 1 + 30 * _lorentzians(frequency, settings.lines)
    if settings.families.scattered_light.weight:
        scattered = settings.families.scattered_light
        asd[1 + settings.witnesses.index(scattered.witness)] = scattered.sensor_noise
    response, couplings = _draw_couplings(experiment, rng, frequency)
    colour = asd * np.sqrt(rate / 2)
    gain = _scattering_gain(experiment, colour[0])
    constants = _Detector(experiment, colour, response, settings.witnesses, gain)
    couplings |= {
        "scattered_light": {"witness": settings.families.scattered_light.witness, "strain_amplitude": gain},
        "witness_noise_slopes": dict(zip(settings.witnesses, slopes.tolist())),
    }
    return Recipe(
        events=experiment.simulate.events,
        channels=[settings.strain, *settings.witnesses, *(d.name for d in experiment.derived)],
        labels=["background", *FAMILIES],
        witnessed=[name for name, family in FAMILIES.items() if family.witnessed],
        couplings=couplings,
        event=partial(_detector_event, constants),
        split_key=int,
    )


def _detector_event(constants: _Detector, index: int) -> Event:
    experiment, settings = constants.experiment, constants.experiment.simulate.detector
    rng = generator(experiment.seed, EVENTS, index)
    white = rng.standard_normal((len(constants.colour), constants.samples))
    own_unit = np.zeros_like(white)
    witnessed = np.zeros(constants.samples)
    label, snr = 0, 0.0
    if rng.random() >= settings.background:
        weights = np.array([getattr(settings.families, name).weight for name in FAMILIES])
        label = 1 + int(rng.choice(len(FAMILIES), p=weights / weights.sum()))
        family = list(FAMILIES.values())[label - 1]
        drawn = float(np.exp(rng.uniform(*np.log(settings.snr))))
        time = np.arange(constants.samples) / constants.rate - experiment.series.duration / 2
        time -= rng.uniform(-settings.jitter, settings.jitter)
        transient = family.make(constants, rng, time)
        norm = float(np.linalg.norm(transient.strain))
        scale = drawn / norm if transient.scaled else 1.0
        snr = scale * norm
        white[0] += scale * transient.strain
        white[1:] += scale * transient.witnesses
        witnessed = scale * transient.strain * family.witnessed
        if transient.motion is not None:
            own_unit[1:] = transient.motion
    series = _colour(white, constants.colour) + own_unit
    explained = _colour(witnessed[None], constants.colour[:1])[0]
    return _finish(experiment, index, series, settings.witnesses, explained, label, snr)


def _sine_gaussian(constants: _Detector, rng: np.random.Generator, time: Array) -> Transient:
    """exp(-(t / tau)^2) cos(2 pi f t + phase), Q = sqrt(2) pi f tau: Chatterji et al., CQG 21, S1809 (2004)."""
    settings = constants.experiment.simulate.detector.families.sine_gaussian
    spectrum = constants.response * np.fft.rfft(_pulse(rng, time, settings.frequency, settings.q))
    series = np.fft.irfft(spectrum, n=constants.samples)
    return Transient(strain=series[0], witnesses=series[1:])


def _scattered_light(constants: _Detector, rng: np.random.Generator, time: Array) -> Transient:
    """G sin(4 pi n x(t) / wavelength + static phase) of a burst of slow motion x(t), which the witness measures.

    Accadia et al., CQG 27, 194011 (2010); Soni et al., CQG 38, 025016 (2021). The highest fringe frequency is
    2 n max|v| / wavelength. The scatterer is one and the same, so G is fixed and the SNR follows from the
    motion: were it drawn per event, no witness could know it. The static phase drifts by more than a wavelength
    between events and is unknown.
    """
    settings = constants.experiment.simulate.detector.families.scattered_light
    fringe, motion, length = (rng.uniform(*r) for r in (settings.fringe, settings.motion, settings.length))
    x = _burst(settings, fringe, motion, length, time)
    motions = np.zeros((len(constants.witnesses), constants.samples))
    motions[constants.witnesses.index(settings.witness)] = x
    stray = _stray_light(settings, x, rng.uniform(0, 2 * np.pi), constants.colour[0])
    return Transient(constants.scattering * stray, np.zeros_like(motions), motion=motions, scaled=False)


def _burst(settings: ScatteredLight, fringe: float, motion: float, length: float, time: Array) -> Array:
    """A slow oscillation x(t) under a Gaussian, in the unit of the wavelength, with this highest fringe."""
    speed = fringe * settings.wavelength / (2 * settings.bounces)
    return (
        speed / (2 * np.pi * motion) * np.exp(-0.5 * (time / length) ** 2) * np.sin(2 * np.pi * motion * time)
    )


def _stray_light(settings: ScatteredLight, x: Array, static: float, colour: Array) -> Array:
    """The stray light's strain of unit amplitude, divided by the strain's colour to reach the white scale."""
    field = np.sin(4 * np.pi * settings.bounces / settings.wavelength * x + static) - np.sin(static)
    return np.fft.irfft(np.fft.rfft(field) / colour, n=x.size)


def _scattering_gain(experiment: Experiment, colour: Array) -> float:
    """The strain amplitude G that gives the middle of the ranges of motion the middle of the SNRs asked for."""
    settings, series = experiment.simulate.detector.families.scattered_light, experiment.series
    time = np.arange(series.samples) / series.sample_rate - series.duration / 2
    fringe, motion, length = (float(np.mean(r)) for r in (settings.fringe, settings.motion, settings.length))
    x = _burst(settings, fringe, motion, length, time)
    middle = float(np.sqrt(np.prod(experiment.simulate.detector.snr)))
    return middle / float(np.linalg.norm(_stray_light(settings, x, np.pi / 4, colour)))


def _blip(constants: _Detector, rng: np.random.Generator, time: Array) -> Transient:
    """A pulse of about one cycle in the strain that no witness sees: Cabero et al., CQG 36, 155010 (2019)."""
    settings = constants.experiment.simulate.detector.families.blip
    strain = _pulse(rng, time, settings.frequency, settings.q)
    return Transient(strain=strain, witnesses=np.zeros((len(constants.witnesses), constants.samples)))


def _pulse(
    rng: np.random.Generator, time: Array, frequencies: tuple[float, float], qs: tuple[float, float]
) -> Array:
    """A sine-Gaussian of unit amplitude with parameters drawn from the ranges given."""
    frequency = np.exp(rng.uniform(*np.log(frequencies)))
    tau = rng.uniform(*qs) / (np.sqrt(2) * np.pi * frequency)
    return np.exp(-((time / tau) ** 2)) * np.cos(2 * np.pi * frequency * time + rng.uniform(0, 2 * np.pi))


@dataclass(frozen=True)
class FamilyMaker:
    make: Callable[[_Detector, np.random.Generator, Array], Transient]
    witnessed: bool


FAMILIES = {
    "sine_gaussian": FamilyMaker(_sine_gaussian, witnessed=True),
    "scattered_light": FamilyMaker(_scattered_light, witnessed=True),
    "blip": FamilyMaker(_blip, witnessed=False),
}
RECIPES: dict[str, Callable[[Experiment], Recipe]] = {"detector": detector, "notebook": notebook}


# -- noise and couplings -----------------------------------------------------------------------------------------


def advanced_detector_asd(frequency: Array) -> Array:
    """Amplitude spectral density of an advanced detector's strain noise, 1 / sqrt(Hz).

    Sathyaprakash & Schutz, Living Rev. Relativity 12, 2 (2009), table 1 (Advanced LIGO); constant below 8 Hz,
    where the fit no longer describes a detector.
    """
    x = np.maximum(frequency, 8.0) / 215.0
    return np.sqrt(1e-49 * (x**-4.14 - 5 * x**-2 + 111 * (1 - x**2 + 0.5 * x**4) / (1 + 0.5 * x**2)))


def _power_law(frequency: Array, slope: float) -> Array:
    """A sensor's noise, falling as f^-slope and constant below 1 Hz."""
    return np.maximum(frequency, 1.0) ** -slope


def _lorentzians(frequency: Array, centres: list[float], width: float = 0.1) -> Array:
    """Power lines, `width` Hz wide."""
    return sum((1 / (1 + ((frequency - f) / width) ** 2) for f in centres), np.zeros_like(frequency))


def _draw_couplings(
    experiment: Experiment, rng: np.random.Generator, frequency: Array
) -> tuple[NDArray[np.complex128], dict[str, Any]]:
    """Each channel's response (C, K) to a linear disturbance, and the same as names and numbers.

    A response is gain x FIR x delay on the channel's white scale: a gain of 1 shows a disturbance as far above
    the witness's noise as above the strain's.
    """
    settings = experiment.simulate.detector
    coupling, rate = settings.coupling, experiment.series.sample_rate
    channels = [settings.strain, *settings.witnesses]
    response = np.zeros((len(channels), frequency.size), complex)
    table: dict[str, Any] = {}
    for i, channel in enumerate(channels):
        fir = _random_fir(rng, coupling.taps, coupling.ripple, rate)
        gain = float(np.exp(rng.uniform(*np.log(coupling.gain))))
        delay = float(rng.uniform(-coupling.delay, coupling.delay))
        if i == 0:
            gain, delay = 1.0, 0.0
        elif channel not in settings.seeing:
            continue
        shift = delay - (fir.size - 1) / 2 / rate  # the FIR is symmetric: take its own delay out
        response[i] = gain * np.fft.rfft(fir, n=experiment.series.samples)
        response[i] *= np.exp(-2j * np.pi * frequency * shift)
        table[channel] = {"gain": gain, "delay": delay, "fir": fir.tolist()}
    return response, {"linear": table}


def _random_fir(rng: np.random.Generator, taps: int, ripple: float, rate: float) -> Array:
    """A symmetric FIR filter whose magnitude wanders by `ripple` dB (standard deviation) over frequency."""
    knots = np.linspace(0, rate / 2, 9)
    return firwin2(taps | 1, knots, 10 ** (ripple * rng.standard_normal(knots.size) / 20), fs=rate)


def _colour(white: Array, colour: Array) -> Array:
    """White series (C, N) to the spectra given by `colour` (C, K)."""
    return np.fft.irfft(np.fft.rfft(white) * colour, n=white.shape[-1])


def _finish(
    experiment: Experiment,
    index: int,
    series: Array,
    witnesses: list[str],
    witnessed: Array,
    label: int,
    snr: float,
) -> Event:
    simulate = experiment.simulate
    series = append_derived(
        series,
        ["", *witnesses],  # no channel may be derived from the strain
        experiment.derived,
        experiment.series.sample_rate,
        generator(experiment.seed, DERIVED, index),
    )
    return Event(series, witnessed, label, simulate.start + index * simulate.stride, snr)
