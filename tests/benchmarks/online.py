"""How soon and how fast `watch` answers: `python tests/benchmarks/online.py [--seconds 60] [--pace 60] [--hours 0]`.

All rows take `--pace 1000 --hours 6`: half an hour of waiting for frames, and half an hour of CPU. Each row is kept
in `--record` when it is measured, and not measured again.

Frames of 1 s of noise, the strain at 4096 Hz, witnesses at 512 Hz, one thread, a network as it is drawn (an untrained
one costs what a trained one does). Frames of `source` and of what comes out lie on the disk of the working directory.

    capacity    seconds of frames per second of CPU, from reading to the state on the disk, by length of block
    latency     in wall time at real pace, from a frame's name, which it gets when its last sample is over, to that of
                the cleaned frame of the same second. It is the sum of
                    settle     until the last sample that the answer depends on is over
                    frame      until the frame that holds that sample is there
                    compute    to see it, read it, ask the twin, and bring frame and state to the disk
    memory      of the process, at the end of each of `--hours`, replayed as fast as it goes

What the design asks for is held against the rows that are there: ok or MISSED; status 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from bench_clean import stepper

from glitchflow.analysis.clean.line import reach
from glitchflow.cluster import threads
from glitchflow.data.frames import write_frame
from glitchflow.online.line import Line
from glitchflow.online.monitor import Monitor
from glitchflow.online.sink import Outbox
from glitchflow.online.source import Inbox
from glitchflow.online.watch import Post, follow
from glitchflow.signal.recorded.row import HALF

START, STRAIN, RATE = 1_000_000_000, 4096, 512
KINDS = 8  # different seconds of noise
BLOCKS = (1.0, 0.25, 0.0625)
WITNESSES = (5, 16, 100)
WARM = 8  # s before anything counts
AT_ONCE = 60  # frames that lie there at the same time
SETTLED = (
    600  # s after which all that a process keeps is there: the minutes of its page, the hours of its tables
)

Row = dict[str, float]  # what was measured, in words


class Frames:
    """A directory of frames, of which any number can be put there."""

    def __init__(self, directory: Path, witnesses: int) -> None:
        self.directory, self.names = directory, ["S", *(f"W{k}" for k in range(witnesses))]
        directory.mkdir(exist_ok=True)
        rng = np.random.default_rng(1)
        self.noise = [
            {
                n: rng.standard_normal(RATE).astype("f4") if n != "S" else rng.standard_normal(STRAIN)
                for n in self.names
            }
            for _ in range(KINDS)
        ]

    def path(self, k: int) -> Path:
        """Where second number k is."""
        return self.directory / f"S-S_RAW-{START + k}-1.gwf"

    def put(self, k: int) -> None:
        """Make second number k appear."""
        write_frame(self.path(k), START + k, 1, self.noise[k % KINDS], "gwf", "x")


class Until:
    """Stops when that many seconds came out; makes room by deleting what was read."""

    def __init__(self, post: Post, count: int) -> None:
        self.last, self.post = post.outbox.directory / f"S-S_GLITCHFLOW-{START + count - 1}-1.gwf", post

    def is_set(self) -> bool:
        return self.last.exists()

    def wait(self, timeout: float) -> bool:
        time.sleep(timeout)
        return self.is_set()


def post_of(frames: Frames, directory: Path, block: float, keep: float = SETTLED) -> Post:
    """A twin over frames, which settles for a quarter of a second."""
    steps = stepper(len(frames.names) - 1, block, 0.25, min(8, max(1, round(1 / block))))
    steps = replace(steps, louder=float("inf"))  # of noise nothing can be known
    directory.mkdir()
    inbox = Inbox(frames.directory, {name: name for name in frames.names}, 10)
    return Post(Line(steps), inbox, Outbox(directory, "S", "gwf", 1, {}), keep, Monitor("S"))


def capacity(root: Path, witnesses: int, block: float, seconds: int) -> Row:
    """Seconds of frames per second of CPU, and of wall time."""
    frames = Frames(root / "in", witnesses)
    post = post_of(frames, root / "out", block)
    for k in range(WARM + seconds + 3):
        frames.put(k)
    follow(post, Until(post, WARM))
    began, wall = time.process_time(), time.monotonic()
    follow(post, Until(post, WARM + seconds))
    spent, wall = time.process_time() - began, time.monotonic() - wall
    return {"per s of CPU": round(seconds / spent, 1), "per s by the clock": round(seconds / wall, 1)}


def feed(directory: Path, witnesses: int, count: int) -> None:
    """Make frames appear, one a second."""
    frames, begun = Frames(directory, witnesses), time.monotonic()
    for k in range(count):
        time.sleep(max(0.0, begun + k - time.monotonic()))
        frames.put(k)


def latency(root: Path, witnesses: int, block: float, seconds: int) -> Row:
    """From frame to cleaned frame, at real pace; frames come from a process of their own."""
    frames = Frames(root / "in", witnesses)
    post = post_of(frames, root / "out", block, keep=seconds + 2 * SETTLED)
    context = multiprocessing.get_context("spawn")
    feeder = context.Process(target=feed, args=(root / "in", witnesses, WARM + seconds + 3))
    feeder.start()
    follow(post, Until(post, WARM + seconds))
    feeder.join()
    needed = known_after(post.line)
    later = math.ceil(needed)
    came, late, slow = [], [], []
    for k in range(WARM, WARM + seconds):
        out = (post.outbox.directory / f"S-S_GLITCHFLOW-{START + k}-1.gwf").stat().st_ctime
        came.append(frames.path(k + later).stat().st_ctime)
        late.append(out - frames.path(k).stat().st_ctime)
        slow.append(out - came[-1])
    return {
        "settle": round(needed, 3),
        "frame": round(later - needed, 3),
        **{f"compute, {name}": value for name, value in spread(slow).items()},
        **{f"all, {name}": value for name, value in spread(late).items()},
        "load of the last 15 min": round(os.getloadavg()[2], 1),
    }


def known_after(line: Line) -> float:
    """The s after the end of a second until the last sample that its cleaned one depends on is over: the block that
    its end reaches into, what that settles for, and what resampling takes."""
    steps, rate = line.steps, line.steps.front.rate
    block = steps.block / rate
    return math.ceil(reach(steps) / block) * block + (steps.settle + HALF + 1) / rate


def spread(values: list[float]) -> Row:
    """Median, 99th percentile and maximum."""
    ordered = sorted(values)
    p99 = ordered[math.ceil(0.99 * len(ordered)) - 1]
    return {
        "median": round(statistics.median(ordered), 3),
        "p99": round(p99, 3),
        "max": round(ordered[-1], 3),
    }


def memory(root: Path, witnesses: int, hours: float) -> Row:
    """The process's memory along hours of frames, which are put there a minute at a time, in MiB."""
    frames, told = Frames(root / "in", witnesses), Row()
    post = post_of(frames, root / "out", 1.0)
    for first in range(0, round(3600 * hours), AT_ONCE):
        for k in range(first, first + AT_ONCE + 3):
            if k >= first + 3 or not first:
                frames.put(k)
        follow(post, Until(post, first + AT_ONCE))
        for k in range(first, first + AT_ONCE):
            frames.path(k).unlink()
        done = first + AT_ONCE
        if done == SETTLED or done % 3600 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            told[after(done)] = round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
            print(f"{after(done)}: {told[after(done)]:g} MiB", file=sys.stderr, flush=True)
    return told


