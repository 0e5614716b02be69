"""Transients in a detector's time: what is drawn for each GPS second, and what a transient adds to the channels.

    (seed, GPS second) --> happenings: when, which family, how loud --> each made on a window of its own --> added

A happening depends on (configuration, seed, second) alone, so that an event, a stretch and a second made again alone
hold the same. Each source is a Poisson process: none waits for another, and several may overlap. Some reach the strain;
bursts of a subsystem, or of one witness, never do: most of what witnesses see has no counterpart in the strain (use
percentages of vetoes: Smith et al., CQG 28, 235005, 2011).

Shapes: C channel (the strain first), N sample of a window.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from glitchflow.config import Detector
from glitchflow.config.families import LINEAR
from glitchflow.signal.simulation.families import FAMILIES, Instrument
from glitchflow.signal.simulation.noise import colour
from glitchflow.signal.streams import TIMELINE, generator
from glitchflow.signal.types import Array


@dataclass(frozen=True)
class Happening:
    """Holds a transient before it is made."""

    second: int  # GPS
    number: int  # among those of its second: they draw random numbers of their own
    offset: float  # s after the second: its centre
    family: str
    snr: float  # asked for: in the strain, or what the strain would have were it reached
    subsystem: str = ""  # the one, or the witness, that alone is shaken; empty: it reaches the strain

    @property
    def gps(self) -> float:
        """Returns the GPS time of its centre, s."""
        return self.second + self.offset


@dataclass(frozen=True)
class Made:
    """Holds what a transient adds to the channels, from sample number `start` = GPS time x rate on."""

    family: str
    gps: float  # of its centre, s
    snr: float  # matched-filter SNR in the strain; 0 where the strain is not reached
    witnessed: bool  # whether the strain's part is one that some witness sees
    start: int
    strain: Array  # (N,) in the strain's unit
    white: Array  # (N,) the same over the strain's noise: its squares add up to the SNR's
    heard: dict[int, Array]  # by channel: (N,) in its own unit

    def add(self, values: Array, start: int) -> None:
        """Adds it to channels (C, any) that begin at a sample number."""
        for channel, series in ((0, self.strain), *self.heard.items()):
            add(values[channel], start, series, self.start)


def add(values: Array, start: int, series: Array, first: int) -> None:
    """Adds to samples (any,) from number `start` on those of a series (N,) from number `first` on, where they meet."""
    begin, end = max(start, first), min(start + values.size, first + series.size)
    if begin < end:
        values[begin - start : end - start] += series[begin - first : end - first]


def shares(settings: Detector) -> tuple[list[str], Array]:
    """Returns the families that transients in the strain are drawn from, and the share of each."""
    weights = {name: getattr(settings.families, name).weight for name in FAMILIES}
    names = [name for name in weights if weights[name]]
    share = np.array([weights[name] for name in names])
    return names, share / share.sum()


def draw_transients(settings: Detector, seed: int, start: float, end: float) -> list[Happening]:
    """Draws all transients whose centres lie in the GPS span [start, end), as time goes on."""
    seconds = range(max(0, int(np.floor(start))), int(np.ceil(end)))  # nothing was before GPS 0
    drawn = [
        one for second in seconds for one in _in_second(settings, seed, second) if start <= one.gps < end
    ]
    return sorted(drawn, key=lambda one: one.gps)


def _in_second(settings: Detector, seed: int, second: int) -> Iterator[Happening]:
    """Those of one GPS second: a Poisson number of each source."""
    rng, number = generator(seed, TIMELINE, second), 0
    names, share = shares(settings)
    sources: list[tuple[str, float, list[str], Array | None]] = [("", settings.rate, names, share)]
    sources += [
        (one.name, one.bursts, one.hears or LINEAR, None) for one in settings.subsystems if one.bursts
    ]
    # drawn for all of them, so that `only` some that are made hear what they would among all
    sources += [(witness, settings.bursts, LINEAR, None) for witness in settings.shakeable]
    unmade = set(settings.shakeable) - set(settings.shaken)
    for subsystem, rate, among, share_of in sources:
        for _ in range(rng.poisson(rate)):
            offset, family = float(rng.random()), among[int(rng.choice(len(among), p=share_of))]
            snr = float(np.exp(rng.uniform(*np.log(settings.snr))))
            if subsystem not in unmade:
                yield Happening(second, number, offset, family, snr, subsystem)
            number += 1


def make_happening(instrument: Instrument, drawn: Happening) -> Made:
    """Makes a transient on a window of a series' length about its centre."""
    samples, rate = instrument.series.samples, instrument.series.sample_rate
    first = round(drawn.offset * rate) - samples // 2  # after the second
    time = (np.arange(samples) + first) / rate - drawn.offset
    rng = generator(instrument.seed, TIMELINE, drawn.second, 1 + drawn.number)
    start = round(drawn.second * rate) + first
    if not drawn.subsystem:
        return make(instrument, drawn.family, rng, time, drawn.gps, drawn.snr, start)
    shaken = replace(instrument, couplings={drawn.family: instrument.subsystems[drawn.subsystem]})
    made = make(shaken, drawn.family, rng, time, drawn.gps, drawn.snr, start)
    silent = np.zeros(samples)
    return replace(made, snr=0.0, witnessed=False, strain=silent, white=silent)


def make(
    instrument: Instrument,
    name: str,
    rng: np.random.Generator,
    time: Array,
    gps: float,
    snr: float,
    start: int,
) -> Made:
    """Makes a transient of a family with that SNR in the strain, at the times (N,) in s from its centre."""
    family = FAMILIES[name]
    made = family.make(instrument, rng, time, gps)
    white = colour(made.strain[None], instrument.above_noise(gps))[0]
    norm = float(np.linalg.norm(white))
    scale = snr / norm if made.scaled else 1.0
    strain = colour(scale * made.strain[None], instrument.floor[None])[0]
    heard = {}
    if made.witnesses is not None:
        series = colour(scale * made.witnesses, instrument.spectra.floor(made.places))
        heard = {int(place): row for place, row in zip(made.places, series)}
    heard |= {1 + place: moved for place, moved in (made.motion or {}).items()}
    seen = family.witnessed and any(row.any() for row in heard.values())
    return Made(name, gps, scale * norm, seen, start, strain, scale * white, heard)
