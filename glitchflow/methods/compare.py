"""The one loop over all methods: each is fitted to the train split, and says what it takes out of every event.

    train split of the training's store --fit--> fitted methods
    dataset, the events to score --a block at a time--> each method's `removed` --> Sample

Shapes: E event that is scored, W witness, F frequency, T time, N sample.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glitchflow.config.sections import Loader
from glitchflow.data.loader import choose_channels
from glitchflow.data.normalise import Normalisation, build_normalisation, loudness
from glitchflow.data.store.dataset import Dataset
from glitchflow.data.view import read_series
from glitchflow.errors import InputError
from glitchflow.methods.method import Array, Block, Read, Removed, Series, Train
from glitchflow.methods.table import METHODS
from glitchflow.progress import say
from glitchflow.score.sample import Sample
from glitchflow.score.table import Unit

FIT_EVENTS = 4096  # events that image methods are fitted to at most; their loss is flat beyond
BLOCK = 32  # events that methods see at once: a hundred channels' series of 16 s at 512 Hz are 210 MB then


@dataclass(frozen=True)
class Basis:
    """What a network was trained on: the channels it sees, the unit of its loss, and what it learned from."""

    channels: list[str]  # the strain, then its witnesses
    normalisation: Normalisation  # of these
    training: Dataset | None  # whose train split it learned from; None where that is not there any more
    loudness: list[list[float]] | None  # quantiles of each channel's loudness over that train split

    @property
    def strain(self) -> Normalisation:
        """The strain's normalisation alone."""
        return self.normalisation.channels([0])

    def images(self, dataset: Dataset, energy: Array) -> Array:
        """Q-plots (E, C, F, T) of a store as the network would take them: (E, 1 + W, F, T), the strain first."""
        chosen = energy[:, [dataset.channels.index(name) for name in self.channels]]
        self.normalisation.apply_in_place(chosen)
        return chosen


def basis_of(dataset: Dataset, loader: Loader) -> Basis:
    """What a network would be trained on here. Raises `InputError` where the train split is empty."""
    stored = dataset.normalisation
    if stored is None:
        raise InputError(f"{dataset.path}: its train split is empty, there is nothing to learn from")
    chosen = choose_channels(dataset.channels, loader.witnesses)
    normalisation = build_normalisation(loader.normalise, stored).channels(chosen)
    return Basis([dataset.channels[i] for i in chosen], normalisation, dataset, None)


@dataclass(frozen=True)
class Piece:
    """What the loop reads of some events: what methods may see, and what they are compared with."""

    block: Block
    recorded: Array  # (E, F, T) energies of the strain
    loudness: NDArray[np.float64]  # (E, W) of the witnesses
    witnessed: Array | None  # (E, F, T) the truth


def compare(
    dataset: Dataset,
    events: NDArray[np.int64],
    basis: Basis,
    unit: Unit,
    subset: int | None,
    predictions: Mapping[str, Read] | None = None,
) -> Sample:
    """What every method that can be made here does to some events, ascending indices.

    subset: events of the train split to learn from at most; predictions: what networks generated, by method.
    """
    train = train_of(basis, unit, subset, predictions or {})
    if not len(train.target):
        say("no train split to fit baselines to: the network is scored beside zero alone")
    there = facts(train, dataset)
    methods = {name: method for name, method in METHODS.items() if method.needs <= there}
    say(f"{', '.join(methods)}: fitted to the train split, applied to {len(events)} events")
    fitted = {name: method.fit(train) for name, method in methods.items()}
    pieces, removed = [], defaultdict[str, list[Removed]](list)
    for piece in _pieces(dataset, basis, events, "series" in there):
        whole = replace(piece.block, witnessed=piece.witnessed)
        for name, method in methods.items():
            removed[name].append(fitted[name].removed(whole if method.truth else piece.block))
        pieces.append(replace(piece, block=replace(piece.block, strain=None, witnesses=None)))
    left = {name: [part.left for part in parts if part.left is not None] for name, parts in removed.items()}
    return Sample(
        events=events,
        label=dataset.events("label", events),
        gps=dataset.events("gps", events),
        snr=dataset.events("snr", events),
        loudness=np.concatenate([piece.loudness for piece in pieces]),
        recorded=np.concatenate([piece.recorded for piece in pieces]),
        witnessed=_joined([piece.witnessed for piece in pieces if piece.witnessed is not None]),
        generated={name: np.concatenate([p.generated for p in parts]) for name, parts in removed.items()},
        residual={name: np.concatenate(parts) for name, parts in left.items() if parts},
    )


def _joined(parts: list[Array]) -> Array | None:
    return np.concatenate(parts) if parts else None


def train_of(basis: Basis, unit: Unit, subset: int | None, predictions: Mapping[str, Read]) -> Train:
    """The train split that the network learned from, at most its first `subset` events; empty where it is gone."""
    training, none = basis.training, np.empty((0, len(basis.channels), 1, 1), np.float32)
    if training is None or not len(training.indices("train")):
        return Train(none[:, 1:], none[:, 0], None, unit, predictions=predictions)
    events = training.indices("train")[:subset]
    some = events[:FIT_EVENTS]
    images = basis.images(training, training.events("qplot", some))
    witnessed = training.events("witnessed", some) if "witnessed" in training else None
    series = None
    if "series" in training:
        derived = {item.name for item in training.config.derived}
        names = basis.channels[1:]
        recorded = [place for place, name in enumerate(names) if name not in derived]
        series = Series(training, events, names, recorded)
    return Train(images[:, 1:], images[:, 0], witnessed, unit, series, predictions)


def facts(train: Train, dataset: Dataset) -> set[str]:
    """What there is for methods to be fitted to and applied to; see `Method.needs`."""
    there = {*train.predictions}
    there |= {"train"} if len(train.target) else set()
    there |= {"witnessed"} if train.witnessed is not None and "witnessed" in dataset else set()
    if train.series is not None and "series" in dataset:
        names, recorded = train.series.witnesses, train.series.recorded
        there |= {"series"} | ({"recorded"} if recorded else set())
        there |= {"derived"} if len(recorded) < len(names) else set()
    return there


def _pieces(dataset: Dataset, basis: Basis, events: NDArray[np.int64], series: bool) -> Iterator[Piece]:
    """The events, some at a time; with their series where a method needs them."""
    rate = dataset.config.series.sample_rate
    places = [dataset.channels.index(name) for name in basis.channels[1:]]
    names = ["gps", "qplot", *(name for name in ("witnessed", "valid") if name in dataset)]
    for start in range(0, len(events), BLOCK):
        some = events[start : start + BLOCK]
        read = {name: dataset.events(name, some) for name in names}
        energy = read["qplot"]
        values = read_series(dataset, some, basis.channels) if series else None
        valid = read["valid"][:, places] if "valid" in read else np.ones((len(some), len(places)), bool)
        yield Piece(
            Block(
                events=some,
                gps=read["gps"],
                images=basis.images(dataset, energy)[:, 1:],
                strain=None if values is None else values[:, 0],
                witnesses=None if values is None else values[:, 1:],
                valid=valid,
                rate=rate,
            ),
            recorded=np.maximum(energy[:, 0], 0),
            loudness=loudness(energy[:, places]),
            witnessed=read.get("witnessed"),
        )
