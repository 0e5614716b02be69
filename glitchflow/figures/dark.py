"""Figures for a dark page: what is drawn for a white one, in other tones; images and their colour maps stay."""

from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from glitchflow.figures.colours import COLOURS

INK, BACK, LINE = "#e3e6ea", "#14171b", "#363d46"  # of the report and of `watch`'s page
TONES = {"#000000": INK, COLOURS[0].lower(): "#58a6e0"}  # black and dark blue would not be seen


def darken(figure: Figure) -> None:
    """Give a figure the dark page's colours."""
    figure.set_facecolor(BACK)
    for axes in figure.axes:
        axes.set_facecolor(BACK)
        axes.tick_params(which="both", color=INK, labelcolor=INK, grid_color=LINE)
        for spine in axes.spines.values():
            spine.set_edgecolor(INK)
    for one in figure.findobj(lambda artist: isinstance(artist, Line2D | Text)):
        if (colour := one.get_color()) != "none":  # type: ignore[attr-defined]
            one.set_color(TONES.get(to_hex(colour), colour))  # type: ignore[attr-defined]
