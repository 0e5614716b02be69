"""Every picture of the project, drawn by matplotlib from plain values.

In come energies with their axes, or tables as `metrics.json` holds them; out comes a Figure that belongs to the caller.
Start with qplots.py (images), curves.py (everything else) and colours.py; the other files are one stage's each.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.projections import projection_registry, register_projection
from matplotlib.text import Text
from matplotlib.ticker import LogFormatterMathtext


@contextmanager
def _plainly() -> Iterator[None]:
    """Within the block matplotlib draws by its own settings, which importing gwpy changes, and a user may.

    And on its own axes: the legends of gwpy's have lines so thick that no dash is told.
    """
    before = projection_registry.get_projection_class("rectilinear")
    register_projection(Axes)
    try:
        with style.context("default"):
            yield
    finally:
        register_projection(before)


drawn = _plainly()  # of each function that draws


def save(figure: Figure, target: Any, settings: Mapping[str, Any] | None = None, **options: Any) -> None:
    """Save a figure with its words as they are: a `$` in a channel's name begins no formula, which need not be one.

    settings: other than matplotlib's own, such as `svg.fonttype`.
    """
    with style.context(["default", dict(settings or {})]):
        powers = {
            label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in _powers(axis)
        }
        for text in figure.findobj(Text):
            if isinstance(text, Text) and text not in powers:
                text.set_parse_math(False)
        figure.savefig(target, **options)


def _powers(axis: Axis) -> Iterator[Text]:
    """The labels of ticks that matplotlib writes as formulas; they have no words before they are drawn."""
    for formatter, ticks in (
        (axis.get_major_formatter(), axis.get_major_ticks()),
        (axis.get_minor_formatter(), axis.get_minor_ticks()),
    ):
        if isinstance(formatter, LogFormatterMathtext):
            for tick in ticks:
                yield from (tick.label1, tick.label2)
