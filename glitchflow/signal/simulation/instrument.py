"""The detector that a dataset's seed draws: noise, couplings and drifts, once for all its events.

Shapes: C channel (the strain first), K frequency = N // 2 + 1.
"""

import zlib
from typing import Any

import numpy as np

from glitchflow.config import Detector, Series
from glitchflow.signal.simulation.couplings import draw_coupling, draw_deaf, draw_drift
from glitchflow.signal.simulation.drift import Drift, draw_wander
from glitchflow.signal.simulation.families import FAMILIES, Instrument, draw_scatterer, scattering_gain
from glitchflow.signal.simulation.noise import channel_spectra
from glitchflow.signal.simulation.sampled import find_draws
from glitchflow.signal.simulation.shared import draw_shared
from glitchflow.signal.streams import COUPLINGS, generator
from glitchflow.signal.types import Array, Spectrum


def draw_instrument(settings: Detector, series: Series, seed: int) -> tuple[Instrument, dict[str, Any]]:
    """Draw the detector's noise and couplings from the dataset's seed; with the couplings as names and numbers.

    Raises `InputError` for a noise curve that cannot be read.
    """

    def random(name: str) -> np.random.Generator:
        return generator(seed, COUPLINGS, zlib.crc32(name.encode()))

    samples, rate = series.samples, series.sample_rate
    frequency = np.arange(samples // 2 + 1, dtype=np.float64) * (rate / samples)
    slopes = np.array([random(f"slope {w}").uniform(*settings.noise.slope) for w in settings.names])
    spectra = channel_spectra(settings, frequency, slopes, rate)
    deaf = draw_deaf(settings, random)
    drawn = {
        source: draw_coupling(settings, source, hearing, series, seed, random)
        for source, hearing in _hearing(settings, deaf).items()
    }
    couplings = {source: coupling for source, (coupling, _) in drawn.items()}
    table = _told(settings, {source: numbers for source, (_, numbers) in drawn.items()})
    table |= {"deaf": deaf, "witness_noise_slopes": dict(zip(settings.names, slopes.tolist()))}
    subsystems = {
        source.removeprefix(SHAKEN): coupling
        for source, coupling in couplings.items()
        if source.startswith(SHAKEN)
    }
    gain, scatterer, told = _scattered(settings, series, spectra.floor(slice(1))[0], random("scatterer"))
    table |= told
    sampled = settings.families.sampled
    draws = find_draws(sampled.path, rate, series.duration) if sampled.weight else None
    table |= {"sampled": {"draws": draws.count, **draws.sampled}} if draws else {}
    levels = draw_wander(
        seed, [f"noise {name}" for name in [settings.strain, *settings.names]], settings.drift.memory
    )
    instrument = Instrument(
        settings=settings,
        series=series,
        seed=seed,
        spectra=spectra,
        couplings={name: couplings[name] for name in FAMILIES if name in couplings},
        subsystems=subsystems,
        shared=draw_shared(settings, subsystems, frequency),
        levels=Drift(settings.drift.noise, levels),
        leak=couplings.get(LEAK),
        scattering=gain,
        scattering_drift=draw_drift(settings, [f"scattered_light {settings.strain}"], seed),
        scatterer=scatterer,
        draws=draws,
    )
    return instrument, table


def _scattered(
    settings: Detector, series: Series, floor: Array, rng: np.random.Generator
) -> tuple[float, Spectrum | None, dict[str, Any]]:
    """The gain of scattered light over the strain's noise floor (K,), how the scatterer follows its witness, and what
    the store tells of both."""
    light, rate = settings.families.scattered_light, series.sample_rate
    if not light.weight:
        return 0.0, None, {}
    time = np.arange(series.samples) / rate - series.duration / 2
    frequency = np.arange(floor.size, dtype=np.float64) * (rate / series.samples)
    gain = scattering_gain(settings, time, floor)
    scatterer, error = draw_scatterer(light, frequency, rng)
    told = {"witness": light.witness, "strain_amplitude": gain}
    return (
        gain,
        scatterer,
        {"scattered_light": told | ({} if scatterer is None else {"calibration_error": error})},
    )


LEAK = "strain"  # the source that an unsafe witness hears
SHAKEN = "subsystem "  # what shakes one is a source of its own


def _hearing(settings: Detector, deaf: list[str]) -> dict[str, list[str]]:
    """The witnesses that hear each disturbance: a family's, what shakes a subsystem, the strain itself, and what shakes
    a witness alone, which may be deaf to the others."""
    hearing = {
        name: settings.seeing(name)
        for name, family in FAMILIES.items()
        if family.coupled and getattr(settings.families, name).weight
    }
    for one in settings.subsystems:
        if one.bursts or one.shared:
            hearing[SHAKEN + one.name] = [name for name in settings.sensors(one) if name not in settings.slow]
    hearing |= {LEAK: [settings.unsafe]} if settings.unsafe in settings.names else {}
    heard = {source: [name for name in names if name not in deaf] for source, names in hearing.items()}
    return heard | {SHAKEN + witness: [witness] for witness in settings.shaken}


def _told(settings: Detector, numbers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The couplings as names and numbers: of each family and subsystem, or of each sensor where that has but one."""
    table: dict[str, Any] = {"linear": numbers}
    if settings.coupling.per == "sensor":
        sensors = {
            name: row for rows in numbers.values() for name, row in rows.items() if name != settings.strain
        }
        strain = {source: {settings.strain: rows[settings.strain]} for source, rows in numbers.items()}
        heard = {source: sorted(set(rows) - {settings.strain}) for source, rows in numbers.items()}
        table = {"linear": strain, "sensors": sensors, "heard_by": heard}
    if settings.families.bilinear.weight:
        vibration, swing = settings.families.bilinear.witnesses
        strength = settings.families.bilinear.strength
        table["bilinear"] = {"vibration": vibration, "swing": swing, "strength": strength}
    return table
