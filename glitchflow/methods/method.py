"""What every method is handed and what it hands back: `fit(train) -> fitted`, `fitted.removed(block) -> Removed`.

A method that works on images says which energies of the strain the witnesses explain, or which share of the strain to
take away; one that works on series says what it takes out, sample by sample. Of both, compare.py makes the same thing:
w', the series that is subtracted.

Shapes: E event, W witness, F frequency, T time, N sample, N' sample of the part that filters are fitted to. Energies
are in units of the noise's own median.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from glitchflow.data.store import Dataset
from glitchflow.data.view import read_series
from glitchflow.signal.qtransform import Seen
from glitchflow.signal.types import Array, Energies, Flags, Indices
from glitchflow.signal.wiener import CrossSpectra, cross_spectra
from glitchflow.twin.estimate import Shown

SEGMENT = (
    1.0  # s of a segment of spectra, and of a filter: resolves lines of 1 Hz, and a window holds some of them
)
EVENTS = (
    1024  # train events that spectra are summed over: more change a filter's taps by less than their error
)
BLOCK = 32  # events whose series are in memory at once

# what a network says of ascending event indices: energies (E, F, T) of the strain, or a series (E, N)
Read = Callable[[Indices], NDArray[np.float32]]


@dataclass(frozen=True)
class Series:
    """Points to the series of the train split, where the store kept them."""

    dataset: Dataset
    events: Indices  # ascending indices
    witnesses: list[str]  # those of a block, in its order
    recorded: list[int]  # places among them of those that are not derived from others

    @cached_property
    def spectra(self) -> CrossSpectra:
        """Cross spectra of all witnesses and the strain, over events spread over the split: added up once for every
        method that is fitted from them."""
        events = self.events[:: max(1, len(self.events) // EVENTS)][:EVENTS]
        length = 2 * round(SEGMENT * self.dataset.config.series.sample_rate / 2)
        return cross_spectra(self._stretches(events), length)

    def _stretches(self, events: Indices) -> Iterator[tuple[Array, Array]]:
        """Strain (E, N') and witnesses (E, W, N') of the part of the series that Q-plots show, and half a segment more:
        averaged over the long quiet rest, a filter would mostly learn the noise."""
        made, channels = self.dataset.config, [self.dataset.channels[0], *self.witnesses]
        span = made.qplot.span if made.qplot.window == "fixed" else made.series.duration
        half = round(min(span + SEGMENT, made.series.duration) * made.series.sample_rate / 2)
        middle = made.series.samples // 2
        for start in range(0, len(events), BLOCK):
            values = read_series(self.dataset, events[start : start + BLOCK], channels)
            yield values[:, 0, middle - half : middle + half], values[:, 1:, middle - half : middle + half]


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
