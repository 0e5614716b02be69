"""Figures of a subtraction: the strain before, what is taken out of it, and what is left, as series and as Q-plots.

Shapes: V view (recorded, removed, left), N sample, F frequency, T time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from glitchflow.figures import drawn
from glitchflow.figures.colours import LEFT, RECORDED, REMOVED
from glitchflow.figures.qplots import colour_scale, energy_bar, frequency_axis, pixel_edges

VIEWS = ("recorded", "removed", "left")
# of the span of the Q-plots: what is drawn of series about their loudest moment (.4 s of 2 s: single swings are told
# apart, and so is their phase), and over what loudness is meant
ZOOM, SMOOTH = 0.2, 0.025


@dataclass(frozen=True)
class Subtracted:
    """Holds one event before and after a subtraction."""

    name: str
    rate: float  # Hz
    series: NDArray  # (V, N) white; the event's GPS time in the middle
    energies: NDArray  # (V, F, T)
    frequency: NDArray  # (F,) Hz
    time: NDArray  # (T,) s from the event's GPS time


@drawn
def subtracted(events: Sequence[Subtracted]) -> Figure:
    """Draws an event a row: its white series about the loudest moment, what is removed over what was recorded and what
    is left beneath, and the Q-plots of all three on the colour scale of the recorded one."""
    figure = Figure(figsize=(12.5, 0.7 + 2.1 * len(events)), layout="constrained")
    axes = figure.subplots(len(events), 1 + len(VIEWS), squeeze=False, width_ratios=(1.7, 1, 1, 1))
    for place, (row, event) in enumerate(zip(axes, events, strict=True)):
        _swings(row[0], event)
        scale, edges = (
            colour_scale(event.energies[0]),
            (pixel_edges(event.time), pixel_edges(event.frequency)),
        )
        for axis, image, view in zip(row[1:], event.energies, VIEWS, strict=True):
            mesh = axis.pcolormesh(*edges, np.maximum(image, 0), norm=scale, cmap="viridis", rasterized=True)
            frequency_axis(axis, event.frequency)
            if place == 0:
                axis.set_title(view, fontsize=10)
        row[1].set_ylabel("frequency [Hz]", fontsize=9)
        energy_bar(figure, mesh, row[1:], event.energies.max())
    axes[0, 0].legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    for axis in axes[-1]:
        axis.set_xlabel("time [s]", fontsize=9)
    return figure


def _swings(axis: Axes, event: Subtracted) -> None:
    """Draw the series of an event: two lines over each other, and what is left of them below."""
    recorded, removed, left = event.series
    first, stop = float(event.time[0]), float(2 * event.time[-1] - event.time[-2])
    samples, half = len(recorded), max(1, round(ZOOM / 2 * (stop - first) * event.rate))
    power = np.convolve(
        np.square(removed), np.ones(max(1, round(SMOOTH * (stop - first) * event.rate))), "same"
    )
    at = (np.arange(samples) - samples // 2) / event.rate
    loudest = np.where((first <= at) & (at < stop), power, -1).argmax()  # of what the Q-plots show
    middle = int(np.clip(loudest, half, samples - half))
    shown = slice(middle - half, middle + half)
    time = at[shown]
    below = -(np.abs(recorded[shown]).max() + np.abs(left[shown]).max())
    axis.plot(time, recorded[shown], color=RECORDED, linewidth=1.6, label=VIEWS[0])
    axis.plot(time, removed[shown], color=REMOVED, linewidth=0.8, label=VIEWS[1])
    axis.plot(time, left[shown] + below, color=LEFT, linewidth=0.8, label=f"{VIEWS[2]}, beneath")
    axis.set_ylabel(f"{event.name}\nwhite strain", fontsize=9)
    axis.set_xlim(time[0], time[-1])
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
