"""How training speeds up with workers: the scalability report that calls for computing time ask for.

    strong: the global batch stays, each worker's share shrinks        weak: each worker's batch stays
    scaling/scaling.csv   a line per mode and number of workers        scaling/scaling.png

The workers are those of a training run. Every ROUND steps they switch between steps with and without the exchange
of gradients, so that both see the same machine: the difference is the communication that computation does not
hide. Waiting for data is the time until the loader hands out a batch.
"""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from glitchflow.cluster import session
from glitchflow.config import Experiment, parse
from glitchflow.data.loader import Batch
from glitchflow.errors import InputError
from glitchflow.figures.curves import COLOURS
from glitchflow.progress import say
from glitchflow.train.fit import accelerated, join, run_workers
from glitchflow.train.loop import Meter, begin, prepare, step
from glitchflow.train.setup import Run, check

ROUND = 10  # steps between switches
WARM = 5  # steps before the clock starts: thread pools, allocators, autotuning
MODES = ("strong", "weak")


@dataclass(frozen=True)
class Measurement:
    """Of one number of workers; seconds are per step, the slowest worker's, medians over the rounds."""

    mode: str
    workers: int
    batch: int  # global
    samples_per_second: float
    efficiency: float  # against the fewest workers measured, per worker
    step: float
    computation: float
    communication: float  # not hidden behind computation
    waiting: float  # for data


def scaling(experiment: Experiment, workers: str | Sequence[int], steps: int = 200) -> Path:
    """Train some `steps` at each number of workers, strong and weak; returns `workdir/scaling`.

    Raises `InputError` where the loader or the cluster cannot do one of them, before anything runs.
    """
    words = workers.split(",") if isinstance(workers, str) else [str(n) for n in workers]
    if not words or not all(word.strip().isdecimal() and int(word) for word in words):
        raise InputError(f"--scaling {','.join(words)}: must be numbers of workers, as 1,2,4")
    counts = sorted({int(word) for word in words})
    directory = Path(experiment.workdir) / "scaling"
    runs = [(mode, _at(experiment, mode, n)) for mode in MODES for n in counts]
    for _, run in runs:
        check(run, directory / "none")
    found: list[Measurement] = []
    with session(experiment.cluster.address, experiment.cluster.cpus):
        accelerated(max((run for _, run in runs), key=lambda run: run.train.workers))
        for mode, run in runs:
            if mode == "weak" and run.train.workers == counts[0] == 1:
                found.append(_renamed(found[0], mode))  # the same run as the strong one
                continue
            base = next((m for m in found if m.mode == mode), None)
            found.append(_measure(run, mode, steps, directory, base))
            say(_line(found[-1]))
    _write(found, directory / "scaling.csv")
    draw(found, _title(experiment)).savefig(directory / "scaling.png", dpi=120)
    return directory


def _title(experiment: Experiment) -> str:
    return (
        f"{experiment.model.name}, width {experiment.model.width}, {experiment.train.threads} CPU(s) a worker"
    )


def _renamed(one: Measurement, mode: str) -> Measurement:
    return Measurement(**{**asdict(one), "mode": mode})


def _at(experiment: Experiment, mode: str, workers: int) -> Experiment:
    """The experiment on that many workers, with as many times the lanes and the batch where scaling is weak."""
    tree = experiment.model_dump(mode="json")
    tree["train"] |= {"workers": workers, "init_from": "", "accumulate": 1}
    if mode == "weak":
        tree["loader"]["batch"] *= workers
        tree["loader"]["lanes"] *= workers
    return parse(tree, f"--scaling {workers} ({mode})")


def _measure(
    experiment: Experiment, mode: str, steps: int, directory: Path, base: Measurement | None
) -> Measurement:
    scratch = directory / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    config = {"experiment": experiment.model_dump(mode="json"), "directory": str(scratch), "steps": steps}
    try:
        run_workers(worker, config, experiment, scratch, accelerated(experiment))
        rounds = json.loads((scratch / "rounds.json").read_text())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    together, alone = ([r for r in rounds if r["exchange"] is wanted] for wanted in (True, False))
    seconds = statistics.median(r["seconds"] for r in together)
    waiting = statistics.median(r["waiting"] for r in together)
    without = statistics.median(r["seconds"] - r["waiting"] for r in alone) if alone else seconds - waiting
    speed = experiment.loader.batch / seconds
    ideal = base.samples_per_second / base.workers if base else speed / experiment.train.workers
    return Measurement(
        mode=mode,
        workers=experiment.train.workers,
        batch=experiment.loader.batch,
        samples_per_second=speed,
        efficiency=speed / experiment.train.workers / ideal,
        step=seconds,
        computation=min(without, seconds - waiting),
        communication=max(0.0, seconds - waiting - without),
        waiting=waiting,
    )


