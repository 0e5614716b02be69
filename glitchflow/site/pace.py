"""How long a training on CPUs will take, from steps of its network itself on made numbers: modelled, and said so.

What readers wait for, the exchange of gradients and what a training starts from are not counted; events that are drawn
anew are, as long as one of a dataset takes, which is the most: they are made beside the steps by the same cores.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from glitchflow.config import Experiment, Split
from glitchflow.device import in_halves
from glitchflow.twin import kinds
from glitchflow.twin.kind import Needs


@dataclass(frozen=True)
class Planned:
    """A training as it is configured: what a worker does in a step, and how many of these there are."""

    model: dict[str, Any]
    given: tuple[int, ...]  # the shape of what the network sees of an event
    share: int  # events of a worker's step
    precision: str
    workers: int
    epochs: int
    steps: int  # batches of an epoch
    validated: int  # events, after each epoch
    fresh: bool  # whether an epoch's events are drawn anew


@dataclass(frozen=True)
class Pace:
    """What a step of a worker takes, and an event that is only looked at; s of one thread, with all cores at work."""

    step: float
    event: float


def planned(experiment: Experiment, events: int, needs: Needs) -> Planned:
    """What the keys of a training come to on a dataset of so many events."""
    model, loader, train = experiment.model.model_dump() | {"seed": 0}, experiment.loader, experiment.train
    model["options"] = {**model["options"], **needs.options}
    split: Split = experiment.split
    there = [round(events * part) for part in (1 - split.validation - split.test, split.validation)]
    most = (loader.subset.train, loader.subset.validation)
    learned, validated = (n if part is None else min(n, part) for n, part in zip(there, most, strict=True))
    return Planned(
        model,
        needs.given,
        loader.share(*train.range),
        train.precision,
        train.fewest,
        train.epochs,
        (loader.fresh or learned) // loader.batch,
        validated,
        bool(loader.fresh),
    )


def timed(training: Planned, seconds: float) -> Pace:
    """Steps, and looks at events, for so long."""
    network = kinds.build_network(training.model, training.given[0], training.given[1:])
    optimizer = torch.optim.AdamW(network.parameters())
    made_of = (
        torch.zeros if kinds.of(training.model["name"]).draws else torch.randn
    )  # 0 is a family, noise is none
    dtype = torch.float64 if training.precision == "float64" else torch.float32
    network, inputs = network.to(dtype), made_of(training.share, *training.given, dtype=dtype)
    low = torch.autocast("cpu", torch.bfloat16, enabled=in_halves(training.precision))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with low:
            made = network(inputs)
        made.float().square().mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    @torch.no_grad()
    def look() -> None:
        with low:
            network(inputs)

    taken = _each(step, seconds / 2)
    network.eval()
    return Pace(taken, _each(look, seconds / 2) / training.share)


def _each(work: Callable[[], object], seconds: float) -> float:
    """What a piece of work takes, s: the mean of as many as are done in a time, after one; that one, if it took so long
    by itself."""
    started = time.perf_counter()
    work()
    first = time.perf_counter() - started
    count, started = 0, time.perf_counter()
    while first < seconds and (took := time.perf_counter() - started) < seconds:
        work()
        count += 1
    return took / count if count else first


def hours(training: Planned, pace: Pace, drawn: float) -> float:
    """The wall time of a training; drawn: s of a core that an event takes which is drawn anew."""
    step = pace.step + training.share * drawn * training.fresh
    validation = training.validated / training.workers * pace.event
    return training.epochs * (training.steps * step + validation) / 3600
