"""What is scored: the energies of some events, and who generated what for them.

    dataset.zarr --the events of a split--> recorded, witnessed
    predictions.zarr ---------------------> network, untrained
    train split of the training's store --> baselines, oracle

Shapes: E event that is scored, W witness, F frequency, T time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.config import Experiment
from glitchflow.data.identity import identity
from glitchflow.data.loader import choose_channels
from glitchflow.data.normalise import Normalisation, build_normalisation, loudness
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError
from glitchflow.methods.baselines import BASELINES, fit
from glitchflow.progress import say
from glitchflow.score import clusters, metrics
from glitchflow.train import checkpoint

FIT_EVENTS = 4096  # events that baselines are fitted to at most; their loss is flat beyond
NETWORK, UNTRAINED = "network", "untrained"
READY = ("zero",)  # baselines that need no events to be fitted to

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Basis:
    """What a network was trained on: the channels it sees, the unit of its loss, and what it learned from."""

    channels: list[str]  # the strain, then its witnesses
    normalisation: Normalisation  # of these
    training: store.Dataset | None  # whose train split it learned from; None where that is not there any more
    loudness: list[list[float]] | None  # quantiles of each channel's loudness over that train split

    @property
    def strain(self) -> Normalisation:
        return self.normalisation.channels([0])


@dataclass(frozen=True)
class Sample:
    """The events that are scored."""

    events: NDArray[np.int64]  # (E,) indices in the store
    label: NDArray[np.int8]
    gps: NDArray[np.float64]
    snr: NDArray[np.float32]
    loudness: NDArray[np.float64]  # (E, W) of the witnesses that the network sees
    recorded: Array  # (E, F, T)
    witnessed: Array | None  # (E, F, T), synthetic data only
    generated: dict[str, Array]  # by the network (first), untrained, baselines, oracle
    residual: dict[str, Array] = field(
        default_factory=dict
    )  # of those that do not clean by spectral subtraction

    def cleaned(self, name: str) -> Array:
        """Energies (E, F, T) that are left of the recorded ones."""
        found = self.residual.get(name)
        return metrics.subtract(self.recorded, self.generated[name]) if found is None else found


# -- what to score -----------------------------------------------------------------------------------------------


def open_predictions(experiment: Experiment, dataset: store.Dataset) -> store.Dataset:
    """The predictions for a dataset. Raises `InputError` where they are for another one, or for fewer events."""
    predictions = store.open_store(experiment.predictions)
    made_for = predictions.attributes.get("dataset_identity", identity(dataset))
    if made_for != identity(dataset) or predictions.layout != dataset.layout:
        raise InputError(
            f"{predictions.path}: is of another dataset than {dataset.path}, or of fewer events; run `glitchflow infer`"
        )
    return predictions


def find_basis(
    experiment: Experiment, dataset: store.Dataset, predictions: store.Dataset | None = None
) -> Basis:
    """What the network of the predictions was trained on; without predictions, what one would be trained on here."""
    if predictions is None:
        stored = dataset.attributes["normalisation"]
        if stored is None:
            raise InputError(f"{dataset.path}: its train split is empty, there is nothing to learn from")
        chosen = choose_channels(dataset.channels, experiment.loader.witnesses)
        normalisation = build_normalisation(experiment.loader.normalise, stored).channels(chosen)
        return Basis([dataset.channels[i] for i in chosen], normalisation, dataset, None)
    about = (
        predictions.attributes.get("network") or checkpoint.open_checkpoint(network_path(predictions)).meta
    )
    training = _training_store(dataset, about.get("dataset"))
    normalisation = Normalisation(**about["normalisation"])
    return Basis(about["channels"], normalisation, training, about.get("loudness"))


def network_path(predictions: store.Dataset) -> Path:
    """The checkpoint that made the predictions, also where a run's workdir was moved."""
    path = Path(predictions.attributes["checkpoints"]["qplot"]["path"])
    moved = Path(predictions.path).parent / "train" / "checkpoints" / path.name
    return moved if moved.exists() and not path.exists() else path


def _training_store(dataset: store.Dataset, origin: dict[str, str] | None) -> store.Dataset | None:
    """The dataset itself where the network was trained on it, else the one it was trained on, if it is still there."""
    if origin is None or origin["identity"] == identity(dataset):
        return dataset
    try:
        other = store.open_store(origin["path"])
    except InputError:
        return None
    return other if identity(other) == origin["identity"] else None


def scored_events(experiment: Experiment, dataset: store.Dataset, basis: Basis) -> NDArray[np.int64]:
    """Ascending indices of the events to score.

    Raises `InputError` where there are none, and for a store that is to be scored whole and was trained on.
    """
    if experiment.evaluate.split == "all":
        if basis.training is not None and identity(basis.training) == identity(dataset):
            raise InputError(
                f"evaluate.split = all: {dataset.path} holds the events that the network was trained on;"
                " all is for a store of new data"
            )
        events = np.flatnonzero(np.asarray(dataset["split"][:]) != store.SKIPPED)
    else:
        events = dataset.indices("test")
    if not len(events):
        hint = (
            "; evaluate.split=all scores a store of new data whole"
            if experiment.evaluate.split == "test"
            else ""
        )
        raise InputError(f"{dataset.path}: its {experiment.evaluate.split} split is empty{hint}")
    return events[: experiment.loader.subset.test]


