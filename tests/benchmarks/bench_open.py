"""What it costs to open a large store: `python tests/benchmarks/bench_open.py [--events 1000000] [--channels 6]`.

A store of so many tiny events (4 x 8 pixels) is written through the store's own writer, and opened by its URL in
another process, which reads all that is per event and not an image or a series. What is asked of the object store is
counted (any object store answers a request after some 20 ms), and the CPU seconds are those of the process, without
its imports. Prints a line, and ends with status 1 where more than 20 requests or a second were taken.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import obstore

from glitchflow.config import parse
from glitchflow.config.recipes import Detector
from glitchflow.data.content import content_of
from glitchflow.data.generate import _design, _finish
from glitchflow.data.shard_events import make_factory
from glitchflow.data.store import Dataset, Writer, open_store, write_shard

REQUESTS, SECONDS = 20, 1.0
ASKED = ("get", "get_async", "head", "head_async", "list", "get_range_async", "get_ranges_async")


def make(path: Path, events: int, channels: int, skipped: float) -> None:
    """A finished store; a share of its events could not be used."""
    rest = channels - 1 - len(Detector().witnesses)
    detector = {"subsystems": [{"name": "AUX", "count": rest}]} if rest > 0 else {}
    made = parse(
        {
            "series": {"duration": 8, "sample_rate": 1024},
            "simulate": {"events": events, "detector": detector},
            "qplot": {"q": 4, "frange": [10, 200], "shape": [4, 8], "span": 2},
        }
    )
    design = _design(make_factory(content_of(made, "simulate")))
    with Writer.begin(path, lambda: design, lambda _: None) as writer:
        for k in writer.missing():
            write_shard(writer.dataset, k, *shard(writer.dataset, k, skipped))
        _finish(writer)


def shard(dataset: Dataset, k: int, skipped: float) -> tuple[dict, dict, dict]:
    """Random values of a shard, its share of the statistics, and why some events could not be used."""
    span, rng = dataset.layout.span(k), np.random.default_rng(k)
    count, arrays = span.stop - span.start, dataset.known.arrays
    values = {n: rng.random((count, *a.shape)).astype(a.dtype) for n, a in arrays.items() if a}
    values["valid"][:] = True
    lost = np.flatnonzero(rng.random(count) < skipped)
    values["split"] = np.digitize(rng.random(count), [0.7, 0.85])
    values["split"][lost] = -1
    names = ("count", "max", "sum", "log_sum", "log_square_sum")
    share = {name: [float(count)] * len(dataset.channels) for name in names}
    return values, share, {span.start + int(i): "X1:STRAIN: no data in 1.2 of 16 s" for i in lost}


def opened(url: str) -> dict[str, float]:
    """Requests and CPU seconds of opening a store and reading its columns, and its attributes' bytes."""
    asked = dict.fromkeys(ASKED, 0)

    def counted(name, call):
        def count(*args, **kwargs):
            asked[name] += 1
            return call(*args, **kwargs)

        return count

    for name in ASKED:
        setattr(obstore, name, counted(name, getattr(obstore, name)))
    began, wall = time.process_time(), time.perf_counter()
    dataset = open_store(url)
    first = sum(asked.values()), time.process_time() - began
    columns = [name for name, array in dataset.known.arrays.items() if array and array.column]
    for name in columns:
        dataset[name][:]
    size = len(json.dumps(dataset.attributes))
    return {
        "opening": first[0],
        "opening_seconds": first[1],
        "requests": sum(asked.values()),
        "seconds": time.process_time() - began,
        "wall": time.perf_counter() - wall,
        "columns": len(columns),
        "attributes_kB": size / 1e3,
    } | {name: count for name, count in asked.items() if count}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10**6)
    parser.add_argument("--channels", type=int, default=6)
    parser.add_argument("--skipped", type=float, default=0.1, help="share of events that could not be used")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(opened(arguments.one)))
        return 0
    with tempfile.TemporaryDirectory(prefix="glitchflow-bench-") as directory:
        path = Path(directory) / "dataset.zarr"
        make(path, arguments.events, arguments.channels, arguments.skipped)
        objects = sum(file.is_file() for file in path.rglob("*"))
        command = [sys.executable, __file__, "--one", path.as_uri()]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    print(f"{arguments.events} events of {arguments.channels} channels, {objects} objects: {found}")
    return int(found["requests"] > REQUESTS or found["seconds"] > SECONDS)


if __name__ == "__main__":
    sys.exit(main())
