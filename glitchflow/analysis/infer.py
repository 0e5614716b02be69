"""What a trained network says of a whole store's strain, from its witnesses, over Ray tasks: `predictions.zarr`.

Shards, resuming and checksums are those of generation. Needs a checkpoint and a store, nothing else: the store need
not be the one that the network was trained on. Which arrays are written, the kind of twin says; `untrained` is the
`qplot` of the same network before its training, `untrained_estimate` its series where it has some. Without
`infer.train` nothing is known of the train split: NaN.
"""

import hashlib
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.analysis.opened import BEFORE, TRAIN
from glitchflow.cluster import joins
from glitchflow.config import Experiment
from glitchflow.data.build import BASE_MEMORY, MIB, Job, run_tasks
from glitchflow.data.generate import sizes
from glitchflow.data.identity import identity
from glitchflow.data.memory import ENCODING, Memory, Shape
from glitchflow.data.provenance import provenance
from glitchflow.data.store import (
    SPLITS,
    Array,
    Dataset,
    Design,
    Fixed,
    Writer,
    open_store,
    write_shard,
)
from glitchflow.device import device
from glitchflow.errors import InputError
from glitchflow.methods.table import UNTRAINED
from glitchflow.progress import said_once, say
from glitchflow.train import checkpoint
from glitchflow.train.checkpoint import Checkpoint
from glitchflow.train.memory import LIBRARIES
from glitchflow.twin import kind as twins
from glitchflow.twin import kinds
from glitchflow.twin.called import PLAIN, Called, refuse_uncompiled
from glitchflow.twin.kind import Asking, Kind, Trained, together, working

About = dict[str, dict[str, Any]]  # of each network, by array of predictions

COPIED = ("gps", "label", "split", "frequency0", "time0")  # so that predictions can be read alone
ABOUT = {
    "channels",
    "normalisation",
    "dataset",
    "loudness",
}  # of the network, so that they can be scored alone
KERNELS = 48 * MIB  # what torch builds when it is first asked for a convolution; measured


@joins
def infer(experiment: Experiment, overwrite: bool = False) -> Path:
    """Write `workdir/predictions.zarr`; returns its path.

    More events than it has, of a dataset that was extended, extend it.
    Raises `InputError` where the store's channels or geometry are not those the network was trained on, or
    where predictions of another checkpoint or dataset, of a network called otherwise, or of fewer splits, are there
    already; and for a network that is to be compiled and is not.
    """
    path, dataset, train = experiment.predictions, open_store(experiment.dataset), experiment.infer.train
    networks, called = find_networks(experiment), Called(experiment.infer.precision, experiment.infer.compile)
    for network in networks.values():
        check_fit(network, dataset)
        check_called(network, called)
    about = {name: _about(network) | called.told for name, network in networks.items()}
    if not train and not len(dataset.indices("test")):
        raise InputError(
            f"infer.train = false: {dataset.path}: has no test split that could be scored without it"
        )
    design = partial(_design, dataset, networks, about, train)
    agrees = partial(_agrees, dataset, about, train)
    with Writer.begin(path, design, agrees, overwrite) as writer:
        if len(writer.dataset) < len(dataset):
            say(f"{path}: extended from {len(writer.dataset)} to {len(dataset)} events")
            writer.grow(len(dataset), {"config": dataset.attributes["config"]})
        if absent := design().arrays.keys() - set(writer.dataset.names):
            say(
                f"{path}: is of an earlier version, and has no {', '.join(sorted(absent))}: --overwrite adds it"
            )
        missing, batch = writer.missing(), experiment.infer.batch
        if missing:
            trained = networks["qplot"]
            say(f"generating from {trained.path.name} of {trained.meta.model['name']}")
        checkpoints = {name: str(network.path) for name, network in networks.items()}
        make = partial(predict_shard, dataset, writer.dataset, checkpoints, batch, called)
        needed = _memory(networks, dataset, batch, called.compile).total
        job = Job(make, "predictions", needed, accelerated=True, smaller="infer.batch")
        run_tasks(job, sizes(dataset.layout, missing), experiment.cluster, writer.check, said_once())
        if not writer.dataset.complete:
            writer.collect()
            writer.complete()
    return path


