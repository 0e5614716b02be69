"""A subtraction as series and Q-plots: what is drawn is what was given, about its loudest moment."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from glitchflow.figures.subtraction import VIEWS, ZOOM, Subtracted, subtracted

RATE, SAMPLES, LOUD = 128.0, 1024, 540
SHOWN = ZOOM * 1.25  # s: five columns of a quarter of a second


def event(name="event 3, burst"):
    series = np.random.default_rng(0).normal(size=(3, SAMPLES))
    series[1] = 0
    series[1, LOUD : LOUD + 4] = 9, -8, 7, -6
    series[1, :4] = 99  # where no Q-plot shows it
    series[2] = series[0] - series[1]
    energies = np.random.default_rng(1).exponential(2, (3, 8, 5))
    return Subtracted(name, RATE, series, energies, np.geomspace(10, 60, 8), np.linspace(-0.5, 0.5, 5))


def test_series_are_drawn_about_the_loudest_moment_of_what_is_removed():
    first, *_ = subtracted([event()]).axes
    recorded, removed, left = (line.get_xydata() for line in first.lines)
    middle = (LOUD + 2 - SAMPLES // 2) / RATE
    np.testing.assert_allclose(first.get_xlim(), (middle - SHOWN / 2, middle + SHOWN / 2), atol=3 / RATE)
    place = np.rint(recorded[:, 0] * RATE).astype(int) + SAMPLES // 2
    for line, series in zip((recorded, removed), event().series):
        np.testing.assert_array_equal(line[:, 1], series[place])
    offset = left[:, 1] - event().series[2][place]
    np.testing.assert_allclose(offset, offset[0])
    assert left[:, 1].max() <= recorded[:, 1].min() + 1e-9, "what is left is beneath, over nothing"


@pytest.mark.parametrize("slower", [1, 150])
def test_what_is_drawn_of_series_goes_with_the_span_of_the_q_plots(slower):
    """A second of one sample, as of a seismometer, is as much as a few ms are of a detector."""
    one = event()
    slow = replace(one, rate=one.rate / slower, time=one.time * slower)
    (fast, *_), (axis, *_) = subtracted([one]).axes, subtracted([slow]).axes
    np.testing.assert_allclose(np.array(axis.get_xlim()), slower * np.array(fast.get_xlim()), rtol=1e-9)
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), fast.lines[0].get_ydata())


def test_an_event_a_row_its_q_plots_on_one_scale():
    figure = subtracted([event("one"), event("two")])
    bars = [axis for axis in figure.axes if axis.get_ylabel() == "normalised energy"]
    axes = [axis for axis in figure.axes if axis not in bars]
    assert len(bars) == 2, "one a row, which has a scale of its own"
    meshes = [c for axis in axes for c in axis.collections if isinstance(c, QuadMesh)]
    assert len(meshes) == 2 * len(VIEWS)
    assert len({mesh.norm.vmax for mesh in meshes}) == 1
    for mesh, image in zip(meshes, [*event().energies, *event().energies], strict=True):
        np.testing.assert_array_equal(mesh.get_array().ravel(), image.ravel())
    assert [axis.get_ylabel() for axis in axes[::4]] == ["one\nwhite strain", "two\nwhite strain"]
    assert [axis.get_title() for axis in axes[1:4]] == list(VIEWS)
    figure.draw_without_rendering()
