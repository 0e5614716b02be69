"""Charts as SVG in the page itself: sharp at any size, in the page's font, in its light and its dark colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from glitchflow.score import plots
from glitchflow.score.statistics import Interval, Proportion

# what matplotlib writes, and the page's colour for it: ink, lines, shade, then the curves'
COLOURS = {"#000000": "currentColor", "#222222": "currentColor", "#dddddd": "var(--line)"}
COLOURS |= {"#eeeeee": "var(--shade)", "#0072b2": "var(--network)"}
SVG: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "glitchflow"}
ENVELOPE = 300  # stretches of a long series
_NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def svg(figure: Figure) -> Markup:
    """A figure as an <svg> element without background, in the page's colours."""
    figure.patch.set_visible(False)
    for axis in figure.axes:
        axis.patch.set_visible(False)
    buffer = io.StringIO()
    with matplotlib.rc_context(SVG):
        figure.savefig(buffer, format="svg", metadata=_NOTHING)
    text = re.sub(r"\s*\n\s*", "\n", buffer.getvalue()[buffer.getvalue().index("<svg") :])
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"(\.\d\d)\d+", r"\1", text)  # hundredths of a point are finer than any screen
    for written, shown in COLOURS.items():
        text = text.replace(written, shown)
    width = figure.get_figwidth() * 72
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 style="width:{width:.0f}pt">', text, count=1
    )
    return Markup(text)  # matplotlib escapes the words it draws


def proportion(share: dict[str, Any]) -> Proportion:
    """A share of events as evaluate wrote it."""
    return Proportion(*(np.array(share[k], float) for k in ("hits", "events", "low", "high")))


def interval(value: dict[str, Any]) -> Interval:
    return Interval(*(np.nan if value[k] is None else value[k] for k in ("value", "low", "high")))


def against_threshold(table: dict[str, Any], names: Sequence[str], score: str, label: str) -> Markup:
    """A share of events against the energy threshold, for each generator that has it."""
    curves = {name: proportion(table[name][score]) for name in names if score in table.get(name, {})}
    return svg(plots.against_threshold(table["thresholds"], curves, label))


def excess(families: Mapping[str, dict[str, Any]], names: Sequence[str]) -> Markup:
    """Share of the excess power removed, per family and generator."""
    bars = {
        family: {n: interval(rows["scores"][n]["excess_removed"]) for n in names if n in rows["scores"]}
        for family, rows in families.items()
    }
    return svg(plots.excess_by_family(bars))


def losses(epochs: Sequence[dict[str, Any]], kind: str) -> Markup:
    """Loss of training and validation after each epoch."""
    return svg(plots.loss_curves([e["loss"] for e in epochs], [e["validation_loss"] for e in epochs], kind))


def roc(curves: Mapping[str, dict[str, Any]]) -> Markup:
    """True positives against false positives as evaluate wrote them, the area in the legend."""
    figure, axis = _axes("false positive rate", "true positive rate", 5.6, 4.6)
    axis.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=(0, (1, 3)), label="chance")
    for index, (name, curve) in enumerate(curves.items()):
        area = curve["auc"]["value"]
        label = name if area is None else f"{name}, area {area:.3f}"
        points = [np.array(curve[k], float) for k in ("false_positive", "true_positive")]
        axis.plot(*points, label=label, marker=".", markersize=4, **look(index))
    axis.set(xlim=(-0.01, 1), ylim=(0, 1.02))
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_formatter(PercentFormatter(1.0))
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    return svg(figure)


def ranked(
    rows: Sequence[tuple[str, float, float, float]], x: str, share: bool = False, mark: Callable | None = None
) -> Markup:
    """Horizontal bars (name, value, low, high), first on top; those that `mark(name)` in the network's colour."""
    figure, axis = _axes(x, "", 6.4, 0.9 + 0.28 * len(rows))
    names, values, low, high = (list(column) for column in zip(*rows))
    value = np.array(values, float)
    error = np.maximum(0, [value - np.array(low, float), np.array(high, float) - value])
    place = np.arange(len(rows))
    colours = [plots.COLOURS[0] if mark is None or mark(name) else plots.COLOURS[7] for name in names]
    axis.barh(place, value, 0.7, color=colours)
    axis.errorbar(value, place, xerr=error, fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
    axis.set_yticks(place, names)
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    if share:
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    return svg(figure)


def series(columns: Mapping[str, NDArray], channels: Sequence[str], time: NDArray) -> Markup:
    """Series (channel, sample) of one event: of many samples the lowest and highest in each of `ENVELOPE` stretches."""
    drawn = {words: envelope(values) for words, values in columns.items()}
    samples = next(iter(drawn.values())).shape[-1]
    return svg(plots.series_rows(drawn, channels, np.linspace(time[0], time[-1], samples)))


def envelope(values: NDArray) -> NDArray:
    """(..., sample) -> (..., 2 ENVELOPE): what a line of so few pixels can show of more samples; fewer stay."""
    samples = values.shape[-1]
    if samples <= 2 * ENVELOPE:
        return values
    starts = np.arange(ENVELOPE) * samples // ENVELOPE
    ends = [function.reduceat(values, starts, axis=-1) for function in (np.minimum, np.maximum)]
    return np.stack(ends, axis=-1).reshape(*values.shape[:-1], 2 * ENVELOPE)


def _axes(x: str, y: str, width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def look(index: int) -> dict[str, Any]:
    """Colour and dashes of the i-th curve; the network's, the first, is the boldest."""
    return {
        "color": plots.COLOURS[index % len(plots.COLOURS)],
        "linestyle": plots.STYLES[index % len(plots.STYLES)],
        "linewidth": 2.2 if index == 0 else 1.5,
    }
