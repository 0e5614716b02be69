"""The training loop: one function for any number of workers, called by Ray Train, by a sweep, or bare.

    for every epoch: batches -> network -> loss -> optimiser; validation; metrics; checkpoint

A run that finds checkpoints goes on from the last one. On the same number of workers the result is bit for bit
that of a run that was never stopped: the loader's position, the optimiser and the sums of a half-finished epoch
are part of the checkpoint, and random numbers (of a network with dropout) follow from the step.

A step only launches work. Every few steps the workers meet (`_meet`): they look at the device, add up losses, and
agree whether to write a checkpoint or to stop, so that no worker is ever left alone in a collective.

Shapes: B batch of a rank, W witness, F frequency, T time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from glitchflow.config import Experiment
from glitchflow.config.sections import Train, every
from glitchflow.data.loader import Batch
from glitchflow.train import checkpoint
from glitchflow.train.setup import Progress, Run, prepare
from glitchflow.train.tracking import Tracker
from glitchflow.train.validate import samples, validate
from glitchflow.train.workers import World, apart

REPORT_EVERY = 10  # optimiser steps between lines of metrics.jsonl
STRIDE = 0x9E3779B1  # between the seeds of steps, for networks with dropout: a resumed run draws the same
NAMED = 8  # events of a worker that are named where the loss is not finite
MEET_EVERY = 0.5  # seconds between meetings, where a step takes less; at least one every REPORT_EVERY steps

__all__ = ["Progress", "Run", "World", "learning_rate", "prepare", "train"]


@dataclass
class Clock:
    """A stretch of training: when it began, the seconds waited for data since, the steps and batches done."""

    since: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    steps: int = 0
    batches: int = 0

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.since, 1e-9)


@dataclass
class Meter:
    """What a worker counts between meetings, and when the next one is."""

    sums: torch.Tensor  # (3,) float64: losses of the epoch, losses and batches since the last line of metrics
    norms: list[torch.Tensor] = field(
        default_factory=list
    )  # of the gradient, of each step since the last meeting
    batches: list[tuple[int, torch.Tensor, NDArray]] = field(
        default_factory=list
    )  # step, loss and events of each batch of this worker in those steps
    window: Clock = field(default_factory=Clock)  # since the last line of metrics or checkpoint
    epoch: Clock = field(default_factory=Clock)
    saved: float = field(default_factory=time.monotonic)
    meet_at: int = 0  # step


def train(
    experiment: Experiment, world: World | None = None, directory: Path | None = None
) -> dict[str, Any]:
    """Train as the experiment says, on this worker of `world`, under `directory` (default: `workdir/train`).

    Returns the last epoch's metrics. Raises `InputError` for settings that do not fit the store or the model. A
    loss that is not finite ends the run with a `failed` entry in the metrics, `world.stop` with a `stopped`
    entry after a checkpoint, both the same on every worker.
    """
    run = prepare(experiment, world or World(), directory)
    tracker = Tracker(run.directory, run.progress.step, run.progress.epoch) if run.world.rank == 0 else None
    if tracker and run.progress.step == 0:
        save(run, {}, label="initial")
    meter = begin(run)
    metrics: dict[str, Any] = {}
    while not run.progress.over(run.settings):
        ended = _train_epoch(run, tracker, meter)
        if ended:
            metrics = ended
            if tracker:
                (kind, reason), *_ = ended.items()
                tracker.write(kind, run.progress.step, {"reason": reason})
            break
        metrics = _finish_epoch(run, tracker, meter)
        run.world.report(metrics)
    if tracker:
        tracker.close()
    return metrics


def begin(run: Run) -> Meter:
    """The meter of a run that begins or goes on."""
    sums = torch.tensor(run.progress.mine(run.world), dtype=torch.float64)
    return Meter(sums.to(run.world.device))


def _train_epoch(run: Run, tracker: Tracker | None, meter: Meter) -> dict[str, str]:
    """Train to the end of the epoch; returns why the run is to end before it, if it is."""
    progress, world = run.progress, run.world
    run.network.train()
    batches = run.train.epoch(progress.epoch, world.rank, world.size, start=progress.batch)
    meter.window, meter.epoch = Clock(), Clock()
    while progress.batch < run.train.steps:
        step(run, batches, meter)
        due = progress.step % REPORT_EVERY == 0 or progress.step >= meter.meet_at or _save_due(run)
        if due or progress.batch == run.train.steps:
            ended = _meet(run, tracker, meter)
            if ended:
                return ended
    return {}


def _save_due(run: Run) -> bool:
    """By the number of steps; checkpoints by the clock are for rank 0 to propose."""
    every = run.settings.checkpoint_every
    return bool(every) and isinstance(every, int) and run.progress.step % every == 0


def step(run: Run, batches: Iterator[Batch], meter: Meter, exchange: bool = True) -> None:
    """One optimiser step. Nothing here asks the device for a number, so that it never has to wait.

    `exchange=False` leaves gradients on their worker, which only a measurement wants.
    """
    settings, progress, world = run.settings, run.progress, run.world
    group, waited = min(settings.accumulate, run.train.steps - progress.batch), 0.0
    for values in run.optimizer.param_groups:
        values["lr"] = learning_rate(settings, progress, run.train.steps)
    torch.manual_seed(
        (run.meta["model"]["seed"] + (progress.step * world.size + world.rank + 1) * STRIDE) % 2**63
    )
    run.optimizer.zero_grad(set_to_none=True)
    for i in range(group):
        asked = time.monotonic()
        batch = next(batches)
        waited += time.monotonic() - asked
        with apart(run.network, alone=not exchange or i < group - 1):
            loss, *_ = forward(run, run.network, batch)
            (loss / group).backward()
        meter.sums[:2] += loss.detach()
        meter.batches.append((progress.step + 1, loss.detach(), batch.events))
    meter.sums[2] += group
    meter.norms.append(nn.utils.clip_grad_norm_(run.model.parameters(), settings.clip or math.inf))
    run.optimizer.step()
    progress.batch += group
    progress.step += 1
    for clock in (meter.window, meter.epoch):
        clock.waited, clock.steps, clock.batches = (
            clock.waited + waited,
            clock.steps + 1,
            clock.batches + group,
        )


def forward(run: Run, network: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss (scalar), generated and target (B, 1, F, T), on the device. Autocast only covers the network: the loss
    stays in full precision."""
    layout = torch.channels_last if run.settings.channels_last else torch.contiguous_format
    inputs = run.world.to_device(batch.inputs, layout)
    target = run.world.to_device(batch.target)
    mixed = run.settings.precision == "bfloat16"
    with torch.autocast(run.world.device.type, torch.bfloat16, enabled=mixed):
        generated = network(inputs)
    generated = generated.to(target.dtype)
    return run.loss(generated, target), generated, target


