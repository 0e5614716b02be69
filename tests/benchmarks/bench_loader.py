"""The loader, normalised and shuffled, against plain reads: `python tests/benchmarks/bench_loader.py`.

MB of Q-plots per second over one epoch of the train split, one process, nothing kept in memory by the loader; beside
it a plain loop over the same store (`qplot[i : i + 128]`), random access to it, and sequential reads of the same
energies from a .npy and an HDF5 file. Sides take turns; ratios are medians of the rounds' ratios. All files are in
the page cache after the first round, which is not counted. Exits with status 1 where the required ratio is missed.

`--order 100000000` measures instead what comes before an epoch's first batch on one rank of 64 with a lane each: the
seconds to its first two groups' event numbers, and what is held for it at most beside the numbers of all events.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from glitchflow.cluster import threads
from glitchflow.config.training import Loader
from glitchflow.data.lane import Order
from glitchflow.data.loader import GROUP, build_loader
from glitchflow.data.normalise import build_normalisation, measure, reduce_statistics
from glitchflow.data.normalise import statistics as share_of
from glitchflow.data.store.create import Design
from glitchflow.data.store.dataset import Dataset
from glitchflow.data.store.schema import Array, choose_layout
from glitchflow.data.store.writer import Writer, write_shard
from glitchflow.twin import image

REQUIRED = 0.5
RANKS = 64
STEP = 128  # events of the plain loop's reads


def make_store(path: Path, events: int, validation: int = 0) -> Dataset:
    """A store of exponential energies, (4, 64, 64) an event; the first ones of each shard, so many, are in the
    validation split, all others in the train split."""
    arrays = {
        "qplot": Array(("channel", "frequency", "time"), (4, 64, 64), "float32"),
        "split": Array((), (), "int8", column=True),
    }
    layout = choose_layout(events, arrays, 2, 64)
    about = {"channels": [f"C{i}" for i in range(4)], "labels": ["background"], "config": {}}
    about |= {"provenance": {"date": ""}, "source": "simulate", "recorded": False, "seed": 1}
    about |= {"witnessed_labels": [], "couplings": {}}
    with Writer.begin(path, lambda: Design(arrays, layout, about), lambda _: None) as writer:
        for k in range(layout.shards):
            count = layout.span(k).stop - layout.span(k).start
            qplot = np.random.default_rng(k).exponential(size=(count, 4, 64, 64)).astype("f4")
            split = (np.arange(count) < validation).astype("i1")
            share = share_of(measure(qplot[split == 0]))
            write_shard(writer.dataset, k, {"qplot": qplot, "split": split}, share)
        writer.collect()
        writer.complete({"normalisation": reduce_statistics(one.statistics for one in writer.shares())})
    return writer.dataset


def sides(dataset: Dataset, directory: Path, batch: int) -> dict[str, Callable[[], int]]:
    """name -> a call that reads the events once (random access: a part of them) and returns how many."""
    count, qplot = len(dataset), dataset["qplot"]
    np.save(directory / "q.npy", qplot[:])
    with h5py.File(directory / "q.h5", "w") as file:
        file["qplot"] = qplot[:]
    h5 = h5py.File(directory / "q.h5")["qplot"]
    npy = np.load(directory / "q.npy", mmap_mode="r")
    normalisation = build_normalisation("log1p", dataset.attributes["normalisation"])
    settings = Loader(batch=batch, lanes=4, cache_gb=0)
    reads = image.reads(dataset, normalisation, dataset.channels, 1)
    loader = build_loader(dataset, "train", settings, reads, seed=1)
    epoch = iter(range(10**6))
    some = np.random.default_rng(0).permutation(count)[: min(count, 256)]

    def plain(array) -> int:
        return sum(len(np.array(array[i : i + STEP])) for i in range(0, count, STEP))

    return {
        "loader": lambda: sum(len(b.events) for b in loader.epoch(next(epoch))),
        "plain loop over the store": lambda: plain(qplot),
        "random events of the store": lambda: sum(qplot[int(i)].shape[0] > 0 for i in some),
        "sequential .npy": lambda: plain(npy),
        "sequential HDF5": lambda: plain(h5),
    }


def order(events: int) -> None:
    """Print what it takes to know what one of 64 ranks reads first, of blocks of 128 events, of which 70 % are in the
    split."""
    split = np.flatnonzero(np.random.default_rng(0).random(events) < 0.7)
    for epoch in range(3):
        tracemalloc.start()
        found = Order.of(split, 128, RANKS, GROUP * 128, 1, epoch)
        first = [found.group(0, k) for k in range(2)]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        started = time.perf_counter()
        found = Order.of(split, 128, RANKS, GROUP * 128, 1, epoch)
        first = [found.group(0, k) for k in range(2)]
        seconds = time.perf_counter() - started
        print(
            f"{len(split)} events: {sum(map(len, first))} numbers in {seconds:.3f} s, {most / 2**20:.0f} MiB"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=16384)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--order", type=int, help="events of which the order is measured, and nothing else")
    arguments = parser.parse_args()
    if arguments.order:
        order(arguments.order)
        return 0
    threads(1)  # as a training worker has
    with tempfile.TemporaryDirectory() as directory:
        dataset = make_store(Path(directory) / "dataset.zarr", arguments.events)
        size = dataset["qplot"].nbytes / len(dataset) / 1e6
        calls = sides(dataset, Path(directory), arguments.batch)
        rounds = []
        for _ in range(arguments.rounds + 1):
            speeds = {}
            for name, call in calls.items():
                started = time.perf_counter()
                speeds[name] = call() * size / (time.perf_counter() - started)
            rounds.append(speeds)
    rounds = rounds[1:]
    for name in calls:
        ratio = statistics.median(r["loader"] / r[name] for r in rounds)
        print(f"{name:<28} {statistics.median(r[name] for r in rounds):8.0f} MB/s   loader / it {ratio:6.2f}")
    ratio = statistics.median(r["loader"] / r["plain loop over the store"] for r in rounds)
    print(
        f"loader / plain loop {ratio:.2f}   required {REQUIRED:g}   {'ok' if ratio >= REQUIRED else 'MISSED'}"
    )
    return int(ratio < REQUIRED)


if __name__ == "__main__":
    sys.exit(main())
