"""A small twin over a directory of frames, and what has come out of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from fronts import FRONT, First

from glitchflow.data.frames import write_frame
from glitchflow.online.line import Line
from glitchflow.online.monitor import Monitor
from glitchflow.online.sink import Outbox
from glitchflow.online.source import Inbox
from glitchflow.online.watch import Post, follow
from glitchflow.signal.recorded.samples import read_samples
from glitchflow.train import checkpoint
from glitchflow.twin import coherent
from glitchflow.twin.front import Front
from glitchflow.twin.kind import Trained
from glitchflow.twin.kinds import network_of
from glitchflow.twin.step import stepper

START = 1_000_000_000
RATES = {"S": 512, "FAST": 512, "SLOW": 64, "STATE": 16}
MADE = ("S_CLEAN", "S_NOISE", "S_STATE", "S_P", "S_TWIN")


def recorded(gps: int) -> dict[str, np.ndarray]:
    """One second of all channels: noise, a slow motion, a state."""
    made = {}
    for name, rate in RATES.items():
        rng, time = np.random.default_rng([gps, rate]), gps - START + np.arange(rate) / rate
        values = rng.standard_normal(rate)
        if name == "SLOW":
            values = 0.25 + 0.1 * np.sin(2 * np.pi * 0.5 * time) + 0.001 * values
        made[name] = values
    made["STATE"] = np.ones(16, np.uint32)
    return made


def put(directory: Path, gps: int, names=tuple(RATES), group: str = "ALL") -> Path:
    """Write one second of frames."""
    path = directory / f"S-S_{group}-{gps}-1.gwf"
    made = recorded(gps)
    write_frame(path, gps, 1, {name: made[name] for name in names}, "gwf", "x.format")
    return path


@dataclass
class Patience:
    """Stops after so many looks in a row that found nothing; a second of its clock passes with each of them."""

    looks: int
    now: float = 0.0
    left: int = field(default=0)

    def __post_init__(self) -> None:
        self.left = self.looks

    def is_set(self) -> bool:
        return self.left <= 0

    def wait(self, timeout: float) -> bool:
        self.now += 1
        self.left -= 1
        return self.is_set()


def run(post: Post, looks: int = 3) -> None:
    """Let a post work until nothing more comes."""
    stop = Patience(looks)
    follow(post, stop, clock=lambda: stop.now)


def out(post: Post) -> dict[int, dict[str, np.ndarray]]:
    """Every second that came out."""
    found = {}
    for path in sorted(post.outbox.directory.glob("S-*.gwf")):
        gps = int(path.name.split("-")[2])
        assert gps not in found
        found[gps] = {name: one.values for name, one in read_samples(str(path), "", MADE).items()}
    return found


def hours(post: Post) -> dict[str, str]:
    """What is kept by the hour, by the files' names."""
    return {path.name: path.read_text() for path in (post.outbox.directory / "hours").iterdir()}


def same(a: dict, b: dict) -> None:
    """The same seconds of the same samples, bit by bit."""
    assert a.keys() == b.keys()
    for gps in a:
        for name in MADE:
            np.testing.assert_array_equal(a[gps][name], b[gps][name], err_msg=f"{gps - START} {name}")


def post_at(frames: Path, directory: Path, keep: float = 3600, wait: float = 10, twin: int = 7) -> Post:
    """A twin over these frames, whose estimate is no part of the strain: it may make it louder."""
    steps = stepper(Trained(coherent.KIND, First(), FRONT.channels, FRONT), 0.25, 0.25, "online")
    line = Line(replace(steps, louder=np.inf, lot=4), "STATE")
    directory.mkdir(exist_ok=True)
    inbox = Inbox(frames, {name: name for name in RATES}, wait)
    return Post(line, inbox, Outbox(directory, "S", "gwf", twin, {"twin": twin}), keep, Monitor("S"))


def write_twin(workdir: Path, seed: int = 1, front: Front = FRONT) -> Path:
    """Write a checkpoint of a small coherent network that nobody trained, and return its path."""
    model = {
        "name": "coherent",
        "width": 4,
        "norm": "group",
        "options": {"experts": 2, "sensors": 1},
        "seed": 1,
    }
    network = network_of(coherent.KIND, model, front, [1024])
    torch.manual_seed(seed)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    meta = {"step": 1, "kind": "coherent", "model": model, "channels": front.channels, "shape": [1024]}
    meta |= {"geometry": {}, "normalisation": front.to_json(), "metrics": {"validation_loss": 0.5}}
    return checkpoint.save(workdir / "train" / "checkpoints", meta, network.state_dict(), {})
