"""What it costs to finish and to open a large store: `python tests/benchmarks/bench_open.py [--events 1000000]`.

A store of so many tiny events (4 x 8 pixels) is written through the store's own writer, finished in a process of its
own, as a driver does, and opened by its URL in another, which reads all that is per event and not an image or a series.
What is asked of the object store is counted (any object store answers a request after some 20 ms), and the CPU seconds
are those of the process, without its imports. `--shard-mb 0.5` makes shards of 8 events of 500 channels, as many as
images of 64 x 64 pixels leave in one. Prints a line, and ends with status 1 where more than 20 requests or a second
were taken to open it.
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


def make(path: Path, events: int, channels: int, skipped: float, shard_mb: float) -> None:
    """All shards of a store that is not finished; a share of its events could not be used."""
    rest = channels - 1 - len(Detector().witnesses)
    detector = {"subsystems": [{"name": "AUX", "count": rest}]} if rest > 0 else {}
    made = parse(
        {
            "series": {"duration": 8, "sample_rate": 1024},
            "simulate": {"events": events, "detector": detector},
            "qplot": {"q": 4, "frange": [10, 200], "shape": [4, 8], "span": 2},
            "store": {"shard_mb": shard_mb},
        }
    )
    design = _design(make_factory(content_of(made, "simulate")))
    with Writer.begin(path, lambda: design, lambda _: None) as writer:
        for k in writer.missing():
            write_shard(writer.dataset, k, *shard(writer.dataset, k, skipped))


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
    share = {name: (count * rng.random(len(dataset.channels))).tolist() for name in names}
    return values, share, {span.start + int(i): "X1:STRAIN: no data in 1.2 of 16 s" for i in lost}


def finished(path: str) -> dict[str, float]:
    """What a driver takes to finish the store: seconds, MiB that it holds at most beyond those it began with, and MB of
    markers that it leaves."""
    before, began = held("VmRSS"), time.perf_counter()
    with Writer.begin(path, lambda: sys.exit("is not there"), lambda _: None) as writer:
        _finish(writer)
    seconds, markers = time.perf_counter() - began, Path(path, ".done").rglob("*.json")
    size = {str(file.relative_to(path)): file.stat().st_size / 1e6 for file in markers}
    more = {"all.json_MB": size.pop(".done/all.json"), "statistics_MB": sum(size.values()), "of": len(size)}
    return {"shards": writer.layout.shards, "seconds": seconds, "MiB": held("VmHWM") - before} | more


def held(what: str) -> int:
    """MiB that this process holds (VmRSS), or held at most (VmHWM)."""
    return int(Path("/proc/self/status").read_text().partition(f"{what}:")[2].split()[0]) // 1024


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


def apart(step: str, where: str) -> dict[str, float]:
    """What a step tells that is done in a process of its own."""
    command = [sys.executable, __file__, "--one", step, where]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10**6)
    parser.add_argument("--channels", type=int, default=6)
    parser.add_argument("--skipped", type=float, default=0.1, help="share of events that could not be used")
    parser.add_argument("--shard-mb", type=float, default=64, help="store.shard_mb")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        step, where = arguments.one
        print(json.dumps({"finish": finished, "open": opened}[step](where)))
        return 0
    with tempfile.TemporaryDirectory(prefix="glitchflow-bench-") as directory:
        path = Path(directory) / "dataset.zarr"
        make(path, arguments.events, arguments.channels, arguments.skipped, arguments.shard_mb)
        finishing = apart("finish", str(path))
        objects = sum(file.is_file() for file in path.rglob("*"))
        found = apart("open", path.as_uri())
    print(f"{arguments.events} events of {arguments.channels} channels, finished: {finishing}")
    print(f"{objects} objects, opened: {found}")
    return int(found["requests"] > REQUESTS or found["seconds"] > SECONDS)


if __name__ == "__main__":
    sys.exit(main())
