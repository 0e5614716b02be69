"""The training loop: one function for any number of workers, called by Ray Train, by a sweep, or bare.

    for every epoch: batches -> network -> loss -> optimiser; validation; metrics; checkpoint

A run that finds checkpoints goes on from the last one. On the same number of workers the result is bit for bit
that of a run that was never stopped: the loader's position, the optimiser and the sums of a half-finished epoch
are part of the checkpoint, and nothing here draws random numbers.

Shapes: B batch of a rank, W witness, F frequency, T time.
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

from glitchflow.config import Experiment, InputError
from glitchflow.config.schema import Train
from glitchflow.data.generate import provenance
from glitchflow.data.loader import Batch, Loader, build_loader
from glitchflow.data.normalise import build_normalisation
from glitchflow.data.store import open_store
from glitchflow.model import build_loss
from glitchflow.train import checkpoint
from glitchflow.train.tracking import Tracker

REPORT_EVERY = 10  # optimiser steps between lines of metrics.jsonl


@dataclass(frozen=True)
class World:
    """The workers of a run, as this one sees them; the default is a single process."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model  # DistributedDataParallel where size > 1
    add: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor  # sum over the workers
    report: Callable[[dict[str, Any]], None] = lambda metrics: None


@dataclass
class Progress:
    """Where a run stands; plain numbers, saved with every checkpoint."""

    step: int = 0  # optimiser steps done
    epoch: int = 0
    batch: int = 0  # batches of this epoch done
    halvings: int = 0  # of the learning rate, by the plateau schedule
    stale: int = 0  # epochs since the best validation loss
    best: float = math.inf
    loss_sum: float = 0.0  # of this epoch's batches, on this run's workers together
    samples: int = 0


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


def train(experiment: Experiment, world: World | None = None) -> dict[str, Any]:
    """Train as the experiment says, on this worker of `world`; returns the last epoch's metrics.

    Raises `InputError` for settings that do not fit the store or the model. A loss that is not finite ends the
    run with a `failed` entry in the metrics, the same on every worker.
    """
    run = prepare(experiment, world or World())
    tracker = Tracker(run.directory, run.progress.step) if run.world.rank == 0 else None
    metrics: dict[str, Any] = {}
    while run.progress.epoch < run.settings.epochs:
        started = time.monotonic()
        first = run.progress.batch
        failed = _train_epoch(run, tracker)
        if failed:
            metrics = {"failed": failed}
            if tracker:
                tracker.write("failed", run.progress.step, {"reason": failed})
            break
        seconds = time.monotonic() - started
        metrics = _finish_epoch(run, seconds, (run.train.steps - first) * run.train.batch)
        if tracker:
            tracker.write("epoch", run.progress.step, metrics)
            _save(run, metrics)
        run.world.report(metrics)
        if run.settings.early_stop and run.progress.stale >= run.settings.early_stop:
            break
    if tracker:
        tracker.close()
    return metrics


def prepare(experiment: Experiment, world: World) -> Run:
    """Open the store, build the model, and load the last checkpoint where there is one."""
    settings = experiment.train
    dataset = open_store(experiment.dataset)
    if dataset.attributes["normalisation"] is None:
        raise InputError(f"{dataset.path}: its train split is empty, there is nothing to learn from")
    normalisation = build_normalisation(experiment.loader.normalise, dataset.attributes["normalisation"])
    dtype = torch.float64 if settings.precision == "float64" else torch.float32
    shuffled, validation = (
        build_loader(dataset, split, experiment.loader, normalisation, experiment.seed, dtype)
        for split in ("train", "validation")
    )
    channels = [dataset.channels[i] for i in shuffled.channels]
    shape = (dataset["qplot"].shape[2], dataset["qplot"].shape[3])
    model_settings = experiment.model.model_dump(mode="json") | {"seed": experiment.seed}
    model = checkpoint.build_model(model_settings, len(channels) - 1, shape).to(world.device, dtype)
    directory = Path(experiment.workdir) / "train"
    if settings.init_from:
        model.load_state_dict(checkpoint.open_checkpoint(Path(settings.init_from)).weights(world.device))
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    meta = {
        "config": experiment.model_dump(mode="json"),
        "model": model_settings,
        "channels": channels,
        "shape": list(shape),
        "geometry": {key: dataset.attributes["config"][key] for key in ("series", "qplot")},
        "normalisation": shuffled.normalisation.to_json(),
        "provenance": provenance(),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    progress = _resume(directory, model, optimizer, world)
    network = world.wrap(model)
    if settings.compile:
        network = torch.compile(network)  # type: ignore[assignment]
    try:
        loss = build_loss(settings.loss)
    except ValueError as error:
        raise InputError(f"train.loss = {settings.loss}: {error}") from None
    run = Run(
        settings, model, network, loss, optimizer, shuffled, validation, world, progress, meta, directory
    )
    if world.rank == 0 and progress.step == 0:
        _save(run, {}, name="initial")
    return run


def _resume(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, world: World) -> Progress:
    steps = checkpoint.by_step(directory / "checkpoints")
    if not steps:
        return Progress()
    last = checkpoint.open_checkpoint(steps[-1])
    model.load_state_dict(last.weights(world.device))
    state = last.state(world.device)
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])


