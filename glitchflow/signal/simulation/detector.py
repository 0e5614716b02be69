"""Recipe `detector`: coloured noise and transients of named families, with the truth of what witnesses see.

    noise of each channel + noise they share + the transient an event is about + those that happen anyway

An event depends on (configuration, seed, event index) alone. Everything is built on the scale where each channel's
noise is white with unit variance and coloured at the end: noise by the channel's ASD, transients by the ASD without its
power lines. Were they coloured by the lines too, a burst next to one would ring with it, in the strain unlike in a
product of witnesses. The matched-filter SNR of a transient in the strain is the norm of its series under the whole
noise: rho^2 = 4 int |h|^2 / S df = sum_n w_n^2.

Shapes: C channel (the strain first), N sample, K frequency = N // 2 + 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from glitchflow.config import Derived, Detector, Series, Simulate
from glitchflow.signal.derive import derive, spread_invalid
from glitchflow.signal.simulation.families import FAMILIES, Instrument
from glitchflow.signal.simulation.faults import UNLOCKED, draw_faults, spoil
from glitchflow.signal.simulation.instrument import draw_instrument
from glitchflow.signal.simulation.noise import colour_channels
from glitchflow.signal.simulation.shared import shared_noise
from glitchflow.signal.simulation.timeline import Made, add, draw_transients, make, make_happening, shares
from glitchflow.signal.streams import DERIVED, EVENTS, SHARED, generator
from glitchflow.signal.types import Array, Event, Recipe, Transient

HEARD = 1.0  # SNR inside the window from which an event is one of a transient: `residual` counts glitches from it on


@dataclass(frozen=True)
class _Constants:
    """The constants of a dataset."""

    simulate: Simulate
    series: Series
    derived: list[Derived]
    seed: int
    instrument: Instrument
    families: list[str]
    share: Array  # (family,): adds up to 1


def detector(simulate: Simulate, series: Series, derived: list[Derived], seed: int) -> Recipe:
    """Makes a recipe that a twin can be trained on and judged by (DESIGN section 7).

    Raises `InputError` for a noise curve that cannot be read.
    """
    settings = simulate.detector
    instrument, couplings = draw_instrument(settings, series, seed)
    names, share = shares(settings)
    return Recipe(
        events=simulate.events,
        channels=[settings.strain, *settings.names, *(d.name for d in derived)],
        labels=["background", *names],
        witnessed=[name for name in names if FAMILIES[name].witnessed],
        couplings=couplings,
        event=partial(_event, _Constants(simulate, series, derived, seed, instrument, names, share)),
        split_key=int,
        attributes=_rates(settings, series.sample_rate),
        shared=bool(instrument.shared),
    )


def _rates(settings: Detector, rate: float) -> dict[str, Any]:
    """The rates in Hz of the channels whose own is below the series'."""
    slower = {name: own for name, own in settings.rates.items() if own < rate}
    return {"rates": slower} if slower else {}


def _event(constants: _Constants, index: int) -> Event:
    """The noise of all channels, the transients in it, what faults leave of both, and what is derived from them."""
    series, instrument, settings = constants.series, constants.instrument, constants.simulate.detector
    names, gps = [settings.strain, *settings.names], constants.simulate.time(index)
    begin = gps - series.duration / 2
    faults = draw_faults(settings, constants.seed, begin, begin + series.duration)
    if lost := [one for one in faults if one.kind == UNLOCKED]:
        return _unusable(constants, gps, f"{settings.strain}: not locked at GPS {lost[0].start:.4f}")
    rng = generator(constants.seed, EVENTS, index)
    whole = np.empty((len(names) + len(constants.derived), series.samples))  # with room for what is derived
    values = whole[: len(names)]
    rng.standard_normal(out=values)
    values *= instrument.levels.at(gps)[:, None]
    colour_channels(values, instrument.spectra)
    shared = _add_shared(constants, values, gps, index)
    made = _transients(constants, rng, gps)
    start = round(begin * series.sample_rate)
    for one in made:
        one.add(values, start)
    spoil(values, names, faults, begin, series.sample_rate)
    swing = np.ptp(values, axis=1)
    without = ~np.isfinite(swing) | (swing == 0)
    values[without] = 0
    # the strain has no name here, so that no channel may be derived from it
    sources, floor = ["", *settings.names], generator(constants.seed, DERIVED, index)
    valid = np.append(~without, np.ones(len(constants.derived), bool))
    spread_invalid(valid, [*names, *(item.name for item in constants.derived)], constants.derived)
    there = [one for one in made if one.snr]
    label, snr = _named(constants, there, start)
    derive(whole, sources, constants.derived, series.sample_rate, floor)
    return Event(
        whole,
        _sum([one for one in there if one.witnessed], start, series.samples),
        label,
        gps,
        snr,
        transient=_sum(there, start, series.samples),
        transients=tuple(_rows(constants, there, gps)),
        valid=valid,
        shared=shared,
    )


