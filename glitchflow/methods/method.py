"""What every method is handed and what it hands back: `fit(train) -> fitted`, `fitted.removed(block) -> Removed`.

A method that works on images says which energies of the strain the witnesses explain, or which share of the strain to
take away; one that works on series says what it takes out, sample by sample. Of both, compare.py makes the same thing:
w', the series that is subtracted.

Shapes: E event, W witness, F frequency, T time, N sample, N' sample of the part that filters are fitted to. Energies
are in units of the noise's own median.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from glitchflow.config import QPlot
from glitchflow.config import Series as SeriesKeys
from glitchflow.data.store import Dataset
from glitchflow.data.view import read_series, slides
from glitchflow.signal.derive import band_limits
from glitchflow.signal.qtransform import Seen
from glitchflow.signal.recorded.recording import Recording
from glitchflow.signal.types import Array, Energies, Flags, Indices
from glitchflow.signal.wiener import CrossSpectra, cross_spectra, in_parts, inside_of, trimmed_spectra
from glitchflow.twin.estimate import Shown

EVENTS = (
    1024  # train events that spectra are summed over: more change a filter's taps by less than their error
)
TRIMMED_BYTES = 2**27  # of the spectra that a robust filter is fitted to
READ_BYTES = 2**25  # of the series that spectra are made of at once
ROLL = 0.8  # of its Nyquist frequency, from where on a decimation filter takes from a channel
BLOCK = 16  # events whose series, of all their length, are in memory at once with their segments and their spectra

# what a network says of ascending event indices: energies (E, F, T) of the strain, or a series (E, N)
Read = Callable[[Indices], NDArray[np.float32]]


@dataclass(frozen=True)
class Series:
    """Points to the series of the train split, where the store kept them."""

    dataset: Dataset
    events: Indices  # ascending indices
    witnesses: list[str]  # those of a block, in its order
    recorded: list[int]  # places among them of those that are not derived from others
    segment: float  # s of a segment of spectra, and of a filter

    def spectra(self, about: bool = False) -> Iterable[CrossSpectra]:
        """Return cross spectra of all witnesses and the strain in `qplot.frange`, over events spread over the split:
        added up once for every method that is fitted from them. Of hundreds of witnesses they are a GB: some
        frequencies at a time, and the series are read again for the next.

        about: of what Q-plots show alone and half a segment more at each end: for a mask, which keeps still by itself
        where nothing happens, and has to know glitches.
        """
        window = self._window(sliding=True) if about else self.window
        if window == self.window and len(self._parts) == 1:
            return [self._whole]
        return (cross_spectra(self.stretches(EVENTS, window), self.length, some) for some in self._parts)

    @cached_property
    def _whole(self) -> CrossSpectra:
        return cross_spectra(self.stretches(EVENTS), self.length, *self._parts)

    @property
    def _parts(self) -> list[slice]:
        """Frequencies of which spectra are added up at once."""
        made = self.dataset.config
        inside = inside_of(self.length, made.series.sample_rate, made.qplot.frange)
        return in_parts(inside, len(self.witnesses))

    @property
    def trimmed(self) -> Iterable[CrossSpectra]:
        """Cross spectra of the recorded witnesses and the strain, over that half of the time which a filter explains
        best; see `trimmed_spectra`."""
        made = self.dataset.config
        rate, band = made.series.sample_rate, made.qplot.frange
        kept = 16 * (1 + len(self.recorded)) * 2 * self.window * (band[1] - band[0])  # bytes of an event
        most = max(1, min(EVENTS, int(TRIMMED_BYTES / kept)))
        stretches = ((strain, witnesses[:, self.recorded]) for strain, witnesses in self.stretches(most))
        return trimmed_spectra(stretches, len(self.some(most)), self.length, rate, band)

    @property
    def highest(self) -> Array:
        """Return the frequency (W,) in Hz up to which each witness is whole: its own rate's, less the roll-off."""
        made, names = self.dataset.config, self.witnesses
        limits = band_limits(names, self.dataset.attributes.get("rates", {}), made.derived)
        return ROLL * (np.full(len(names), np.inf) if limits is None else limits)

    @property
    def length(self) -> int:
        """Count the samples of a segment: an even number of them."""
        return 2 * round(self.segment * self.dataset.config.series.sample_rate / 2)

    @property
    def window(self) -> float:
        """Return the s of an event's series that filters are fitted to; see `fitted_window`."""
        return self._window(slides(self.dataset))

    def _window(self, sliding: bool) -> float:
        made = self.dataset.config
        return fitted_window(made.series, made.qplot, self.segment, sliding)

    def some(self, most: int) -> Indices:
        """Choose so many events at most, spread over the split."""
        return self.events[:: max(1, len(self.events) // most)][:most]

    def stretches(self, most: int, window: float | None = None) -> Iterator[tuple[Array, Array]]:
        """Yield strain (E, N') and witnesses (E, W, N') of so many events at most, spread over the split: so many s in
        their middle, by default those that filters are fitted to."""
        events, window = self.some(most), window or self.window
        made, channels = self.dataset.config, [self.dataset.channels[0], *self.witnesses]
        half = round(window * made.series.sample_rate / 2)
        middle = made.series.samples // 2
        step = read_at_once(len(channels), made.series.samples)
        for start in range(0, len(events), step):
            values = read_series(self.dataset, events[start : start + step], channels)
            yield values[:, 0, middle - half : middle + half], values[:, 1:, middle - half : middle + half]


def fitted_window(series: SeriesKeys, qplot: QPlot, segment: float, sliding: bool) -> float:
    """Return the s of each event's series that filters are fitted to: all, for a filter is on all the time, and half of
    the few s about a glitch are the glitch.

    Of windows that slide over a stretch, what Q-plots show and half a segment more at each end: the rest is in others.
    """
    shown = qplot.span if sliding and qplot.window == "fixed" else series.duration
    return min(shown + segment, series.duration)


def read_at_once(channels: int, samples: int) -> int:
    """Count the events whose series filters are fitted to at once."""
    return int(np.clip(READ_BYTES // (8 * channels * samples), 1, BLOCK))


@dataclass(frozen=True)
class Train:
    """Holds the events that methods are fitted to: the first ones of the train split that witnesses explain or that
    nothing happened in (of recorded data all); none where there is no such split."""

    energies: Energies  # (E', W, F, T) of the witnesses, of the first E' of these events: as many as `linear` looks at
    target: Energies  # (E, F, T) of the strain
    floor: Array  # (F,) mean energy of the strain where nothing happened
    threshold: float  # clean.threshold: energy from which a pixel is subtracted
    series: Series | None = None
    predictions: Mapping[str, Read] = field(default_factory=dict)  # of networks, by method


@dataclass(frozen=True)
class Truth:
    """Holds what no real method can know: what the witnesses' disturbances put into the strain."""

    energies: Energies  # (E, F, T), of transients alone
    series: Array | None  # (E, N) of transients in the strain's unit; None where the store kept none
    label: Indices  # (E,) family of each event
    shared: Array | None = (
        None  # (E, N) of the stationary noise that witnesses share; None where there is none
    )


@dataclass(frozen=True)
class Block:
    """Holds some events as a method may see them."""

    events: Indices  # (E,) indices in the store
    gps: Array  # (E,) of the middle of the series, s
    energies: Energies  # (E, W, F, T) of the witnesses, at least 0
    strain: Array | None  # (E, N) in the strain's unit; None where the store kept no series
    witnesses: Array | None  # (E, W, N), each in its own unit
    valid: Flags  # (E, W): False where a witness was missing or dead, its image is 0 then
    rate: float  # Hz, of the series
    shown: list[Shown]  # what of the series Q-plots show
    seen: Seen | None = None  # how the transform saw the strain; None where the store kept no series
    truth: Truth | None = None  # handed to those methods alone that ask for it


@dataclass(frozen=True)
class Removed:
    """Says what a method takes out of the strain of some events: at least one of the three."""

    generated: Energies | None = None  # (E, F, T) energies of the strain that it expects
    mask: Energies | None = (
        None  # (E, F, T) share of the amplitude; None: 1 - sqrt(r / max(G, r)) of `generated`
    )
    series: Array | None = None  # (E, N) w' in the strain's unit; None: by the mask's exact inverse


class Fitted(Protocol):
    """Is what `fit` returns: a method that is ready for any event. It can be sent to another process."""

    def removed(self, block: Block) -> Removed:
        """Return what the method takes out of the strain of a block's events."""


@dataclass(frozen=True)
class Method:
    """Is a row of the table of methods."""

    fit: Callable[[Train], Fitted]
    needs: frozenset[str] = (
        frozenset()
    )  # of network, untrained, train, truth, series, recorded, derived, couplings
    blind: bool = False  # it looks at no witness
    truth: bool = False  # it is handed what no real method can know: no baseline, but a bound
    seeing: bool = True  # what it expects comes from witnesses alone: else it has no skill


@dataclass(frozen=True)
class Fit:
    """Holds methods that are fitted and ready, and what they share."""

    methods: dict[str, Method]
    fitted: dict[str, Fitted]
    witnesses: list[str]  # that they see
    floor: Array  # (F,) mean energy of the strain where nothing happened
    band: tuple[float, float]  # Hz, in which the power that is left of recorded data is measured
    # of each event the strain's witnessed and shared part, where frames have them and the store has not
    truth: Recording | None = None
