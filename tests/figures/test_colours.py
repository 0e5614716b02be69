"""A method has one colour in every figure, and those that are drawn together are told apart by all."""

import itertools

import numpy as np
import pytest

from glitchflow.analysis.report.charts import COLOURS as SHOWN
from glitchflow.figures import curves
from glitchflow.figures.colours import COLOURS, METHODS, STYLES, look
from glitchflow.figures.evaluation import BARS, CURVES, SUBTRACTING

# how colours are seen with a form of colour blindness, on linear light: Machado, Oliveira & Fernandes 2009, severity 1
SEEN = {
    "all": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# the tones of report/templates/page.css, by its scheme
PAGES = {
    "light": {
        "currentColor": "#1b1f24",
        "var(--network)": "#0072b2",
        "var(--sky)": "#56b4e9",
        "var(--blind)": "#464646",
    },
    "dark": {
        "currentColor": "#e3e6ea",
        "var(--network)": "#58a6e0",
        "var(--sky)": "#b5e3fb",
        "var(--blind)": "#6b7280",
    },
}


def lab(colour, seen):
    """CIE L*a*b* of a colour as it is seen."""
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(xyz @ np.clip(np.array(seen) @ linear, 0, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("scheme", PAGES)
@pytest.mark.parametrize("together", [CURVES, SUBTRACTING, BARS], ids=["curves", "subtracting", "bars"])
def test_methods_drawn_together_are_told_apart(scheme, together):
    """A just noticeable difference is about 2.3."""
    tones = PAGES[scheme]
    colour = {name: (c := METHODS[name][0].lower(), tones.get(SHOWN.get(c, ""), c))[1] for name in together}
    for one, other in itertools.combinations(together, 2):
        for seen in SEEN.values():
            apart = np.linalg.norm(lab(colour[one], seen) - lab(colour[other], seen))
            assert apart > 10, (one, other)


def test_the_page_has_these_tones():
    from glitchflow.analysis.report.page import environment

    css = environment().loader.get_source(environment(), "page.css")[0]
    light, dark = css.split("@media screen")[0], css.split("@media screen")[1].split("* {")[0]
    for scheme, text in (("light", light), ("dark", dark)):
        for name, tone in PAGES[scheme].items():
            word = "--ink" if name == "currentColor" else name[4:-1]
            assert f"{word}: {tone};" in text


def test_a_method_keeps_its_colour_whatever_is_drawn_beside_it():
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    share = {part: [0.5, 0.6] for part in ("value", "low", "high")}
    for names in (["network", "wiener"], ["network", "linear", "oracle", "wiener"]):
        bars = curves.by_family({"blip": dict.fromkeys(names, interval)}, "residual", 1.0, True).axes[0]
        lines = curves.against_threshold([1, 2], dict.fromkeys(names, share), "accuracy").axes[0].lines
        place = names.index("wiener")
        assert bars.containers[2 * place][0].get_facecolor()[:3] == pytest.approx((213 / 255, 94 / 255, 0))
        assert lines[place].get_color() == look("wiener")["color"] == COLOURS[1]


def test_what_is_no_method_has_the_colour_of_its_place():
    assert look("mine", 2) == {"color": COLOURS[2], "linestyle": STYLES[2], "linewidth": 1.5}
    assert look("network", 5)["linewidth"] > look("wiener")["linewidth"]
