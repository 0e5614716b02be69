"""The trials of a sweep: what each is told, and what is read back from their directories."""

import csv
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glitchflow.data import objects
from glitchflow.figures.sweep import Trial
from glitchflow.train.setup import Training
from glitchflow.train.tracking import read_metrics
from glitchflow.train.tune import search_space as space

SCORE = "score"  # by the metric that is compared, of the best epoch so far
COST = "seconds_per_event"  # of training; of all epochs so far the median


@dataclass(frozen=True)
class About:
    """What a trial's trial.json says of it."""

    values: dict[str, Any]
    epochs: int


@dataclass(frozen=True)
class Work:
    """What every trial of a sweep needs to know."""

    make: Callable[[space.Values], Training]  # the training with a trial's values
    directory: Path
    metric: str
    flag: str  # stops the whole sweep
    gpu: bool

    def home(self, config: Mapping[str, Any]) -> Path:
        """The directory of the trial with that configuration."""
        return self.directory / "trials" / space.name(values_of(config))


def values_of(config: Mapping[str, Any]) -> space.Values:
    """A trial's values, as our candidates or as Optuna hands them over."""
    return dict(config.get("values", config))


def mode(metric: str) -> str:
    """Which way a metric is better, in Ray Tune's words."""
    return "max" if metric == "validation_iou" else "min"


def read_trials(directory: Path, metric: str) -> list[Trial]:
    """All trials of a sweep, the best first, those without a score last."""
    trials = [_read(path.parent, metric) for path in sorted(directory.glob("trials/*/trial.json"))]
    sign = 1 if mode(metric) == "min" else -1
    trials.sort(key=lambda t: (t.score is None, sign * (t.score or 0.0)))
    return front(trials, sign)


def front(trials: list[Trial], sign: int) -> list[Trial]:
    """The same with those marked that no other is as good as and as fast as, and better in one. sign: of a score that
    is better where it is lower 1, else -1."""
    known = {t.name: (sign * t.score, -t.samples_per_second) for t in trials if t.score is not None}

    def beaten(name: str) -> bool:
        score, cost = known[name]
        return any(s <= score and c <= cost and (s, c) != (score, cost) for s, c in known.values())

    return [replace(t, front=t.name in known and not beaten(t.name)) for t in trials]


def _read(home: Path, metric: str) -> Trial:
    about, lines = objects.read(home, "trial.json", About), read_metrics(home / "metrics.jsonl")
    epochs = [line for line in lines if line["kind"] == "epoch"]
    curve = [line.get(metric, math.nan) for line in epochs]
    score = best(curve, metric)
    state = "unfinished"
    if (lines and lines[-1]["kind"] == "failed") or (home / "error").exists():
        state = "failed"
    elif len(curve) >= about.epochs:
        state = "trained"
    elif (home / "ended").exists():
        state = "stopped early"
    cost = seconds_per_event(epochs)
    return Trial(
        name=home.name,
        values=about.values,
        state=state,
        curve=curve,
        score=score,
        epoch=curve.index(score) + 1 if score is not None else 0,
        samples_per_second=1 / cost if math.isfinite(cost) else 0.0,
    )


def best(curve: Iterable[float], metric: str) -> float | None:
    """The best of a metric's values over epochs; None where no value is finite."""
    return (min if mode(metric) == "min" else max)((v for v in curve if math.isfinite(v)), default=None)


def told(epochs: list[dict[str, Any]], metric: str) -> dict[str, float]:
    """What a search hears of a trial after these epochs: the numbers that the table has of it, NaN for none."""
    score = best((line.get(metric, math.nan) for line in epochs), metric)
    return {SCORE: math.nan if score is None else score, COST: seconds_per_event(epochs)}


def seconds_per_event(epochs: list[dict[str, Any]]) -> float:
    """The median of what these epochs took to train on an event; infinite where none says so."""
    speeds = [line["samples_per_second"] for line in epochs if line.get("samples_per_second", 0) > 0]
    return 1 / statistics.median(speeds) if speeds else math.inf


def write_table(trials: list[Trial], path: Path, metric: str) -> None:
    """One line per trial, the best first; `front` is 1 where no other is better in score and speed."""
    keys = sorted({key for trial in trials for key in trial.values})
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["trial", "state", "epochs", metric, "at_epoch", "samples_per_second", "front", *keys])
        for t in trials:
            score = "" if t.score is None else f"{t.score:.6g}"
            row = [t.name, t.state, len(t.curve), score, t.epoch, f"{t.samples_per_second:.1f}", int(t.front)]
            table.writerow([*row, *(t.values.get(key, "") for key in keys)])