def predicting(
    kind: Kind, shape: Shape, channels: int, written: int, batch: int, compiled: bool = False
) -> Memory:
    """Project what a task holds that predicts a shard with a network of so many channels: what it reads, what is
    `written` of each event, and a batch at work."""
    numbers = shape.part(kind.array)
    one, events = 4 * numbers, min(together(kind, channels, numbers, batch), shape.shard)
    return Memory(
        {
            "Python and libraries": BASE_MEMORY,
            "torch's kernels": KERNELS,
            "torch's compiler": LIBRARIES * compiled,
            "what is read": shape.read(kind.array, channels),
            "what is written": one * shape.shard * written * kind.outputs,
            "its encoding": one * shape.shard * ENCODING,
            "a batch at work": events * working(kind, channels, numbers),
        }
    )


def find_networks(experiment: Experiment) -> dict[str, Checkpoint]:
    """The network asked for, and, where it is still there, the same run's before training; by array of predictions.

    Raises `InputError` where there is no such checkpoint, or one of a model that `model.name` does not name.
    """
    directory = Path(experiment.workdir) / "train" / "checkpoints"
    own = experiment.model.name
    trained = checkpoint.find(directory, experiment.infer.checkpoint, experiment.mlflow.uri).as_named(own)
    networks = {"qplot": Checkpoint(trained.path.absolute(), trained.meta)}  # Ray's workers stand elsewhere
    initial = networks["qplot"].path.with_name(checkpoint.INITIAL)
    if experiment.infer.untrained and initial.exists():
        networks[UNTRAINED] = checkpoint.open_checkpoint(initial).as_named(own)
    return networks


def check_fit(network: Checkpoint, dataset: Dataset) -> None:
    """Raises `InputError` naming the first channel or key of the geometry that differs."""
    wanted, there = network.meta.channels, dataset.channels
    for name in wanted:
        if name not in there:
            raise InputError(f"{dataset.path}: has no channel {name}, which {network.path} was trained on")
    if wanted[0] != there[0]:
        raise InputError(f"{dataset.path}: its strain is {there[0]}, that of {network.path} is {wanted[0]}")
    stored = network.kind.about(dataset, wanted)["geometry"]
    for section, values in network.meta.geometry.items():
        for key, value in values.items():
            if stored[section].get(key) != value:
                raise InputError(
                    f"{dataset.path}: {section}.{key} = {stored[section].get(key)}, but {network.path} was trained"
                    f" on {value}"
                )


def check_called(network: Checkpoint, called: Called) -> None:
    """Raises `InputError` where a network is to be compiled that says why it is not."""
    if called.compile:
        meta = network.meta
        made = kinds.network_of(network.kind, meta.model, network.normalisation, meta.shape)
        refuse_uncompiled("infer.compile", called.compile, made)


def predict_shard(
    dataset: Dataset,
    predictions: Dataset,
    checkpoints: dict[str, str],
    batch: int,
    called: Called,
    shard: int,
) -> str:
    """Generate and write one shard of predictions. Returns what is to be said of the precision here."""
    span = dataset.layout.span(shard)
    values: dict[str, NDArray] = {name: dataset[name][span] for name in COPIED if name in dataset}
    values["event"] = np.arange(span.start, span.stop)
    train = predictions.attributes.get(TRAIN, True)
    wanted = np.flatnonzero(train | (values["split"] != SPLITS.index("train")))
    if len(wanted):
        asked = [Asking(load_network(where, called)) for where in checkpoints.values()]
        parts = list(twins.infer(asked, dataset, values["event"][wanted], batch))
        for k, name in enumerate(checkpoints):
            some = parts[k :: len(checkpoints)]
            found = {array: np.concatenate([part[array] for part in some]) for array in some[0]}
            before = {own: found[array] for array, own in BEFORE.items() if array in found}
            values |= before if name == UNTRAINED else found
    write_shard(predictions, shard, _spread(predictions, values, wanted, len(values["event"])))
    return called.instead(device())