def _train_epoch(run: Run, tracker: Tracker | None) -> str:
    """Train to the end of the epoch; returns what went wrong if the loss stopped being finite."""
    settings, progress, world = run.settings, run.progress, run.world
    run.network.train()
    batches = run.train.epoch(progress.epoch, world.rank, world.size, start=progress.batch)
    while progress.batch < run.train.steps:
        group = min(settings.accumulate, run.train.steps - progress.batch)
        for values in run.optimizer.param_groups:
            values["lr"] = learning_rate(settings, progress, run.train.steps)
        run.optimizer.zero_grad(set_to_none=True)
        started, waited, loss_sum, events = time.monotonic(), 0.0, torch.zeros((), device=world.device), []
        for _ in range(group):
            asked = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - asked
            loss = _forward(run, batch)
            (loss / group).backward()
            loss_sum += loss.detach()
            events.append(batch.events)
        norm = float(nn.utils.clip_grad_norm_(run.model.parameters(), settings.clip or math.inf))
        progress.batch += group
        if not math.isfinite(norm):  # after DDP's averaging a bad loss on one worker shows on all of them
            where = ", ".join(str(i) for i in events[0][:8])
            last = checkpoint.by_step(run.directory / "checkpoints")
            return (
                f"the loss is not finite at step {progress.step + 1} (events {where}, ...);"
                f" last good checkpoint: {last[-1] if last else 'none'}"
            )
        run.optimizer.step()
        progress.step += 1
        total = float(world.add(loss_sum)) / world.size
        progress.loss_sum += total
        progress.samples += group * run.train.batch
        if tracker and progress.step % REPORT_EVERY == 0:
            seconds = time.monotonic() - started
            tracker.write(
                "step",
                progress.step,
                {
                    "epoch": progress.epoch,
                    "loss": total / group,
                    "lr": run.optimizer.param_groups[0]["lr"],
                    "gradient_norm": norm,
                    "samples_per_second": group * run.train.batch / seconds,
                    "waiting_for_data": waited / seconds,
                },
            )
        if settings.checkpoint_every and progress.step % settings.checkpoint_every == 0 and tracker:
            _save(run, {})
    return ""


def _forward(run: Run, batch: Batch) -> torch.Tensor:
    """The loss of a batch (scalar); autocast only covers the network, so that the loss stays in full precision."""
    layout = torch.channels_last if run.settings.channels_last else torch.contiguous_format
    inputs = batch.inputs.to(run.world.device, memory_format=layout, non_blocking=True)
    target = batch.target.to(run.world.device, non_blocking=True)
    mixed = run.settings.precision == "bfloat16"
    with torch.autocast(run.world.device.type, torch.bfloat16, enabled=mixed):
        generated = run.network(inputs)
    return run.loss(generated.to(target.dtype), target)


def learning_rate(settings: Train, progress: Progress, batches: int) -> float:
    """The rate of the step about to be made: a function of the run's progress alone."""
    steps = math.ceil(batches / settings.accumulate) * settings.epochs
    warm = min(1.0, (progress.step + 1) / settings.warmup) if settings.warmup else 1.0
    decay = {
        "constant": 1.0,
        "cosine": 0.5 * (1 + math.cos(math.pi * min(1.0, progress.step / max(1, steps)))),
        "plateau": 0.5**progress.halvings,
    }[settings.schedule]
    return settings.lr * warm * decay


def _finish_epoch(run: Run, seconds: float, samples: int) -> dict[str, float]:
    """Validate, move the progress to the next epoch, and return the epoch's metrics."""
    progress, settings = run.progress, run.settings
    validation = _validate(run)
    progress.stale = 0 if validation < progress.best else progress.stale + 1
    progress.best = min(progress.best, validation)
    if settings.schedule == "plateau" and progress.stale and progress.stale % settings.patience == 0:
        progress.halvings += 1
    metrics = {
        "epoch": progress.epoch,
        "loss": progress.loss_sum / run.train.steps,
        "validation_loss": validation,
        "lr": run.optimizer.param_groups[0]["lr"],
        "samples_per_second": samples / seconds,
    }
    progress.epoch, progress.batch, progress.loss_sum = progress.epoch + 1, 0, 0.0
    return metrics


@torch.no_grad()
def _validate(run: Run) -> float:
    """Mean loss over the validation split, every event counted once.

    The bare model, not the wrapped one: ranks may have one batch more or less than others.
    """
    run.model.eval()
    total = torch.zeros(2, dtype=torch.float64, device=run.world.device)
    network, run.network = run.network, run.model
    for batch in run.validation.once(run.train.batch, run.world.rank, run.world.size):
        count = len(batch.events)
        total += torch.tensor(
            [float(_forward(run, batch)) * count, count], dtype=torch.float64, device=total.device
        )
    run.network = network
    total = run.world.add(total)
    return float(total[0] / total[1])


def _save(run: Run, metrics: dict[str, float], name: str = "") -> None:
    """Write a checkpoint; with an epoch's metrics also note whether it is the best, and delete old ones."""
    directory = run.directory / "checkpoints"
    meta = run.meta | {"step": run.progress.step, "epoch": run.progress.epoch, "metrics": metrics}
    state = {"optimizer": run.optimizer.state_dict(), "progress": vars(run.progress)}
    path = checkpoint.save(directory, meta, run.model.state_dict(), state, name)
    if metrics and run.progress.stale == 0:
        checkpoint.mark_best(directory, path, metrics["validation_loss"])
    if not name:
        checkpoint.prune(directory, run.settings.keep)
