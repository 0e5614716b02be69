"""Feeding a GPU: `python tests/benchmarks/bench_gpu.py`, about a minute.

Events per second of the Q-plots (4, 64, 64) of a made store, through each way that batches take to the device:

    GPU memory     the split is kept there                        (`loader.cache_gpu_gb`)
    host memory    kept there, copied ahead from pinned memory    (`loader.cache_gb`)
    store          read, normalised and copied ahead
    no loader      one batch that is on the device, again and again: what no loader can be faster than

of the loader alone, and of training a network, by the arithmetic that `train.precision` and `train.autotune` ask for.
A measurement ends when the device is done; each number is the median of rounds in which all take turns. The first line
names the device: a CPU has the last three ways. Nothing is required here; it exits with status 0.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, count, repeat
from pathlib import Path

import torch
from bench_loader import make_store

from glitchflow.config import Loader, Model, Train
from glitchflow.data.batch import Batch
from glitchflow.data.store.dataset import Dataset
from glitchflow.train.loop import step
from glitchflow.train.setup import Learner, Training, prepare
from glitchflow.train.state import Meter
from glitchflow.train.workers import World

VALIDATION = 8  # events of each shard
WAYS = {
    "GPU memory": {"cache_gpu_gb": None},
    "host memory": {"cache_gpu_gb": 0.0},
    "store": {"cache_gpu_gb": 0.0, "cache_gb": 0.0},
}
ARITHMETIC = {
    "float32": {},
    "float32, autotune": {"autotune": True},
    "tf32, autotune": {"precision": "tf32", "autotune": True},
    "bfloat16, autotune": {"precision": "bfloat16", "autotune": True},
}


def learner_of(
    dataset: Dataset, arguments: argparse.Namespace, world: World, way: dict, how: dict
) -> Learner:
    """What trains on a dataset, fed in a way, with such arithmetic."""
    training = Training(
        dataset.path,
        seed=1,
        loader=Loader(batch=arguments.batch, lanes=4, **way),
        model=Model(name="unet", width=arguments.width),
        train=Train(samples=0, **how),
    )
    return prepare(training, dataset, world, Path(dataset.path).with_name("none"))


def speed(call: Callable[[], int], device: torch.device) -> float:
    """The events per second of a call that returns how many it saw, until the device is done with them."""
    started = time.perf_counter()
    events = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return events / (time.perf_counter() - started)


def loads(learner: Learner) -> Callable[[], int]:
    """A call that goes through an epoch of the loader alone."""
    epochs = count()
    return lambda: sum(len(batch.events) for batch in learner.train.epoch(next(epochs)))


def trains(learner: Learner, batches: Iterator[Batch], steps: int) -> Callable[[], int]:
    """A call that trains so many steps on the next batches."""
    meter = Meter.of(learner.progress, learner.world)

    def call() -> int:
        learner.network.train()
        for _ in range(steps):
            learner.progress.batch = 0
            step(learner, meter, batches)
        meter.forget_steps()
        return steps * learner.train.batch

    return call


def medians(calls: dict[str, Callable[[], int]], rounds: int, device: torch.device) -> dict[str, float]:
    """Events per second of each call, after a round that is not counted."""
    found = [{name: speed(call, device) for name, call in calls.items()} for _ in range(rounds + 1)]
    return {name: statistics.median(one[name] for one in found[1:]) for name in calls}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--width", type=int, default=16, help="of the network")
    parser.add_argument("--steps", type=int, default=30, help="trained in a round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    world = World(device=torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu"))
    ways = {name: way for name, way in WAYS.items() if name != "GPU memory" or world.device.type == "cuda"}
    print(f"{world.where}, torch {torch.__version__}; {arguments.events} events, batch {arguments.batch}")
    with tempfile.TemporaryDirectory() as directory:
        dataset = make_store(Path(directory) / "dataset.zarr", arguments.events, VALIDATION)
        fed = {name: learner_of(dataset, arguments, world, way, {}) for name, way in ways.items()}
        calls = {name: loads(learner) for name, learner in fed.items()}
        for name, found in medians(calls, arguments.rounds, world.device).items():
            print(f"loader alone         {name:<14} {found:10.0f} events/s")
        for words, how in ARITHMETIC.items():
            batches = {
                name: chain.from_iterable(map(learner.train.epoch, count())) for name, learner in fed.items()
            }
            batches["no loader"] = repeat(next(next(iter(fed.values())).train.epoch(0)))
            calls = {
                name: trains(learner_of(dataset, arguments, world, WAYS["store"], how), some, arguments.steps)
                for name, some in batches.items()
            }
            for name, found in medians(calls, arguments.rounds, world.device).items():
                print(f"training, {words:<18} {name:<14} {found:10.0f} events/s")


if __name__ == "__main__":
    main()
