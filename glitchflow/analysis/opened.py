"""What a stage works on, opened once in the stage's own function, which hands its parts on.

    dataset.zarr      -> Opened.dataset
    predictions.zarr  -> Opened.predictions, Opened.generated
    the checkpoint that made them (its meta, which the predictions carry along) -> Opened.basis

Shapes: E event, F frequency, T time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from glitchflow.config import Experiment, Source
from glitchflow.data.identity import EARLIER, identity
from glitchflow.data.store import Dataset, open_store
from glitchflow.errors import InputError
from glitchflow.methods.coherent import Subtraction
from glitchflow.methods.compare import Basis
from glitchflow.methods.method import Read
from glitchflow.methods.table import NETWORK, UNTRAINED
from glitchflow.signal.types import Array, Indices
from glitchflow.train import checkpoint
from glitchflow.twin import generative, kinds
from glitchflow.twin.estimate import shown_of
from glitchflow.twin.front import Front

TRAIN = "train"  # attribute of predictions: whether the train split was asked for; at first it always was
ESTIMATE = "estimate"  # the array of predictions that only a kind that predicts series has
BEFORE = {  # what is stored of the same network before its training, by what is stored of it
    "qplot": UNTRAINED,
    ESTIMATE: f"{UNTRAINED}_{ESTIMATE}",
}


@dataclass(frozen=True)
class Opened:
    """Holds a dataset and the predictions for it."""

    dataset: Dataset
    predictions: Dataset
    beside: Mapping[str, Dataset] = field(default_factory=dict)  # other runs' predictions for it, by method
    own: str = ""  # `model.name`: the one network by an import path that may be built

    @property
    def generated(self) -> Mapping[str, Read]:
        """Give what networks generated, as functions of ascending event indices, by method."""
        names = {NETWORK: "qplot"} | ({UNTRAINED: UNTRAINED} if UNTRAINED in self.predictions else {})
        own = {method: partial(self.predictions.events, name) for method, name in names.items()}
        return own | {method: partial(other.events, "qplot") for method, other in self.beside.items()}

    @property
    def subtracts(self) -> bool:
        """Say whether the network predicts series, which are subtracted as they are: there is no mask of energies."""
        return ESTIMATE in self.predictions

    @property
    def methods(self) -> Mapping[str, Read | Subtraction]:
        """Give what networks are as methods: what they generated is read, an estimated series is subtracted."""
        stores = {NETWORK: self.predictions, **self.beside}
        series = {method: other for method, other in stores.items() if ESTIMATE in other}
        found = {**self.generated} | {method: _subtraction(other) for method, other in series.items()}
        if self.subtracts:  # before its training it subtracted as well: its Q-plot alone would be a mask
            found.pop(UNTRAINED, None)
            if BEFORE[ESTIMATE] in self.predictions:
                found[UNTRAINED] = _subtraction(self.predictions, BEFORE[ESTIMATE])
        return found

    @property
    def network(self) -> Path:
        """Find the checkpoint that made the predictions, also where a run's workdir was moved."""
        return _checkpoint(self.predictions)

    @property
    def networks(self) -> dict[str, Path]:
        """Find the same of every network of which there are predictions, by method."""
        return {
            name: _checkpoint(found) for name, found in {NETWORK: self.predictions, **self.beside}.items()
        }

    @cached_property
    def basis(self) -> Basis:
        """Find what the network of the predictions was trained on. Raises `InputError` where nothing tells of it."""
        known = self.predictions.attributes.get("network")  # the first versions' predictions do not say
        known = known or checkpoint.open_checkpoint(self.network).meta.model_dump(mode="json")
        training = origin_of(self.dataset, known.get("dataset"))
        return Basis(known["channels"], training, known.get("loudness"))


def open_run(experiment: Experiment, beside: Sequence[str] = ()) -> Opened:
    """Open a run's dataset and predictions, and those that other runs' directories `beside` it have for this dataset.

    Raises `InputError` where one is missing, unfinished or does not fit, or is of a model of somebody's own that
    `model.name` does not name.
    """
    own = experiment.model.name
    if kinds.of(own).draws:
        generative.refuse()
    dataset = open_store(experiment.dataset)
    predictions = open_predictions(experiment.predictions, dataset)
    run = Opened(dataset, predictions, open_beside(beside, dataset), own)
    if run.network.exists():  # else it is asked nothing
        checkpoint.open_checkpoint(run.network).as_named(own)
    return run


