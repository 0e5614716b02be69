"""Ingest of recorded data through Ray into Zarr: `python tests/benchmarks/bench_ingest.py [--events 124] [--cpus 2]`.

Makes its own frames of white noise and asks how many seconds `ingest` takes, start of Ray included:

- `list`: events at times of a list, out of one GWF file of 2,073 s (a single frame, as GWOSC's are), strain at 16384 Hz
- `sliding`: windows side by side over 242 s of the same file, with two witnesses at 4096 and 256 Hz
- `frames`: windows side by side over 1,024 s of 16 channels in GWF files of 64 s

`--bare` makes the events in this process and counts its CPU time: the reading and the Q-plots alone, and the share that
whitening has of it. `--opens` counts how often tasks open each file of a month, or of an hour, for windows of 8 s, one
every 2 s, of those 16 channels in files of 64 s; nothing is read for that. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from gwpy.timeseries import TimeSeries, TimeSeriesDict

from glitchflow.cluster import threads
from glitchflow.config import Experiment, Series, Source, parse
from glitchflow.data.content import content_of
from glitchflow.data.generate import ingest
from glitchflow.data.shard_events import make_block, make_factory, neighbours
from glitchflow.signal.recorded import recording
from glitchflow.signal.recorded.samples import Samples

START, LENGTH = 1_400_000_000, 2073
LONG = {"X1:STRAIN": 16384, "X1:FAST": 4096, "X1:SLOW": 256}
MANY = {"X1:STRAIN": 2048, **{f"X1:W{i:02}": (2048, 512, 256, 64)[i % 4] for i in range(15)}}


def write_frames(directory: Path, rates: dict[str, int], length: int, seconds: int) -> None:
    """Files of `length` s, all channels in each."""
    directory.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for start in range(START, START + seconds, length):
        series = TimeSeriesDict()
        for name, rate in rates.items():
            values = rng.standard_normal(length * rate)
            series[name] = TimeSeries(values, t0=start, sample_rate=rate, name=name, channel=name)
        series.write(directory / f"X-X1_BENCH-{start}-{length}.gwf", format="gwf")


def experiment(workdir: Path, frames: Path, names: list[str], times: Any, cpus: int) -> Experiment:
    return parse(
        {
            "workdir": str(workdir),
            "ingest": {
                "channels": [{"name": name, "files": [str(frames / "*.gwf")]} for name in names],
                "times": times,
            },
            "cluster": {"cpus": cpus},
        }
    )


def seconds(made: Experiment, bare: bool) -> dict[str, float]:
    """How long it takes, and what share of that whitening has, where it is made in this process."""
    if not bare:
        begin = time.perf_counter()
        ingest(made)
        return {"seconds": round(time.perf_counter() - begin, 1)}
    threads(1)
    begin, whitening = time.process_time(), 0.0
    factory = make_factory(content_of(made, "ingest"))
    inner = factory.engine.whitening

    def timed(*series: Any, **settings: Any) -> Any:
        nonlocal whitening
        started = time.process_time()
        found = inner(*series, **settings)
        whitening += time.process_time() - started
        return found

    factory.engine.whitening = timed
    for first in range(0, factory.recipe.events, 16):
        make_block(factory, range(first, min(first + 16, factory.recipe.events)))
    took = time.process_time() - begin
    return {"seconds": round(took, 1), "whitening": round(whitening / took, 3)}


def opens(events: int, shard: int = 112, files: int = 256) -> float:
    """How often a file is opened by the tasks that share out so many events, counted over some files.

    shard: events of one, as configs/stretch.yaml has them.
    """
    seen: Counter[str] = Counter()
    length, series = 64, Series(duration=8, sample_rate=512)

    def read(path: str, _form: str, channels: list[str], *_: float) -> dict[str, Samples]:
        seen[path] += 1
        start = float(path.split("-")[-2])
        return {
            name: Samples(start, MANY[name], np.ones(length * MANY[name], np.float32)) for name in channels
        }

    with tempfile.TemporaryDirectory() as name:
        for k in range(files):
            Path(name, f"X-X1_BENCH-{START + k * length}-{length}.gwf").touch()
        sources = [Source(name=channel, files=[f"{name}/*.gwf"]) for channel in MANY]
        starts = START + 2.0 * np.arange((files * length - 8) // 2)
        shards = list(range(-(-events // shard)))
        run = len(next(iter(neighbours(shards, reads_files=True).values())))
        with mock.patch.object(recording, "read_samples", read):
            for first in range(0, len(starts), run * shard):
                task = recording.open_recording(sources, series, starts, shard, MANY)
                for window in range(first, min(first + run * shard, len(starts))):
                    recording.cut(task, window)
    return round(sum(seen.values()) / len(seen), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=124, help="of the list; fewer windows slide, too")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--frames", help="a directory where the frames stay, to measure again")
    parser.add_argument("--only", choices=("list", "sliding", "frames"))
    parser.add_argument("--opens", action="store_true")
    arguments = parser.parse_args()
    if arguments.opens:
        json.dump({"month": opens(30 * 43200), "hour": opens(1800)}, sys.stdout)
        print()
        return
    with tempfile.TemporaryDirectory() as name:
        directory, count = Path(arguments.frames or name), arguments.events
        times = np.linspace(START + 10, START + LENGTH - 10, count).tolist()
        end = START + 20 + 2 * min(count - 3, 121) if count > 3 else START + 22
        cases: dict[str, tuple[dict[str, int], list[str], int, int, Any]] = {
            "list": (LONG, ["X1:STRAIN"], LENGTH, LENGTH, times),
            "sliding": (LONG, list(LONG), LENGTH, LENGTH, {"start": START + 20, "end": end}),
            "frames": (MANY, list(MANY), 64, 1024, {"start": START + 7, "end": START + 7 + 1010}),
        }
        for case, (rates, channels, length, whole, when) in cases.items():
            if arguments.only in (None, case):
                frames = directory / f"{length}"
                if not frames.exists():
                    write_frames(frames, rates, length, whole)
                made = experiment(Path(name) / case, frames, channels, when, arguments.cpus)
                took = seconds(made, arguments.bare)
                json.dump({"case": case, "channels": len(channels)} | took, sys.stdout)
                print(flush=True)


if __name__ == "__main__":
    main()
