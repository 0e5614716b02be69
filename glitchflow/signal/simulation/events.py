"""Synthetic events: series of the strain and its witnesses, with the truth of what the witnesses explain.

An event depends on (configuration, seed, event index) alone. Everything is built on the scale where each
channel's stationary noise is white with unit variance and coloured at the end, so that the matched-filter SNR of
a transient in the strain is the norm of its white series: rho^2 = 4 int |h|^2 / S df = sum_n w_n^2.

Shapes: C channel (the strain first), N sample, K frequency = N // 2 + 1.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.config import Experiment, import_path
from glitchflow.signal.derive import append_derived
from glitchflow.signal.simulation.couplings import draw_coupling, draw_deaf, draw_drift
from glitchflow.signal.simulation.families import FAMILIES, FamilyMaker, Instrument, scattering_gain
from glitchflow.signal.simulation.noise import channel_asds, colour

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
    energy: NDArray[np.float32] | None = (
        None  # (C, F, T) where Q-plots are all there is; series is then empty
    )
    skipped: str = ""  # why a recorded event cannot be used; series is then all zeros
    transient: Array | None = None  # (N,): all that the transient adds to the strain, where the recipe knows


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


COUPLINGS, EVENTS, DERIVED, SPLIT, SHUFFLE, BACKGROUND, SIGNALS, SHIFTS = range(8)  # streams


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
    noise_samples = 1 if settings.constant_noise else series.samples
    if settings.redraw_weights:
        weights = rng.uniform(*settings.weights, settings.witnesses)
    witnesses = np.empty((settings.witnesses, series.samples))
    for row in witnesses:
        count = rng.integers(settings.sines[0], settings.sines[1] + 1)
        amplitude = rng.uniform(*settings.amplitude, count)
        frequency = rng.uniform(*settings.frequency, count)
        phase = rng.uniform(0, 2 * np.pi, count)
        row[:] = sum_of_sines(amplitude, frequency / series.sample_rate, phase, series.samples)
        row += settings.witness_noise * rng.standard_normal(noise_samples)
    witnessed = weights @ witnesses
    strain = witnessed + settings.strain_noise * rng.standard_normal(noise_samples)
    snr = float(np.linalg.norm(witnessed) / settings.strain_noise) if settings.strain_noise else float("inf")
    return _finish(experiment, index, np.vstack([strain, witnesses]), settings.names, witnessed, 1, snr)


def sum_of_sines(amplitude: Array, frequency: Array, phase: Array, samples: int) -> Array:
    """sum over k of amplitude_k sin(2 pi frequency_k n + phase_k) at n = 0 .. samples - 1; frequency per sample.

    With n = i m + j, e^(i w n) is a product of a factor of i and one of j, so the sum is one small matrix product of
    2 sqrt(samples) exponentials a sine, instead of `samples` of them.
    """
    fine = math.isqrt(samples) + 1
    turn = 2j * np.pi * frequency
    coarse = np.exp(turn * (fine * np.arange(-(-samples // fine)))[:, None])
    # einsum adds in one fixed order; a BLAS may choose its own by the number of threads
    product = np.einsum(
        "ik,kj->ij", coarse * (amplitude * np.exp(1j * phase)), np.exp(np.outer(turn, np.arange(fine)))
    )
    return product.imag.reshape(-1)[:samples]


# -- recipe "detector" -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Constants:
    """The constants of a dataset of the `detector` recipe."""

    experiment: Experiment
    instrument: Instrument
    families: list[FamilyMaker]
    share: Array  # (family,): adds up to 1


def detector(experiment: Experiment) -> Recipe:
    """Stationary coloured noise plus one transient of a named family; DESIGN: what a twin can be judged on.

    Raises `InputError` for a noise curve that cannot be read.
    """
    settings = experiment.simulate.detector
    instrument, couplings = _instrument(experiment)
    weights = {name: getattr(settings.families, name).weight for name in FAMILIES}
    names = [name for name in FAMILIES if weights[name]]
    share = np.array([weights[name] for name in names])
    constants = _Constants(experiment, instrument, [FAMILIES[n] for n in names], share / share.sum())
    return Recipe(
        events=experiment.simulate.events,
        channels=[settings.strain, *settings.witnesses, *(d.name for d in experiment.derived)],
        labels=["background", *names],
        witnessed=[name for name in names if FAMILIES[name].witnessed],
        couplings=couplings,
        event=partial(_detector_event, constants),
        split_key=int,
    )


def _instrument(experiment: Experiment) -> tuple[Instrument, dict[str, Any]]:
    """The detector's noise and couplings, drawn from the dataset's seed, and the couplings as names and numbers."""
    settings, series = experiment.simulate.detector, experiment.series
    samples, rate = series.samples, series.sample_rate

    def random(name: str) -> np.random.Generator:
        return generator(experiment.seed, COUPLINGS, zlib.crc32(name.encode()))

    frequency = np.arange(samples // 2 + 1, dtype=np.float64) * (rate / samples)
    slopes = np.array([random(f"slope {w}").uniform(*settings.noise.slope) for w in settings.witnesses])
    response = channel_asds(settings, frequency, slopes) * np.sqrt(rate / 2)
    deaf = draw_deaf(settings, random)
    drawn = {
        name: draw_coupling(settings, name, deaf, rate, samples, random)
        for name, family in FAMILIES.items()
        if family.coupled and getattr(settings.families, name).weight
    }
    table: dict[str, Any] = {"linear": {name: numbers for name, (_, numbers) in drawn.items()}}
    table |= {"deaf": deaf, "witness_noise_slopes": dict(zip(settings.witnesses, slopes.tolist()))}
    drift, gain = draw_drift(settings, "scattered_light", [settings.strain], random), 0.0
    if settings.families.scattered_light.weight:
        gain = scattering_gain(settings, np.arange(samples) / rate - series.duration / 2, response[0])
        table["scattered_light"] = {
            "witness": settings.families.scattered_light.witness,
            "strain_amplitude": gain,
        }
    if settings.families.bilinear.weight:
        vibration, swing = settings.families.bilinear.witnesses
        strength = settings.families.bilinear.strength
        table["bilinear"] = {"vibration": vibration, "swing": swing, "strength": strength}
    if settings.coupling.drift:
        table["drift"] = {"size": drift.size, "period": drift.period}
    couplings = {name: coupling for name, (coupling, _) in drawn.items()}
    return Instrument(settings, response, couplings, gain, drift), table


def _detector_event(constants: _Constants, index: int) -> Event:
    experiment, instrument = constants.experiment, constants.instrument
    settings, series = instrument.settings, experiment.series
    rng = generator(experiment.seed, EVENTS, index)
    white = rng.standard_normal((len(instrument.colour), series.samples))
    motion: dict[int, Array] = {}
    added, witnessed = np.zeros(series.samples), False
    label, snr = 0, 0.0
    if rng.random() >= settings.background:
        label = 1 + int(rng.choice(len(constants.families), p=constants.share))
        drawn = float(np.exp(rng.uniform(*np.log(settings.snr))))
        time = np.arange(series.samples) / series.sample_rate - series.duration / 2
        time -= rng.uniform(-settings.jitter, settings.jitter)
        family = constants.families[label - 1]
        transient = family.make(instrument, rng, time, _gps(experiment, index))
        norm = float(np.linalg.norm(transient.strain))
        scale = drawn / norm if transient.scaled else 1.0
        snr = scale * norm
        added = scale * transient.strain
        white[0] += added
        if transient.witnesses is not None:
            white[1:] += scale * transient.witnesses
        witnessed = family.witnessed
        motion = transient.motion or {}
    values = colour(white, instrument.colour)
    for place, moved in motion.items():
        values[1 + place] += moved
    seen = colour(added[None], instrument.colour[:1])[0]  # of the transient, in the strain
    explained = seen if witnessed else np.zeros_like(seen)
    event = _finish(experiment, index, values, settings.witnesses, explained, label, snr)
    return replace(event, transient=seen)


def _gps(experiment: Experiment, index: int) -> float:
    return experiment.simulate.start + index * experiment.simulate.stride


RECIPES: dict[str, Callable[[Experiment], Recipe]] = {"detector": detector, "notebook": notebook}


def _finish(
    experiment: Experiment,
    index: int,
    series: Array,
    witnesses: list[str],
    witnessed: Array,
    label: int,
    snr: float,
) -> Event:
    series = append_derived(
        series,
        ["", *witnesses],  # no channel may be derived from the strain
        experiment.derived,
        experiment.series.sample_rate,
        generator(experiment.seed, DERIVED, index),
    )
    return Event(series, witnessed, label, _gps(experiment, index), snr)