def open_beside(directories: Sequence[str], dataset: Dataset) -> dict[str, Dataset]:
    """Open other runs' predictions for a dataset, by method: `network:NAME` of a directory's name.

    Where names are the same, as much of the paths before them is taken as tells them apart. Raises `InputError` where
    there are no predictions for this dataset, and says how to make them.
    """
    paths = list(dict.fromkeys(Path(directory).absolute() for directory in directories))
    depth = next((n for n in range(1, 99) if len({path.parts[-n:] for path in paths}) == len(paths)), 1)
    found = {}
    for path in paths:
        try:
            predictions = open_predictions(path / "predictions.zarr", dataset)
        except InputError:
            raise InputError(
                f"evaluate.beside: {path}: has no predictions of {dataset.path}; `glitchflow infer CONFIG"
                f" infer.checkpoint={path} store.path={dataset.path} workdir=NEW` makes them, NEW goes here then"
            ) from None
        found[f"{NETWORK}:{'/'.join(path.parts[-depth:])}"] = predictions
    return found


def open_predictions(path: Path, dataset: Dataset) -> Dataset:
    """Open the predictions for a dataset. Raises `InputError` where they are for another one, or for fewer events."""
    predictions = open_store(path, maker="`glitchflow infer`")
    made_for = predictions.attributes.get("dataset_identity", identity(dataset))
    if made_for != identity(dataset) or predictions.layout != dataset.layout:
        raise InputError(
            f"{predictions.path}: is of another dataset than {dataset.path}, or of fewer events; run `glitchflow infer`"
        )
    return predictions


def check_whole(predictions: Dataset, asked: str, instead: str = "") -> None:
    """Raise `InputError`, which begins with what was `asked`, where predictions leave the train split out.

    instead: what also ends the line, that could be done with these predictions.
    """
    if not predictions.attributes.get(TRAIN, True):
        raise InputError(
            f"{asked}: {predictions.path} was made with infer.train=false; `glitchflow infer CONFIG infer.train=true"
            f" --overwrite` makes it whole{instead}"
        )


def _checkpoint(predictions: Dataset) -> Path:
    """Where the network of predictions is."""
    path = Path(predictions.attributes["checkpoints"]["qplot"]["path"])
    moved = Path(predictions.path).parent / "train" / "checkpoints" / path.name
    return moved if moved.exists() and not path.exists() else path


def _subtraction(predictions: Dataset, estimate: str = ESTIMATE) -> Subtraction:
    """A coherent network of which there are predictions, as a method. Its front was settled before its training."""
    network = predictions.attributes["network"]
    front = TypeAdapter(Front).validate_python(network["normalisation"])
    return Subtraction(partial(predictions.events, estimate), front, network["channels"][1:])


def origin_of(dataset: Dataset, origin: dict[str, str] | None) -> Dataset | None:
    """Find the dataset that a network was trained on: this one, or another that is still there.

    Raises `InputError` where it was this one with other splits.
    """
    if not origin or origin["identity"] == identity(dataset):
        return dataset
    if origin["identity"] in dataset.attributes.get(EARLIER, []):
        raise InputError(
            f"{dataset.path}: its splits were assigned anew since the network was trained on it, which may have learned"
            " from what is the test now; train again"
        )
    try:
        other = open_store(origin["path"])
    except InputError:
        return None
    return other if identity(other) == origin["identity"] else None


@dataclass(frozen=True)
class Windows:
    """Holds events by the time their Q-plots begin; all (E,), times in GPS s."""

    events: Indices
    series: Array  # where the event's series begins
    start: Array  # where its Q-plot begins
    stop: Array

    @cached_property
    def longest(self) -> float:
        """Return the s that the longest Q-plot shows."""
        return float((self.stop - self.start).max())

    def near(self, start: float, stop: float) -> Indices:
        """Return the places of those whose series may reach into a time, by ascending event."""
        reach = self.start - self.series  # on either side
        some = np.flatnonzero((self.start - reach < stop) & (self.stop + reach > start))
        return some[np.argsort(self.events[some])]


def windows_of(dataset: Dataset, events: Indices) -> Windows:
    """Find the times of ascending events."""
    series = dataset.events("gps", events) - dataset.config.series.duration / 2
    start, stop = np.array([[shown.start, shown.stop] for shown in shown_of(dataset, events)]).T + series
    order = np.argsort(start, kind="stable")
    return Windows(events[order], series[order], start[order], stop[order])


def strain_source(dataset: Dataset, channels: Sequence[Source]) -> Source | None:
    """Find where a dataset's strain was recorded, as `sources_of` does; None for synthetic events."""
    return sources_of(dataset, channels, dataset.channels[:1])[0] if dataset.recorded else None


def sources_of(dataset: Dataset, channels: Sequence[Source], names: Sequence[str]) -> list[Source]:
    """Find where channels of a dataset were recorded: as the configuration (its `channels`) says now, for files may
    have moved, or else as the store says. Raises `InputError` where nothing names one."""
    known = {source.name: source for source in (*dataset.config.ingest.channels, *channels)}
    for name in names:
        if name not in known:
            what = "the strain" if name == dataset.channels[0] else "a channel"
            raise InputError(f"ingest.channels: does not name {name}, {what} of {dataset.path}")
    return [known[name] for name in names]
