"""Two DDP workers without Ray: processes of a server that has imported torch already."""

from __future__ import annotations

import itertools
import multiprocessing
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from glitchflow.cluster import threads
from glitchflow.train.loop import train
from glitchflow.train.setup import Training
from glitchflow.train.workers import of_process_group

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["glitchflow.train.loop"])


def train_on_two(training: Training, directory: Path, meetings: int | None = None) -> list[dict[str, Any]]:
    """Train as two Ray Train workers would; what the loop returns on each. `meetings`: stop after so many."""
    directory.mkdir(parents=True, exist_ok=True)
    place = directory / f".{uuid.uuid4().hex}"
    with ProcessPoolExecutor(2, mp_context=CONTEXT) as pool:
        work = [pool.submit(_worker, training, directory, place, rank, meetings) for rank in range(2)]
        return [worker.result() for worker in work]


def after(meetings: int | None) -> Callable[[], bool]:
    """A `World.stop` that says yes from the meeting after so many on; None: never."""
    asked = itertools.count()
    return lambda: meetings is not None and next(asked) >= meetings


def _worker(
    training: Training, directory: Path, place: Path, rank: int, meetings: int | None
) -> dict[str, Any]:
    threads(1)
    torch.distributed.init_process_group("gloo", f"file://{place}", rank=rank, world_size=2)
    try:
        world = replace(of_process_group(torch.device("cpu")), stop=after(meetings))
        return train(training, directory, world)
    finally:
        torch.distributed.destroy_process_group()
