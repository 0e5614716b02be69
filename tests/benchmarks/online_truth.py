"""What a twin leaves online, and what faults cost: `python tests/benchmarks/online_truth.py RUN`.

RUN is a run of configs/online.yaml, with `later/frames` (the commands at its head). One thread, time is simulated. Each
row is kept in `--record` when it is measured, and not measured again: minutes each.

    settle   of the witnessed part's power what is left in the cleaned frames, and what is added to quiet time, by
             `online.settle`, beside offline (blocks of 2 s that settle for 1 s, as `clean` has them)
    faults   each fault of `replay`, in one file of `--every`: seconds that came out, that were lost though their file
             came whole and in time, and that came twice
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from online import kept
from scipy.signal import resample_poly

from glitchflow.cluster import threads
from glitchflow.config import Ingest, Online
from glitchflow.online import replay
from glitchflow.online.line import NOTHING
from glitchflow.online.monitor import Monitor
from glitchflow.online.sink import Outbox
from glitchflow.online.source import Inbox, listed
from glitchflow.online.twins import open_twin
from glitchflow.online.watch import Post, follow, of_twin
from glitchflow.signal.recorded.samples import read_samples
from glitchflow.train import checkpoint

SETTLES = (0.0, 0.1, 0.25, 0.5, 1.0)
EDGE = 6  # s at the beginning that no crop knows all of
NEAR = 2.0  # s about a glitch that are not quiet
HARMFUL = {"drop", "truncate", "flip", "nan"}  # what such a file had is not there
WAIT = 10.0  # s


@dataclass
class Feed:
    """Puts files into a directory when their simulated time has come, and ends when nothing more happens."""

    deliveries: list[replay.Delivery]
    settings: replay.Replay
    now: float = 0.0
    idle: int = field(default=0)

    def is_set(self) -> bool:
        return self.idle > 3 * WAIT

    def wait(self, timeout: float) -> bool:
        self.now += 1
        self.idle = 0 if self.deliveries else self.idle + 1
        while self.deliveries and self.deliveries[0].due <= self.now:
            replay._put(self.deliveries.pop(0), self.settings, 0)
        return self.is_set()


def run(path: Path, into: Path, block: float, settle: float, feed: Feed) -> Path:
    """Clean what a feed gives; return the directory of frames."""
    network = checkpoint.find(path, str(path))
    rate = network.normalisation.rate
    settings = Online(block=block, settle=round(settle * rate) / rate, wait=WAIT)
    twin, out = open_twin(network, settings, Ingest()), into / "out"
    out.mkdir()
    inbox = Inbox(feed.settings.into, {name: name for name in twin.line.steps.front.channels}, WAIT)
    outbox = of_twin(Outbox(out, twin.line.strain, "gwf", 0, {}), twin)
    follow(Post(twin.line, inbox, outbox, 86400, Monitor("S")), feed, clock=lambda: feed.now)
    return out


def feed_of(path: Path, into: Path, seconds: int, faults: tuple[str, ...] = (), every: int = 20) -> Feed:
    """The first seconds of the later frames, in files of 1 s."""
    settings = replay.Replay(into / "in", cut=1, faults=faults, every=every)
    settings.into.mkdir()
    pieces = sorted(listed(path / "later" / "frames"), key=lambda piece: piece.start)
    stop = pieces[0].start + seconds
    return Feed([one for one in replay.plan(pieces, settings) if one.start < stop], settings)


def series(directory: Path, name: str) -> np.ndarray:
    """A channel of all files of a directory, one after the other."""
    files = sorted(directory.glob("*.gwf"), key=lambda file: int(file.name.split("-")[2]))
    return np.concatenate([read_samples(str(file), "", [name])[name].values for file in files])


def settle(into: Path, path: Path, block: float, seconds_settled: float, seconds: int) -> str:
    """What is left of the witnessed part's power, and rms of what is added to quiet time over the strain's there."""
    out = run(path, into, block, seconds_settled, feed_of(path, into, seconds))
    front = checkpoint.find(path, str(path)).normalisation
    name, frames = front.channels[0], path / "later" / "frames"
    clean = series(out, f"{name}_CLEAN")
    strain, truth = (
        series(at, what)[: len(clean)]
        for at, what in ((frames, name), (frames / "truth", f"{name}_WITNESSED"))
    )
    down = round(len(series(into / "in", name)) / seconds / front.rate)
    s, w, removed = (
        front.strain(torch.from_numpy(resample_poly(values, 1, down)[None].copy()))[0].numpy()
        for values in (strain, truth, strain - clean)
    )
    start = min(piece.start for piece in listed(frames))
    time = start + np.arange(len(s)) / front.rate
    with (frames / "truth" / "glitches.csv").open() as file:
        near = [abs(time - float(row["gps"])) < NEAR for row in csv.DictReader(file)]
    inside = time > start + EDGE
    quiet = inside & ~np.any(near, axis=0)
    wrong = removed - w
    left = float(np.square(wrong[inside]).sum() / np.square(w[inside]).sum())
    return f"left {left:.3f}  added {float(wrong[quiet].std() / s[quiet].std()):.3f}"


def fault(into: Path, path: Path, name: str, seconds: int, every: int) -> str:
    """A row of the table of faults."""
    feed = feed_of(path, into, seconds, (name,), every)
    met, dropped = (
        [one for one in feed.deliveries if one.fault],
        (name == "drop") * (seconds - len(feed.deliveries)),
    )
    late = {one.start for one in met if name == "delay" and one.due - (one.start - met[0].start) > WAIT}
    whole = {one.start for one in feed.deliveries if not (one.fault and name in HARMFUL)} - late
    out = run(path, into, 0.25, 0.25, feed)
    strain = next(out.glob("*.gwf")).name
    found = Counter(int(file.name.split("-")[2]) for file in out.glob(f"{strain[0]}-*.gwf"))
    channel = checkpoint.find(path, str(path)).normalisation.channels[0]
    empty = set()
    for file in out.glob("*.gwf"):
        state = read_samples(str(file), "", [f"{channel}_STATE"])[f"{channel}_STATE"].values
        if (state & NOTHING).all():
            empty.add(int(file.name.split("-")[2]))
    came = {one for one in whole if min(found) <= one <= max(found)}
    lost, twice = len(came & empty | came - found.keys()), sum(count - 1 for count in found.values())
    return f"{len(met) + dropped:6d} files {len(found):6d} seconds out {lost:4d} lost {twice:4d} doubled"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=int, default=600, help="of frames behind each row")
    parser.add_argument("--settles", type=float, nargs="*", default=SETTLES)
    parser.add_argument("--faults", nargs="*", default=list(replay.FAULTS))
    parser.add_argument("--every", type=int, default=20, help="files, of which one meets a fault")
    parser.add_argument(
        "--record", type=Path, default=Path("runs/online_truth.json"), help="rows that were measured"
    )
    asked = parser.parse_args()
    threads(1)
    rows: dict[str, Callable[[Path], str]] = {}
    settled = [("offline", 2.0, 1.0)] * bool(asked.settles) + [(f"{s:g} s", 0.25, s) for s in asked.settles]
    for words, block, seconds in settled:
        more = {"path": asked.run, "block": block, "seconds_settled": seconds, "seconds": asked.seconds}
        rows[f"{asked.run}, settle {words}, {asked.seconds} s"] = partial(settle, **more)
    for what in asked.faults:
        more = {"path": asked.run, "name": what, "seconds": asked.seconds, "every": asked.every}
        rows[f"{asked.run}, {what} in one of {asked.every}, {asked.seconds} s"] = partial(fault, **more)
    kept(asked.record, rows)


if __name__ == "__main__":
    main()
