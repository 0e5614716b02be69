"""What a worker holds while it trains: data, network, optimiser, and where the run stands.

Where weights, normalisation and progress come from, in this order:
    1. the last checkpoint of this run: everything
    2. `train.init_from`: the weights, and the normalisation unless `train.init_normalisation = new`; of a kind that is
       trained upon another the weights of that one's network in it, and the rest as of nothing
    3. nothing: drawn from the seed, and what the kind finds in the train split; normalised with the store's statistics
"""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glitchflow import config
from glitchflow.data.fresh import check_recipe
from glitchflow.data.identity import known, recipe
from glitchflow.data.loader import Loader, build_loader, choose_channels
from glitchflow.data.normalise import Normalisation
from glitchflow.data.provenance import provenance
from glitchflow.data.store.dataset import Dataset
from glitchflow.device import arithmetic, computed
from glitchflow.errors import InputError, RunError
from glitchflow.train import checkpoint
from glitchflow.train.checkpoint import Checkpoint
from glitchflow.train.state import Progress
from glitchflow.train.workers import World
from glitchflow.twin import kinds
from glitchflow.twin.called import refuse_uncompiled
from glitchflow.twin.kind import Kind, Loss, Prepared

HIDDEN = 90.0  # s for which a network file system may hide from one node what another has written


@dataclass(frozen=True)
class Training:
    """What a training run reads: it goes to the workers, and sweeps and measurements make others of it."""

    dataset: str | Path
    seed: int
    loader: config.Loader
    model: config.Model
    train: config.Train
    recipe: str = ""  # `simulate.recipe`: what alone may be imported for events drawn anew

    def to_json(self) -> dict[str, Any]:
        """The sections as a checkpoint's meta.json holds them."""
        sections = {
            name: getattr(self, name).model_dump(mode="json") for name in ("loader", "model", "train")
        }
        return {"seed": self.seed, **sections}

    @property
    def model_settings(self) -> dict[str, Any]:
        """The network's section with the seed of its weights."""
        seed = self.seed if self.train.seed is None else self.train.seed
        return self.model.model_dump(mode="json") | {"seed": seed}

    @property
    def scaled(self) -> config.Train:
        """Its section with the learning rate of the batches that it makes: times k, or the root of k, where an
        optimiser step sees k times the events that the rate is meant for (Goyal et al., arXiv:1706.02677)."""
        own = self.train
        if own.lr_batch is None:
            return own
        more = self.loader.batch * own.accumulate / own.lr_batch
        return own.model_copy(update={"lr": own.lr * (more if own.lr_scaling == "linear" else more**0.5)})


def training_of(experiment: config.Experiment) -> Training:
    """The part of an experiment that training reads."""
    train, loader = experiment.train, experiment.loader
    loader = loader.model_copy(update={"lanes": loader.lanes_among(*train.range)})
    own = experiment.simulate.recipe
    return Training(experiment.dataset, experiment.seed, loader, experiment.model, train, own)


@dataclass
class Learner:
    """Everything a worker holds while it trains."""

    settings: config.Train
    kind: Kind
    model: nn.Module
    network: nn.Module  # the model as called: wrapped, compiled
    average: nn.Module  # what is validated and kept: the running mean of the model's weights, or the model
    validated: nn.Module  # the same as called: compiled, not wrapped
    loss: Loss
    optimizer: torch.optim.Optimizer
    train: Loader
    validation: Loader
    normalisation: Prepared  # of the strain and the witnesses
    world: World
    progress: Progress
    meta: dict[str, Any]  # what each checkpoint says
    directory: Path


def check(training: Training, dataset: Dataset, directory: Path) -> Progress:
    """Where the run in `directory` stands. Raises `InputError` for every mistake in the settings that a worker would
    find, without reading data into memory."""
    light = training.loader.model_copy(update={"cache_gb": 0, "cache_dir": None})
    return prepare(replace(training, loader=light), dataset, World(rank=-1), directory).progress


