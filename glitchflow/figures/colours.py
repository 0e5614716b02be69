"""Colours and dashes: a method has its own in every figure, and so has each view of an event.

The first eight are Okabe & Ito's (https://jfly.uni-koeln.de/color), told apart with every common form of colour
blindness; the report gives some of them another tone on its dark page (analysis/report/charts.py).
"""

from typing import Any

# the first is the model's
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
STYLES = ("-", "--", "-.", ":")
BLIND, COPIED = "#464646", "#8833EE"  # what looks at no witness; what copies one
METHODS = {
    "network": (COLOURS[0], "-"),
    "untrained": (COLOURS[5], ":"),
    "linear": (COLOURS[2], "-."),
    "wiener": (COLOURS[1], "--"),
    "wiener_derived": (COLOURS[4], "--"),
    "loudest_witness": (COPIED, ":"),
    "loudest_thresholded": (COPIED, "--"),
    "mean": (BLIND, "-."),
    "constant": (BLIND, ":"),
    "oracle": (COLOURS[3], "-"),
    "reference": (COLOURS[6], "-"),
}
# of an event: as it was recorded, what is taken out of it, and what is left
RECORDED, REMOVED, LEFT = COLOURS[7], COLOURS[1], COLOURS[0]


def look(name: str, index: int = 0) -> dict[str, Any]:
    """Choose colour and dashes of a curve by its name, told apart without colour too; the network's is the boldest.

    index: its place, by which one is chosen that is no method of the table.
    """
    colour, style = METHODS.get(name, (COLOURS[index % len(COLOURS)], STYLES[index % len(STYLES)]))
    return {"color": colour, "linestyle": style, "linewidth": 2.2 if colour == COLOURS[0] else 1.5}
