"""The one loop over all methods: each is fitted to the train split, and says what it takes out of every event.

    train split of the training's store --fit--> fitted methods
    dataset, the events to score --a block at a time--> each method's `removed` --> Sample

Shapes: E event that is scored, W witness, F frequency, T time, N sample.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from glitchflow.config import Loader
from glitchflow.data.loader import choose_channels
from glitchflow.data.normalise import Normalisation, build_normalisation, loudness
from glitchflow.data.store import Dataset
from glitchflow.data.view import read_series
from glitchflow.errors import InputError
from glitchflow.methods.method import Block, Read, Series, Train
from glitchflow.methods.table import METHODS
from glitchflow.progress import say
from glitchflow.score.former_table import Unit
from glitchflow.score.sample import Sample
from glitchflow.signal.types import Energies, Indices

FIT_EVENTS = 4096  # events that image methods are fitted to at most; their loss is flat beyond
BLOCK = 32  # events that methods see at once: a hundred channels' series of 16 s at 512 Hz are 210 MB then


@dataclass(frozen=True)
class Basis:
    """Says what a network was trained on: the channels it sees, the unit of its loss, and what it learned from."""

    channels: list[str]  # the strain, then its witnesses
    normalisation: Normalisation  # of these
    training: Dataset | None  # whose train split it learned from; None where that is not there any more
    loudness: list[list[float]] | None  # quantiles of each channel's loudness over that train split

    @property
    def strain(self) -> Normalisation:
        """Return the strain's normalisation alone."""
        return self.normalisation.channels([0])

    def images(self, dataset: Dataset, energy: Energies) -> Energies:
        """Turn Q-plots (E, C, F, T) of a store into what the network takes: (E, 1 + W, F, T), the strain first."""
        chosen = energy[:, [dataset.channels.index(name) for name in self.channels]]
        self.normalisation.apply_in_place(chosen)
        return chosen


def basis_of(dataset: Dataset, loader: Loader) -> Basis:
    """Say what a network would be trained on here. Raises `InputError` where the train split is empty."""
    stored = dataset.normalisation
    if stored is None:
        raise InputError(f"{dataset.path}: its train split is empty, there is nothing to learn from")
    chosen = choose_channels(dataset.channels, loader.witnesses)
    normalisation = build_normalisation(loader.normalise, stored).channels(chosen)
    return Basis([dataset.channels[i] for i in chosen], normalisation, dataset, None)


def compare(
    dataset: Dataset,
    events: Indices,
    basis: Basis,
    unit: Unit,
    subset: int | None,
    predictions: Mapping[str, Read] | None = None,
) -> Sample:
    """Collect what every method that can be made here does to some events, ascending indices.

    subset: events of the train split to learn from at most; predictions: what networks generated, by method.
    """
    train = train_of(basis, unit, subset, predictions or {})
    if not len(train.target):
        say("no train split to fit baselines to: the network is scored beside zero alone")
    there = facts(train, dataset)
    methods = {name: method for name, method in METHODS.items() if method.needs <= there}
    say(f"{', '.join(methods)}: fitted to the train split, applied to {len(events)} events")
    fitted = {name: method.fit(train) for name, method in methods.items()}
    generated, left = defaultdict[str, list[Energies]](list), defaultdict[str, list[Energies]](list)
    recorded, loud = [], []
    witnesses = [dataset.channels.index(name) for name in basis.channels[1:]]
    for block, energy in _blocks(dataset, basis, events, "series" in there):
        recorded.append(np.maximum(energy[:, 0], 0))
        loud.append(loudness(energy[:, witnesses]))
        for name, method in methods.items():
            found = fitted[name].removed(block if method.truth else replace(block, witnessed=None))
            generated[name].append(found.generated)
            left[name] += [] if found.left is None else [found.left]
    about = {name: dataset.events(name, events) for name in ("label", "gps", "snr")}
    return Sample(
        events,
        **about,
        loudness=np.concatenate(loud),
        recorded=np.concatenate(recorded),
        witnessed=dataset.events("witnessed", events) if "witnessed" in dataset else None,
        generated={name: np.concatenate(parts) for name, parts in generated.items()},
        residual={name: np.concatenate(parts) for name, parts in left.items() if parts},
    )


def train_of(basis: Basis, unit: Unit, subset: int | None, predictions: Mapping[str, Read]) -> Train:
    """Read the train split that the network learned from, at most its first `subset` events; empty where it is gone."""
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
    """Name what there is for methods to be fitted to and applied to; see `Method.needs`."""
    series = train.series if "series" in dataset else None
    there = {
        "train": len(train.target) > 0,
        "witnessed": train.witnessed is not None and "witnessed" in dataset,
        "series": series is not None,
        "recorded": series is not None and len(series.recorded) > 0,
        "derived": series is not None and len(series.recorded) < len(series.witnesses),
    }
    return {*train.predictions, *(name for name, known in there.items() if known)}


def _blocks(
    dataset: Dataset, basis: Basis, events: Indices, series: bool
) -> Iterator[tuple[Block, Energies]]:
    """The events, some at a time, with their truth, and with their series where a method needs them; and the energies
    (E, C, F, T) of all channels."""
    places = [dataset.channels.index(name) for name in basis.channels[1:]]
    optional = [name for name in ("witnessed", "valid") if name in dataset]
    for start in range(0, len(events), BLOCK):
        some = events[start : start + BLOCK]
        read = {name: dataset.events(name, some) for name in ("gps", "qplot", *optional)}
        values = read_series(dataset, some, basis.channels) if series else None
        every = np.ones((len(some), len(dataset.channels)), bool)
        yield (
            Block(
                events=some,
                gps=read["gps"],
                images=basis.images(dataset, read["qplot"])[:, 1:],
                strain=None if values is None else values[:, 0],
                witnesses=None if values is None else values[:, 1:],
                valid=read.get("valid", every)[:, places],
                rate=dataset.config.series.sample_rate,
                witnessed=read.get("witnessed"),
            ),
            read["qplot"],
        )
