"""Figures of curves and bars: losses, scores against thresholds, ROC, what vetoes cost, which sensor carries them.

Most are drawn from the tables of `metrics.json`. Every function returns a matplotlib Figure that belongs to the caller:
nothing is kept in pyplot.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

from glitchflow.figures import drawn
from glitchflow.figures.colours import COLOURS, look
from glitchflow.score.statistics import RESOLVABLE_EVENTS

Shares = Mapping[str, list[float | None]]  # of `metrics.json`: value, low and high at each threshold


@drawn
def empty_axes(x: str, y: str, width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    """Makes a figure with one pair of axes, in the style that all curves share."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.set(xlabel=x, ylabel=y, axisbelow=True)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


@drawn
def loss_curves(train: ArrayLike, validation: ArrayLike, name: str = "loss") -> Figure:
    """Draws training and validation loss of each epoch, the best validation epoch marked. Shapes: (epoch,) both."""
    figure, axis = empty_axes("epoch", f"{name} (normalised units)")
    curves = {"training": np.asarray(train, np.float64), "validation": np.asarray(validation, np.float64)}
    for index, (label, values) in enumerate(curves.items()):
        axis.plot(np.arange(1, len(values) + 1), values, label=label, marker=".", **look(label, index))
    validated = curves["validation"]
    if np.isfinite(validated).any():
        best = int(np.nanargmin(validated))
        label = f"best: {validated[best]:.4g}, epoch {best + 1}"
        ring: dict[str, Any] = {
            "markersize": 10,
            "markerfacecolor": "none",
            "color": COLOURS[1],
            "linestyle": "none",
        }
        axis.plot(best + 1, validated[best], "o", label=label, **ring)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
    return figure


@drawn
def against_threshold(thresholds: ArrayLike, curves: Mapping[str, Shares], label: str) -> Figure:
    """Draws shares of events against the energy threshold s, with their intervals as bands; (threshold,) each."""
    figure, axis = empty_axes("threshold s (normalised energy)", label)
    for index, (name, share) in enumerate(curves.items()):
        value, low, high = (numbers(share[part]) for part in ("value", "low", "high"))
        line = look(name, index)
        axis.fill_between(thresholds, low, high, color=line["color"], alpha=0.15, linewidth=0)
        axis.plot(thresholds, value, label=name, **line)
    axis.set_ylim(0, 1.02)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.legend(frameon=False, fontsize=9)
    return figure


@drawn
def by_family(
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]], label: str, nothing: float, logarithmic: bool
) -> Figure:
    """Draws a score per family, as bars with intervals, the model (first) beside others, and a line for doing nothing.

    `scores[family][model]` is an interval; one that is not defined leaves a gap. Bars start at the line.
    """
    models = list(dict.fromkeys(model for family in scores.values() for model in family))
    width = 0.8 / max(1, len(models))
    figure, axis = empty_axes("", label, max(6.4, 1.2 + 0.28 * len(models) * len(scores)), 4.0)
    for index, model in enumerate(models):
        cells = [family.get(model, {}) for family in scores.values()]
        value, low, high = (numbers([c.get(part) for c in cells]) for part in ("value", "low", "high"))
        x = np.arange(len(cells)) + (index - (len(models) - 1) / 2) * width
        error = np.maximum(0, [value - low, high - value])
        colour = look(model, index)["color"]
        axis.bar(x, value - nothing, width * 0.92, bottom=nothing, label=model, color=colour)
        axis.errorbar(x, value, error, fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
    axis.axhline(nothing, color="#222222", linewidth=0.8)
    if logarithmic:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_xticks(np.arange(len(scores)), list(scores))
    axis.grid(False, axis="x")
    axis.legend(frameon=False, fontsize=9, ncols=min(len(models), 4), loc="lower left", bbox_to_anchor=(0, 1))
    return figure


@drawn
def prices(
    points: Mapping[str, tuple[float, float]], cost: str, score: str, lower: bool, model: str
) -> Figure:
    """Draws what every method gets against what it costs, (cost, score) by its name, up and left the best.

    lower: whether a lower score is better, so that its axis is turned round; model: the method that stands out.
    """
    figure, axis = empty_axes(cost, score, 6.4, 4.4)
    for name, (x, y) in points.items():
        ours = name == model
        axis.plot(x, y, "o", color=COLOURS[0] if ours else "#555555", markersize=8 if ours else 5)
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.margins(x=0.05, y=0.1)
    axis.set_xlim(right=axis.get_xlim()[1] + 0.2 * np.ptp(axis.get_xlim()))  # for the names
    if lower:
        axis.invert_yaxis()
    _name(axis, points, model)
    return figure


def _name(axis: Axes, points: Mapping[str, tuple[float, float]], model: str) -> None:
    """Writes each point's name beside it, from the top down, below those that it would lie on."""
    size = 0.85 * 72 * np.array([6.4, 4.4])  # of the axes, in points, near enough
    place = {
        name: size * axis.transAxes.inverted().transform(axis.transData.transform(point))
        for name, point in points.items()
    }
    taken: list[tuple[float, float]] = []
    for name in sorted(place, key=lambda n: (-place[n][1], place[n][0])):
        x, y = place[name]
        below = next(
            line
            for line in y - np.arange(len(points) * 11.0)
            if all(abs(x - left) > 75 or abs(line - other) >= 10 for left, other in taken)
        )
        taken.append((x, below))
        weight = "bold" if name == model else "normal"
        offset = (7, below - y - 3)
        axis.annotate(name, points[name], offset, textcoords="offset points", fontsize=8, weight=weight)


@drawn
def roc(generators: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draws the ROC of each generator, the model first, with its area; shaded where fewer than 10 events decide."""
    figure, axis = empty_axes("events wrongly vetoed", "events rightly vetoed", 5.6, 5.0)
    negatives = min((g["negatives"] for g in generators.values()), default=0)
    if negatives:
        label = f"fewer than {RESOLVABLE_EVENTS} events"
        axis.axvspan(0, min(1.0, RESOLVABLE_EVENTS / negatives), color="#eeeeee", label=label, zorder=0)
    axis.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=(0, (1, 3)), label="chance")
    for index, (name, curve) in enumerate(generators.items()):
        area = curve["auc"]
        words = (
            "" if area["value"] is None else f" {area['value']:.3f} [{area['low']:.3f}, {area['high']:.3f}]"
        )
        axis.plot(
            numbers(curve["false_positive"]),
            numbers(curve["true_positive"]),
            label=f"{name}{words}",
            **look(name, index),
        )
    axis.set(xlim=(0, 1), ylim=(0, 1.02))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.legend(frameon=False, fontsize=8, loc="lower right", title="area [95 %]", title_fontsize=8)
    return figure


@drawn
def veto(methods: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draws efficiency against deadtime, logarithmic; hollow where fewer than 10 segments decide."""
    figure, axis = empty_axes("deadtime", "efficiency", 6.4, 4.4)
    least = 1.0
    for index, (name, found) in enumerate(methods.items()):
        deadtime, efficiency = (numbers(found["curves"][key]["value"]) for key in ("deadtime", "efficiency"))
        there, sure = deadtime > 0, np.array(found["segments"]) >= RESOLVABLE_EVENTS
        if not there.any():
            continue
        least = min(least, float(deadtime[there].min()))
        low, high = (numbers(found["curves"]["efficiency"][part]) for part in ("low", "high"))
        line = look(name, index)
        points = {**line, "linestyle": "none", "marker": "o", "markersize": 4}
        axis.fill_between(
            deadtime[there], low[there], high[there], color=line["color"], alpha=0.15, linewidth=0
        )
        axis.plot(deadtime[there], efficiency[there], label=name, **line)
        axis.plot(deadtime[there & sure], efficiency[there & sure], **points)
        axis.plot(deadtime[there & ~sure], efficiency[there & ~sure], **points, markerfacecolor="white")
    axis.plot([], [], "o", color="#555555", markerfacecolor="white", label="not resolvable")
    diagonal = np.geomspace(least, 1.0, 50)
    axis.plot(diagonal, diagonal, color="#999999", linewidth=1, linestyle=(0, (1, 3)), label="chance")
    axis.set(xscale="log", xlim=(least / 1.2, 1.05), ylim=(0, 1.02))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.legend(frameon=False, fontsize=8)
    return figure


@drawn
def attribution(table: Mapping[str, Any]) -> Figure:
    """Draws the share of the vetoes that each witness, then each group carries, the most important first."""
    rows = [sorted(table[part], key=lambda row: -row["share"]) for part in ("witnesses", "groups")]
    together = [*rows[0], *rows[1], table["everything"]]
    colours = [COLOURS[0]] * len(rows[0]) + [COLOURS[4]] * len(rows[1]) + [COLOURS[7]]
    figure, axis = empty_axes("vetoes that fall without it", "", 6.4, 1.4 + 0.3 * len(together))
    place = np.arange(len(together))
    share, low, high = (np.array([row[key] for row in together]) for key in ("share", "low", "high"))
    axis.barh(place, share, color=colours, height=0.7)
    error = np.maximum(0, [share - low, high - share])
    axis.errorbar(share, place, xerr=error, fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
    axis.set_yticks(place, [row["name"] for row in together], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.02)
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.grid(False, axis="y")
    axis.set_title(f"{table['attributed']} vetoes at s = {table['threshold']:g}", fontsize=10)
    return figure


@drawn
def drift(table: Mapping[str, Any]) -> Figure:
    """Draws the share of the events that each witness puts out of the trusted range, quieter and louder."""
    channels = table["channels"]
    figure, axis = empty_axes("events out of the range trained on", "", 6.4, 1.4 + 0.3 * len(channels))
    place, left = np.arange(len(channels)), np.zeros(len(channels))
    for index, (part, words) in enumerate((("below", "quieter"), ("above", "louder"))):
        share = np.array([row[part] for row in channels]) / table["events"]
        axis.barh(place, share, left=left, color=COLOURS[index], height=0.7, label=words)
        left = left + share
    expected = 2 * table["beyond"]
    axis.axvline(expected, color="#555555", linewidth=1, linestyle="--", label=f"expected: {expected:.2%}")
    axis.set_yticks(place, [row["name"] for row in channels], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, max(0.02, 1.15 * float(left.max(initial=0)), 1.5 * expected))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.grid(False, axis="y")
    axis.legend(frameon=False, fontsize=8)
    axis.set_title(f"{table['flagged']} of {table['events']} events flagged", fontsize=10)
    return figure


@drawn
def reliability(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Draws how often a glitch came against how probable it was said to be, with 95 % intervals."""
    figure, axis = empty_axes("p(glitch) that was said", "share that had one", 4.6, 4.4)
    said, came, low, high = (
        np.array([row[name] for row in rows]) for name in ("said", "came", "low", "high")
    )
    around = np.clip([came - low, high - came], 0, None)
    axis.errorbar(said, came, yerr=around, marker="o", markersize=4, capsize=2, **look("network"))
    axis.plot([0, 1], [0, 1], color="#555555", linewidth=1, linestyle="--", label="reliable")
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.legend(frameon=False, fontsize=8)
    return figure


def numbers(values: Sequence[float | None]) -> np.ndarray:
    """Returns a list of `metrics.json` as an array: null is not a number."""
    return np.array([np.nan if value is None else value for value in values], np.float64)