def worker(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs: rounds of steps, their times written by rank 0."""
    experiment, directory = Experiment.model_validate(config["experiment"]), Path(config["directory"])
    run = prepare(experiment, join(experiment), directory / uuid.uuid4().hex)
    rounds = list(measure(run, config["steps"]))
    if run.world.rank == 0:
        (directory / "rounds.json").write_text(json.dumps(rounds))


def measure(run: Run, steps: int) -> Iterator[dict[str, Any]]:
    """Seconds per step and of waiting per step in each round, of the slowest worker."""
    run.network.train()
    meter, batches = begin(run), _endless(run)
    _steps(run, batches, meter, WARM, True)
    exchanges = (True, False) if run.world.size > 1 else (True,)
    for i in range(max(2 * len(exchanges), steps // ROUND)):
        run.world.gather([0.0])  # all begin together
        started, waited = time.monotonic(), meter.window.waited
        _steps(run, batches, meter, ROUND, exchanges[i % len(exchanges)])
        mine = [(time.monotonic() - started) / ROUND, (meter.window.waited - waited) / ROUND]
        seconds, waiting = (max(column) for column in zip(*run.world.gather(mine)))
        yield {"exchange": exchanges[i % len(exchanges)], "seconds": seconds, "waiting": waiting}


def _steps(run: Run, batches: Iterator[Batch], meter: Meter, count: int, exchange: bool) -> None:
    """Some steps, until the device is done with them."""
    for _ in range(count):
        run.progress.batch %= run.train.steps
        step(run, batches, meter, exchange)
    torch.stack(meter.norms).tolist()
    meter.norms.clear()
    meter.batches.clear()


def _endless(run: Run) -> Iterator[Batch]:
    for epoch in itertools.count():
        yield from run.train.epoch(epoch, run.world.rank, run.world.size)


def _line(m: Measurement) -> str:
    return (
        f"{m.mode}, {m.workers} worker(s), batch {m.batch}: {m.samples_per_second:.0f} events/s, efficiency"
        f" {m.efficiency:.0%}; a step {1e3 * m.step:.1f} ms = computation {1e3 * m.computation:.1f}"
        f" + communication {1e3 * m.communication:.1f} + waiting {1e3 * m.waiting:.1f}"
    )


def _write(found: list[Measurement], path: Path) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(field.name for field in fields(Measurement))
        for m in found:
            table.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in asdict(m).values())


def draw(found: list[Measurement], title: str) -> Figure:
    """Speed, efficiency, and where the time of a step goes, against the number of workers."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    speed, efficiency, parts = figure.subplots(1, 3)
    for index, mode in enumerate(MODES):
        rows = [m for m in found if m.mode == mode]
        x, look = [m.workers for m in rows], {"color": COLOURS[index], "marker": "os"[index]}
        speed.plot(x, [m.samples_per_second for m in rows], label=mode, **look)
        efficiency.plot(x, [m.efficiency for m in rows], label=mode, **look)
    first, last = found[0], max(found, key=lambda m: m.workers)
    ideal = [first.samples_per_second, first.samples_per_second * last.workers / first.workers]
    speed.plot([first.workers, last.workers], ideal, color="#999999", linestyle=":", label="ideal")
    speed.set(xlabel="workers", ylabel="events/s", ylim=(0, None))
    efficiency.axhline(1, color="#999999", linestyle=":")
    efficiency.set(xlabel="workers", ylabel="efficiency", ylim=(0, 1.1))
    efficiency.yaxis.set_major_formatter(PercentFormatter(1.0))
    labels = [f"{m.mode}\n{m.workers}" for m in found]
    bottom = [0.0] * len(found)
    for colour, part in zip(
        (COLOURS[0], COLOURS[1], COLOURS[4]), ("computation", "communication", "waiting")
    ):
        heights = [1e3 * getattr(m, part) for m in found]
        parts.bar(labels, heights, bottom=bottom, label=part, color=colour)
        bottom = [a + b for a, b in zip(bottom, heights)]
    parts.set(xlabel="workers", ylabel="a step [ms]")
    for axis in (speed, efficiency):
        axis.set_xticks(sorted({m.workers for m in found}))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.legend(frameon=False)
    parts.legend(frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure
