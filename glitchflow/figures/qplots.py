"""Figures for reports: Q-plots side by side, and scores beside baselines.

Shapes: one image is (frequency, time) of normalised energies; frequency (frequency,) in Hz and time (time,) in s,
both ascending. Every function returns a matplotlib Figure that belongs to the caller: nothing is kept in pyplot.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, ScalarFormatter
from numpy.typing import ArrayLike, NDArray

from glitchflow.score.clusters import Roc
from glitchflow.score.metrics import NOISE_ENERGY
from glitchflow.score.statistics import RESOLVABLE_EVENTS, Interval, Proportion

# Okabe & Ito: distinguishable with every common form of colour blindness. The first is the model's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
STYLES = ("-", "--", "-.", ":")
ENERGY_LABEL = "normalised energy"
QUANTILE = 0.999  # of the recorded pixels: where the colour scale ends unless told


def is_logarithmic(axis: ArrayLike) -> bool:
    """Whether an ascending positive axis has constant ratios rather than constant steps."""
    values = np.asarray(axis, np.float64)
    if len(values) < 3 or values[0] <= 0:
        return False
    return bool(np.ptp(np.diff(np.log(values))) * values[0] < np.ptp(np.diff(values)))


def pixel_edges(axis: ArrayLike) -> NDArray[np.float64]:
    """Edges (n + 1,) of pixels with the given centres (n,): half-way between, on the axis's own scale."""
    values = np.asarray(axis, np.float64)
    if values.ndim != 1 or len(values) < 2 or not (np.diff(values) > 0).all():
        raise ValueError("an axis of a Q-plot must ascend and have at least 2 pixels")
    scaled = np.log(values) if is_logarithmic(values) else values
    middle = (scaled[1:] + scaled[:-1]) / 2
    edges = np.concatenate([[2 * scaled[0] - middle[0]], middle, [2 * scaled[-1] - middle[-1]]])
    return np.exp(edges) if is_logarithmic(values) else edges


def colour_scale(energies: Any, maximum: float | None = None) -> PowerNorm:
    """From 0 to `maximum`, by default nearly the loudest of `energies`; square root, so that noise stays visible."""
    values = np.asarray(energies)
    top = float(np.quantile(values, QUANTILE)) if maximum is None else maximum
    return PowerNorm(0.5, vmin=0.0, vmax=max(top, 2 * NOISE_ENERGY), clip=False)


