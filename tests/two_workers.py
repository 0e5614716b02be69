"""DDP workers without Ray, two in most tests: processes of a server that has imported torch already."""

from __future__ import annotations

import itertools
import multiprocessing
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from glitchflow.cluster import threads
from glitchflow.train.loop import train
from glitchflow.train.setup import Training
from glitchflow.train.workers import of_process_group

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["glitchflow.train.loop"])


def train_on(
    size: int, training: Training, directory: Path, meetings: int | None = None
) -> list[dict[str, Any]]:
    """Train as so many Ray Train workers would; what the loop returns on each. `meetings`: stop after so many."""
    directory.mkdir(parents=True, exist_ok=True)
    place = directory / f".{uuid.uuid4().hex}"
    with ProcessPoolExecutor(size, mp_context=CONTEXT) as pool:
        ranks = [(rank, size) for rank in range(size)]
        work = [pool.submit(_worker, training, directory, place, one, meetings) for one in ranks]
        return [worker.result() for worker in work]


train_on_two = partial(train_on, 2)


def after(meetings: int | None) -> Callable[[], bool]:
    """A `World.stop` that says yes from the meeting after so many on; None: never."""
    asked = itertools.count()
    return lambda: meetings is not None and next(asked) >= meetings


def _worker(
    training: Training, directory: Path, place: Path, rank_of: tuple[int, int], meetings: int | None
) -> dict[str, Any]:
    threads(1)
    rank, size = rank_of
    torch.distributed.init_process_group("gloo", f"file://{place}", rank=rank, world_size=size)
    try:
        world = replace(of_process_group(torch.device("cpu")), stop=after(meetings))
        return train(training, directory, world)
    finally:
        torch.distributed.destroy_process_group()
