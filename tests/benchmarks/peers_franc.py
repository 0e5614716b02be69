"""What franc's filters expect of the strain of a dataset's events; see peers.py.

Shapes: E event, C channel (the strain first), N sample, f frequency.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from peers_home import Home, NotRun
from peers_home import Said as Made
from scipy.signal import welch

from glitchflow.analysis.evaluate.signals import draw
from glitchflow.config import Harm
from glitchflow.data.store import Dataset
from glitchflow.data.view import read_series, slides
from glitchflow.methods.method import Block, Removed
from glitchflow.score.power import in_band
from glitchflow.signal.types import Array, Indices

TRAIN, VALIDATION, FEW = (
    300,
    60,
    50,
)  # events: fitted to, tuned on, and of a filter that is fitted anew for each
TAPS = 128  # 0.25 s at 512 Hz: the longest that keeps the polynomial filter within minutes
MIDDLE = 4096  # samples of an event that a filter is applied to which is fitted anew for each: 8 s
STEPS = (0.003, 0.01, 0.03, 0.1, 0.3)  # of an adapting filter, as a share of the largest stable one
LENGTHS = (16, 32, 64, 128)  # taps of one that is fitted to 4 s: of many it makes what is not there
TRIED = 16  # events that these are tried on


@dataclass(frozen=True)
class White:
    """Divides series by amplitude spectral densities within a band, and multiplies by the strain's again."""

    frequency: Array  # (f,) Hz
    asd: Array  # (C, f), the strain's first
    rate: float  # Hz
    band: tuple[float, float]  # Hz

    def _response(self, samples: int) -> Array:
        """(C, f') by which spectra are divided; infinite outside of the band, whose edges are sharp."""
        at = np.fft.rfftfreq(samples, 1 / self.rate)
        inside = (self.band[0] <= at) & (at <= self.band[1])
        asd = np.stack([np.interp(at, self.frequency, one) for one in self.asd])
        return np.where(inside, asd * np.sqrt(self.rate / 2), np.inf)

    def whiten(self, series: Array) -> Array:
        """Series (E, C, N) of all channels in units of their noise: of the whole band a variance of 1 at most."""
        spectrum = np.fft.rfft(series, axis=-1) / self._response(series.shape[-1])
        return np.fft.irfft(spectrum, series.shape[-1])

    def colour(self, white: Array) -> Array:
        """Whitened series (E, N) in the strain's unit; what lies out of the band is 0."""
        response = self._response(white.shape[-1])[0]
        spectrum = np.fft.rfft(white, axis=-1) * np.where(np.isfinite(response), response, 0)
        return np.fft.irfft(spectrum, white.shape[-1])


def white_of(series: Array, rate: float, band: tuple[float, float], length: float = 2.0) -> White:
    """The median spectrum of each channel over quiet events (E, C, N), of segments of so many s."""
    frequency, power = welch(series, rate, nperseg=round(length * rate), average="median")
    return White(frequency, np.sqrt(np.median(power, axis=0)), rate, band)


@dataclass(frozen=True)
class Data:
    """A dataset, and which of its events are learned from, tuned on and scored."""

    dataset: Dataset
    witnesses: list[str]

    def events(self, split: str, most: int | None = None) -> Indices:
        """Ascending indices of quiet events and those that witnesses explain, of recorded data all, spread over a
        split."""
        some = self.dataset.indices(split)
        known = [self.dataset.labels.index(name) for name in self.dataset.witnessed_labels]
        if known:
            some = some[np.isin(self.dataset.events("label", some), [0, *known])]
        return some if most is None else spread(some, most)

    @property
    def learned(self) -> Indices:
        """Ascending indices of the events that filters are fitted to; of windows that slide over a stretch, as many as
        lie side by side with all of their series."""
        made, most = self.dataset.config, TRAIN
        if slides(self.dataset):
            seconds = len(self.events("train")) * made.qplot.span
            most = min(most, max(1, round(seconds / made.series.duration)))
        return self.events("train", most)

    @cached_property
    def white(self) -> White:
        """By which all series are whitened: of quiet train events, of recorded data any."""
        events = self.events("train", 4 * TRAIN)
        if not self.dataset.recorded:
            events = events[self.dataset.events("label", events) == 0]
        made = self.dataset.config
        length = made.whiten.fftlength or 2.0
        return white_of(self._read(spread(events, 64)), made.series.sample_rate, made.qplot.frange, length)

    def series(self, events: Indices) -> Array:
        """Whitened series (E, C, N), the strain first."""
        return self.white.whiten(self._read(events)).astype(np.float32)

    def _read(self, events: Indices) -> Array:
        return read_series(self.dataset, events, [self.dataset.channels[0], *self.witnesses])


def spread(events: Indices, most: int) -> Indices:
    """So many events at most, spread over all of them."""
    return events[np.linspace(0, len(events) - 1, min(most, len(events))).astype(int)]