def qplot_grid(
    images: Any,
    frequency: ArrayLike,
    time: ArrayLike,
    columns: Sequence[str],
    rows: Sequence[str],
    scale: PowerNorm,
    title: str = "",
) -> Figure:
    """Q-plots in rows and columns on one colour scale. Shape: images (row, column, frequency, time)."""
    images = np.asarray(images)
    expected = (len(rows), len(columns), np.size(frequency), np.size(time))
    if images.shape != expected:
        raise ValueError(
            f"images of shape {images.shape} do not fit rows, columns, frequency, time {expected}"
        )
    size = (1.2 + 2.7 * len(columns), 0.9 + 1.9 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
    edges = pixel_edges(time), pixel_edges(frequency)
    for (row, column), axis in np.ndenumerate(axes):
        mesh = axis.pcolormesh(
            *edges, np.maximum(images[row, column], 0), norm=scale, cmap="viridis", rasterized=True
        )
        if row == 0:
            axis.set_title(columns[column], fontsize=10)
        if column == 0:
            axis.set_ylabel(f"{rows[row]}\nfrequency [Hz]" if rows[row] else "frequency [Hz]", fontsize=9)
        if row == len(rows) - 1:
            axis.set_xlabel("time [s]", fontsize=9)
        _frequency_axis(axis, frequency)
    beyond = "max" if scale.vmax is not None and images.max() > scale.vmax else "neither"
    bar = figure.colorbar(mesh, ax=axes, extend=beyond, pad=0.015, aspect=18 * len(rows) ** 0.8)
    bar.set_label(ENERGY_LABEL, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.ax.yaxis.set_major_locator(MaxNLocator(6))
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _frequency_axis(axis: Axes, frequency: ArrayLike) -> None:
    if is_logarithmic(frequency):
        axis.set_yscale("log")
        # 1, 2, 5 a decade as plain numbers: a Q-plot seldom spans more than two decades
        axis.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter(ScalarFormatter())
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(labelsize=8)


def qplot_row(
    images: Mapping[str, Any],
    frequency: ArrayLike,
    time: ArrayLike,
    title: str = "",
    maximum: float | None = None,
) -> Figure:
    """Named Q-plots of one event side by side; the first decides the colour scale unless `maximum` does.

    Shapes: images (frequency, time) each.
    """
    stack = np.stack([np.asarray(image) for image in images.values()])
    return qplot_grid(
        stack[None], frequency, time, list(images), [""], colour_scale(stack[0], maximum), title
    )


def comparison(
    recorded: Any,
    generated: Any,
    residual: Any,
    frequency: ArrayLike,
    time: ArrayLike,
    title: str = "",
    maximum: float | None = None,
) -> Figure:
    """Recorded, generated and residual energy of one event side by side. Shapes: (frequency, time) each."""
    images = {"recorded": recorded, "generated": generated, "residual": residual}
    return qplot_row(images, frequency, time, title, maximum)


def event_gallery(
    recorded: Any,
    generated: Any,
    residual: Any,
    names: Sequence[str],
    frequency: ArrayLike,
    time: ArrayLike,
    title: str = "",
    maximum: float | None = None,
) -> Figure:
    """One row of recorded, generated and residual energy per event, all on one colour scale.

    Shapes: (event, frequency, time) each; names (event,).
    """
    images = np.stack([np.asarray(part) for part in (recorded, generated, residual)], axis=1)
    columns = ["recorded", "generated", "residual"]
    return qplot_grid(images, frequency, time, columns, names, colour_scale(images[:, 0], maximum), title)


def witnesses_and_strain(
    energies: Any,
    channels: Sequence[str],
    frequency: ArrayLike,
    time: ArrayLike,
    events: Sequence[str] = ("",),
    title: str = "",
    maximum: float | None = None,
) -> Figure:
    """The strain above its witnesses, one event a column, all on one colour scale.

    Shapes: energies (event, channel, frequency, time) or, of one event, (channel, frequency, time), strain first.
    """
    images = np.asarray(energies)
    images = images[None] if images.ndim == 3 else images
    scale = colour_scale(images, maximum)
    return qplot_grid(images.swapaxes(0, 1), frequency, time, events, channels, scale, title)


def series_rows(
    columns: Mapping[str, Any], channels: Sequence[str], time: ArrayLike, title: str = ""
) -> Figure:
    """Series of one event, a channel a row, the strain first; a column for each way to look at them.

    Shapes: columns (channel, sample) each, time (sample,) in s.
    """
    size = (1.2 + 5.0 * len(columns), 0.9 + 1.1 * len(channels))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(channels), len(columns), sharex=True, squeeze=False)
    for column, (name, series) in enumerate(columns.items()):
        if np.shape(series) != (len(channels), np.size(time)):
            raise ValueError(
                f"series of shape {np.shape(series)} do not fit {len(channels)} channels and the time"
            )
        for row, channel in enumerate(channels):
            axis = axes[row, column]
            axis.plot(time, np.asarray(series)[row], color=COLOURS[0], linewidth=0.6)
            axis.tick_params(labelsize=8)
            axis.set_xlim(np.min(time), np.max(time))
            axis.spines[["top", "right"]].set_visible(False)
            if column == 0:
                axis.set_ylabel(channel, fontsize=8, rotation=0, ha="right")
        axes[0, column].set_title(name, fontsize=10)
        axes[-1, column].set_xlabel("time [s]", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def empty_axes(x: str, y: str, width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, in the style that all curves share."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def look(index: int) -> dict[str, Any]:
    """Colour and dashes of the i-th curve: told apart in print without colour too; the model's is the boldest."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": STYLES[index % len(STYLES)],
        "linewidth": 2.2 if index == 0 else 1.5,
    }


def loss_curves(train: ArrayLike, validation: ArrayLike, name: str = "loss") -> Figure:
    """Training and validation loss of each epoch, the best validation epoch marked. Shapes: (epoch,) both."""
    figure, axis = empty_axes("epoch", f"{name} (normalised units)")
    curves = {"training": np.asarray(train, np.float64), "validation": np.asarray(validation, np.float64)}
    for index, (label, values) in enumerate(curves.items()):
        axis.plot(np.arange(1, len(values) + 1), values, label=label, marker=".", **look(index))
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


def against_threshold(thresholds: ArrayLike, curves: Mapping[str, Proportion], label: str) -> Figure:
    """Shares of events against the energy threshold s, with their intervals as bands. Shapes: (threshold,) each."""
    figure, axis = empty_axes("threshold s (normalised energy)", label)
    for index, (name, share) in enumerate(curves.items()):
        axis.fill_between(
            thresholds, share.low, share.high, color=COLOURS[index % 8], alpha=0.15, linewidth=0
        )
        axis.plot(thresholds, share.value, label=name, **look(index))
    axis.set_ylim(0, 1.02)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.legend(frameon=False, fontsize=9)
    return figure


def accuracy_against_threshold(thresholds: ArrayLike, curves: Mapping[str, Proportion]) -> Figure:
    """Veto accuracy against the threshold, the model (first) beside its baselines. Shapes: (threshold,) each."""
    return against_threshold(thresholds, curves, "veto accuracy")


def roc(curves: Mapping[str, Roc], x: str = "background events vetoed", y: str = "efficiency") -> Figure:
    """ROC curves with their areas; where fewer than 10 background events decide, the plane is shaded."""
    figure, axis = empty_axes(x, y, 5.6, 5.0)
    trials = min((int(curve.false.trials[0]) for curve in curves.values()), default=0)
    if trials:
        unresolved = min(1.0, RESOLVABLE_EVENTS / trials)
        label = f"fewer than {RESOLVABLE_EVENTS} events"
        axis.axvspan(0, unresolved, color="#eeeeee", label=label, zorder=0)
    axis.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=(0, (1, 3)), label="chance")
    for index, (name, curve) in enumerate(curves.items()):
        label = f"{name} (area {curve.area:.3f})"
        axis.plot(curve.false.value, curve.efficiency.value, label=label, **look(index))
    axis.set(xlim=(0, 1), ylim=(0, 1.02))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def excess_by_family(scores: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """Excess power removed per family, as bars with intervals, the model (first) beside its baselines.

    `scores[family][model]` is an `Interval` of the share removed; a share that is not defined leaves a gap. Shares
    below -50 % (more power left than there was) are cut off there.
    """
    models = list(dict.fromkeys(model for family in scores.values() for model in family))
    width = 0.8 / max(1, len(models))
    figure, axis = empty_axes(
        "", "excess power removed", max(6.4, 1.2 + 0.28 * len(models) * len(scores)), 4.0
    )
    for index, model in enumerate(models):
        cells = [family.get(model, Interval(np.nan, np.nan, np.nan)) for family in scores.values()]
        value, low, high = (np.array([getattr(c, part) for c in cells]) for part in ("value", "low", "high"))
        x = np.arange(len(cells)) + (index - (len(models) - 1) / 2) * width
        error = np.maximum(0, [value - low, high - value])
        axis.bar(
            x, value, width * 0.92, label=model, color=COLOURS[index % 8], alpha=0.95 if index == 0 else 0.7
        )
        axis.errorbar(x, value, error, fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
    axis.axhline(0, color="#222222", linewidth=0.8)
    low_end, high_end = axis.get_ylim()
    axis.set_ylim(max(low_end, -0.5), min(max(high_end, 0.1), 1.05))
    axis.set_xticks(np.arange(len(scores)), list(scores))
    axis.grid(False, axis="x")
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.legend(frameon=False, fontsize=9, ncols=min(len(models), 6), loc="lower left", bbox_to_anchor=(0, 1))
    return figure
