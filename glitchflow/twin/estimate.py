"""From a block's strain and generated energies to what is removed from it (w'), for cleaning and injections alike.

    generated energy G --spectral subtraction--> mask 1 - gain --linearly onto the tiles--> (1 - gain) c
    --exact inverse--> whitened series --divided by the whitening response within frange--> series in units of strain

Shapes: E event, M mask, F frequency and T time of a Q-plot, N sample, R rows of a group of tiles, n tiles of a row.
Units: times in s from the series' start, frequencies in Hz, energies dimensionless.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glitchflow.data.store.dataset import Dataset
from glitchflow.data.view import axes, strain_engine
from glitchflow.errors import InputError
from glitchflow.signal.qtransform import QTransform
from glitchflow.signal.qtransform.qplot import Coefficients
from glitchflow.signal.types import Array, Energies, Indices

PIECE = 2**18  # samples of strain worked on at once: the coefficients of all rows are ten times as many


@dataclass(frozen=True)
class Shown:
    """Says what a Q-plot shows of its series: frequencies (F,) and times (T,), the latter evenly spaced."""

    frequency: Array
    time: Array
    q: float | None = None  # of the plane that is shown, where the transform has several

    @property
    def start(self) -> float:
        """Return the beginning of the first column."""
        return float(self.time[0])

    @property
    def stop(self) -> float:
        """Return the end of the last column."""
        return float(2 * self.time[-1] - self.time[-2])

    def taper(self, time: Array, settle: float) -> Array:
        """Compute weights at `time` (N,): 1 inside the window, down to 0 over `settle` s beyond each end, then
        exactly 0."""
        beyond = np.maximum(np.maximum(self.start - time, time - self.stop), 0)
        outside = beyond / max(settle, 1e-9)  # of data that are not whitened nothing is spoiled
        return np.where(outside < 1, np.cos(np.pi / 2 * np.minimum(outside, 1)) ** 2, 0.0)


@dataclass(frozen=True)
class Estimator:
    """Knows how masks take something out of a dataset's strain: its Q-transform, and the time its whitening spoils."""

    engine: QTransform
    settle: float  # s, half of the whitening filter

    @property
    def block(self) -> int:
        """Count the events to work on at once."""
        return max(1, PIECE // self.engine.samples)

    def removed(self, strain: Array, mask: Energies, shown: Sequence[Shown]) -> Array:
        """Compute what masks (E, F, T) remove from the strain (E, N) of events, in its unit: (E, N), before any
        taper."""
        return self.removed_by_each(strain, mask[:, None], shown)[:, 0]

    def removed_by_each(self, strain: Array, masks: Energies, shown: Sequence[Shown]) -> Array:
        """Compute the same for several masks an event, (E, M, F, T), whose tiles are found once: (E, M, N)."""
        found = np.zeros((*masks.shape[:2], strain.shape[-1]))
        step = max(1, self.block // masks.shape[1])
        for some in _alike(shown):
            for first in range(0, len(some), step):
                part = some[first : first + step]
                busy = part[masks[part].any(axis=(1, 2, 3))]
                if len(busy):
                    found[busy] = noise_in_strain(self.engine, strain[busy], masks[busy], shown[busy[0]])
        return found

    def tapered(self, strain: Array, mask: Energies, shown: Sequence[Shown]) -> Array:
        """Compute the same as `removed`, brought to 0 over half a whitening filter at each end of the window."""
        return self.tapered_by_each(strain, mask[:, None], shown)[:, 0]

    def tapered_by_each(self, strain: Array, masks: Energies, shown: Sequence[Shown]) -> Array:
        """Compute the same as `removed_by_each`, tapered likewise."""
        time = np.arange(strain.shape[1]) / self.engine.sample_rate
        found = self.removed_by_each(strain, masks, shown)
        for some in _alike(shown):
            found[some] *= shown[some[0]].taper(time, self.settle)
        return found


def estimator_of(dataset: Dataset) -> Estimator:
    """Build what treats the strain of a dataset. Raises `InputError` for a dataset that never had series."""
    if dataset.recorded and dataset.config.ingest.qplots_from:
        raise InputError(f"{dataset.path}: was made from ready Q-plots, which have no strain to clean")
    return Estimator(strain_engine(dataset), dataset.config.whiten.settle)


def shown_of(dataset: Dataset, events: Indices) -> list[Shown]:
    """Say what each event's Q-plot shows, in s from the start of its series; one object where that is the same."""
    middle = dataset.config.series.duration / 2
    several = dataset.config.qplot.q is None
    planes = dataset.events("q", events)[:, 0].tolist() if several else [None] * len(events)
    known: dict[tuple[int, float | None], Shown] = {}
    found = []
    for event, q in zip(events.tolist(), planes):
        place = 0 if "frequency" in dataset else event  # a crop that moves with the event has axes of its own
        if (place, q) not in known:
            frequency, time = axes(dataset, event)
            known[place, q] = Shown(frequency, time + middle, q)
        found.append(known[place, q])
    return found


def _alike(shown: Sequence[Shown]) -> Iterator[NDArray[np.int64]]:
    """Places of the events whose Q-plots share one object: the same axes and plane."""
    kinds = np.array([id(one) for one in shown])
    for kind in dict.fromkeys(kinds.tolist()):
        yield np.flatnonzero(kinds == kind)


@torch.no_grad()
def noise_in_strain(engine: QTransform, strain: Array, masks: Energies, shown: Shown) -> Array:
    """Compute the parts of the strain (E, N) that masks (E, M, F, T) remove, in units of strain: (E, M, N) float64.

    They are spread a little beyond the window that is shown, by the tiles and by the whitening that is undone; taper
    them. For given data they are linear in the mask.
    """
    coefficients = engine.coefficients(strain[:, None], q=shown.q)
    return masked(engine, coefficients, on_tiles(masks, shown, coefficients, engine.duration))


@torch.no_grad()
def masked(engine: QTransform, coefficients: Coefficients, tiles: Sequence[Tensor]) -> Array:
    """Compute the series (E, M, N) in units of strain of coefficients of one channel, times weights on their tiles.

    tiles: (E, M, R, n) for each group of rows, as `on_tiles` makes them. For given filters the result is linear in the
    coefficients, hence in the series that they are of.
    """
    pairs = zip(coefficients.values, tiles, strict=True)
    white = engine.inverse(replace(coefficients, values=tuple(value * weight for value, weight in pairs)))
    if coefficients.filters is not None:
        white = coefficients.filters.undo(white, engine.frange)
    return white.numpy()


def on_tiles(masks: Energies, shown: Shown, coefficients: Coefficients, duration: float) -> list[Tensor]:
    """Bring masks (E, M, F, T) onto the tiles of coefficients of series of `duration` s: (E, M, R, n) a group."""
    groups = zip(coefficients.frequencies, coefficients.values, strict=True)
    given = torch.from_numpy(masks)
    return [_on_tiles(given, shown, rows, values.shape[-1], duration) for rows, values in groups]


def _on_tiles(masks: Tensor, shown: Shown, rows: Tensor, tiles: int, duration: float) -> Tensor:
    """Masks (E, M, F, T) at rows (R,) Hz of `tiles` tiles each, (E, M, R, n): linear in log frequency and time."""
    first, last = (int(np.ceil(edge / duration * tiles - 1e-9)) for edge in (shown.start, shown.stop))
    inside = np.arange(first, last) * (duration / tiles)
    lines = _weights(np.log(shown.frequency), np.log(rows.numpy())) @ masks
    found = masks.new_zeros(*masks.shape[:2], len(rows), tiles)
    found[..., first:last] = lines @ _weights(shown.time, inside).T
    return found


def _weights(known: Array, wanted: NDArray[np.floating[Any]]) -> Tensor:
    """(wanted, known): linear interpolation between ascending points, constant beyond both ends."""
    place = np.interp(wanted, known, np.arange(len(known)))
    below = np.minimum(place.astype(int), len(known) - 2)
    weights = np.zeros((len(wanted), len(known)), np.float32)
    weights[np.arange(len(wanted)), below] = 1 - (place - below)
    weights[np.arange(len(wanted)), below + 1] = place - below
    return torch.from_numpy(weights)
