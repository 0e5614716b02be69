"""Generate the strain's Q-plots of a whole store from its witnesses, over Ray tasks, into `predictions.zarr`.

Shards, resuming and checksums are those of generation. Needs a checkpoint and a store, nothing else.

Shapes: B batch, C channel, W witness, F frequency, T time.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.cluster import device
from glitchflow.config import Experiment, InputError
from glitchflow.data import lease, store
from glitchflow.data.generate import provenance, run_shards
from glitchflow.progress import say
from glitchflow.train import checkpoint

COPIED = ("gps", "label", "split")  # of the events, so that predictions can be read alone


def infer(experiment: Experiment, overwrite: bool = False) -> Path:
    """Write `workdir/predictions.zarr`; returns its path.

    Raises `InputError` where the store's channels or geometry are not those the network was trained on, or
    where predictions of another checkpoint are there already.
    """
    path, dataset = experiment.predictions, store.open_store(experiment.dataset)
    directory = Path(experiment.workdir) / "train" / "checkpoints"
    trained = checkpoint.find(directory, experiment.infer.checkpoint)
    networks = {"qplot": trained}
    if experiment.infer.untrained:
        networks["untrained"] = checkpoint.find(directory, "initial")
    for network in networks.values():
        check_fit(network, dataset)
    if overwrite and store.exists(path):
        store.remove(path)
    identity = {name: {"path": str(n.path), "step": n.step} for name, n in networks.items()}
    if not store.exists(path):
        _create(path, dataset, trained, identity)
    found = store.open_store(path, complete=False).attributes["checkpoints"]
    if found != identity:
        raise InputError(f"{path}: holds predictions of {found}, not of {identity}; --overwrite it")
    missing = store.missing_shards(path)
    if missing:
        say(f"generating from {trained.path.name} of {trained.meta['model']['name']}")
        checkpoints = {name: str(network.path) for name, network in networks.items()}
        make = partial(predict_shard, str(experiment.dataset), str(path), checkpoints, experiment.infer.batch)
        with lease.hold(path) as check:
            run_shards(
                make, missing, dataset.layout, experiment.cluster, "predictions", check, accelerated=True
            )
    if not store.open_store(path, complete=False).attributes["complete"]:
        store.finalise(path, {})
    return path


def check_fit(network: checkpoint.Checkpoint, dataset: store.Dataset) -> None:
    """Raises `InputError` naming the first channel or key of the geometry that differs."""
    wanted, there = network.meta["channels"], dataset.channels
    for name in wanted:
        if name not in there:
            raise InputError(f"{dataset.path}: has no channel {name}, which {network.path} was trained on")
    if wanted[0] != there[0]:
        raise InputError(f"{dataset.path}: its strain is {there[0]}, that of {network.path} is {wanted[0]}")
    for section, values in network.meta["geometry"].items():
        stored = dataset.attributes["config"][section]
        for key, value in values.items():
            if stored[key] != value:
                raise InputError(
                    f"{dataset.path}: {section}.{key} = {stored[key]}, but {network.path} was trained on {value}"
                )


def predict_shard(dataset_path: str, path: str, checkpoints: dict[str, str], batch: int, shard: int) -> None:
    """Generate and write one shard of predictions."""
    dataset = store.open_store(dataset_path)
    span = dataset.layout.span(shard)
    values: dict[str, NDArray] = {name: np.asarray(dataset[name][span]) for name in COPIED}
    values["event"] = np.arange(span.start, span.stop)
    energy = np.asarray(dataset["qplot"][span])
    for name, where in checkpoints.items():
        values[name] = generate_energy(*_network(where), energy, dataset.channels, batch)
    store.write_shard(path, shard, values, {})


@torch.inference_mode()
def generate_energy(
    network: torch.nn.Module,
    trained: checkpoint.Checkpoint,
    energy: NDArray[np.float32],
    channels: list[str],
    batch: int,
) -> NDArray[np.float32]:
    """The strain's energies (event, F, T) that a network generates from Q-plots (event, C, F, T)."""
    columns = [channels.index(name) for name in trained.meta["channels"]]
    normalisation, strain = trained.normalisation, trained.normalisation.channels([0])
    parameter = next(network.parameters())
    parts = []
    for start in range(0, len(energy), batch):
        block = torch.from_numpy(energy[start : start + batch][:, columns]).to(
            parameter.device, parameter.dtype
        )
        parts.append(strain.invert(network(normalisation.apply(block)[:, 1:]))[:, 0].float().cpu())
    return torch.cat(parts).numpy()


@lru_cache(maxsize=4)
def _network(path: str) -> tuple[torch.nn.Module, checkpoint.Checkpoint]:
    trained = checkpoint.open_checkpoint(Path(path))
    return trained.network(device()), trained


def _create(
    path: Path, dataset: store.Dataset, trained: checkpoint.Checkpoint, identity: dict[str, Any]
) -> None:
    f, t = dataset["qplot"].shape[2:]
    arrays = {name: store.Array(("frequency", "time"), (f, t), "float32") for name in identity}
    arrays |= {name: store.Array((), (), str(dataset[name].dtype)) for name in COPIED}
    arrays["event"] = store.Array((), (), "int64")
    axes = {name: np.asarray(dataset[name][:]) for name in ("frequency", "time") if name in dataset}
    attributes = {
        "arrays": list(arrays),
        "source": "infer",
        "dataset": dataset.path,
        "config": dataset.attributes["config"],
        "channels": dataset.channels[:1],
        "labels": dataset.labels,
        "checkpoints": identity,
        "normalisation": trained.meta["normalisation"],
        "provenance": provenance(),
    }
    store.create(path, arrays, dataset.layout, axes, attributes)
