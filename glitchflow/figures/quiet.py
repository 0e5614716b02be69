"""The figure of quiet time: ASDs of the strain before and after, what witnesses put in, and coherence with them.

Shapes: F frequency.
"""

from collections.abc import Mapping

from matplotlib.figure import Figure
from numpy.typing import NDArray

from glitchflow.figures import drawn
from glitchflow.figures.colours import COLOURS, LEFT, RECORDED

OWN = {"recorded": (RECORDED, 2.2), "left": (LEFT, 1.3)}  # colour and width of the strain's lines
BELOW = 30.0  # times less than the quietest of the strain is shown: a thousandth of its power


@drawn
def quiet_time(
    frequency: NDArray, asd: Mapping[str, NDArray], coherence: Mapping[str, NDArray], unit: str
) -> Figure:
    """Draw the ASDs (F,) of the strain, `recorded` and `left`, and of parts of the estimate; beneath, coherences (F,)
    of the strain before and after. unit: the strain's."""
    figure = Figure(figsize=(8.0, 6.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.7, 1))
    for name, (colour, width) in OWN.items():
        above.loglog(frequency, asd[name], color=colour, linewidth=width, label=name)
        below.semilogx(frequency, coherence[name], color=colour, linewidth=width, label=name)
    parts = [name for name, values in asd.items() if name not in OWN and values.any()]
    for k, name in enumerate(parts):
        above.loglog(
            frequency,
            asd[name],
            color=COLOURS[1 + k % 6],
            linewidth=1.0,
            linestyle="--",
            label=f"from {name}",
        )
    shown = [asd[name][asd[name] > 0] for name in OWN]
    above.set_ylim(min(one.min() for one in shown) / BELOW, 2 * max(one.max() for one in shown))
    above.set_ylabel(f"ASD [{unit}/√Hz]", fontsize=10)
    above.legend(frameon=False, fontsize=9, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    below.set_ylim(0, 1.02)
    below.set_ylabel("coherence with\nthe best witness", fontsize=10)
    below.set_xlabel("frequency [Hz]", fontsize=10)
    for axis in (above, below):
        axis.tick_params(labelsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlim(frequency[0], frequency[-1])
    return figure
