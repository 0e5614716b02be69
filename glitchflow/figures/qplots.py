"""Figures of images: Q-plots side by side, and the series behind them.

Shapes: one image is (frequency, time) of normalised energies; frequency (frequency,) in Hz and time (time,) in s,
both ascending. Every function returns a matplotlib Figure that belongs to the caller: nothing is kept in pyplot.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike, NDArray

from glitchflow.figures import drawn
from glitchflow.figures.colours import COLOURS
from glitchflow.score.metrics import NOISE_ENERGY

ENERGY_LABEL = "normalised energy"
# of the recorded pixels, where the colour scale ends unless told: one glitch's loudest pixel does not darken the rest
QUANTILE = 0.999


def is_logarithmic(axis: ArrayLike) -> bool:
    """Says whether an ascending positive axis has constant ratios rather than constant steps."""
    values = np.asarray(axis, np.float64)
    if len(values) < 3 or values[0] <= 0:
        return False
    return bool(np.ptp(np.diff(np.log(values))) * values[0] < np.ptp(np.diff(values)))


def pixel_edges(axis: ArrayLike) -> NDArray[np.float64]:
    """Returns edges (n + 1,) of pixels with the given centres (n,): half-way between, on the axis's own scale."""
    values = np.asarray(axis, np.float64)
    if values.ndim != 1 or len(values) < 2 or not (np.diff(values) > 0).all():
        raise ValueError("an axis of a Q-plot must ascend and have at least 2 pixels")
    scaled = np.log(values) if is_logarithmic(values) else values
    middle = (scaled[1:] + scaled[:-1]) / 2
    edges = np.concatenate([[2 * scaled[0] - middle[0]], middle, [2 * scaled[-1] - middle[-1]]])
    return np.exp(edges) if is_logarithmic(values) else edges


def colour_scale(energies: Any, maximum: float | None = None) -> PowerNorm:
    """Scales colours from 0 to `maximum` (default: nearly the loudest energy) by square root: noise stays visible."""
    values = np.asarray(energies)
    top = float(np.quantile(values, QUANTILE)) if maximum is None else maximum
    return PowerNorm(0.5, vmin=0.0, vmax=max(top, 2 * NOISE_ENERGY), clip=False)


@drawn
def qplot_grid(
    images: Any,
    frequency: ArrayLike,
    time: ArrayLike,
    columns: Sequence[str],
    rows: Sequence[str],
    scale: PowerNorm,
    title: str = "",
) -> Figure:
    """Draws Q-plots in rows and columns on one colour scale. Shape: images (row, column, frequency, time)."""
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
        frequency_axis(axis, frequency)
    energy_bar(figure, mesh, axes, images.max(), aspect=18 * len(rows) ** 0.8)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def energy_bar(
    figure: Figure, shown: ScalarMappable, axes: Any, loudest: float, aspect: float = 18, shrink: float = 1
) -> None:
    """Draw the colour scale of some axes beside them, with an arrow where something is louder than its end."""
    beyond = "max" if loudest > np.max(shown.get_clim()) else "neither"
    bar = figure.colorbar(shown, ax=axes, extend=beyond, pad=0.015, aspect=aspect, shrink=shrink)
    bar.set_label(ENERGY_LABEL, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.ax.yaxis.set_major_locator(MaxNLocator(6))


def frequency_axis(axis: Axes, frequency: ArrayLike) -> None:
    """Scale an axis of frequencies as they are spaced."""
    if is_logarithmic(frequency):
        axis.set_yscale("log")
        # 1, 2, 5 a decade as plain numbers: a Q-plot seldom spans more than two decades
        axis.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter(ScalarFormatter())
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(labelsize=8)


@drawn
def qplot_row(
    images: Mapping[str, Any],
    frequency: ArrayLike,
    time: ArrayLike,
    title: str = "",
    maximum: float | None = None,
) -> Figure:
    """Draws named Q-plots of one event side by side; the first decides the colour scale unless `maximum` does.

    Shapes: images (frequency, time) each.
    """
    stack = np.stack([np.asarray(image) for image in images.values()])
    return qplot_grid(
        stack[None], frequency, time, list(images), [""], colour_scale(stack[0], maximum), title
    )


@drawn
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
    """Draws a row of recorded, generated and residual energy per event, all on one colour scale.

    Shapes: (event, frequency, time) each; names (event,).
    """
    images = np.stack([np.asarray(part) for part in (recorded, generated, residual)], axis=1)
    columns = ["recorded", "generated", "residual"]
    return qplot_grid(images, frequency, time, columns, names, colour_scale(images[:, 0], maximum), title)


@drawn
def witnesses_and_strain(
    energies: Any,
    channels: Sequence[str],
    frequency: ArrayLike,
    time: ArrayLike,
    events: Sequence[str] = ("",),
    title: str = "",
    maximum: float | None = None,
) -> Figure:
    """Draws the strain above its witnesses, one event a column, all on one colour scale.

    Shapes: energies (event, channel, frequency, time) or, of one event, (channel, frequency, time), strain first.
    """
    images = np.asarray(energies)
    images = images[None] if images.ndim == 3 else images
    scale = colour_scale(images, maximum)
    return qplot_grid(images.swapaxes(0, 1), frequency, time, events, channels, scale, title)


@drawn
def series_rows(
    columns: Mapping[str, Any], channels: Sequence[str], time: ArrayLike, title: str = ""
) -> Figure:
    """Draws series of one event, a channel a row, the strain first; a column for each way to look at them.

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