def prepare(training: Training, dataset: Dataset, world: World, directory: Path) -> Learner:
    """Build the network, and load the last checkpoint of `directory` where there is one."""
    settings, kind = _computed(training.scaled, world), kinds.of(training.model.name)
    channels = kind.channels(dataset, _chosen(training, dataset, alone=kind.draws))
    last = _last(directory / "checkpoints", world)
    first = checkpoint.open_checkpoint(Path(settings.init_from)) if settings.init_from and not last else None
    _fits(kind, training, (last, first), channels, dataset, directory)
    normalisation = _normalisation(kind, training, dataset, channels, (last, first))
    loss = kind.loss(settings.loss, normalisation)
    meta = _meta(kind, training, dataset, channels, normalisation, world)
    seed, dtype = meta["model"]["seed"], _arithmetic(settings, world.device)
    model = kinds.network_of(kind, meta["model"], normalisation, meta["shape"]).to(world.device, dtype)
    refuse_uncompiled("train.compile", settings.compile, model)
    _load(model, last or first, kind, partial(kind.start, model, normalisation, dataset), world)
    kind.finish(model, normalisation, settings.loss)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = deepcopy(model) if settings.ema else model
    optimizer = _optimizer(kind.groups(model), settings)
    progress = _resume(last, model, optimizer, world) if last else Progress()
    reads = kinds.reads(kind, dataset, normalisation, channels, seed, training.loader.drop)
    reads = kind.through(normalisation, model, reads)
    shuffled, validation = (  # once everything else is known to be right: it may fill the cache
        build_loader(dataset, split, training.loader, reads, seed, dtype, world.device, world)
        for split in ("train", "validation")
    )
    _same_order(progress, shuffled, world)
    network, validated = (_called(module, settings) for module in (world.wrap(model), average))
    if not last and settings.ema:  # rank 0's weights are everyone's now
        average.load_state_dict(model.state_dict())
    return Learner(
        settings=settings,
        kind=kind,
        model=model,
        network=network,
        average=average,
        validated=validated,
        loss=loss,
        optimizer=optimizer,
        train=shuffled,
        validation=validation,
        normalisation=normalisation,
        world=world,
        progress=progress,
        meta=meta,
        directory=directory,
    )


def _chosen(training: Training, dataset: Dataset, alone: bool) -> list[str]:
    """The strain and the witnesses that are asked for; `alone`: whether the strain is enough."""
    chosen = choose_channels(dataset.channels, training.loader.witnesses)
    if len(chosen) < 2 and not alone:
        raise InputError(
            f"{dataset.path}: has no witness beside {dataset.channels[0]}, which model.name = {training.model.name}"
            " predicts from; model.name=flow learns from the strain alone"
        )
    return [dataset.channels[i] for i in chosen]


def _computed(settings: config.Train, world: World) -> config.Train:
    """The settings, with float32 in place of a precision that the device has none of."""
    precision, reason = computed(settings.precision, world.device.type)
    if reason and world.rank == 0:
        world.say(f"train.precision = {settings.precision}: {reason}")
    return settings.model_copy(update={"precision": precision})


def _arithmetic(settings: config.Train, device: torch.device) -> torch.dtype:
    """The type of weights and data, with the precision of this process's products set."""
    if device.type == "cuda":
        arithmetic(settings.precision == "tf32", settings.autotune)
    return torch.float64 if settings.precision == "float64" else torch.float32


def _optimizer(groups: list[dict[str, Any]], settings: config.Train) -> torch.optim.Optimizer:
    made = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[settings.optimizer]
    return made(groups, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True)


def _resume(last: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer, world: World) -> Progress:
    """Where the run stood; gives the optimiser what it remembered, and the model its own weights where the checkpoint's
    are their running mean."""
    state = last.state(world.device)
    optimizer.load_state_dict(state["optimizer"])
    if "weights" in state:
        model.load_state_dict(state["weights"])
    return Progress.of_state(state["progress"])


def _same_order(progress: Progress, shuffled: Loader, world: World) -> None:
    """Begin an epoch again that another version's order began: from a place in it, this one's would show some events
    twice and some never."""
    if progress.order != shuffled.version and 0 < progress.batch < shuffled.steps:
        if world.rank == 0:
            world.say(
                f"epoch {progress.epoch + 1} was begun by another version of GlitchFlow, with another order of events:"
                f" it begins again, after step {progress.step}"
            )
        progress.begin_epoch()
    progress.order = shuffled.version


def _load(
    model: nn.Module, origin: Checkpoint | None, kind: Kind, start: Callable[[], None], world: World
) -> None:
    """The weights of a checkpoint; without one of the same kind what can be known before any step, found on rank 0: the
    others get its weights when the network is wrapped."""
    if origin and origin.meta.kind == kind.name:
        origin.load_into(model, world.device)
        return
    if origin:  # on every rank: what a loader reads goes through it
        named = "model.options.mean_width (its width), experts, sensors: not those"
        origin.load_into(model.mean, world.device, named)  # type: ignore[arg-type]
    if world.rank == 0:
        start()


