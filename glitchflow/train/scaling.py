"""How training speeds up with workers: the scalability report that calls for computing time ask for.

    strong: the global batch stays, each worker's share shrinks        weak: each worker's batch stays
    scaling/scaling.csv   a line per mode and number of workers        scaling/scaling.png

The workers are those of a training run. Every ROUND steps they switch between steps with and without the exchange
of gradients, so that both see the same machine: the difference is the communication that computation does not
hide. Waiting for data is the time until the loader hands out a batch.
"""

import csv
import itertools
import json
import shutil
import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from glitchflow.cluster import joins, session
from glitchflow.config import Experiment, parse
from glitchflow.data.batch import Batch
from glitchflow.data.store.dataset import open_store
from glitchflow.errors import InputError
from glitchflow.figures import save
from glitchflow.figures.scaling import MODES, Measurement, draw_scaling
from glitchflow.progress import say
from glitchflow.train.fit import accelerated, enough, join, run_workers
from glitchflow.train.loop import step
from glitchflow.train.setup import Learner, Training, check, prepare, training_of
from glitchflow.train.state import Meter

ROUND = 10  # steps between switches
WARM = 5  # steps before the clock starts: thread pools, allocators, autotuning


@dataclass(frozen=True)
class Round:
    """Seconds a step of one round; all its workers took part."""

    seconds: float
    waiting: float  # for data
    exchange: bool  # of gradients


@joins
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
    dataset = open_store(experiment.dataset)
    for _, training in runs:
        check(training, dataset, directory / "none")
        enough(training.train, experiment.cluster)
    found: list[Measurement] = []
    with session(experiment.cluster.address, experiment.cluster.cpus):
        gpu = accelerated(max((training.train for _, training in runs), key=lambda train: train.fewest))
        for mode, training in runs:
            if mode == "weak" and training.train.fewest == counts[0] == 1:
                found.append(replace(found[0], mode=mode))  # the same run as the strong one
                continue
            base = next((m for m in found if m.mode == mode), None)
            found.append(_measurement(training, mode, _rounds(training, steps, directory, gpu), base))
            say(_line(found[-1]))
    _write(found, directory / "scaling.csv")
    model, cpus = experiment.model, experiment.train.threads
    title = f"{model.name}, width {model.width}, {cpus} CPU(s) a worker"
    save(draw_scaling(found, title), directory / "scaling.png", dpi=120)
    return directory


def _at(experiment: Experiment, mode: str, workers: int) -> Training:
    """The training on that many workers, with as many times the lanes and the batch where scaling is weak."""
    tree = experiment.model_dump(mode="json")
    tree["train"] |= {"workers": workers, "init_from": "", "accumulate": 1}
    if mode == "weak":
        tree["loader"]["batch"] *= workers
        if experiment.loader.lanes is not None:
            tree["loader"]["lanes"] *= workers
    return training_of(parse(tree, f"--scaling {workers} ({mode})"))


def _rounds(training: Training, steps: int, directory: Path, gpu: bool) -> list[Round]:
    """Train some steps on Ray Train workers, which leave nothing behind."""
    scratch = directory / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    config = {"training": training, "directory": scratch, "steps": steps}
    try:
        run_workers(worker, config, training.train, directory, gpu)
        return [Round(**one) for one in json.loads((scratch / "rounds.json").read_text())]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _measurement(training: Training, mode: str, rounds: list[Round], base: Measurement | None) -> Measurement:
    """What the rounds say; `base` is that of the fewest workers."""
    workers, batch = training.train.fewest, training.loader.batch
    seconds = statistics.median(r.seconds for r in rounds if r.exchange)
    waiting = statistics.median(r.waiting for r in rounds if r.exchange)
    alone = [r.seconds - r.waiting for r in rounds if not r.exchange]
    without = statistics.median(alone) if alone else seconds - waiting
    speed = batch / seconds
    ideal = base.samples_per_second / base.workers if base else speed / workers
    return Measurement(
        mode=mode,
        workers=workers,
        batch=batch,
        samples_per_second=speed,
        efficiency=speed / workers / ideal,
        step=seconds,
        computation=min(without, seconds - waiting),
        communication=max(0.0, seconds - waiting - without),
        waiting=waiting,
    )


def worker(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs: rounds of steps, their times written by rank 0."""
    training, directory = config["training"], config["directory"]
    world = join(training.train)
    learner = prepare(training, open_store(training.dataset), world, directory / uuid.uuid4().hex)
    rounds = [asdict(one) for one in measure(learner, config["steps"])]
    if world.rank == 0:
        (directory / "rounds.json").write_text(json.dumps(rounds))


def measure(learner: Learner, steps: int) -> Iterator[Round]:
    """The rounds of at least that many steps, with the times of the slowest worker."""
    learner.network.train()
    world, meter, batches = learner.world, Meter.of(learner.progress, learner.world), _endless(learner)
    _steps(learner, meter, batches, WARM, True)
    exchanges = (True, False) if world.size > 1 else (True,)
    for i in range(max(2 * len(exchanges), steps // ROUND)):
        exchange = exchanges[i % len(exchanges)]
        world.share([0.0])  # all begin together
        started, waited = time.monotonic(), meter.window.waited
        _steps(learner, meter, batches, ROUND, exchange)
        mine = Round((time.monotonic() - started) / ROUND, (meter.window.waited - waited) / ROUND, exchange)
        all_of_them = world.gather(mine)
        yield Round(
            max(one.seconds for one in all_of_them), max(one.waiting for one in all_of_them), exchange
        )


def _steps(learner: Learner, meter: Meter, batches: Iterator[Batch], count: int, exchange: bool) -> None:
    """Some steps, until the device is done with them."""
    for _ in range(count):
        learner.progress.batch %= learner.train.steps
        step(learner, meter, batches, exchange)
    torch.stack(meter.norms).tolist()
    meter.forget_steps()


def _endless(learner: Learner) -> Iterator[Batch]:
    for epoch in itertools.count():
        yield from learner.train.epoch(epoch, learner.world.rank, learner.world.size)


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