# -- collecting --------------------------------------------------------------------------------------------------


def collect(
    experiment: Experiment, dataset: store.Dataset, predictions: store.Dataset | None, basis: Basis
) -> Sample:
    """The events with their baselines, and with the network's predictions where there are any."""
    events = scored_events(experiment, dataset, basis)
    read = {name: read_events(dataset, name, events) for name in ("label", "gps", "snr", "qplot")}
    witnessed = read_events(dataset, "witnessed", events) if "witnessed" in dataset else None
    generated = {} if predictions is None else {NETWORK: read_events(predictions, "qplot", events)}
    if predictions is not None and UNTRAINED in predictions:
        generated[UNTRAINED] = read_events(predictions, UNTRAINED, events)
    witnesses = read["qplot"][:, [dataset.channels.index(name) for name in basis.channels[1:]]]
    images = normalised(dataset, basis, read["qplot"])
    generated |= dict(_baselines(experiment, basis, images, witnessed))
    recorded = np.maximum(read["qplot"][:, 0], 0)
    about = (read["label"], read["gps"], read["snr"], loudness(witnesses))
    return Sample(events, *about, recorded, witnessed, generated)


def read_events(dataset: store.Dataset, name: str, events: NDArray[np.int64]) -> NDArray:
    """An array of the store at ascending event indices."""
    return np.concatenate([values for _, (values,) in dataset.blocks(events, name)])


def normalised(dataset: store.Dataset, basis: Basis, energy: Array) -> Array:
    """Q-plots (E, C, F, T) of a store as the network would take them: (E, 1 + W, F, T), the strain first."""
    chosen = energy[:, [dataset.channels.index(name) for name in basis.channels]]
    basis.normalisation.apply_in_place(chosen)
    return chosen


def _baselines(
    experiment: Experiment, basis: Basis, images: Array, witnessed: Array | None
) -> Iterator[tuple[str, Array]]:
    """Energies (E, F, T) of each baseline, fitted on the train split to the loss of the training."""
    zero = float(basis.strain.apply(torch.zeros(1, 1, 1, 1)))
    values, known = _train_events(experiment, basis)
    if values is None:
        say("no train split to fit baselines to: the network is scored beside zero alone")
    for name in BASELINES if values is not None else READY:
        if name == "oracle" and (known is None or witnessed is None):
            continue
        learned = images[:1] if values is None else values
        baseline = fit(name, learned[:, 1:], learned[:, 0], loss_kind(experiment), known, zero)
        yield name, invert(basis.strain, baseline.predict(images[:, 1:], witnessed))


def _train_events(experiment: Experiment, basis: Basis) -> tuple[Array | None, Array | None]:
    """Normalised Q-plots (E, 1 + W, F, T) of the first events of the train split, and what of them is witnessed."""
    training = basis.training
    if training is None or not len(training.indices("train")):
        return None, None
    chosen = training.indices("train")[: experiment.loader.subset.train][:FIT_EVENTS]
    values = normalised(training, basis, read_events(training, "qplot", chosen))
    return values, read_events(training, "witnessed", chosen) if "witnessed" in training else None


# -- units -------------------------------------------------------------------------------------------------------


def loss_kind(experiment: Experiment) -> str:
    """What baselines are fitted to and everybody is scored by: the pixelwise part of the training's loss."""
    return "l2" if experiment.train.loss == "l2" else "l1"


def invert(strain: Normalisation, value: Array) -> Array:
    """Normalised values (E, F, T) of the strain to energies."""
    return strain.invert(torch.from_numpy(np.ascontiguousarray(value))[:, None])[:, 0].numpy()


def apply(strain: Normalisation, energy: Array) -> Array:
    """Energies (E, F, T) of the strain to normalised values."""
    return strain.apply(torch.from_numpy(energy)[:, None])[:, 0].numpy()


def pixel_areas(dataset: store.Dataset) -> NDArray[np.float64]:
    """Area in s Hz of the pixels of each row."""
    if "frequency" in dataset:
        return clusters.pixel_areas(np.asarray(dataset["frequency"][:]), np.asarray(dataset["time"][:]))
    qplot = dataset.attributes["config"]["qplot"]  # a crop at the loudest pixel: evenly spaced
    return np.full(dataset["qplot"].shape[2], qplot["fres"] * qplot["tres"])


def plain(value: Any) -> Any:
    """The same for JSON, which has no numpy numbers and no NaN: null instead. Six digits are enough."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if np.isfinite(value) else None
