"""A dataset with its predictions: what a gain mask removes from the strain of its events.

Shapes: E event, F frequency and T time of a Q-plot, N sample of an event's series.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glitchflow.analysis.evaluate.scored import open_predictions
from glitchflow.config import Experiment, parse, upgrade
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError
from glitchflow.score.mask import Shown, noise_in_strain
from glitchflow.signal.qtransform import QTransform, build_engine

Array = NDArray[np.float64]
PIECE = 2**18  # samples of strain worked on at once: the coefficients of all rows are ten times as many


@dataclass(frozen=True)
class Twin:
    """An open dataset and its predictions, the configuration of the dataset, and the engine that made its Q-plots."""

    dataset: store.Dataset
    predictions: store.Dataset
    made: Experiment
    engine: QTransform
    # the strain of the chunk that was read last: neighbours are asked for one after the other
    chunks: dict[int, Array] = field(default_factory=dict, repr=False, compare=False)

    @property
    def block(self) -> int:
        """Events to work on at once."""
        return max(1, PIECE // self.made.series.samples)

    @cached_property
    def fixed(self) -> Shown | None:
        """What every Q-plot shows, where that is the same for all events."""
        if "frequency" not in self.dataset:
            return None
        half = self.made.series.duration / 2
        return Shown(np.asarray(self.dataset["frequency"][:]), np.asarray(self.dataset["time"][:]) + half)

    def strain(self, event: int) -> Array:
        """The stored strain (N,) of an event."""
        number, inside = divmod(event, self.dataset.layout.chunk)
        if number not in self.chunks:
            self.chunks.clear()
            span = slice(event - inside, event - inside + self.dataset.layout.chunk)
            self.chunks[number] = np.asarray(self.dataset["series"][span, 0])
        return self.chunks[number][inside]

    def generated(self, events: NDArray[np.int64]) -> NDArray[np.float32]:
        """Energies (E, F, T) that the network generated for ascending events."""
        return np.concatenate([energy for _, (energy,) in self.predictions.blocks(events, "qplot")])

    def shown(self, event: int) -> Shown:
        """What an event's Q-plot shows, in s from the start of its series."""
        if self.fixed is not None:
            return self.fixed
        half, qplot = self.made.series.duration / 2, self.made.qplot
        first = {
            name: float(np.asarray(self.dataset[name][event])) for name in ("frequency0", "time0", "gps")
        }
        frequency = first["frequency0"] + qplot.fres * np.arange(qplot.shape[0])
        return Shown(frequency, first["time0"] - first["gps"] + half + qplot.tres * np.arange(qplot.shape[1]))


def open_twin(experiment: Experiment) -> Twin:
    """Raises `InputError` where a store is missing or unfinished, or the predictions are of another dataset."""
    dataset = store.open_store(experiment.dataset)
    return as_twin(dataset, open_predictions(experiment, dataset))


def as_twin(dataset: store.Dataset, predictions: store.Dataset) -> Twin:
    """The same for stores that are open. Raises `InputError` for a dataset that never had series."""
    made = parse(upgrade(dataset.attributes["config"]), dataset.path)
    if dataset.attributes["recorded"] and made.ingest.qplots_from:
        raise InputError(f"{dataset.path}: was made from ready Q-plots, which have no strain to clean")
    return Twin(dataset, predictions, made, build_engine(made.series, made.qplot, made.whiten))


def noise(twin: Twin, events: NDArray[np.int64], strain: Array, mask: NDArray[np.float32]) -> Array:
    """What masks (E, F, T) remove from the strain (E, N) of events, in units of strain: (E, N), before any taper."""
    found = np.zeros(strain.shape)
    for shown, q, some in _alike(twin, events):
        for first in range(0, len(some), twin.block):
            some_of = some[first : first + twin.block]
            busy = some_of[mask[some_of].any(axis=(1, 2))]
            if len(busy):
                found[busy] = noise_in_strain(twin.engine, strain[busy], mask[busy], shown, q)
    return found


def tapered(twin: Twin, events: NDArray[np.int64], strain: Array, mask: NDArray[np.float32]) -> Array:
    """`noise`, brought to 0 over half a whitening filter at each end of the window that is shown."""
    time = np.arange(strain.shape[1]) / twin.made.series.sample_rate
    found = noise(twin, events, strain, mask)
    for shown, _, some in _alike(twin, events):
        found[some] *= shown.taper(time, twin.made.whiten.settle)
    return found


def _alike(twin: Twin, events: NDArray[np.int64]) -> Iterator[tuple[Shown, float | None, NDArray[np.int64]]]:
    """Places among `events` whose Q-plots have the same axes and plane, with those."""
    if not len(events):
        return
    if twin.fixed is not None and len(twin.engine.planes) == 1:
        yield twin.fixed, None, np.arange(len(events))
        return
    for place, event in enumerate(events.tolist()):
        q = None
        if len(twin.engine.planes) > 1:
            q = float(np.asarray(twin.dataset["q"][event, 0]))
        yield twin.shown(event), q, np.array([place])
