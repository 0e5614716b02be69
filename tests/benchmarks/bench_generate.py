"""Generation end to end, through Ray into Zarr: `python tests/benchmarks/bench_generate.py [--events 20000]`.

Two questions, each answered by ratios from one run, on the notebook's recipe (4 channels of 16 s at 500 Hz, all
planes of Q 4-64 per channel, crops of 64 x 64 pixels):

- events per second per core against a strong baseline of the tools in use: gwpy's q_transform, multiprocessing with
  one thread per process, HDF5 written in batches;
- two workers against one, beside what two bare processes (no Ray) reach against one at the same time.

Sides take turns for several rounds; ratios are medians of the rounds' ratios. Exits with status 1 where a required
ratio is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from glitchflow.cluster import session, threads
from glitchflow.config import Experiment, parse
from glitchflow.data import generate as module
from glitchflow.data import shard_events as shard
from glitchflow.data.content import content_of
from glitchflow.data.store import dataset as store
from glitchflow.data.store.create import create
from glitchflow.signal.simulation.recipe import build_recipe

REQUIRED_SPEED, AIM_SPEED, REQUIRED_SCALING, REQUIRED_BASELINE = 15.0, 25.0, 0.9, 3.0
BATCH = 16  # events per HDF5 write of the baseline


def experiment(workdir: Path, events: int, cpus: int) -> Experiment:
    return parse(
        {
            "workdir": str(workdir),
            "series": {"duration": 16, "sample_rate": 500},
            "simulate": {"recipe": "notebook", "events": events},
            "qplot": {"q": None, "select": "channel", "frange": [10, 150], "window": "loudest"},
            "cluster": {"cpus": cpus},
        }
    )


def by_gwpy(arguments: tuple[str, int, range]) -> None:
    """The baseline's process: series, gwpy's Q-plots of every channel, crops, one HDF5 file."""
    from gwpy.timeseries import TimeSeries

    workdir, _, indices = arguments
    made = experiment(Path(workdir), 1, 1)
    recipe = build_recipe(made.simulate, made.series, made.derived, made.seed)
    with h5py.File(Path(workdir) / f"{indices.start}.h5", "w") as file:
        data = file.create_dataset("qplot", (len(indices), len(recipe.channels), 64, 64), "f4")
        for start in range(0, len(indices), BATCH):
            batch = [crop_by_gwpy(TimeSeries, recipe.event(i).series) for i in indices[start : start + BATCH]]
            data[start : start + len(batch)] = np.stack(batch)


def crop_by_gwpy(kind, series: np.ndarray) -> np.ndarray:
    """As the notebook does it: every channel's whole image, then 64 x 64 pixels around the strain's loudest."""
    images = np.stack([kind(row, sample_rate=500).q_transform(frange=(10, 150)).value for row in series])
    peak = np.unravel_index(images[0].argmax(), images[0].shape)
    corner = [min(max(int(p) - 32, 0), n - 64) for p, n in zip(peak, images[0].shape)]
    return images[:, corner[0] : corner[0] + 64, corner[1] : corner[1] + 64].transpose(0, 2, 1)


def bare(arguments: tuple[str, int, range]) -> None:
    """Our shards without Ray: what a process can do when nothing is between it and the disk."""
    workdir, events, shards = arguments
    threads(1)
    dataset = store.open_store(experiment(Path(workdir), events, 1).dataset, complete=False)
    for k in shards:
        shard.make_shard(dataset, k)


def processes(function, workdir: str, events: int, parts: list[range]) -> float:
    """Seconds that one process per part takes, imports and first calls not counted."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(len(parts)) as pool:
        pool.map(warm, [function.__name__] * len(parts), chunksize=1)
        started = time.perf_counter()
        pool.map(function, [(workdir, events, part) for part in parts], chunksize=1)
        return time.perf_counter() - started


def warm(name: str) -> None:
    """Imports, and the engine or gwpy's first call, outside what is timed."""
    with tempfile.TemporaryDirectory() as directory:
        made = experiment(Path(directory), 1, 1)
        if name == "by_gwpy":
            by_gwpy((directory, 1, range(1)))
        else:
            shard.make_block(shard.make_factory(content_of(made, "simulate")), range(1))


def through_ray(directory: Path, events: int, cpus: int) -> float:
    """Seconds for a whole `generate`, in a Ray that is up and whose workers have imported what they need."""
    made = experiment(directory / "warm", 16 * cpus, cpus)
    with session(made.cluster.address, made.cluster.cpus):
        module.generate(made, overwrite=store.exists(made.dataset))
        made = experiment(directory / "ray", events, cpus)
        started = time.perf_counter()
        module.generate(made, overwrite=store.exists(made.dataset))
        return time.perf_counter() - started


def without_ray(directory: Path, events: int, count: int) -> float:
    made = experiment(directory / "bare", events, count)
    shards = create(
        made.dataset, module._design(shard.make_factory(content_of(made, "simulate")))
    ).layout.shards
    share = shards // count
    parts = [range(i * share, (i + 1) * share) for i in range(count)]
    return processes(bare, made.workdir, events, parts)


def one_round(directory: Path, events: int, slow: int) -> dict[str, float]:
    """Events per second of each side; one worker makes half the events, so that all sides take about as long."""
    share = slow // 2
    gwpy = processes(by_gwpy, str(directory), slow, [range(0, share), range(share, 2 * share)])
    return {
        "gwpy + multiprocessing + HDF5, 2 processes": 2 * share / gwpy,
        "bare process, 1": events / 2 / without_ray(directory, events // 2, 1),
        "bare processes, 2": events / without_ray(directory, events, 2),
        "through Ray, 1 worker": events / 2 / through_ray(directory, events // 2, 1),
        "through Ray, 2 workers": events / through_ray(directory, events, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--events", type=int, default=4096, help="events per side and round (a multiple of 32)"
    )
    parser.add_argument("--gwpy-events", type=int, default=48, help="events of the baseline per round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as directory:
        rounds = [
            one_round(Path(directory), arguments.events, arguments.gwpy_events)
            for _ in range(arguments.rounds)
        ]
    for name in rounds[0]:
        print(f"{name:<46} {statistics.median(r[name] for r in rounds):8.1f} events/s")
    gwpy, bare1, bare2, ray1, ray2 = rounds[0]
    speed = statistics.median(r[ray2] / r[gwpy] for r in rounds)
    scaling = statistics.median((r[ray2] / r[ray1]) / (r[bare2] / r[bare1]) for r in rounds)
    baseline = statistics.median(r[gwpy] for r in rounds)
    checks = [
        (f"ours / gwpy, per core (aim {AIM_SPEED:g})", speed, REQUIRED_SPEED),
        ("2 workers / 1, of what bare processes reach", scaling, REQUIRED_SCALING),
        ("the baseline itself, events/s", baseline, REQUIRED_BASELINE),
    ]
    for name, value, required in checks:
        print(f"{name:<46} {value:8.2f}   required {required:g}   {'ok' if value >= required else 'MISSED'}")
    return int(any(value < required for _, value, required in checks))


if __name__ == "__main__":
    sys.exit(main())