def _meet(run: Run, tracker: Tracker | None, meter: Meter) -> dict[str, str]:
    """All workers, after the same step: exchange numbers, report, and do what rank 0 has decided.

    After DDP's averaging a bad loss on one worker is in the gradients, and so in their norm, on all of them.
    """
    progress, world, window = run.progress, run.world, meter.window
    norms = torch.stack(meter.norms).tolist()
    bad = next((i for i, norm in enumerate(norms) if not math.isfinite(norm)), None)
    if bad is not None:
        return {"failed": _blown_up(run, meter, progress.step - len(norms) + bad + 1)}
    meter.norms.clear()
    meter.batches.clear()
    pace = max(1, min(REPORT_EVERY, int(MEET_EVERY * window.steps / window.seconds)))
    clock = every(run.settings.checkpoint_every)[1]
    late = bool(clock) and time.monotonic() - meter.saved >= clock
    stop = world.rank == 0 and world.stop()
    rows = world.gather([*meter.sums.tolist(), window.waited, pace, late, stop])
    meter.meet_at, late, stop = progress.step + int(rows[0][4]), rows[0][5] > 0, rows[0][6] > 0
    if progress.step % REPORT_EVERY == 0:
        _report(run, tracker, rows, norms[-1], window)
        rows = [[row[0], 0.0, 0.0] for row in rows]
        meter.sums[1:], meter.window = 0.0, Clock()
    progress.sums = [row[:3] for row in rows]
    if stop or late or _save_due(run):
        save(run, {})
        meter.saved, meter.window = time.monotonic(), Clock()
    return {"stopped": f"stopped after step {progress.step}, with a checkpoint"} if stop else {}