def _spread(
    predictions: Dataset, values: dict[str, NDArray], wanted: NDArray, events: int
) -> dict[str, NDArray]:
    """What is known of every event of a shard: of those that nothing was asked of, no number."""
    found = dict(values)
    for name, array in predictions.known.arrays.items():
        if array and not array.column and len(wanted) < events:
            found[name] = np.full((events, *array.shape), np.nan, array.dtype)
            if len(wanted):
                found[name][wanted] = values[name]
    return found


@lru_cache(maxsize=4)
def load_network(path: str, called: Called = PLAIN) -> Trained:
    """A checkpoint's network where this process computes, loaded once per process, and compiled once."""
    where = device()
    trained = checkpoint.open_checkpoint(Path(path)).trained(where)
    return replace(trained, network=called.network(trained.network, where))


def _memory(networks: dict[str, Checkpoint], dataset: Dataset, batch: int, compiled: bool) -> Memory:
    network, count = networks["qplot"], len(networks)
    shape, channels = Shape.stored(dataset), len(network.meta.channels)
    return predicting(network.kind, shape, channels, count, batch, compiled)


# -- the driver's part -------------------------------------------------------------------------------------------


def _design(dataset: Dataset, networks: dict[str, Checkpoint], about: About, train: bool) -> Design:
    arrays = networks["qplot"].kind.arrays(dataset)
    if UNTRAINED in networks:
        arrays |= {own: arrays[name] for name, own in BEFORE.items() if name in arrays}
    copied = {name: str(dataset[name].dtype) for name in COPIED if name in dataset} | {"event": "int64"}
    arrays |= {name: Array((), (), kind, column=True) for name, kind in copied.items()}
    axes: Fixed = {name: ((name,), dataset[name][:]) for name in ("frequency", "time") if name in dataset}
    attributes = {
        "source": "infer",
        TRAIN: train,
        "dataset": dataset.path,
        "dataset_identity": identity(dataset),
        "config": dataset.attributes["config"],
        "channels": dataset.channels[:1],
        "labels": dataset.labels,
        "checkpoints": about,
        "network": networks["qplot"].meta.model_dump(mode="json", include=ABOUT),
        "provenance": provenance(),
    }
    return Design(arrays, dataset.layout, attributes, axes)


def _about(network: Checkpoint) -> dict[str, Any]:
    """Which network it is, wherever it is moved to."""
    return {"path": str(network.path), "step": network.step, "weights": weights_of(network)}


def weights_of(network: Checkpoint) -> str:
    """The first digits of the SHA-256 of its weights."""
    return hashlib.sha256(network.content(checkpoint.WEIGHTS)).hexdigest()[:16]


def _agrees(dataset: Dataset, wanted: About, train: bool, found: Dataset) -> None:
    """Refuse predictions of another network or dataset, of one called otherwise, or of fewer splits."""
    if found.attributes.get("dataset_identity") != identity(dataset):
        raise InputError(
            f"{found.path}: holds predictions for another dataset ({found.attributes['dataset']}) than {dataset.path};"
            " choose another workdir or --overwrite it"
        )
    there = found.attributes["checkpoints"]
    weights = [{name: about["weights"] for name, about in some.items()} for some in (there, wanted)]
    if weights[0] != weights[1]:
        words = [", ".join(f"{name} of {a['path']}" for name, a in some.items()) for some in (there, wanted)]
        raise InputError(f"{found.path}: holds predictions of {words[0]}, not of {words[1]}; --overwrite it")
    before, now = (asdict(Called.known(about["qplot"])) for about in (there, wanted))
    for key, value in now.items():
        if before[key] != value:
            # True is true in a YAML
            changed = f"was begun with infer.{key} = {before[key]}, not {value}".lower()
            raise InputError(f"{found.path}: {changed}; --overwrite it or choose another workdir")
    if train > found.attributes.get(TRAIN, True):
        raise InputError(f"{found.path}: holds no train split (infer.train was false); --overwrite it")
