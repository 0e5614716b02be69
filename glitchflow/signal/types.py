"""What passes through signal processing and all after it: arrays by name, an event, where events come from.

Shapes: C channel (the strain first), N sample, F frequency, T time.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]  # series, spectra, times and everything computed from them
Energies = NDArray[np.float32]  # Q-plots, as a store holds them
Spectrum = NDArray[np.complex128]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]  # of events in a store, of channels, of pixels

# `map`, or what shares the work out: a function over lots, and what it makes of each
Over = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]

NOISE_ENERGY = float(1 / np.log(2))  # mean energy b of Gaussian noise, exponential with median 1


@dataclass(frozen=True)
class Transient:
    """One transient in an event's strain: a row of a store's table of them."""

    label: int  # index into Recipe.labels
    gps: float  # GPS time of its centre, s
    snr: float  # matched-filter SNR in the strain
    witnessed: bool  # whether a witness sees it


@dataclass(frozen=True)
class Event:
    """Holds one event, simulated or recorded: what its channels say, and what is known about it."""

    series: Array  # (C, N): the strain in units of strain, a witness in its own unit
    witnessed: Array | None  # (N,): the part of the strain that witnesses explain; None where nobody knows
    label: int  # index into Recipe.labels; 0 is background
    gps: float  # GPS time of the centre of the series, s
    snr: float  # matched-filter SNR of the transient in the strain; 0 for background, NaN where nobody knows
    energy: Energies | None = None  # (C, F, T) where Q-plots are all there is; series is then empty
    skipped: str = ""  # why a recorded event cannot be used; series is then all zeros
    transient: Array | None = None  # (N,): all that the transient adds to the strain, where the recipe knows
    transients: tuple[Transient, ...] = ()  # those in the strain, where the recipe knows
    valid: Flags | None = None  # (C,): False where a channel had no data; None: all had
    shared: Array | None = None  # (N,): stationary noise in the strain that witnesses share; None: none


@dataclass(frozen=True)
class Recipe:
    """Says where events come from: `event(index)` is a pure function of the index."""

    events: int
    channels: list[str]  # the strain first, then recorded witnesses, then derived channels
    labels: list[str]  # families; the first is background
    witnessed: list[str]  # the labels whose strain a witness explains; none in recorded data
    couplings: dict[str, Any]  # drawn once per dataset; JSON
    event: Callable[[int], Event]
    split_key: Callable[[int], int]  # events with the same key share a split
    recorded: bool = False  # recorded events share a split with their neighbours in time
    times: Array | None = None  # (E,) GPS s of recorded events, where they are known without making them
    notes: dict[str, Any] = field(default_factory=dict)  # kept in the store beside the arrays; JSON
    label: Callable[[int], int] | None = (
        None  # an event's label, where that is known without making the event
    )
    # kept among the store's attributes; JSON. `rates`: Hz that channels were recorded at, where below the series'
    attributes: dict[str, Any] = field(default_factory=dict)
    shared: bool = False  # whether events have noise that strain and witnesses share
    is_read: Callable[[], bool] = bool  # whether all events can be made of what was read from files already
