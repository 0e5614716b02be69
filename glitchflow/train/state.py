"""The numbers of a run: where it stands, and what a worker counts between two meetings of all of them."""

import math
import time
from dataclasses import astuple, dataclass, field, replace
from typing import Any, Self

import torch
from numpy.typing import NDArray

from glitchflow.config import Train
from glitchflow.train.workers import World


@dataclass(frozen=True)
class Losses:
    """One worker's sums of the losses of its batches."""

    epoch: float = 0.0  # of this epoch
    window: float = 0.0  # since the last line of metrics
    batches: float = 0.0  # how many those are


@dataclass
class Progress:
    """Where a run stands; plain numbers, saved with every checkpoint."""

    step: int = 0  # optimiser steps done
    epoch: int = 0
    batch: int = 0  # batches of this epoch done
    order: int = 1  # of its events, by the loader's version; the first ones did not say it
    halvings: int = 0  # times that the learning rate fell, by the plateau schedule
    stale: int = 0  # epochs since the best validation loss
    best: float = math.inf
    sums: list[Losses] = field(default_factory=list)  # of each worker

    def over(self, settings: Train) -> bool:
        """Whether there is nothing left to train."""
        return self.epoch >= settings.epochs or 0 < (settings.early_stop or 0) <= self.stale

    def mine(self, world: World) -> Losses:
        """This worker's sums. Another number of workers than before: rank 0 takes them all, shared out evenly."""
        if len(self.sums) == world.size:
            return self.sums[max(0, world.rank)]
        if world.rank > 0 or not self.sums:
            return Losses()
        rows = map(astuple, self.sums)
        return Losses(*(sum(column) * world.size / len(self.sums) for column in zip(*rows)))

    def begin_epoch(self) -> None:
        """Stand at the beginning of the epoch: of its losses nothing is added up yet."""
        self.batch, self.sums = 0, [replace(one, epoch=0.0) for one in self.sums]

    def to_state(self) -> dict[str, Any]:
        """The same as a checkpoint's state.pt holds it."""
        return vars(self) | {"sums": [list(astuple(one)) for one in self.sums]}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Self:
        """What `to_state` gave."""
        return cls(**(state | {"sums": [Losses(*row) for row in state["sums"]]}))


@dataclass
class Clock:
    """A stretch of training: when it began, the seconds waited for data since, the steps and batches done."""

    since: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    steps: int = 0
    batches: int = 0

    @property
    def seconds(self) -> float:
        """How long it has lasted so far."""
        return max(time.monotonic() - self.since, 1e-9)


@dataclass(frozen=True)
class Seen:
    """One batch of this worker, kept until the next meeting: its events are named where the loss is not finite."""

    step: int
    loss: torch.Tensor
    events: NDArray


@dataclass
class Meter:
    """What a worker counts between meetings, and when the next one is. Sums stay on the device: adding to them does
    not wait for it."""

    epoch_loss: torch.Tensor  # () float64
    window_loss: torch.Tensor  # () float64, since the last line of metrics
    window_batches: float
    norms: list[torch.Tensor] = field(
        default_factory=list
    )  # of the gradient in each step since the last meeting
    seen: list[Seen] = field(default_factory=list)  # the batches of those steps
    window: Clock = field(default_factory=Clock)  # since the last line of metrics or checkpoint
    epoch: Clock = field(default_factory=Clock)
    saved: float = field(default_factory=time.monotonic)
    meet_at: int = 0  # step

    @classmethod
    def of(cls, progress: Progress, world: World) -> Self:
        """The meter of a run that begins or goes on."""
        mine = progress.mine(world)
        epoch, window = (
            torch.tensor(value, dtype=torch.float64, device=world.device)
            for value in (mine.epoch, mine.window)
        )
        return cls(epoch, window, mine.batches)

    def add(self, step: int, loss: torch.Tensor, events: NDArray) -> None:
        """Count one batch."""
        self.epoch_loss += loss
        self.window_loss += loss
        self.window_batches += 1
        self.seen.append(Seen(step, loss, events))

    def add_time(self, batches: int, waited: float) -> None:
        """Count the time of one step."""
        for clock in (self.window, self.epoch):
            clock.steps, clock.batches, clock.waited = (
                clock.steps + 1,
                clock.batches + batches,
                clock.waited + waited,
            )

    def begin_window(self) -> None:
        """Begin anew after a line of metrics."""
        self.window_loss, self.window_batches = torch.zeros_like(self.window_loss), 0.0
        self.window = Clock()

    def forget_steps(self) -> None:
        """Let go of what was kept of the steps since the last meeting."""
        self.norms.clear()
        self.seen.clear()
