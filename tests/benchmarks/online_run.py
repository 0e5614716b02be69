"""A trained twin over frames that appear, in simulated time: what benchmarks of `watch` have in common.

RUN/later/frames --cut, once--> RUN/seconds/*.gwf, of 1 s each --Feed--> a directory --follow--> cleaned frames
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from glitchflow.config import Ingest, Online
from glitchflow.online import replay
from glitchflow.online.monitor import Monitor
from glitchflow.online.sink import Outbox
from glitchflow.online.source import Inbox, listed
from glitchflow.online.twins import open_twin
from glitchflow.online.watch import Post, follow, of_twin
from glitchflow.signal.recorded.frames import Piece
from glitchflow.signal.recorded.samples import read_samples
from glitchflow.train import checkpoint

WAIT = 10.0  # s, online.wait
EDGE = 6  # s at the beginning that no crop knows all of


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


def seconds_of(run: Path) -> list[Piece]:
    """The later frames of a run in files of 1 s, which are made once."""
    cut = run / "seconds"
    if not cut.exists():
        made = run / ".seconds"
        shutil.rmtree(made, ignore_errors=True)
        replay.replay(run / "later" / "frames", replay.Replay(made, speed=0, cut=1))
        made.rename(cut)
    return sorted(listed(cut), key=lambda piece: piece.start)


def post_of(run: Path, source: Path, out: Path, block: float, settle: float) -> Post:
    """The best twin of a run over a directory of frames, with what comes out in another one, which may be there."""
    network = checkpoint.find(run, str(run))
    rate = network.normalisation.rate
    settings = Online(block=block, settle=round(settle * rate) / rate, wait=WAIT)
    twin = open_twin(network, settings, Ingest())
    out.mkdir(exist_ok=True)
    inbox = Inbox(source, {name: name for name in twin.line.steps.front.channels}, WAIT)
    outbox = of_twin(Outbox(out, twin.line.strain, "gwf", 0, {}), twin)
    return Post(twin.line, inbox, outbox, 86400, Monitor("S"))


def cleaned(post: Post, pieces: list[Piece]) -> Path:
    """Clean files that appear one after the other; return the directory of what came out."""
    settings = replay.Replay(post.inbox.directory)
    settings.into.mkdir(exist_ok=True)
    feed = Feed(replay.plan(pieces, settings), settings)
    follow(post, feed, clock=lambda: feed.now)
    return post.outbox.directory


def by_second(directory: Path) -> dict[int, Path]:
    """The frames of one second each in a directory, by GPS second, ascending."""
    return {round(one.start): Path(one.path) for one in sorted(listed(directory), key=lambda one: one.start)}


def series(directory: Path, name: str) -> np.ndarray:
    """A channel of all files of a directory, one after the other."""
    files = by_second(directory).values()
    return np.concatenate([read_samples(str(file), "", [name])[name].values for file in files])
