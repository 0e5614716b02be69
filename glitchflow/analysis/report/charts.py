"""Charts as SVG in the page itself: sharp at any size, in the page's font, in its light and its dark colours."""

import io
import re
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glitchflow.figures import qplots as plots
from glitchflow.figures import save

# what matplotlib writes, and the page's colour for it: ink, lines, shades, then what would not be seen, or not be told
# apart, on its dark page
COLOURS = {"#000000": "currentColor", "#222222": "currentColor", "#dddddd": "var(--line)"}
COLOURS |= {
    "#555555": "var(--grey)",
    "#999999": "var(--grey)",
    "#eeeeee": "var(--shade)",
    "#ffffff": "var(--back)",
}
COLOURS |= {"#0072b2": "var(--network)", "#56b4e9": "var(--sky)", "#464646": "var(--blind)"}
SVG = {"svg.fonttype": "none", "svg.hashsalt": "glitchflow"}
ENVELOPE = 300  # stretches of a long series
_NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def svg(figure: Figure) -> Markup:
    """Turn a figure into an <svg> element without background, in the page's colours."""
    figure.patch.set_visible(False)
    for axis in figure.axes:
        axis.patch.set_visible(False)
    buffer = io.StringIO()
    save(figure, buffer, SVG, format="svg", metadata=_NOTHING)
    text = re.sub(r"\s*\n\s*", "\n", buffer.getvalue()[buffer.getvalue().index("<svg") :])
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(?<= )d="[^"]*"', _shortened, text)
    for written, shown in COLOURS.items():
        text = text.replace(written, shown)
    size, said = f"width:{figure.get_figwidth() * 72:.0f}pt", escape(_said(figure))
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>',
        lambda found: f'<svg {found[1]} style="{size}" role="img" aria-label="{said}">',
        text,
        count=1,
    )
    return Markup(text)  # matplotlib escapes the words it draws


def _said(figure: Figure) -> str:
    """What a reader of the screen says in place of a chart's numbers: what its axes show."""
    axes = [(" ".join(one.get_ylabel().split()), one.get_xlabel()) for one in figure.axes]
    shown = dict.fromkeys(" against ".join(filter(None, words)) for words in axes if any(words))
    return f"chart: {'; '.join(shown)}" if shown else "chart"


def _shortened(path: re.Match[str]) -> str:
    """A line's coordinates in hundredths of a point, finer than any screen."""
    return re.sub(r"(\.\d\d)\d+", r"\1", path[0])


def series(columns: Mapping[str, NDArray], channels: Sequence[str], time: NDArray) -> Markup:
    """Draw the series (channel, sample) of one event: of many samples the lowest and highest in each of `ENVELOPE`
    stretches."""
    drawn = {words: envelope(values) for words, values in columns.items()}
    samples = next(iter(drawn.values())).shape[-1]
    return svg(plots.series_rows(drawn, channels, np.linspace(time[0], time[-1], samples)))


def envelope(values: NDArray) -> NDArray:
    """Keep, (..., sample) -> (..., 2 ENVELOPE), what a line of so few pixels can show of more samples; fewer stay."""
    samples = values.shape[-1]
    if samples <= 2 * ENVELOPE:
        return values
    starts = np.arange(ENVELOPE) * samples // ENVELOPE
    ends = [function.reduceat(values, starts, axis=-1) for function in (np.minimum, np.maximum)]
    return np.stack(ends, axis=-1).reshape(*values.shape[:-1], 2 * ENVELOPE)
