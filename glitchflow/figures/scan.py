"""The figure of a scan: witnesses ranked by significance, with their scores beside what chance gives."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glitchflow.figures import drawn
from glitchflow.figures.colours import COLOURS

SHOWN = 40  # witnesses at most: more can be read in scan.json
CHOSEN, OTHER, CHANCE = COLOURS[0], COLOURS[7], COLOURS[1]


@drawn
def ranking(result: Mapping[str, Any]) -> Figure:
    """Draws significance, IoU and correlation of the most significant witnesses, a line each, the best on top.

    `result`: what `scan.json` holds. Chosen ones are filled and blue; the ticks are what time shifts give.
    """
    entries = result["channels"][:SHOWN]
    figure = Figure(figsize=(10.5, 1.6 + 0.24 * max(len(entries), 4)), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True, width_ratios=(1.3, 1, 1))
    place = np.arange(len(entries))
    colours = [CHOSEN if entry["chosen"] else OTHER for entry in entries]
    axes[0].barh(place, [entry["significance"] for entry in entries], 0.7, color=colours)
    axes[0].set_xlabel("above time shifts [standard deviations]")
    for axis, score, label in zip(
        axes[1:], ("iou", "correlation"), ("IoU of masks", "correlation of energies")
    ):
        _intervals(axis, place, [entry[score] for entry in entries], colours)
        axis.set_xlabel(label)
    axes[0].set_yticks(place, [entry["channel"] for entry in entries], fontsize=8)
    axes[0].invert_yaxis()
    for axis in axes:
        axis.axvline(0, color="#222222", linewidth=0.8)
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    _legend(figure, axes[2])
    count = sum(entry["chosen"] for entry in result["channels"])
    more = f", {SHOWN} shown" if len(result["channels"]) > SHOWN else ""
    figure.suptitle(
        f"{count} of {len(result['channels'])} witnesses{more} coincide with {result['strain']}"
        f" in {result['events_with_peak']} events",
        fontsize=11,
    )
    return figure


def _intervals(axis: Axes, place: np.ndarray, scores: list[Mapping[str, Any]], colours: list[str]) -> None:
    for y, score, colour in zip(place, scores, colours):
        if np.isfinite(score["value"]):
            axis.plot([score["low"], score["high"]], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
            axis.plot(score["value"], y, "o", color=colour, markersize=4)
            axis.plot(score["chance"], y, "|", color=CHANCE, markersize=9, markeredgewidth=1.6)


def _legend(figure: Figure, axis: Axes) -> None:
    looks: dict[str, dict[str, Any]] = {
        "chosen, 95 % interval": {"marker": "o", "color": CHOSEN},
        "not beyond chance": {"marker": "o", "color": OTHER},
        "time shifts": {"marker": "|", "color": CHANCE, "markersize": 9, "linestyle": "none"},
    }
    handles = [axis.plot([], [], label=label, **look)[0] for label, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
