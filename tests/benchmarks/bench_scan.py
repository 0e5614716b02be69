"""Memory of a scan of 100 witnesses x 10,000 events and of 10 x 100: `python tests/benchmarks/bench_scan.py`.

Stores of random energies, 16 x 16 pixels, of which one witness in ten is the strain's own; each is scanned in a
process of its own. Peak memory is what is sampled of the pages of its own (RssAnon) of the driver and of the largest
of its Ray workers. Exits with status 1 where the large scan's worker takes more than 1.25 times that of the small
one, or its driver more than 1.25 times.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from glitchflow.analysis.scan import chosen, scan
from glitchflow.config import parse
from glitchflow.data.store.create import Design
from glitchflow.data.store.schema import Array, choose_layout
from glitchflow.data.store.writer import Writer, write_shard

SIZES = ((10, 100), (100, 10_000))
ALLOWED = 1.25
EVERY = 0.05  # s from sample to sample


def make_store(directory: Path, witnesses: int, events: int) -> dict:
    """A store of exponential energies with a loud pixel in the strain of each event; returns the experiment."""
    names = ["S", *(f"W{i:03d}" for i in range(witnesses))]
    config = {"workdir": str(directory), "qplot": {"shape": [16, 16]}}
    arrays = {
        "qplot": Array(("channel", "frequency", "time"), (len(names), 16, 16), "float32"),
        "split": Array((), (), "int8", column=True),
        "gps": Array((), (), "float64", column=True),
    }
    layout = choose_layout(events, arrays, 2, 64)
    axes = {"frequency": np.geomspace(10, 200, 16), "time": np.linspace(-1, 1, 16)}
    fixed = {name: ((name,), values) for name, values in axes.items()}
    design = Design(arrays, layout, {"channels": names, "labels": ["background"], "config": config}, fixed)
    with Writer.begin(directory / "dataset.zarr", lambda: design, lambda _: None) as writer:
        _fill(writer, names)
        writer.collect()
        writer.complete()
    return config


def _fill(writer: Writer, names: list[str]) -> None:
    layout = writer.layout
    for k in range(layout.shards):
        rng, span = np.random.default_rng(k), layout.span(k)
        count = span.stop - span.start
        qplot = rng.standard_exponential((count, len(names), 16, 16), dtype=np.float32)
        row, column = rng.integers(16, size=(2, count))
        qplot[np.arange(count), 0, row, column] = 50
        qplot[:, 1::10] = qplot[:, :1]
        values = {"qplot": qplot, "split": np.zeros(count, "i1"), "gps": np.arange(span.start, span.stop)}
        write_shard(writer.dataset, k, values)


def own_pages(pid: str) -> float:
    """MiB of a process's own pages; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


def environment_of(pid: str) -> str:
    """A process's environment as it was started with; empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def watch(peaks: dict[str, float], stop: threading.Event, token: str) -> None:
    """Sample the driver (this process) and Ray's workers, known by an environment variable they inherit."""
    mine: dict[str, bool] = {}
    while not stop.wait(EVERY):
        peaks["driver"] = max(peaks["driver"], own_pages("self"))
        for path in Path("/proc").glob("[0-9]*"):
            if path.name not in mine:
                mine[path.name] = f"GLITCHFLOW_BENCH={token}" in environment_of(path.name)
            if mine[path.name]:
                try:
                    name = (path / "cmdline").read_bytes()
                except OSError:
                    continue
                if name.startswith(b"ray::"):
                    peaks["worker"] = max(peaks["worker"], own_pages(path.name))


def one(config: dict, token: str) -> None:
    """Scan one store in this process and print its peaks as JSON."""
    peaks, stop = {"driver": 0.0, "worker": 0.0}, threading.Event()
    threading.Thread(target=watch, args=(peaks, stop, token), daemon=True).start()
    started = time.monotonic()
    result = json.loads(scan(parse(config)).read_text())
    stop.set()
    print(json.dumps(peaks | {"seconds": time.monotonic() - started, "chosen": len(chosen(result))}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(json.loads(arguments.one), Path(json.loads(arguments.one)["workdir"]).name)
        return 0
    rows = []
    for witnesses, events in SIZES:
        with tempfile.TemporaryDirectory(prefix="glitchflow-bench-") as directory:
            config = json.dumps(make_store(Path(directory), witnesses, events))
            environment = {**os.environ, "GLITCHFLOW_BENCH": Path(directory).name}
            command = [sys.executable, __file__, "--one", config]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        right = rows[-1]["chosen"] == witnesses // 10
        print(
            f"{witnesses:>4} witnesses x {events:>6} events: driver {rows[-1]['driver']:.0f} MiB, largest worker"
            f" {rows[-1]['worker']:.0f} MiB, {rows[-1]['seconds']:.0f} s, chosen {rows[-1]['chosen']}"
            f" {'as is right' if right else 'WRONG'}",
            flush=True,
        )
    ratios = {part: rows[1][part] / rows[0][part] for part in ("driver", "worker")}
    print(f"large / small: driver {ratios['driver']:.2f}, worker {ratios['worker']:.2f}, allowed {ALLOWED}")
    return int(max(ratios.values()) > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
