"""The trials of a sweep: the metric of each after each epoch, and its best against time and each key of the space."""

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glitchflow.figures import drawn
from glitchflow.figures.colours import COLOURS


@dataclass(frozen=True)
class Trial:
    """One trial of a sweep, as far as it has come."""

    name: str
    values: dict[str, Any]  # of the keys in the space
    state: str  # trained, stopped early, failed or unfinished
    curve: list[float]  # the metric after each epoch
    score: float | None  # the best of them
    epoch: int  # after which it was reached, from 1
    samples_per_second: float
    front: bool = False  # no other trial is as good and as fast, and better in one of these


@drawn
def draw_trials(trials: list[Trial], metric: str) -> Figure:
    """The metric of each trial after each epoch, and its best against time and each key of the space."""
    scored = [trial for trial in trials if trial.score is not None]
    keys = sorted({key for trial in scored for key in trial.values})
    panels = 2 + len(keys)
    columns = min(3, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[panels:]:
        axis.remove()
    for axis in axes:
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    _curves(axes[0], scored, metric)
    _front(axes[1], scored)
    for axis, key in zip(axes[2:], keys):
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


def _front(axis: Axes, trials: list[Trial]) -> None:
    """Best score against the time that an event takes, and the trials that no other beats in both."""
    timed = [trial for trial in trials if trial.samples_per_second > 0]
    milliseconds = {trial.name: 1000 / trial.samples_per_second for trial in timed}
    best = sorted((trial for trial in timed if trial.front), key=lambda trial: milliseconds[trial.name])
    others = [trial for trial in timed if not trial.front]
    axis.plot(
        [milliseconds[trial.name] for trial in others],
        [trial.score for trial in others],  # type: ignore[arg-type]
        "o",
        color="#999999",
        markersize=5,
    )
    axis.plot(
        [milliseconds[trial.name] for trial in best],
        [trial.score for trial in best],  # type: ignore[arg-type]
        "o-",
        color=COLOURS[0],
        markersize=6,
        linewidth=1.0,
        label="no other is better in both",
    )
    axis.set_xlabel("training time an event [ms]")
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
