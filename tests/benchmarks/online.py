"""How soon and how fast `watch` answers: `python tests/benchmarks/online.py [--seconds 60] [--pace 60] [--hours 0]`.

Frames of 1 s of noise, the strain at 4096 Hz, witnesses at 512 Hz, one thread, a network as it is drawn (an untrained
one costs what a trained one does). Frames of `source` and of what comes out lie on the disk of the working directory.

    capacity    seconds of frames per second of CPU, from reading to the state on the disk, by length of block
    latency     from a frame's name to that of the cleaned frame of the same second, at real pace, in wall time
    memory      of the process, at the beginning and at the end of `--hours`, replayed as fast as it goes
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from dataclasses import replace
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


def capacity(root: Path, witnesses: int, block: float, seconds: int) -> float:
    """Seconds of frames per second of CPU."""
    frames = Frames(root / "in", witnesses)
    post = post_of(frames, root / "out", block)
    for k in range(WARM + seconds + 3):
        frames.put(k)
    follow(post, Until(post, WARM))
    began, wall = time.process_time(), time.monotonic()
    follow(post, Until(post, WARM + seconds))
    spent = time.process_time() - began
    print(
        f"{witnesses:4d} witnesses, blocks of {block:g} s: {seconds / spent:6.1f} times real time"
        f" ({seconds / (time.monotonic() - wall):.1f} by the clock)",
        flush=True,
    )
    return seconds / spent


def latency(root: Path, witnesses: int, block: float, seconds: int) -> None:
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
    late = sorted(
        (post.outbox.directory / f"S-S_GLITCHFLOW-{START + k}-1.gwf").stat().st_ctime
        - frames.path(k).stat().st_mtime
        for k in range(WARM, WARM + seconds)
    )
    print(
        f"{witnesses:4d} witnesses, blocks of {block:g} s, at real pace, {seconds} frames: median"
        f" {statistics.median(late):.2f} s, p99 {late[int(0.99 * (len(late) - 1))]:.2f} s, max {late[-1]:.2f} s"
    )


def memory(root: Path, witnesses: int, hours: float) -> None:
    """The process's memory along hours of frames, which are put there a minute at a time."""
    frames = Frames(root / "in", witnesses)
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
            print(f"{first / 3600:5.2f} h: {held:.0f} MiB", flush=True)


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
    asked = parser.parse_args()
    threads(1)
    with tempfile.TemporaryDirectory(dir=".") as name:
        number = iter(range(1000))

        def room() -> Path:
            directory = Path(name) / str(next(number))
            directory.mkdir()
            return directory

        for witnesses in asked.witnesses if asked.seconds else ():
            for block in asked.blocks:
                capacity(room(), witnesses, block, asked.seconds)
        if asked.pace:
            latency(room(), 16, 0.25, asked.pace)
        if asked.hours:
            memory(room(), 5, asked.hours)


if __name__ == "__main__":
    main()
