"""The training loop: one function for any number of workers, called by Ray Train, by a sweep, or bare.

    for every epoch: batches -> network -> loss -> gradients -> optimiser; validation; metrics; checkpoint

A run that finds checkpoints goes on from the last one. On the same number of workers the result is bit for bit
that of a run that was never stopped: the loader's position, the optimiser and the sums of a half-finished epoch
are part of the checkpoint, and random numbers (of a network with dropout) follow from the step.

A step only launches work. Every few steps the workers meet (`meet`): they look at the device, add up losses, and
agree whether to write a checkpoint or to stop, so that no worker is ever left alone in a collective.

Shapes: B batch of a rank, W witness, "..." one channel's part of an event.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glitchflow.config import Train, every
from glitchflow.data.batch import Batch
from glitchflow.data.store.dataset import open_store
from glitchflow.train import checkpoint
from glitchflow.train.setup import Learner, Training, prepare
from glitchflow.train.state import Clock, Losses, Meter, Progress
from glitchflow.train.tracking import Tracker
from glitchflow.train.validate import samples, validate
from glitchflow.train.workers import World, apart

REPORT_EVERY = 10  # optimiser steps between lines of metrics.jsonl
STRIDE = 0x9E3779B1  # between the seeds of steps, for networks with dropout: a resumed run draws the same
NAMED = 8  # events of a worker that are named where the loss is not finite
MEET_EVERY = 0.5  # seconds between meetings, where a step takes less; at least one every REPORT_EVERY steps


def train(training: Training, directory: Path, world: World | None = None) -> dict[str, Any]:
    """Train under `directory`, on this worker of `world`.

    Returns the last epoch's metrics. Raises `InputError` for settings that do not fit the store or the model. A
    loss that is not finite ends the run with a `failed` entry in the metrics, `world.stop` with a `stopped`
    entry after a checkpoint, both the same on every worker.
    """
    world = world or World()
    learner = prepare(training, open_store(training.dataset), world, directory)
    world.say(
        f"worker {world.rank}: train split {learner.train.place}, validation split {learner.validation.place}"
    )
    progress, meter = learner.progress, Meter.of(learner.progress, world)
    tracker = Tracker(directory, progress.step, progress.epoch) if world.rank == 0 else None
    if progress.step == 0:
        start(learner)
    metrics: dict[str, Any] = {}
    ended: dict[str, str] = {}
    while not ended and not progress.over(learner.settings):
        ended = train_epoch(learner, meter, tracker)
        if not ended:
            metrics = finish_epoch(learner, meter, tracker)
            world.report(metrics)
    if tracker:
        for how, why in ended.items():
            tracker.write(how, progress.step, {"reason": why})
        tracker.close()
    return ended or metrics


def start(learner: Learner) -> None:
    """Validate what training begins with, and keep it: of a filter that was fitted, or of another run's weights, it may
    be the best."""
    found = validate(learner, partial(forward, learner, learner.validated))
    if learner.world.rank == 0:
        learner.world.say(f"before the first step: validation {found['validation_loss']:.4f}")
    save(learner, found, label=checkpoint.INITIAL)


def train_epoch(learner: Learner, meter: Meter, tracker: Tracker | None) -> dict[str, str]:
    """Train to the end of the epoch; returns how and why the run is to end before it, if it is."""
    progress, world, steps = learner.progress, learner.world, learner.train.steps
    learner.network.train()
    batches = learner.train.epoch(progress.epoch, world.rank, world.size, start=progress.batch)
    meter.window, meter.epoch = Clock(), Clock()
    while progress.batch < steps:
        step(learner, meter, batches)
        due = progress.step % REPORT_EVERY == 0 or progress.step >= meter.meet_at or _save_due(learner)
        if due or progress.batch == steps:
            ended = meet(learner, meter, tracker)
            if ended:
                return ended
    return {}


def step(learner: Learner, meter: Meter, batches: Iterator[Batch], exchange: bool = True) -> None:
    """One optimiser step. Nothing here asks the device for a number, so that it never has to wait.

    `exchange=False` leaves gradients on their worker, which only a measurement wants.
    """
    settings, progress, world = learner.settings, learner.progress, learner.world
    optimizer = learner.optimizer
    group, waited = min(settings.accumulate, learner.train.steps - progress.batch), 0.0
    rate = learning_rate(settings, progress, learner.train.steps)
    for values in optimizer.param_groups:
        values["lr"] = rate * values.get("factor", 1.0)
    place = progress.step * world.size + world.rank + 1
    torch.manual_seed((learner.meta["model"]["seed"] + place * STRIDE) % 2**63)
    optimizer.zero_grad(set_to_none=True)
    for i in range(group):
        asked = time.monotonic()
        batch = next(batches)
        waited += time.monotonic() - asked
        with apart(learner.network, alone=not exchange or i < group - 1):
            loss, _, _ = forward(learner, learner.network, batch)
            # gradients and losses are averaged over workers: one with more of the batch's events weighs as much more
            loss = loss * (len(batch.events) * world.size / learner.train.batch)
            (loss / group).backward()
        meter.add(progress.step + 1, loss.detach(), batch.events)
    meter.norms.append(nn.utils.clip_grad_norm_(learner.model.parameters(), settings.clip or math.inf))
    optimizer.step()
    follow(learner)
    progress.batch += group
    progress.step += 1
    meter.add_time(group, waited)


@torch.no_grad()
def follow(learner: Learner) -> None:
    """Let the running mean follow the weights. It remembers less at first, or it would be of what was drawn: after k
    steps it is of the last k / 10 or so."""
    if learner.average is learner.model:
        return
    step = learner.progress.step + 1
    share = 1 - min(learner.settings.ema, step / (10 + step))
    with_mean = zip(learner.average.parameters(), learner.model.parameters(), strict=True)
    for mean, weight in with_mean:
        mean.lerp_(weight, share)


def forward(
    learner: Learner, network: nn.Module, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss (scalar), generated (B, 1, ...) and target (B, S, ...), on the device. Autocast only covers the network: the
    loss stays in full precision."""
    world = learner.world
    images = learner.settings.channels_last and batch.inputs.ndim == 4
    layout = torch.channels_last if images else torch.contiguous_format
    inputs, target = batch.inputs.to(memory_format=layout), batch.target
    with torch.autocast(world.device.type, torch.bfloat16, enabled=learner.settings.precision == "bfloat16"):
        generated = network(inputs)
    generated = generated.to(target.dtype)
    return learner.loss(generated, target), generated, target


