"""Training under Ray against bare PyTorch loops: `python tests/benchmarks/bench_train.py`.

The sides are all alive at once and take turns in rounds of steps, so that whatever else the machine does hits them
alike. All have their batches in memory but `store 1`, which always reads the store, normalises and shuffles:

    ray 1, ray 2, store 1    Ray Train workers in our loop, with its metrics and meetings of workers
    bare 1, bare 2           one and two processes in the shortest PyTorch loop, no exchange

Every worker has one thread and the same batch (weak scaling). A ratio is the median of the rounds' ratios. Exits with
status 1 where a required one is missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from glitchflow import config
from glitchflow.cluster import session, threads
from glitchflow.config import Experiment
from glitchflow.config.schema import Cluster
from glitchflow.data.generate import generate
from glitchflow.train import loop
from glitchflow.train.fit import join, run_workers
from glitchflow.train.loop import World, begin, forward, prepare, step
from glitchflow.train.tracking import Tracker

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
BATCH = 32  # of each worker
SIDES = {"ray 1": 1, "ray 2": 2, "store 1": 1, "bare 1": 1, "bare 2": 2}  # workers or processes
POLL = 0.002
END = "end"


def settings(workdir: Path, events: int, workers: int, cache_gb: int = 4) -> Experiment:
    """The quickstart's data and network."""
    keys = [
        f"workdir={workdir}",
        f"simulate.events={events}",
        f"loader.cache_gb={cache_gb}",
        f"loader.batch={BATCH * workers}",
    ]
    keys += [
        f"loader.lanes={4 * workers}",
        f"train.workers={workers}",
        "train.epochs=100000",
        "train.samples=0",
    ]
    return config.load(QUICKSTART, keys)


def turns(directory: Path, side: str, rank: int) -> Iterator[Callable[[dict[str, float]], None]]:
    """Wait for each of a side's turns; yields a call that says how it went."""
    last = -1
    while True:
        text = (directory / "turn").read_text()
        number, _, name = text.partition(" ")
        if name == END:
            return
        if name == side and int(number) != last:
            last = int(number)
            answer = directory / f"{last}-{rank}"

            def say(numbers: dict[str, float], answer: Path = answer) -> None:
                partial = answer.with_suffix(".partial")
                partial.write_text(json.dumps(numbers))
                partial.rename(answer)

            yield say
        time.sleep(POLL)


def ray_worker(given: dict[str, Any]) -> None:
    """Rounds of our own loop: what `glitchflow train` does between the beginnings of two epochs."""
    directory, experiment = Path(given["directory"]), Experiment.model_validate(given["experiment"])
    run = prepare(experiment, join(experiment), directory / given["side"])
    tracker = Tracker(run.directory, 0) if run.world.rank == 0 else None
    meter, batches = begin(run), iter(())
    for say in turns(directory, given["side"], run.world.rank):
        started, waited = time.monotonic(), 0.0
        for _ in range(given["steps"]):
            if run.progress.batch in (0, run.train.steps):
                batches = run.train.epoch(run.progress.epoch, run.world.rank, run.world.size)
                run.progress.epoch, run.progress.batch = run.progress.epoch + 1, 0
            before = meter.epoch.waited
            step(run, batches, meter)
            waited += meter.epoch.waited - before
            if run.progress.step % loop.REPORT_EVERY == 0 or run.progress.step >= meter.meet_at:
                loop._meet(run, tracker, meter)
        say({"seconds": time.monotonic() - started, "waited": waited})


def bare_process(workdir: str, directory: str, side: str, rank: int, events: int, steps: int) -> None:
    """Rounds of the shortest loop that does the same arithmetic."""
    threads(1)
    run = prepare(settings(Path(workdir), events, 1), World(), Path(directory) / f"{side} {rank}")
    kept = [batch for batch, _ in zip(run.train.epoch(0), range(8))]
    for say in turns(Path(directory), side, rank):
        started = time.monotonic()
        for i in range(steps):
            run.optimizer.zero_grad(set_to_none=True)
            loss, *_ = forward(run, run.model, kept[i % len(kept)])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
            run.optimizer.step()
        say({"seconds": time.monotonic() - started, "waited": 0.0})


def take_turns(directory: Path, rounds: int, steps: int) -> dict[str, list[dict[str, float]]]:
    """Events per second and share of waiting of every side in every round; the first round is not counted."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    number = 0
    for i in range(rounds + 1):
        for side in list(SIDES)[:: 1 if i % 2 else -1]:
            number += 1
            (directory / "next").write_text(f"{number} {side}")
            (directory / "next").rename(directory / "turn")
            answers = [directory / f"{number}-{rank}" for rank in range(SIDES[side])]
            while not all(answer.exists() for answer in answers):
                time.sleep(POLL)
            numbers = [json.loads(answer.read_text()) for answer in answers]
            seconds = max(n["seconds"] for n in numbers)
            speed = BATCH * steps * SIDES[side] / seconds
            if i:
                found[side].append({"speed": speed, "waiting": max(n["waited"] for n in numbers) / seconds})
    (directory / "turn").write_text(f"0 {END}")
    return found


def measure(workdir: Path, events: int, rounds: int, steps: int) -> dict[str, list[dict[str, float]]]:
    directory = workdir / "turns"
    directory.mkdir()
    (directory / "turn").write_text("0 nobody")
    others: list[Any] = []
    with session(Cluster(cpus=5)):
        generate(settings(workdir, events, 1))
        for side, workers in SIDES.items():
            if not side.startswith("bare"):
                experiment = settings(workdir, events, workers, 0 if side == "store 1" else 4)
                given = {"experiment": experiment.model_dump(mode="json"), "directory": str(directory)}
                given |= {"side": side, "steps": steps}
                home = directory / f"home {side}"
                others.append(
                    threading.Thread(target=run_workers, args=(ray_worker, given, experiment, home, False))
                )
            else:
                context = multiprocessing.get_context("spawn")
                for rank in range(workers):
                    arguments = (str(workdir), str(directory), side, rank, events, steps)
                    others.append(context.Process(target=bare_process, args=arguments))
        for other in others:
            other.start()
        found = take_turns(directory, rounds, steps)
        for other in others:
            other.join()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="of each round")
    parser.add_argument("--events", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = measure(Path(directory), options.events, options.rounds, options.steps)
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
