"""What several tests make: a small experiment, and a user's own parts that are named by import path."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray

from glitchflow.cli import STAGES, main
from glitchflow.config import Experiment, Reads, parse
from glitchflow.data.normalise import loudness, loudness_quantiles, measure, reduce_statistics, statistics
from glitchflow.data.store import dataset as store
from glitchflow.data.store.create import Design, Fixed
from glitchflow.data.store.dataset import Dataset
from glitchflow.data.store.schema import Array, Layout, attributes_digest, choose_layout
from glitchflow.data.store.verify import find_damage
from glitchflow.data.store.writer import Writer, write_shard
from glitchflow.signal.simulation.families import FAMILIES
from glitchflow.signal.simulation.recipe import build_recipe
from glitchflow.signal.types import Recipe
from glitchflow.signals import SIGNALS


def needs_gwf() -> None:
    """Skip a module of tests where nothing here reads and writes GWF."""
    if not (find_spec("gwframe") or find_spec("lalframe")):
        pytest.skip("neither gwframe nor lalframe is installed", allow_module_level=True)


def small(workdir: Path, **changes: object) -> Experiment:
    """A quickstart made small, of a network of images: 96 events of 8 s at 256 Hz in 16 shards, 16 x 16 pixels."""
    values: dict = {
        "workdir": str(workdir),
        "seed": 3,
        "series": {"duration": 8, "sample_rate": 256},
        "simulate": {
            "events": 96,
            "detector": {
                "witnesses": ["SIM:ACC", "SIM:SUS"],
                "jitter": 0.2,
                "families": {
                    "sine_gaussian": {"frequency": [20, 80]},
                    "scattered_light": {"bounces": 1},
                    "blip": {"frequency": [30, 80]},
                    **{name: {"weight": 0} for name in ("ringdown", "whistle", "bilinear", "chirp")},
                },
            },
        },
        "derived": [{"name": "SIM:FRINGE", "function": "scatter", "channels": ["SIM:SUS"]}],
        "qplot": {"q": 8, "frange": [12, 90], "shape": [16, 16], "span": 2},
        "whiten": {"fftlength": 2},
        "split": {"validation": 0.2, "test": 0.25},
        "loader": {"batch": 8},
        "model": {"width": 4, "options": {"depth": 2}},
        "train": {"epochs": 2, "workers": 2, "warmup": 2, "samples": 0},
        "evaluate": {"bootstrap": 100},
        "clean": {"threshold": 5},
        "harm": {"signals": 8},
    }
    for name, value in changes.items():
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    return parse(values)


def with_transients(experiment: Experiment, rate: float, more: dict | None = None) -> Experiment:
    """The same detector with transients at times of their own, so many a second: what a stretch has. more: keys."""
    simulate = experiment.simulate
    detector = simulate.detector.model_copy(update={"rate": rate, **(more or {})})
    return experiment.model_copy(update={"simulate": simulate.model_copy(update={"detector": detector})})


READ: dict[str, Reads] = {}  # what the stages of this process have read so far


def reads_of(stage: str) -> Reads:
    """What a stage may read, and what it has read so far."""
    return READ.setdefault(stage, Reads(stage, frozenset(STAGES[stage].reads.split())))


def staged(stage: str, experiment: Experiment) -> Experiment:
    """The experiment as the command hands it to a stage: what its help does not list cannot be read."""
    return experiment.limited(reads_of(stage))


def linked(run: Experiment, directory: Path, *names: str) -> Experiment:
    """The same experiment in another workdir, in which there is so much of what it has made."""
    for name in names:
        (directory / name).symlink_to((Path(run.workdir) / name).resolve())
    return run.model_copy(update={"workdir": str(directory)})


@contextlib.contextmanager
def a_process() -> Iterator[None]:
    """What a command does to its process ends with the block."""
    signals = [(number, signal.getsignal(number)) for number in SIGNALS]
    given, path, shown, hook = sys.argv, list(sys.path), sys.stderr, sys.unraisablehook
    try:
        yield
    finally:
        sys.argv, sys.path[:], sys.stderr, sys.unraisablehook = given, path, shown, hook
        logging.disable(logging.NOTSET)
        for number, handler in signals:
            signal.signal(number, handler)


def run_here(*words: object) -> subprocess.CompletedProcess:
    """The command in this process, so that it shares the session's Ray: its status and what it prints."""
    out, err, status = io.StringIO(), io.StringIO(), None
    with a_process(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.argv = ["glitchflow", *map(str, words)]
        try:
            main()
        except SystemExit as ended:
            status = ended.code
    return subprocess.CompletedProcess(words, status or 0, out.getvalue(), err.getvalue())


def command(experiment: Experiment, stage: str) -> subprocess.Popen:
    """A stage as a user starts it, in a process and with a Ray of its own."""
    path = Path(experiment.workdir) / "config.yaml"
    path.write_text(experiment.model_dump_json())  # which YAML understands
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    line = [sys.executable, "-c", "from glitchflow.cli import main; main()", stage, str(path)]
    return subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


AXES = {4: ("channel", "frequency", "time"), 3: ("frequency", "time")}
COLUMNS = ("q", "valid", "loudness")


def write_store(
    path: Path,
    values: dict[str, NDArray],
    layout: Layout | None = None,
    fixed: Fixed | None = None,
    **attributes,
) -> Dataset:
    """A finished store of these per-event arrays: columns are those with a number an event, and some by name."""
    arrays = {
        name: Array(
            AXES.get(value.ndim, ("channel",) if value.ndim > 1 else ()),
            value.shape[1:],
            str(value.dtype),
            value.ndim == 1 or name in COLUMNS,
        )
        for name, value in values.items()
    }
    layout = layout or choose_layout(len(next(iter(values.values()))), arrays, 2, 64)
    design = Design(arrays, layout, attributes, fixed or {})
    with Writer.begin(path, lambda: design, lambda _: None) as writer:
        for k in range(layout.shards):
            write_shard(writer.dataset, k, {name: value[layout.span(k)] for name, value in values.items()})
        writer.collect()
        writer.complete()
    return writer.dataset


def forget_shards(path: Path, *shards: int) -> None:
    """Make a finished store unfinished: some of its shards are to be made again."""
    with Writer.begin(path, lambda: pytest.fail("is there"), lambda _: None) as writer:
        writer.forget(shards)


def missing_shards(path: Path) -> list[int]:
    return store.missing_shards(store.open_store(path, complete=False))


def damage_of(path: Path) -> dict[int, str]:
    """Damaged and missing shards of a store with nothing else wrong."""
    damaged, rest = find_damage(store.open_store(path, complete=False))
    assert not rest
    return damaged


def shares(energy: NDArray[np.float32]) -> dict:
    """The statistics that a store would keep of energies (E, C, F, T), all of them in the train split."""
    found = reduce_statistics([statistics(measure(energy))])
    return found | {"loudness": loudness_quantiles(loudness(energy))}


def write_predictions(experiment: Experiment, energy: NDArray[np.float32]) -> None:
    """`predictions.zarr` of a dataset with energies (event, frequency, time) that no network generated."""
    layout = store.open_store(experiment.dataset).layout
    checkpoints = {"qplot": {"path": "none"}}
    write_store(experiment.predictions, {"qplot": energy}, layout, source="infer", checkpoints=checkpoints)


def detector_recipe(
    workdir: Path, family=None, *, background=0.0, events=2000, seed=3, settings=None, **detector
):
    """A detector recipe at 512 Hz with one family (or all), 16 s an event, and its experiment."""
    every = [name for name in FAMILIES if name != "sampled"]  # which needs a store of draws
    families = {name: {"weight": float(family in (None, name))} for name in every}
    families["bilinear"]["witnesses"] = ["SIM:ACC", "SIM:ASC"]
    if family:
        families[family] |= settings or {}
    witnesses = ["SIM:ACC", "SIM:SUS", "SIM:ASC"]
    common = {"witnesses": witnesses, "background": background, "jitter": 0.0, "families": families}
    derived = [{"name": "SIM:FRINGE", "function": "scatter", "channels": ["SIM:SUS"]}]
    if "witnesses" not in detector:
        product = {"function": "product", "channels": ["SIM:ACC", "SIM:ASC"], "floor": 0.5}
        derived.append({"name": "SIM:PRODUCT", **product})
    experiment = small(
        workdir,
        seed=seed,
        series={"duration": 16, "sample_rate": 512},
        qplot={"q": 12, "frange": [10, 200], "shape": [64, 128], "span": 4},
        whiten={"fftlength": 4},
        simulate={"events": events, "detector": {**common, **detector}},
        derived=derived,
    )
    return recipe_of(experiment), experiment


def recipe_of(experiment: Experiment) -> Recipe:
    """The recipe that an experiment describes."""
    return build_recipe(experiment.simulate, experiment.series, experiment.derived, experiment.seed)


def loss_not_finite(prediction, target):
    return (prediction - target).abs().mean() * float("nan")


def loss_not_finite_on_rank_1(prediction, target):
    """From its fifth call in training on."""
    own = loss_not_finite_on_rank_1
    own.calls = getattr(own, "calls", 0) + torch.is_grad_enabled()
    bad = torch.distributed.get_rank() == 1 and own.calls > 4
    return (prediction - target).abs().mean() * (float("nan") if bad else 1.0)


def killed_on_rank_1(prediction, target):
    """In its first step, so that nothing is ever got on."""
    if torch.is_grad_enabled() and torch.distributed.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return (prediction - target).abs().mean()


def unhurried(prediction, target):
    """L1 that takes as many seconds as the environment says."""
    time.sleep(float(os.environ.get("GLITCHFLOW_TEST_PAUSE", "0")))
    return (prediction - target).abs().mean()


def ModelWithDropout(witnesses, shape):
    return torch.nn.Sequential(OwnModel(witnesses, shape), torch.nn.Dropout(0.3))


def OwnModel(witnesses, shape):
    return torch.nn.Conv2d(witnesses, 1, 3, padding=1)


def no_network(witnesses, shape):
    return witnesses


class Chosen(torch.nn.Module):
    """A network that is known by heart: it shows one witness, or the quieter or the louder of the first two."""

    def __init__(self, witnesses, shape, how="first"):
        super().__init__()
        self.how, self.unused = how, torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        first, second = inputs[:, :1], inputs[:, 1:2]
        return {"first": first, "both": first.minimum(second), "either": first.maximum(second)}[self.how]


def descendants(pid: int) -> list[tuple[int, str]]:
    """(process id, command line) of everything under a process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found, line = [], [pid]
    while line:
        parent = line.pop()
        for child in (c for c, p in parents.items() if p == parent):
            line.append(child)
            try:
                found.append((child, Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")))
            except OSError:
                continue
    return found


@contextlib.contextmanager
def listeners() -> Iterator[set[tuple[str, str]]]:
    """(process, address) of all that this process, and everything under it, listens on within the block."""
    found: set[tuple[str, str]] = set()
    over = threading.Event()

    def look() -> None:
        while True:
            for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    sockets = process.net_connections("inet")
                    # a datagram socket that is connected, as one that asks for a host's name, hears its peer alone
                    heard = [s for s in sockets if s.type == socket.SOCK_DGRAM and not s.raddr]
                    open_to = [*heard, *(s for s in sockets if s.status == "LISTEN")]
                    found.update((process.name(), s.laddr.ip) for s in open_to if s.laddr)
            if over.wait(0.02):
                return

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield found
    finally:
        over.set()
        looking.join()


def beyond_loopback(found: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that another machine could reach."""
    plain = [(name, ip_address(address.removeprefix("::ffff:"))) for name, address in found]
    return sorted((name, str(address)) for name, address in plain if not address.is_loopback)


def add_up(rank: int, host: str, port: int, size: int = 2, backend: str = "gloo") -> float:
    """What processes in a group add up, as the `rank`-th; here, where a process that is spawned finds it."""
    from glitchflow.train.group import enter

    enter(rank, host, port, size, backend, timedelta(seconds=120))
    try:
        with listeners() as found:
            value = torch.tensor([float(rank + 1)], device="cuda" if backend == "nccl" else "cpu")
            for _ in range(20):
                torch.distributed.all_reduce(value)
                torch.distributed.barrier()
        assert found, f"{backend} listens"
        assert beyond_loopback(found) == []
        return value.item()
    finally:
        torch.distributed.destroy_process_group()


def edit_attributes(store: Path, **changes: object) -> None:
    """Change attributes of a finished store, and seal them anew: what was made so, not what a disk has changed."""
    file = store / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["attributes"] |= changes
    metadata["attributes"]["sha256"] = attributes_digest(metadata["attributes"])
    file.write_text(json.dumps(metadata))
