"""Training under Ray against bare PyTorch loops: `python tests/benchmarks/bench_train.py`.

The sides are all alive at once and take turns in rounds of steps, so that whatever else the machine does hits them
alike. All have their batches in memory but `store 1`, which always reads the store, normalises and shuffles:

    ray 1, ray 2, store 1    Ray Train workers in our loop, with its metrics and meetings of workers
    bare 1, bare 2           one and two processes in the shortest PyTorch loop, no exchange

Every worker has one thread, the same batch (weak scaling) and the same settings of malloc. Sides that are not at turn
are blocked. A ratio is the median of the rounds' ratios, over several repeats with new processes: where a process's
memory lies makes it some percent faster or slower for all its life. Exits with status 1 where a required one is missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import torch

from glitchflow import config
from glitchflow.cluster import session, threads
from glitchflow.config import Experiment
from glitchflow.data.generate import generate
from glitchflow.data.store.dataset import open_store
from glitchflow.train.fit import ALLOCATOR, join, run_workers
from glitchflow.train.loop import REPORT_EVERY, forward, meet, step
from glitchflow.train.setup import Learner, Training, prepare, training_of
from glitchflow.train.state import Meter
from glitchflow.train.tracking import Tracker
from glitchflow.train.workers import World

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
BATCH = 32  # of each worker
SIDES = {"ray 1": 1, "ray 2": 2, "store 1": 1, "bare 1": 1, "bare 2": 2}  # workers or processes
GO, END = b"go", b"end"


def settings(workdir: Path, events: int, workers: int, cache_gb: int = 4) -> Experiment:
    """The quickstart's data, and a network of images."""
    keys = [
        f"workdir={workdir}",
        f"simulate.events={events}",
        f"loader.cache_gb={cache_gb}",
        f"loader.batch={BATCH * workers}",
    ]
    keys += [
        f"loader.lanes={4 * workers}",
        f"train.workers={workers}",
        "model.name=unet",
        "model.width=16",
        "train.loss=l1",
        "train.epochs=100000",
        "train.samples=0",
    ]
    return config.load(QUICKSTART, keys)


def turns(referee: str, side: str, rank: int) -> Iterator[Callable[[float, float], None]]:
    """Wait, blocked, for each of a side's turns; yields a call that says how many seconds it took and waited."""
    with Client(referee) as line:
        line.send_bytes(json.dumps([side, rank]).encode())
        while line.recv_bytes() == GO:
            yield lambda seconds, waited: line.send_bytes(json.dumps([seconds, waited]).encode())


def learner_of(training: Training, world: World, directory: Path) -> Learner:
    return prepare(training, open_store(training.dataset), world, directory)


def ray_worker(given: dict[str, Any]) -> None:
    """Rounds of our own loop: what `glitchflow train` does between the beginnings of two epochs."""
    world, directory = join(given["training"].train), given["directory"] / given["side"]
    learner = learner_of(given["training"], world, directory)
    progress = learner.progress
    tracker = Tracker(directory, 0, 0) if world.rank == 0 else None
    meter, batches = Meter.of(progress, world), iter(())
    for say in turns(given["referee"], given["side"], world.rank):
        started, waited = time.monotonic(), 0.0
        for _ in range(given["steps"]):
            if progress.batch in (0, learner.train.steps):
                batches = learner.train.epoch(progress.epoch, world.rank, world.size)
                progress.epoch, progress.batch = progress.epoch + 1, 0
            before = meter.epoch.waited
            step(learner, meter, batches)
            waited += meter.epoch.waited - before
            if progress.step % REPORT_EVERY == 0 or progress.step >= meter.meet_at:
                meet(learner, meter, tracker)
        say(time.monotonic() - started, waited)


def bare_process(workdir: str, referee: str, side: str, rank: int, events: int, steps: int) -> None:
    """Rounds of the shortest loop that does the same arithmetic."""
    threads(1)
    training = training_of(settings(Path(workdir), events, 1))
    learner = learner_of(training, World(), Path(workdir) / f"{side} {rank}")
    kept = [batch for batch, _ in zip(learner.train.epoch(0), range(8))]
    for say in turns(referee, side, rank):
        started = time.monotonic()
        for i in range(steps):
            learner.optimizer.zero_grad(set_to_none=True)
            loss, *_ = forward(learner, learner.model, kept[i % len(kept)])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learner.model.parameters(), 1.0)
            learner.optimizer.step()
        say(time.monotonic() - started, 0.0)