def learning_rate(settings: Train, progress: Progress, batches: int) -> float:
    """The rate of the step about to be made: a function of the run's progress alone. It falls by the place in the
    epochs, not by the count of steps, which goes on where an epoch is begun again."""
    each = math.ceil(batches / settings.accumulate)
    done = progress.epoch * each + math.ceil(progress.batch / settings.accumulate)
    warm = min(1.0, (progress.step + 1) / settings.warmup) if settings.warmup else 1.0
    decay = {
        "constant": 1.0,
        "cosine": 0.5 * (1 + math.cos(math.pi * min(1.0, done / max(1, each * settings.epochs)))),
        "plateau": max(settings.factor**progress.halvings, min(1.0, settings.floor / settings.lr)),
    }[settings.schedule]
    return settings.lr * warm * decay


# -- what the workers do together --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """What each worker says at a meeting. What it proposes counts from rank 0 alone."""

    losses_epoch: float
    losses_window: float
    batches: float
    waited: float  # s for data, since the last line of metrics
    pace: float  # proposed: steps until the next meeting
    late: float  # proposed: whether a checkpoint by the clock is due
    stop: float  # proposed: whether to stop

    @property
    def losses(self) -> Losses:
        """The sums of this worker's losses."""
        return Losses(self.losses_epoch, self.losses_window, self.batches)


def meet(learner: Learner, meter: Meter, tracker: Tracker | None) -> dict[str, str]:
    """All workers, after the same step: exchange numbers, report, and do what rank 0 has decided.

    Returns how and why the run is to end, if it is. After DDP's averaging a bad loss on one worker is in the
    gradients, and so in their norm, on all of them.
    """
    progress, world = learner.progress, learner.world
    norms = torch.stack(meter.norms).tolist()
    bad = next((i for i, norm in enumerate(norms) if not math.isfinite(norm)), None)
    if bad is not None:
        return {"failed": _blown_up(learner, meter, progress.step - len(norms) + bad + 1)}
    meter.forget_steps()
    said = world.gather(_said(learner, meter))
    decided = said[0]
    meter.meet_at = progress.step + int(decided.pace)
    progress.sums = [worker.losses for worker in said]
    if progress.step % REPORT_EVERY == 0:
        if tracker:
            tracker.write("step", progress.step, _line(learner, said, norms[-1], meter.window))
        progress.sums = [Losses(worker.losses_epoch) for worker in said]
        meter.begin_window()
    if decided.stop or decided.late or _save_due(learner):
        save(learner, {})
        meter.saved, meter.window = time.monotonic(), Clock()
    return {"stopped": f"stopped after step {progress.step}, with a checkpoint"} if decided.stop else {}


def _said(learner: Learner, meter: Meter) -> Said:
    """What this worker says at a meeting."""
    epoch, window = torch.stack([meter.epoch_loss, meter.window_loss]).tolist()
    clock = every(learner.settings.checkpoint_every)[1]
    return Said(
        epoch,
        window,
        meter.window_batches,
        meter.window.waited,
        pace=max(1, min(REPORT_EVERY, int(MEET_EVERY * meter.window.steps / meter.window.seconds))),
        late=bool(clock) and time.monotonic() - meter.saved >= clock,
        stop=learner.world.rank == 0 and learner.world.stop(),
    )


