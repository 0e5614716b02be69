"""How soon and how fast `watch` answers: `python tests/benchmarks/online.py [--seconds 60] [--pace 60] [--hours 0]`.

All rows take `--pace 1000 --hours 6` some two hours. Each is kept in `--record` when it is measured, and not measured
again; the longest, six hours of frames, takes less than half an hour.

Frames of 1 s of noise, the strain at 4096 Hz, witnesses at 512 Hz, one thread, a network as it is drawn (an untrained
one costs what a trained one does). Frames of `source` and of what comes out lie on the disk of the working directory.

    capacity    seconds of frames per second of CPU, from reading to the state on the disk, by length of block
    latency     from a frame's name to that of the cleaned frame of the same second, at real pace, in wall time; of it
                what comes after the next frame, which is waited for: reading, the twin, writing
    memory      of the process, at the beginning and at the end of `--hours`, replayed as fast as it goes
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from bench_clean import stepper

from glitchflow.cluster import threads
from glitchflow.data.frames import write_frame
from glitchflow.online.line import Line
from glitchflow.online.monitor import Monitor
from glitchflow.online.sink import Outbox
from glitchflow.online.source import Inbox
from glitchflow.online.watch import Post, follow

START, STRAIN, RATE = 1_000_000_000, 4096, 512
KINDS = 8  # different seconds of noise
BLOCKS = (1.0, 0.25, 0.0625)
WITNESSES = (5, 16, 100)
WARM = 8  # s before anything counts
AT_ONCE = 60  # frames that lie there at the same time


class Frames:
    """A directory of frames, of which any number can be put there."""

    def __init__(self, directory: Path, witnesses: int) -> None:
        self.directory, self.names = directory, ["S", *(f"W{k}" for k in range(witnesses))]
        directory.mkdir()
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


def post_of(frames: Frames, directory: Path, block: float) -> Post:
    """A twin over frames, which settles for a quarter of a second."""
    steps = stepper(len(frames.names) - 1, block, 0.25, min(8, max(1, round(1 / block))))
    steps = replace(steps, louder=float("inf"))  # of noise nothing can be known
    directory.mkdir()
    inbox = Inbox(frames.directory, {name: name for name in frames.names}, 10)
    return Post(Line(steps), inbox, Outbox(directory, "S", "gwf", 1, {}), 600, Monitor("S"))


def capacity(root: Path, witnesses: int, block: float, seconds: int) -> str:
    """Seconds of frames per second of CPU."""
    frames = Frames(root / "in", witnesses)
    post = post_of(frames, root / "out", block)
    for k in range(WARM + seconds + 3):
        frames.put(k)
    follow(post, Until(post, WARM))
    began, wall = time.process_time(), time.monotonic()
    follow(post, Until(post, WARM + seconds))
    spent, wall = time.process_time() - began, time.monotonic() - wall
    return f"{seconds / spent:6.1f} times real time ({seconds / wall:.1f} by the clock)"


def latency(root: Path, witnesses: int, block: float, seconds: int) -> str:
    """From frame to cleaned frame, at real pace."""
    frames = Frames(root / "in", witnesses)
    post = post_of(frames, root / "out", block)

    def feed() -> None:
        begun = time.monotonic()
        for k in range(WARM + seconds + 3):
            time.sleep(max(0.0, begun + k - time.monotonic()))
            frames.put(k)

    feeder = threading.Thread(target=feed)
    feeder.start()
    follow(post, Until(post, WARM + seconds))
    feeder.join()
    told = []
    for name, later in (("latency", 0), ("after the next frame", 1)):
        late = sorted(
            (post.outbox.directory / f"S-S_GLITCHFLOW-{START + k}-1.gwf").stat().st_ctime
            - frames.path(k + later).stat().st_mtime
            for k in range(WARM, WARM + seconds)
        )
        p99 = late[int(0.99 * (len(late) - 1))]
        told.append(f"{name}: median {statistics.median(late):.2f} s, p99 {p99:.2f} s, max {late[-1]:.2f} s")
    return "; ".join(told)


def memory(root: Path, witnesses: int, hours: float) -> str:
    """The process's memory along hours of frames, which are put there a minute at a time."""
    frames, told = Frames(root / "in", witnesses), []
    post = post_of(frames, root / "out", 0.25)
    for first in range(0, round(3600 * hours), AT_ONCE):
        for k in range(first, first + AT_ONCE + 3):
            if k >= first + 3 or not first:
                frames.put(k)
        follow(post, Until(post, first + AT_ONCE))
        for k in range(first, first + AT_ONCE):
            frames.path(k).unlink()
        if first // AT_ONCE in (5, round(60 * hours) - 1) or first % 3600 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            held = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            told.append(f"{first / 3600:.2f} h {held:.0f} MiB")
    return ", ".join(told)


def kept(record: Path, rows: Mapping[str, Callable[[Path], str]]) -> None:
    """Print rows, those that a record has as they are, others as they are measured, each in a directory of its own."""
    known = json.loads(record.read_text()) if record.exists() else {}
    record.parent.mkdir(parents=True, exist_ok=True)
    for name, measure in rows.items():
        if name not in known:
            with tempfile.TemporaryDirectory(dir=".") as room:
                known[name] = measure(Path(room))
            hidden = record.with_name(f".{record.name}")
            hidden.write_text(json.dumps(known, indent=1))
            hidden.replace(record)
        print(f"{name}: {known[name]}", flush=True)


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
    rows: dict[str, Callable[[Path], str]] = {}
    for witnesses in asked.witnesses:
        for block in asked.blocks if asked.seconds else ():
            name = f"capacity, {witnesses} witnesses, blocks of {block:g} s, {asked.seconds} frames"
            rows[name] = partial(capacity, witnesses=witnesses, block=block, seconds=asked.seconds)
        if asked.pace:
            name = f"at real pace, {witnesses} witnesses, blocks of 0.25 s, {asked.pace} frames"
            rows[name] = partial(latency, witnesses=witnesses, block=0.25, seconds=asked.pace)
    if asked.hours:
        rows[f"memory, 5 witnesses, {asked.hours:g} h"] = partial(memory, witnesses=5, hours=asked.hours)
    kept(asked.record, rows)


if __name__ == "__main__":
    main()
