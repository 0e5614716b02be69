"""Every picture of the project, drawn by matplotlib from plain values.

In come energies with their axes, or tables as `metrics.json` holds them; out comes a Figure that belongs to the caller.
Start with qplots.py (images) and curves.py (everything else, and the colours); the other files are one stage's each.
"""

import re
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

TICK = re.compile(r"\$\\mathdefault\{[^$]*\}\$")  # what matplotlib writes at its own logarithmic ticks


def save(figure: Figure, target: Any, **options: Any) -> None:
    """Save a figure with its words as they are: a `$` in a channel's name begins no formula, which need not be one."""
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_parse_math(bool(TICK.fullmatch(text.get_text())))
    figure.savefig(target, **options)
