"""Names of channels, families and directories are drawn as they are, whatever is in them."""

import io
import re
from html import unescape

import numpy as np
import pytest
from matplotlib.figure import Figure

from glitchflow.analysis.report.charts import series, svg
from glitchflow.figures import save

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a$\\frac{$b",
    "$x^2$",
    'it\'s "q" & co',
    "{{ 7*7 }}",
    "</svg></style>",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text(name):
    page = str(series({name: np.ones((2, 64))}, [name, name], np.arange(64) / 8))
    assert page.count("<svg") == page.count("</svg>") == 1
    assert "<script" not in page and "<img" not in page
    assert unescape(page).count(name) >= 3


def test_ticks_of_a_logarithmic_axis_stay_powers():
    figure = Figure()
    axis = figure.subplots()
    axis.loglog([1, 4], [1, 1e6])  # of x minor ticks have labels too
    axis.set_title("$x^2$")
    buffer = io.StringIO()
    save(figure, buffer, {"svg.fonttype": "none"}, format="svg")
    words = re.sub(r"<!--.*?-->", "", buffer.getvalue())
    assert "mathdefault" not in words
    assert "$x^2$" in words


def test_who_hears_a_chart_is_told_what_its_axes_show():
    page = str(series({"white <strain>": np.ones((2, 64))}, ['H1:"A"', "H1:B"], np.arange(64) / 8))
    assert (
        re.search(r'<svg [^>]* role="img" aria-label="([^"]*)"', page)[1]
        == "chart: H1:&#34;A&#34;; H1:B against time [s]"
    )
    assert 'aria-label="chart"' in str(svg(Figure()))
