"""What a worker holds while it trains, made from the experiment: data, network, optimiser, and where the run stands.

Where weights, normalisation and progress come from, in this order:
    1. the last checkpoint of this run: everything
    2. `train.init_from`: the weights, and the normalisation unless `train.init_normalisation = new`
    3. nothing: drawn from the seed, normalised with the store's statistics
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glitchflow.config import Experiment
from glitchflow.config.sections import Train
from glitchflow.data.generate import provenance
from glitchflow.data.identity import identity, recipe
from glitchflow.data.loader import Loader, build_loader, choose_channels
from glitchflow.data.normalise import Normalisation, build_normalisation
from glitchflow.data.store.dataset import Dataset, open_store
from glitchflow.errors import InputError, RunError
from glitchflow.model import build_loss
from glitchflow.train import checkpoint
from glitchflow.train.checkpoint import Checkpoint
from glitchflow.train.workers import World

HIDDEN = 90.0  # s for which a network file system may hide from one node what another has written


@dataclass
class Progress:
    """Where a run stands; plain numbers, saved with every checkpoint."""

    step: int = 0  # optimiser steps done
    epoch: int = 0
    batch: int = 0  # batches of this epoch done
    halvings: int = 0  # of the learning rate, by the plateau schedule
    stale: int = 0  # epochs since the best validation loss
    best: float = math.inf
    sums: list[list[float]] = field(default_factory=list)  # of each worker, see `loop.Meter`

    def over(self, settings: Train) -> bool:
        """Whether there is nothing left to train."""
        return self.epoch >= settings.epochs or 0 < (settings.early_stop or 0) <= self.stale

    def mine(self, world: World) -> list[float]:
        """This worker's sums. Another number of workers than before: rank 0 takes them all, shared out evenly."""
        if len(self.sums) == world.size:
            return self.sums[max(0, world.rank)]
        if world.rank > 0 or not self.sums:
            return [0.0, 0.0, 0.0]
        return [sum(column) * world.size / len(self.sums) for column in zip(*self.sums)]


@dataclass
class Run:
    """Everything a worker holds while it trains."""

    settings: Train
    model: nn.Module
    network: nn.Module  # the model as called: wrapped, compiled
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    optimizer: torch.optim.Optimizer
    train: Loader
    validation: Loader
    world: World
    progress: Progress
    meta: dict[str, Any]
    directory: Path


def check(experiment: Experiment, directory: Path | None = None) -> Progress:
    """Where the run in `directory` stands. Raises `InputError` for every mistake in the settings that a worker would
    find, without reading data into memory."""
    light = experiment.loader.model_copy(update={"cache_gb": 0, "cache_dir": None})
    return prepare(experiment.model_copy(update={"loader": light}), World(rank=-1), directory).progress