def _unusable(constants: _Constants, gps: float, why: str) -> Event:
    """An event without data."""
    channels = 1 + len(constants.simulate.detector.names) + len(constants.derived)
    nothing = np.zeros(constants.series.samples)
    return Event(np.zeros((channels, nothing.size)), nothing, 0, gps, 0.0, skipped=why, shared=nothing)


def _transients(constants: _Constants, rng: np.random.Generator, gps: float) -> list[Made]:
    """The transient that an event is about, if any, and those that happen around its time anyway."""
    about, settings = _about(constants, rng, gps), constants.simulate.detector
    made = [about] if about else []
    if settings.timeline:
        reach = constants.series.duration  # half a series, and half a transient's window
        drawn = draw_transients(settings, constants.seed, gps - reach, gps + reach)
        made += [make_happening(constants.instrument, one) for one in drawn]
    return made


def _about(constants: _Constants, rng: np.random.Generator, gps: float) -> Made | None:
    """The transient that an event is about: whether there is one, its family, strength and time."""
    settings, series = constants.simulate.detector, constants.series
    if rng.random() < settings.background:
        return None
    chosen = int(rng.choice(len(constants.families), p=constants.share))
    snr = float(np.exp(rng.uniform(*np.log(settings.snr))))
    time = np.arange(series.samples) / series.sample_rate - series.duration / 2
    centre = rng.uniform(-settings.jitter, settings.jitter)
    time -= centre
    start = round((gps - series.duration / 2) * series.sample_rate)
    drawn = make(constants.instrument, constants.families[chosen], rng, time, gps, snr, start)
    return replace(drawn, gps=gps + centre)


def _add_shared(constants: _Constants, values: Array, gps: float, index: int) -> Array | None:
    """Add the noise that channels share to theirs (C, N); returns what of it the strain has, (N,)."""
    instrument = constants.instrument
    if not instrument.shared:
        return None
    rng = generator(constants.seed, SHARED, index)
    white = rng.standard_normal((len(instrument.shared), values.shape[1]))
    places, heard = shared_noise(instrument.shared, white, gps, instrument.spectra)
    values[places] += heard
    return heard[0]


def _named(constants: _Constants, there: list[Made], start: int) -> tuple[int, float]:
    """Label and SNR of an event: those of the loudest transient in the window about its centre."""
    settings, series = constants.simulate.detector, constants.series
    if not settings.timeline:
        loud = there
    else:
        half = settings.window / 2 * series.sample_rate
        begin, end = (round(start + series.samples / 2 + side * half) for side in (-1, 1))
        inside = [
            float(np.linalg.norm(one.white[max(0, begin - one.start) : max(0, end - one.start)]))
            for one in there
        ]
        heard = [(norm, one) for norm, one in zip(inside, there) if norm >= HEARD]
        loud = [max(heard, key=lambda pair: pair[0])[1]] if heard else []
    return (1 + constants.families.index(loud[0].family), loud[0].snr) if loud else (0, 0.0)


def _sum(there: list[Made], start: int, samples: int) -> Array:
    """What transients add to the strain (N,) from sample number `start` on."""
    total = np.zeros(samples)
    for one in there:
        add(total, start, one.strain, one.start)
    return total


def _rows(constants: _Constants, there: list[Made], gps: float) -> Iterator[Transient]:
    """The event's rows of the table of transients: those whose centres lie in the series."""
    half = constants.series.duration / 2
    for one in sorted(there, key=lambda one: one.gps):
        if -half <= one.gps - gps < half:
            yield Transient(1 + constants.families.index(one.family), one.gps, one.snr, one.witnessed)
