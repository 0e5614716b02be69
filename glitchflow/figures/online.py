"""Figures of a twin at work: its last hour, and a glitch as it came and as it went out.

Every function returns a matplotlib Figure that belongs to the caller: nothing is kept in pyplot.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from glitchflow.figures import drawn
from glitchflow.figures.colours import COLOURS, LEFT, RECORDED
from glitchflow.figures.qplots import qplot_row
from glitchflow.signal.types import Array

# flag -> words, colour
STATES = {
    "SCIENCE": ("science", COLOURS[5]),
    "CLEANED": ("cleaned", COLOURS[2]),
    "PASSED": ("passed through", COLOURS[4]),
    "NOTHING": ("no data", COLOURS[7]),
    "VETO": ("glitch", COLOURS[1]),
}


@drawn
def hour(
    now: int,
    minutes: Sequence[tuple[float, float, float]],
    states: Mapping[str, Sequence[tuple[float, float]]],
    late: Sequence[tuple[float, float, float]],
) -> Figure:
    """Draws the hour before a GPS second: the strain's rms, recorded and cleaned, states, and how late it was.

    minutes: GPS s of its end, rms recorded, cleaned. states: GPS segments by flag, of `STATES`. late: GPS s, s of
    latency, s of backlog.
    """
    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    rms, state, delay = figure.subplots(3, 1, sharex=True, height_ratios=(1.2, 1, 1))
    end, recorded, cleaned = np.array(minutes, float).reshape(-1, 3).T
    for values, words, colour in ((recorded, "as recorded", RECORDED), (cleaned, "cleaned", LEFT)):
        rms.plot((end - 30 - now) / 60, values, ".-", color=colour, label=words)
    rms.set_ylabel("rms of the white strain\n(1: quiet time)")
    for place, (flag, (_, colour)) in enumerate(STATES.items()):
        bars = [((a - now) / 60, (b - a) / 60) for a, b in states.get(flag, ())]
        # an edge, or a glitch of a quarter of a second would be narrower than a pixel
        state.broken_barh(bars, (place - 0.4, 0.8), facecolors=colour, edgecolors=colour, linewidths=1)
    state.set_yticks(range(len(STATES)), [words for words, _ in STATES.values()])
    state.set_ylim(len(STATES) - 0.5, -0.5)
    gps, latency, backlog = np.array(late, float).reshape(-1, 3).T
    delay.plot(
        (gps - now) / 60, latency, ".", color=COLOURS[0], markersize=3, label="latency, from file to frame"
    )
    delay.plot((gps - now) / 60, backlog, "-", color=COLOURS[3], label="backlog, there and not out")
    delay.set(ylabel="time [s]", xlim=(-60, 0), xlabel=f"minutes before GPS {now}")
    for axis in (rms, delay):
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=8, ncols=2, frameon=False)
        axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
    for axis in (rms, state, delay):
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


@drawn
def glitch(recorded: Array, cleaned: Array, frequency: Array, time: Array, title: str) -> Figure:
    """Draws Q-plots (F, T) of a glitch as it was recorded and as it came out, on one colour scale.

    frequency (F,) in Hz; time (T,) in s.
    """
    return qplot_row({"recorded": recorded, "cleaned": cleaned}, frequency, time, title)