def prepare(experiment: Experiment, world: World, directory: Path | None = None) -> Run:
    """Open the store, build the model, and load the last checkpoint of `directory` where there is one."""
    settings, dataset = experiment.train, open_store(experiment.dataset)
    directory = directory or Path(experiment.workdir) / "train"
    channels = [dataset.channels[i] for i in choose_channels(dataset.channels, experiment.loader.witnesses)]
    last, first = _origins(settings, directory, channels, dataset, world)
    normalisation = _normalisation(experiment, dataset, last, first)
    seed = experiment.seed if settings.seed is None else settings.seed
    dtype = torch.float64 if settings.precision == "float64" else torch.float32
    loss = _loss(settings.loss)
    shape = (dataset["qplot"].shape[2], dataset["qplot"].shape[3])
    model_settings = experiment.model.model_dump(mode="json") | {"seed": seed}
    model = checkpoint.build_model(model_settings, len(channels) - 1, shape).to(world.device, dtype)
    if last or first:
        _load_weights(model, last or first, world)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    shuffled, validation = (  # once everything else is known to be right: it may fill the cache
        build_loader(dataset, split, experiment.loader, normalisation, seed, dtype)
        for split in ("train", "validation")
    )
    known = dataset.attributes["normalisation"].get("loudness")
    meta = {
        "config": experiment.model_dump(mode="json"),
        "model": model_settings,
        "channels": channels,
        "shape": list(shape),
        "geometry": geometry(dataset, channels),
        "normalisation": shuffled.normalisation.to_json(),
        "dataset": {"path": dataset.path, "identity": identity(dataset), "recipe": recipe(dataset)},
        "loudness": [known[i] for i in shuffled.channels] if known else None,
        "provenance": provenance(),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    progress = Progress()
    if last:
        state = last.state(world.device)
        optimizer.load_state_dict(state["optimizer"])
        progress = Progress(**state["progress"])
    network = world.wrap(model)
    if settings.compile:
        network = torch.compile(network)  # type: ignore[assignment]
    return Run(
        settings, model, network, loss, optimizer, shuffled, validation, world, progress, meta, directory
    )


def geometry(dataset: Dataset, channels: list[str]) -> dict[str, Any]:
    """What the images of those channels are made with."""
    config = dataset.attributes["config"]
    derived = {one["name"]: one for one in config["derived"] if one["name"] in channels}
    return {"series": config["series"], "qplot": config["qplot"], "derived": derived}


def _origins(
    settings: Train, directory: Path, channels: list[str], dataset: Dataset, world: World
) -> tuple[Checkpoint | None, Checkpoint | None]:
    """The last checkpoint of this run, else the one to start from. Raises `InputError` where channels differ."""
    last = _last(directory / "checkpoints", world)
    if last:
        now = recipe(dataset)
        if last.meta["dataset"].get("recipe", now) != now:  # the first versions did not write it
            raise InputError(
                f"{directory}: was begun on another dataset than {dataset.path} is now; --overwrite it, choose"
                " another workdir, or fine-tune in one with train.init_from"
            )
        if last.meta["channels"] != channels:
            raise InputError(
                f"{directory}: was begun on channels {', '.join(last.meta['channels'])}, the store now has"
                f" {', '.join(channels)}; --overwrite it or choose another workdir"
            )
        return last, None
    if not settings.init_from:
        return None, None
    first = checkpoint.open_checkpoint(Path(settings.init_from))
    if len(first.meta["channels"]) != len(channels):
        raise InputError(
            f"train.init_from = {settings.init_from}: its network takes {len(first.meta['channels']) - 1}"
            f" witnesses ({', '.join(first.meta['channels'][1:])}), here are {len(channels) - 1}"
            f" ({', '.join(channels[1:])}); see loader.witnesses"
        )
    return None, first


def _last(directory: Path, world: World) -> Checkpoint | None:
    """The newest checkpoint that rank 0 sees, on every worker: ranks that began from different ones would drift
    apart. Raises `RunError` where it does not come into sight here."""
    newest = [int(path.name.removeprefix("step-")) for path in checkpoint.by_step(directory)[-1:]]
    step = int(world.gather(newest or [-1])[0][0])
    if step < 0:
        return None
    path, until = directory / checkpoint.name(step), time.monotonic() + HIDDEN
    while not path.exists():
        if time.monotonic() > until:
            raise RunError(
                f"{path}: rank 0 sees this checkpoint, rank {world.rank} does not; is it on shared storage?"
            )
        time.sleep(0.2)
    return checkpoint.open_checkpoint(path)


def _normalisation(
    experiment: Experiment, dataset: Dataset, last: Checkpoint | None, first: Checkpoint | None
) -> Normalisation:
    """Of all channels of the store. A fine-tuned network's channels may have other names: they go by position."""
    stored = dataset.attributes["normalisation"]
    if stored is None:
        raise InputError(f"{dataset.path}: its train split is empty, there is nothing to learn from")
    fresh, kind = build_normalisation(experiment.loader.normalise, stored), experiment.loader.normalise
    known = last or (first if experiment.train.init_normalisation == "old" else None)
    if known is None:
        return fresh
    old = known.normalisation
    if old.kind != kind:
        raise InputError(
            f"loader.normalise = {kind}: the network of {known.path} expects {old.kind};"
            " set that, or train.init_normalisation=new"
        )
    offset, scale = list(fresh.offset), list(fresh.scale)
    for i, channel in enumerate(choose_channels(dataset.channels, experiment.loader.witnesses)):
        offset[channel], scale[channel] = old.offset[i], old.scale[i]
    return Normalisation(old.kind, offset, scale)


def _load_weights(model: nn.Module, origin: Checkpoint | None, world: World) -> None:
    if origin is None:
        return
    try:
        model.load_state_dict(origin.weights(world.device))
    except RuntimeError:
        before = {k: v for k, v in origin.meta["model"].items() if k in ("name", "width", "norm", "options")}
        raise InputError(f"model: not that of {origin.path}, which is {before}") from None


def _loss(name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    try:
        return build_loss(name)
    except ValueError as error:
        raise InputError(f"train.loss = {name}: {error}") from None