def _meta(
    kind: Kind,
    training: Training,
    dataset: Dataset,
    channels: list[str],
    normalisation: Prepared,
    world: World,
) -> dict[str, Any]:
    """What every checkpoint of a run says of itself, step and metrics apart."""
    return {
        "kind": kind.name,
        "config": training.to_json(),
        "model": training.model_settings,
        "channels": channels,
        "shape": list(dataset[kind.array].shape[2:]),
        "normalisation": normalisation.to_json(),
        "dataset": known(dataset),
        "provenance": provenance(),
        **kind.about(dataset, channels),
        # which is read of events: once, by the one that writes checkpoints
        "levels": kind.levels(normalisation, dataset) if world.rank == 0 else None,
    }


def _called(module: nn.Module, settings: config.Train) -> nn.Module:
    """A module as it is called."""
    return torch.compile(module) if settings.compile else module  # type: ignore[return-value]


def _fits(
    kind: Kind,
    training: Training,
    origins: tuple[Checkpoint | None, Checkpoint | None],
    channels: list[str],
    dataset: Dataset,
    directory: Path,
) -> None:
    """Raises `InputError` where a run is to go on with other data or channels, to start from a network of another kind
    or size, or to run code that it does not name. `origins`: this run's last checkpoint, and the one to start from."""
    last, first = origins
    if training.loader.fresh:
        check_recipe(dataset, training.recipe)
    for found in filter(None, origins):
        found.as_named(training.model.name)
    if first:
        first.starts(kind, dataset)
    if last:
        now = recipe(dataset)
        if last.meta.dataset.get("recipe", now) != now:  # the first versions did not write it
            raise InputError(
                f"{directory}: was begun on another dataset than {dataset.path} is now; --overwrite it, choose"
                " another workdir, or fine-tune in one with train.init_from"
            )
        if last.meta.channels != channels:
            raise InputError(
                f"{directory}: was begun on channels {', '.join(last.meta.channels)}, the store now has"
                f" {', '.join(channels)}; --overwrite it or choose another workdir"
            )
    if first and len(first.meta.channels) != len(channels):
        raise InputError(
            f"train.init_from = {first.path}: its network takes {len(first.meta.channels) - 1}"
            f" witnesses ({', '.join(first.meta.channels[1:])}), here are {len(channels) - 1}"
            f" ({', '.join(channels[1:])}); see loader.witnesses"
        )


def _last(directory: Path, world: World) -> Checkpoint | None:
    """The newest checkpoint that rank 0 sees, on every worker: ranks that began from different ones would drift
    apart. Raises `RunError` where it does not come into sight here."""
    newest = [int(path.name.removeprefix("step-")) for path in checkpoint.by_step(directory)[-1:]]
    (step,), *_ = world.share(newest or [-1])  # of rank 0
    if step < 0:
        return None
    path, until = directory / checkpoint.name(int(step)), time.monotonic() + HIDDEN
    while not path.exists():
        if time.monotonic() > until:
            raise RunError(
                f"{path}: rank 0 sees this checkpoint, rank {world.rank} does not; is it on shared storage?"
            )
        time.sleep(0.2)
    return checkpoint.open_checkpoint(path)


def _normalisation(
    kind: Kind,
    training: Training,
    dataset: Dataset,
    channels: list[str],
    origins: tuple[Checkpoint | None, Checkpoint | None],
) -> Prepared:
    """The normalisation of these channels. A fine-tuned network's channels may have other names: they go by
    position. `origins`: the last checkpoint of this run, and the one to start from."""
    last, first = origins
    old, wanted = training.train.init_normalisation == "old", training.loader.normalise
    if kind.upon and not old:
        raise InputError(
            f"train.init_normalisation = new: a {kind.name} twin prepares data as its {kind.upon} one does; must be old"
        )
    before = last or (first if old and not kind.upon else None)
    if before is None:
        return kind.normalisation(dataset, wanted, channels, first.normalisation if first else None)
    if isinstance(before.normalisation, Normalisation) and before.normalisation.kind != wanted:
        raise InputError(
            f"loader.normalise = {wanted}: the network of {before.path} expects {before.normalisation.kind};"
            " set that, or train.init_normalisation=new"
        )
    return before.normalisation