def _report(run: Run, tracker: Tracker | None, rows: list[list[float]], norm: float, window: Clock) -> None:
    """The line of metrics of the last steps; `rows` are each worker's sums and its seconds of waiting."""
    if not tracker:
        return
    values = {
        "epoch": run.progress.epoch,
        "loss": sum(row[1] for row in rows) / sum(row[2] for row in rows),
        "lr": run.optimizer.param_groups[0]["lr"],
        "gradient_norm": norm,
    }
    if window.steps:  # not right after a checkpoint
        seconds = window.seconds
        values["samples_per_second"] = window.batches * run.train.batch / seconds
        values["waiting_for_data"] = sum(row[3] for row in rows) / len(rows) / seconds
    tracker.write("step", run.progress.step, values)


def _blown_up(run: Run, meter: Meter, step: int) -> str:
    """What to look at: some events of the batches whose loss is not finite, on whichever worker; where all losses are
    and the gradient is not, of all batches of that step."""
    mine = [(loss, events) for when, loss, events in meter.batches if when == step]
    guilty = [events for loss, events in mine if not math.isfinite(loss)]
    named = [int(i) for events in guilty or [events for _, events in mine] for i in events][:NAMED]
    rows = run.world.gather([bool(guilty), *named, *[-1] * (NAMED - len(named))])
    bad = [row for row in rows if row[0]]
    where = ", ".join([f"{i:.0f}" for row in bad or rows for i in row[1:] if i >= 0][: 2 * NAMED])
    good = checkpoint.newest_good(run.directory / "checkpoints") or "none"
    return (
        f"the {'loss' if bad else 'gradient'} is not finite at step {step} (epoch {run.progress.epoch + 1},"
        f" batches with events {where}, ...); last good checkpoint: {good}"
    )


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


def _finish_epoch(run: Run, tracker: Tracker | None, meter: Meter) -> dict[str, float]:
    """Validate, move the progress to the next epoch, write metrics and a checkpoint; returns the metrics."""
    progress, settings, world, clock = run.progress, run.settings, run.world, meter.epoch
    metrics: dict[str, float] = {
        "epoch": progress.epoch,
        "loss": sum(row[0] for row in progress.sums) / len(progress.sums) / run.train.steps,
        "lr": run.optimizer.param_groups[0]["lr"],
    }
    if clock.steps:  # a resume may begin at an epoch's end
        metrics["samples_per_second"] = clock.batches * run.train.batch / clock.seconds
    waiting = clock.waited / clock.seconds
    metrics |= _validate(run)
    shares, memory = zip(*world.gather([waiting, world.peak_memory()]))
    metrics |= {"waiting_for_data": sum(shares) / world.size, "memory_gb": max(memory)}
    progress.stale = 0 if metrics["validation_loss"] < progress.best else progress.stale + 1
    progress.best = min(progress.best, metrics["validation_loss"])
    if settings.schedule == "plateau" and progress.stale and progress.stale % settings.patience == 0:
        progress.halvings += 1
    progress.epoch, progress.batch = progress.epoch + 1, 0
    progress.sums = [[0.0, *row[1:]] for row in progress.sums]
    meter.sums[0] = 0.0
    if tracker:
        tracker.write("epoch", progress.step, metrics)
        if settings.samples:
            title = f"validation events after epoch {progress.epoch}"
            figure = samples(run.model, partial(forward, run), run.validation, settings.samples, title)
            tracker.draw("samples", progress.step, figure)
    save(run, metrics)
    meter.saved = time.monotonic()
    return metrics


def _validate(run: Run) -> dict[str, float]:
    """A checkpoint does not wait for the end of a long validation, once a signal has come: rank 0 has all of it."""
    saved = False

    def between() -> None:
        nonlocal saved
        if not saved and run.world.rank == 0 and run.world.stop():
            save(run, {})
            saved = True

    return validate(run.model, partial(forward, run), run.validation, run.train.batch, run.world, between)


def save(run: Run, metrics: dict[str, float], label: str = "") -> None:
    """Write a checkpoint, on rank 0; with an epoch's metrics it is ranked among the best. Delete old ones."""
    if run.world.rank != 0:
        return
    directory = run.directory / "checkpoints"
    meta = run.meta | {"step": run.progress.step, "epoch": run.progress.epoch, "metrics": metrics}
    state = {"optimizer": run.optimizer.state_dict(), "progress": vars(run.progress)}
    checkpoint.save(directory, meta, run.model.state_dict(), state, label)
    if not label:
        checkpoint.prune(directory, run.settings.keep, run.settings.keep_best)
