"""Recipe `detector`: coloured noise plus one transient of a named family, with the truth of what witnesses see.

An event depends on (configuration, seed, event index) alone. Everything is built on the scale where each channel's
noise is white with unit variance and coloured at the end: noise by the channel's ASD, transients by the ASD without its
power lines. Were they coloured by the lines too, a burst next to one would ring with it, in the strain unlike in a
product of witnesses. The matched-filter SNR of a transient in the strain is the norm of its series under the whole
noise: rho^2 = 4 int |h|^2 / S df = sum_n w_n^2.

Shapes: C channel (the strain first), N sample, K frequency = N // 2 + 1.
"""

import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from glitchflow.config import Derived, Detector, Series, Simulate
from glitchflow.signal.derive import append_derived
from glitchflow.signal.simulation.couplings import draw_coupling, draw_deaf, draw_drift
from glitchflow.signal.simulation.families import FAMILIES, FamilyMaker, Instrument, scattering_gain
from glitchflow.signal.simulation.noise import channel_asds, colour
from glitchflow.signal.streams import COUPLINGS, DERIVED, EVENTS, generator
from glitchflow.signal.types import Array, Event, Recipe, Transient


@dataclass(frozen=True)
class _Constants:
    """The constants of a dataset."""

    simulate: Simulate
    series: Series
    derived: list[Derived]
    seed: int
    instrument: Instrument
    families: list[FamilyMaker]
    share: Array  # (family,): adds up to 1


@dataclass(frozen=True)
class _Drawn:
    """What a transient adds to one event."""

    label: int
    snr: float
    strain: Array  # (N,) on the white scale
    witnesses: Array | None  # (C - 1, N) on the white scales
    motion: dict[int, Array]  # by place among the witnesses: (N,), in its own unit
    witnessed: bool
    time: float = 0.0  # s from the series' centre


def detector(simulate: Simulate, series: Series, derived: list[Derived], seed: int) -> Recipe:
    """Makes a recipe that a twin can be trained on and judged by (DESIGN section 7).

    Raises `InputError` for a noise curve that cannot be read.
    """
    settings = simulate.detector
    instrument, couplings = draw_instrument(settings, series, seed)
    weights = {name: getattr(settings.families, name).weight for name in FAMILIES}
    names = [name for name in FAMILIES if weights[name]]
    share = np.array([weights[name] for name in names])
    families = [FAMILIES[name] for name in names]
    constants = _Constants(simulate, series, derived, seed, instrument, families, share / share.sum())
    return Recipe(
        events=simulate.events,
        channels=[settings.strain, *settings.witnesses, *(d.name for d in derived)],
        labels=["background", *names],
        witnessed=[name for name in names if FAMILIES[name].witnessed],
        couplings=couplings,
        event=partial(_event, constants),
        split_key=int,
    )


def draw_instrument(settings: Detector, series: Series, seed: int) -> tuple[Instrument, dict[str, Any]]:
    """Draw the detector's noise and couplings from the dataset's seed; with the couplings as names and numbers.

    Raises `InputError` for a noise curve that cannot be read.
    """
    samples, rate = series.samples, series.sample_rate

    def random(name: str) -> np.random.Generator:
        return generator(seed, COUPLINGS, zlib.crc32(name.encode()))

    frequency = np.arange(samples // 2 + 1, dtype=np.float64) * (rate / samples)
    slopes = np.array([random(f"slope {w}").uniform(*settings.noise.slope) for w in settings.witnesses])
    response, floor = (asd * np.sqrt(rate / 2) for asd in channel_asds(settings, frequency, slopes))
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
        gain = scattering_gain(settings, np.arange(samples) / rate - series.duration / 2, floor[0])
        witness = settings.families.scattered_light.witness
        table["scattered_light"] = {"witness": witness, "strain_amplitude": gain}
    if settings.families.bilinear.weight:
        vibration, swing = settings.families.bilinear.witnesses
        strength = settings.families.bilinear.strength
        table["bilinear"] = {"vibration": vibration, "swing": swing, "strength": strength}
    if settings.coupling.drift:
        table["drift"] = {"size": drift.size, "period": drift.period}
    couplings = {name: coupling for name, (coupling, _) in drawn.items()}
    return Instrument(settings, response, floor, couplings, gain, drift), table


def _event(constants: _Constants, index: int) -> Event:
    """Noise, what a transient adds to it, both coloured, and the channels derived from them."""
    series, instrument = constants.series, constants.instrument
    names, gps = constants.simulate.detector.witnesses, constants.simulate.time(index)
    rng = generator(constants.seed, EVENTS, index)
    values = colour(rng.standard_normal((len(instrument.colour), series.samples)), instrument.colour)
    drawn = _transient(constants, rng, gps)
    seen = colour(drawn.strain[None], instrument.floor[:1])[0]  # of the transient, in the strain
    values[0] += seen
    if drawn.witnesses is not None:
        values[1:] += colour(drawn.witnesses, instrument.floor[1:])
    for place, moved in drawn.motion.items():
        values[1 + place] += moved
    explained = seen if drawn.witnessed else np.zeros_like(seen)
    floor = generator(constants.seed, DERIVED, index)
    # the strain has no name here, so that no channel may be derived from it
    values = append_derived(values, ["", *names], constants.derived, series.sample_rate, floor)
    there = Transient(drawn.label, gps + drawn.time, drawn.snr, drawn.witnessed)
    transients = (there,) if drawn.label else ()
    return Event(values, explained, drawn.label, gps, drawn.snr, transient=seen, transients=transients)


def _transient(constants: _Constants, rng: np.random.Generator, gps: float) -> _Drawn:
    """Draw whether there is a transient, its family, strength and time, and what the family makes of them."""
    settings, series = constants.simulate.detector, constants.series
    if rng.random() < settings.background:
        return _Drawn(0, 0.0, np.zeros(series.samples), None, {}, False)
    chosen = int(rng.choice(len(constants.families), p=constants.share))
    snr = float(np.exp(rng.uniform(*np.log(settings.snr))))
    time = np.arange(series.samples) / series.sample_rate - series.duration / 2
    centre = rng.uniform(-settings.jitter, settings.jitter)
    time -= centre
    family = constants.families[chosen]
    made = family.make(constants.instrument, rng, time, gps)
    norm = float(np.linalg.norm(colour(made.strain[None], constants.instrument.above_lines)))
    scale = snr / norm if made.scaled else 1.0
    witnesses = None if made.witnesses is None else scale * made.witnesses
    motion = made.motion or {}
    return _Drawn(1 + chosen, scale * norm, scale * made.strain, witnesses, motion, family.witnessed, centre)