def after(seconds: int) -> str:
    """So many seconds, in words."""
    return f"{seconds // 3600} h" if seconds % 3600 == 0 else f"{seconds // 60} min"


def kept(record: Path, rows: Mapping[str, Callable[[Path], Row]]) -> dict[str, Row]:
    """Print rows, those that a record has as they are, others as they are measured, each in a directory of its own."""
    known: dict[str, Row] = json.loads(record.read_text()) if record.exists() else {}
    record.parent.mkdir(parents=True, exist_ok=True)
    for name, measure in rows.items():
        if name not in known:
            with tempfile.TemporaryDirectory(dir=".") as room:
                found = measure(Path(room))
            known = (json.loads(record.read_text()) if record.exists() else {}) | {name: found}
            hidden = record.with_name(f".{record.name}")
            hidden.write_text(json.dumps(known, indent=1))
            hidden.replace(record)
        print(f"{name}: {', '.join(f'{what} {value:g}' for what, value in known[name].items())}", flush=True)
    return {name: known[name] for name in rows}


def judged(demands: Mapping[str, bool]) -> None:
    """Say of each demand whether it is met; end with status 1 where one is not."""
    for words, met in demands.items():
        print(f"{words}: {'ok' if met else 'MISSED'}")
    sys.exit(int(not all(demands.values())))


def demands(found: Mapping[str, Row]) -> dict[str, bool]:
    """What the design asks for, of the rows that are there, and whether it is so."""
    asked = {}
    for name, row in found.items():
        if name.startswith("capacity, 16 witnesses, blocks of 1 s"):
            asked["16 witnesses, blocks of 1 s: at least 20 s per s of CPU"] = row["per s of CPU"] >= 20
        if name.startswith("at real pace, 16 witnesses"):
            asked["16 witnesses: p99 at most 2 s after the last sample"] = row["all, p99"] <= 2
        if name.startswith("memory"):
            grown = list(row.values())[-1] / row[after(SETTLED)]
            asked["memory at the end at most 5 % over that after ten minutes"] = grown <= 1.05
    return asked


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60, help="of frames behind each capacity")
    parser.add_argument(
        "--pace", type=int, default=60, help="frames behind the latency, at real pace; 0: none"
    )
    parser.add_argument("--hours", type=float, default=0.0, help="of frames along which memory is looked at")
    parser.add_argument("--witnesses", type=int, nargs="*", default=WITNESSES)
    parser.add_argument("--blocks", type=float, nargs="*", default=BLOCKS)
    parser.add_argument(
        "--record", type=Path, default=Path("runs/online.json"), help="rows that were measured"
    )
    asked = parser.parse_args()
    threads(1)
    rows: dict[str, Callable[[Path], Row]] = {}
    for witnesses in asked.witnesses:
        for block in asked.blocks if asked.seconds else ():
            name = f"capacity, {witnesses} witnesses, blocks of {block:g} s, {asked.seconds} frames"
            rows[name] = partial(capacity, witnesses=witnesses, block=block, seconds=asked.seconds)
        if asked.pace:
            name = f"at real pace, {witnesses} witnesses, blocks of 0.25 s, {asked.pace} frames"
            rows[name] = partial(latency, witnesses=witnesses, block=0.25, seconds=asked.pace)
    if asked.hours:
        rows[f"memory, 5 witnesses, blocks of 1 s, {asked.hours:g} h"] = partial(
            memory, witnesses=5, hours=asked.hours
        )
    judged(demands(kept(asked.record, rows)))


if __name__ == "__main__":
    main()
