"""The trials of a sweep, read back from their directories: a table and a figure."""

from __future__ import annotations

import csv
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glitchflow.figures.curves import COLOURS
from glitchflow.train.tracking import read_metrics


@dataclass(frozen=True)
class Trial:
    name: str
    values: dict[str, Any]  # of the keys in the space
    state: str  # trained, stopped early, failed or unfinished
    curve: list[float]  # the metric after each epoch
    score: float | None  # the best of them
    epoch: int  # after which it was reached, from 1
    samples_per_second: float


def read_trials(directory: Path, metric: str = "validation_loss", mode: str = "min") -> list[Trial]:
    """All trials of a sweep, the best first, those without a score last."""
    trials = [_read(path.parent, metric, mode) for path in sorted(directory.glob("trials/*/trial.json"))]
    sign = 1 if mode == "min" else -1
    return sorted(trials, key=lambda t: (t.score is None, sign * (t.score or 0.0)))


def _read(home: Path, metric: str, mode: str) -> Trial:
    about, lines = json.loads((home / "trial.json").read_text()), read_metrics(home / "metrics.jsonl")
    epochs = [line for line in lines if line["kind"] == "epoch"]
    curve = [line.get(metric, math.nan) for line in epochs]
    score = (min if mode == "min" else max)((v for v in curve if math.isfinite(v)), default=None)
    state = "unfinished"
    if (lines and lines[-1]["kind"] == "failed") or (home / "error").exists():
        state = "failed"
    elif len(curve) >= about["epochs"]:
        state = "trained"
    elif (home / "ended").exists():
        state = "stopped early"
    speeds = [line["samples_per_second"] for line in epochs if "samples_per_second" in line]
    return Trial(
        name=home.name,
        values=about["values"],
        state=state,
        curve=curve,
        score=score,
        epoch=curve.index(score) + 1 if score is not None else 0,
        samples_per_second=statistics.median(speeds) if speeds else 0.0,
    )


def write_table(trials: list[Trial], path: Path, metric: str) -> None:
    """One line per trial, the best first."""
    keys = sorted({key for trial in trials for key in trial.values})
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["trial", "state", "epochs", metric, "at_epoch", "samples_per_second", *keys])
        for t in trials:
            score = "" if t.score is None else f"{t.score:.6g}"
            row = [t.name, t.state, len(t.curve), score, t.epoch, f"{t.samples_per_second:.1f}"]
            table.writerow([*row, *(t.values.get(key, "") for key in keys)])


def draw_trials(trials: list[Trial], metric: str) -> Figure:
    """The metric of each trial after each epoch, and its best against each key of the space."""
    scored = [trial for trial in trials if trial.score is not None]
    keys = sorted({key for trial in scored for key in trial.values})
    columns = min(3, 1 + len(keys))
    rows = -(-(1 + len(keys)) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[len(keys) + 1 :]:
        axis.remove()
    for axis in axes:
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    _curves(axes[0], scored, metric)
    for axis, key in zip(axes[1:], keys):
        _against(axis, scored, key)
    axes[0].set_ylabel(metric.replace("_", " "))
    return figure


def _curves(axis: Axes, trials: list[Trial], metric: str) -> None:
    for rank, trial in reversed(list(enumerate(trials))):
        label = {0: f"best: {trial.name}", 1: "others"}.get(rank)
        line = (
            {"color": COLOURS[0], "linewidth": 2.2} if rank == 0 else {"color": "#999999", "linewidth": 1.0}
        )
        x = range(1, len(trial.curve) + 1)
        axis.plot(x, trial.curve, label=label, **line)  # type: ignore[arg-type]
        if trial.state == "stopped early":
            axis.plot(x[-1], trial.curve[-1], "x", color=COLOURS[1], markersize=6)
    if any(trial.state == "stopped early" for trial in trials):
        axis.plot([], [], "x", color=COLOURS[1], label="stopped early")
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, fontsize=8)


def _against(axis: Axes, trials: list[Trial], key: str) -> None:
    """Best score against one key: numbers on an axis (logarithmic where they span a decade), else as names."""
    values = [trial.values[key] for trial in trials]
    numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    x = values if numeric else [str(v) for v in values]
    if numeric and min(values) > 0 and max(values) > 10 * min(values):
        axis.set_xscale("log")
    colours = [COLOURS[1] if trial.state == "stopped early" else COLOURS[0] for trial in trials]
    axis.scatter(x, [trial.score for trial in trials], c=colours, s=28, zorder=2)  # type: ignore[arg-type]
    axis.set_xlabel(key)