def _line(learner: Learner, said: list[Said], norm: float, window: Clock) -> dict[str, float]:
    """The line of metrics of the last steps."""
    values = {
        "epoch": learner.progress.epoch,
        "loss": sum(w.losses_window for w in said) / sum(w.batches for w in said),
        "lr": learner.optimizer.param_groups[0]["lr"],
        "gradient_norm": norm,
    }
    if window.steps:  # not right after a checkpoint
        seconds = window.seconds
        values["samples_per_second"] = window.batches * learner.train.batch / seconds
        values["waiting_for_data"] = sum(w.waited for w in said) / len(said) / seconds
    return values


def _blown_up(learner: Learner, meter: Meter, step: int) -> str:
    """What to look at: some events of the batches whose loss is not finite, on whichever worker; where all losses are
    and the gradient is not, of all batches of that step."""
    mine = [seen for seen in meter.seen if seen.step == step]
    guilty = [seen for seen in mine if not math.isfinite(seen.loss)]
    named = [int(event) for seen in guilty or mine for event in seen.events][:NAMED]
    rows = learner.world.share([bool(guilty), *named, *[-1] * (NAMED - len(named))])
    bad = [events for is_guilty, *events in rows if is_guilty]
    shown = [event for events in bad or [events for _, *events in rows] for event in events if event >= 0]
    where = ", ".join(f"{event:.0f}" for event in shown[: 2 * NAMED])
    good = checkpoint.newest_good(learner.directory / "checkpoints") or "none"
    return (
        f"the {'loss' if bad else 'gradient'} is not finite at step {step} (epoch {learner.progress.epoch + 1},"
        f" batches with events {where}, ...); last good checkpoint: {good}"
    )


# -- the end of an epoch -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What an epoch cost one worker."""

    waiting: float  # share of the time, for data
    memory: float  # GB


def finish_epoch(learner: Learner, meter: Meter, tracker: Tracker | None) -> dict[str, float]:
    """Validate, move the progress to the next epoch, write metrics and a checkpoint; returns the metrics."""
    progress, world, clock = learner.progress, learner.world, meter.epoch
    evaluated = partial(forward, learner, learner.validated)
    metrics: dict[str, float] = {
        "epoch": progress.epoch,
        "loss": sum(losses.epoch for losses in progress.sums) / len(progress.sums) / learner.train.steps,
        "lr": learner.optimizer.param_groups[0]["lr"],
    }
    if clock.steps:  # a resume may begin at an epoch's end
        metrics["samples_per_second"] = clock.batches * learner.train.batch / clock.seconds
    waiting = clock.waited / clock.seconds
    metrics |= validate(learner, evaluated, _save_if_stopped(learner))
    costs = world.gather(Cost(waiting, world.peak_memory()))
    metrics["waiting_for_data"] = sum(cost.waiting for cost in costs) / world.size
    metrics["memory_gb"] = max(cost.memory for cost in costs)
    _next_epoch(learner.settings, progress, metrics["validation_loss"])
    meter.epoch_loss.zero_()
    if tracker:
        tracker.write("epoch", progress.step, metrics)
        if learner.settings.samples:
            title = f"validation events after epoch {progress.epoch}"
            tracker.draw(
                "samples", progress.step, samples(learner, evaluated, learner.settings.samples, title)
            )
    save(learner, metrics)
    meter.saved = time.monotonic()
    return metrics


def _next_epoch(settings: Train, progress: Progress, loss: float) -> None:
    """Move the progress on, and its learning rate where the loss is on a plateau."""
    progress.stale = 0 if loss < progress.best else progress.stale + 1
    progress.best = min(progress.best, loss)
    if settings.schedule == "plateau" and progress.stale and progress.stale % settings.patience == 0:
        progress.halvings += 1
    progress.epoch += 1
    progress.begin_epoch()


def _save_if_stopped(learner: Learner) -> Callable[[], None]:
    """A checkpoint does not wait for the end of a long validation, once a signal has come: rank 0 has all of it."""
    saved = False

    def between() -> None:
        nonlocal saved
        if not saved and learner.world.rank == 0 and learner.world.stop():
            save(learner, {})
            saved = True

    return between


# -- checkpoints -------------------------------------------------------------------------------------------------


def _save_due(learner: Learner) -> bool:
    """By the number of steps; checkpoints by the clock are for rank 0 to propose."""
    steps = every(learner.settings.checkpoint_every)[0]
    return bool(steps) and learner.progress.step % steps == 0


def save(learner: Learner, metrics: dict[str, float], label: str = "") -> None:
    """Write a checkpoint, on rank 0; with an epoch's metrics it is ranked among the best. Delete old ones."""
    if learner.world.rank != 0:
        return
    progress, directory = learner.progress, learner.directory / "checkpoints"
    meta = learner.meta | {"step": progress.step, "epoch": progress.epoch, "metrics": metrics}
    state = {"optimizer": learner.optimizer.state_dict(), "progress": progress.to_state()}
    if learner.average is not learner.model:
        state["weights"] = learner.model.state_dict()
    checkpoint.save(directory, meta, learner.average.state_dict(), state, label)
    if not label:
        checkpoint.prune(directory, learner.settings.keep, learner.settings.keep_best)