@dataclass(frozen=True)
class Filter:
    """A filter of franc's: its class there, and how it is used here."""

    kind: str
    sees: bool  # the target, when it is applied
    derived: bool = False  # it is handed our derived channels beside the recorded ones
    few: bool = False  # it is applied to few events
    steps: tuple[float, ...] = (
        0.0,
    )  # and lengths, of which one is chosen on the validation split; 0: it has no step
    lengths: tuple[int, ...] = (TAPS,)

    def tries(self) -> list[tuple[int, float]]:
        """All lengths with all steps."""
        return list(itertools.product(self.lengths, self.steps))


FILTERS = {
    "franc WF": Filter("WienerFilter", sees=False),
    "franc WF, derived": Filter("WienerFilter", sees=False, derived=True),
    "franc LMS": Filter("LMSFilter", sees=True, steps=STEPS),
    "franc PolyLMS": Filter("PolynomialLMSFilter", sees=True, steps=STEPS),
    "franc UWF": Filter("UpdatingWienerFilter", sees=True, few=True, lengths=LENGTHS),
}


@dataclass(frozen=True)
class Said:
    """A peer's w' as a method: (E, N) of ascending events (E,), read back in any order."""

    events: Indices
    series: Array

    def removed(self, block: Block) -> Removed:
        """What the peer said of a block's events; nothing of those that it was not asked about."""
        place = np.minimum(np.searchsorted(self.events, block.events), len(self.events) - 1)
        known = self.events[place] == block.events
        return Removed(series=np.where(known[:, None], self.series[place], 0).astype(np.float64))


def franc(
    home: Home, filter: Filter, dataset: Dataset, witnesses: list[str], band: tuple[float, float]
) -> Made:
    """What a filter of some witnesses says of the test events, and about its minutes and what was chosen: of what it
    leaves in a band, Hz. Raises `NotRun`."""
    derived = {item.name for item in dataset.config.derived}
    data = Data(dataset, [name for name in witnesses if filter.derived or name not in derived])
    common = {"kind": filter.kind, "train": data.series(data.learned)}
    about: dict[str, float] = {}
    rate, centre = dataset.config.series.sample_rate, dataset.config.series.samples // 2
    half = min(MIDDLE // 2, centre)
    middle = slice(centre - half, centre + half) if filter.few else slice(None)

    def asked(events: Indices, tries: list[tuple[int, float]], about: dict[str, float], what: str) -> Array:
        series = data.series(events)[..., middle]
        taps, steps = zip(*tries)
        made, about[what] = home.ask("franc", common | {"apply": series, "taps": taps, "steps": steps})
        return made["said"]

    tries = filter.tries()
    if len(tries) > 1:
        known = data.events("validation", TRIED if filter.few else VALIDATION)
        said = asked(known, tries, about, "minutes of tuning")
        left, span = data.series(known)[:, 0, middle] - said, round(dataset.config.qplot.span * rate)
        tries = [tries[best_of(left, span, partial(in_band, rate=rate, band=band))]]
        about |= {name: value for name, value in zip(("taps", "step"), tries[0]) if value}
    events = data.events("test", FEW if filter.few else None)
    said = np.zeros((len(events), dataset.config.series.samples))
    said[:, middle] = asked(events, tries, about, "minutes")[0]
    return {"events": events, "series": data.white.colour(said), "about": np.array(json.dumps(about))}


def kept(home: Home, filter: Filter, data: Data, taps: int, step: float, harm: Harm) -> Made:
    """Which share (E,) of its SNR each of some signals keeps of which one is added to the target of a few test events:
    what a filter that sees the target says more for it, by the signal's own shape. Raises `NotRun`."""
    events, made = data.events("test", FEW), data.dataset.config.series
    white, rng = data.series(events), np.random.default_rng(data.dataset.config.seed)
    time = np.arange(made.samples) / made.sample_rate - made.duration / 2
    drawn = [draw(harm, rng) for _ in events]
    added = np.zeros(white.shape)
    added[:, 0] = [one.bank(time, harm.start, np.ones(1))[0] for one in drawn]
    added = data.white.whiten(added)
    added *= (np.array([one.snr for one in drawn]) / np.linalg.norm(added[:, 0], axis=-1))[:, None, None]
    train, apply = data.series(data.learned), np.concatenate([white, white + added])
    job = {"kind": filter.kind, "train": train, "apply": apply, "taps": [taps], "steps": [step]}
    without, heard = np.split(home.ask("franc", job)[0]["said"][0], 2)
    signal = added[:, 0]
    return {"kept": 1 - np.sum((heard - without) * signal, axis=-1) / np.sum(signal**2, axis=-1)}


def best_of(left: Array, span: int, cut: Callable[[Array], Array]) -> int:
    """The try of which least of the target (tries, E, N) is left over the middle `span` samples, cut to a band.

    The truth is not asked: nobody who tunes on recorded data has it. Raises `NotRun` where with every try all
    overflows.
    """
    first = (left.shape[-1] - span) // 2
    with np.errstate(over="ignore", invalid="ignore"):
        power = np.square(cut(left))[..., first : first + span].sum(axis=(1, 2))
    if not np.isfinite(power).any():
        raise NotRun("overflows with every step")
    return int(np.nanargmin(np.where(np.isfinite(power), power, np.nan)))