def take_turns(referee: Listener, rounds: int, steps: int) -> dict[str, list[dict[str, float]]]:
    """Events per second and share of waiting of every side in every round; the first round is not counted."""
    lines: dict[str, list[Connection]] = {side: [] for side in SIDES}
    for _ in range(sum(SIDES.values())):
        line = referee.accept()
        side, _rank = json.loads(line.recv_bytes())
        lines[side].append(line)
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for i in range(rounds + 1):
        for side in list(SIDES)[:: 1 if i % 2 else -1]:
            for line in lines[side]:
                line.send_bytes(GO)
            numbers = [json.loads(line.recv_bytes()) for line in lines[side]]
            seconds, waited = (max(column) for column in zip(*numbers))
            if i:
                found[side].append(
                    {"speed": BATCH * steps * SIDES[side] / seconds, "waiting": waited / seconds}
                )
    for side in SIDES:
        for line in lines[side]:
            line.send_bytes(END)
    return found


def measure(
    workdir: Path, events: int, repeats: int, rounds: int, steps: int
) -> dict[str, list[dict[str, float]]]:
    """All rounds of all repeats, each with processes of its own."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    os.environ.update(ALLOCATOR)  # of the bare processes
    with session(cpus=5):
        generate(settings(workdir, events, 1))
        for i in range(repeats):
            directory = workdir / str(i)
            directory.mkdir()
            for side, numbers in compete(workdir, directory, events, rounds, steps).items():
                found[side] += numbers
    return found


def compete(
    workdir: Path, directory: Path, events: int, rounds: int, steps: int
) -> dict[str, list[dict[str, float]]]:
    """Start every side and let them take turns."""
    others: list[Any] = []
    with Listener(str(directory / "referee"), backlog=8) as referee:
        for side, workers in SIDES.items():
            if not side.startswith("bare"):
                training = training_of(settings(workdir, events, workers, 0 if side == "store 1" else 4))
                given = {"training": training, "directory": directory}
                given |= {"referee": referee.address, "side": side, "steps": steps}
                home = directory / f"home {side}"
                others.append(
                    threading.Thread(
                        target=run_workers, args=(ray_worker, given, training.train, home, False)
                    )
                )
            else:
                context = multiprocessing.get_context("spawn")
                for rank in range(workers):
                    arguments = (str(workdir), referee.address, side, rank, events, steps)
                    others.append(context.Process(target=bare_process, args=arguments))
        for other in others:
            other.start()
        found = take_turns(referee, rounds, steps)
        for other in others:
            other.join()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="of all processes, which differ in luck by 5 %%"
    )
    parser.add_argument("--rounds", type=int, default=6, help="of each repeat")
    parser.add_argument("--steps", type=int, default=20, help="of each round")
    parser.add_argument("--events", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = measure(Path(directory), options.events, options.repeats, options.rounds, options.steps)
    speed = {side: [n["speed"] for n in numbers] for side, numbers in found.items()}
    for side, values in speed.items():
        print(
            f"{side:<8} {statistics.median(values):8.1f} events/s   (rounds {min(values):.0f} to {max(values):.0f})"
        )
    one = [a / b for a, b in zip(speed["ray 1"], speed["bare 1"])]
    two = [
        (a2 / a1) / (b2 / b1)
        for a1, a2, b1, b2 in zip(*(speed[k] for k in ("ray 1", "ray 2", "bare 1", "bare 2")))
    ]
    waiting = [n["waiting"] for n in found["store 1"]]
    results = (
        ("Ray Train, 1 worker / bare loop", statistics.median(one), 0.95, True),
        ("2 workers / 1, of what two bare processes reach", statistics.median(two), 0.85, True),
        ("share of time waiting for data", statistics.median(waiting), 0.05, False),
    )
    missed = 0
    for label, value, limit, least in results:
        met = value >= limit if least else value < limit
        missed += not met
        print(
            f"{label:<50} {value:6.3f}   required {'>=' if least else '<'} {limit}   {'met' if met else 'MISSED'}"
        )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
