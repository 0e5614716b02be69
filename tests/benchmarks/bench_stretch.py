"""Speed and memory of making a stretch: `python tests/benchmarks/bench_stretch.py [--duration 256] [--rounds 3]`.

The frames of configs/stretch.yaml (16 channels) and of the detector of configs/observatory.yaml (103), at 512 Hz, as a
task makes them: bare, without Ray, one thread, written as `stretch.format` says. Prints how many seconds of a stretch a
second of one CPU makes, the median of rounds that are made in turns, and the peak memory of processes of their own that
make so much, and four times as much. Ends with status 1 where 16 channels are made less than 50 times faster than real
time, or a longer stretch takes more memory: over 10 % more.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path

from glitchflow.cluster import threads
from glitchflow.config import load
from glitchflow.data.stretch import Frames, make_frames
from glitchflow.signal.simulation.stretch import draw_stretch

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = ("stretch", "observatory")
RATE = 512.0  # Hz
FASTER = 50.0  # than real time, of the first
LONGER = 4
GROWTH = 1.1


def make(name: str, duration: int) -> tuple[int, float, int]:
    """Make a stretch; returns its channels, the CPU seconds that it took, and the MiB that the process held at most."""
    threads(1)
    made = load(CONFIGS / f"{name}.yaml", [f"stretch.duration={duration}"])
    with tempfile.TemporaryDirectory() as directory:
        maker = draw_stretch(made.simulate.detector, made.stretch, RATE, made.seed)
        frames = Frames(Path(directory), maker)
        frames.truth.mkdir()
        begin = time.process_time()
        make_frames(frames, (made.stretch.start, made.stretch.stop))
        spent = time.process_time() - begin
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024
    return len(maker.names), spent, peak


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=int, default=256, help="s")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    lengths, failed = (arguments.duration, LONGER * arguments.duration), False
    speeds: dict[str, list[float]] = {name: [] for name in NAMES}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for _ in range(arguments.rounds - 1):
            for name in NAMES:
                speeds[name].append(lengths[0] / pool.apply(make, (name, lengths[0]))[1])
        for name in NAMES:
            (channels, short, less), (_, _, more) = (pool.apply(make, (name, length)) for length in lengths)
            speeds[name].append(lengths[0] / short)
            speed = statistics.median(speeds[name])
            failed |= more > GROWTH * less or (name == NAMES[0] and speed < FASTER)
            print(
                f"{name}, {channels} channels: {speed:.0f} times as fast as real time (one CPU); {less} MiB for"
                f" {lengths[0]} s, {more} MiB for {lengths[1]} s",
                flush=True,
            )
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
