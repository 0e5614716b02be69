"""Figures: what is drawn is what was given, with units, on one colour scale, and without global state."""

import io

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from glitchflow.figures import curves
from glitchflow.figures import qplots as plots
from glitchflow.score.metrics import NOISE_ENERGY

LOG, LINEAR, TIME = np.geomspace(10, 200, 8), np.linspace(10, 200, 8), np.linspace(-0.5, 0.5, 5)


def image(*leading, seed=0):
    return np.random.default_rng(seed).exponential(5, size=(*leading, 8, 5))


def panels(figure):
    return [
        axis
        for axis in figure.axes
        if any(isinstance(c, QuadMesh) for c in axis.collections) and axis.get_label() != "<colorbar>"
    ]


def mesh(axis):
    return next(c for c in axis.collections if isinstance(c, QuadMesh))


def written(figure):
    assert isinstance(figure, Figure)
    figure.savefig(buffer := io.BytesIO(), dpi=40)
    return buffer.getvalue().startswith(b"\x89PNG")


def test_axes_know_their_kind():
    assert plots.is_logarithmic(LOG) and not plots.is_logarithmic(LINEAR)
    assert not plots.is_logarithmic(TIME)
    np.testing.assert_allclose(plots.pixel_edges([1.0, 2.0, 3.0]), [0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(plots.pixel_edges([1.0, 4.0, 16.0]), [0.5, 2.0, 8.0, 32.0])
    with pytest.raises(ValueError, match="must ascend"):
        plots.pixel_edges([2.0, 1.0])


@pytest.mark.parametrize("frequency, scale", [(LOG, "log"), (LINEAR, "linear")])
def test_a_row_shows_its_images_on_one_scale(frequency, scale):
    t, g, r = image(), image(seed=1), image(seed=2) - 5
    figure = plots.qplot_row({"recorded": t, "generated": g, "residual": r}, frequency, TIME, "event 3")
    axes = panels(figure)
    assert [axis.get_title() for axis in axes] == ["recorded", "generated", "residual"]
    assert {axis.get_xlabel() for axis in axes} == {"time [s]"}
    assert axes[0].get_ylabel() == "frequency [Hz]" and axes[0].get_yscale() == scale
    assert len({id(mesh(axis).norm) for axis in axes}) == 1
    for axis, expected in zip(axes, (t, g, np.maximum(r, 0))):
        np.testing.assert_array_equal(mesh(axis).get_array().reshape(8, 5), expected)
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_label() == "<colorbar>"] == [
        "normalised energy"
    ]
    assert written(figure)


def test_rows_keep_frequency_where_it_belongs():
    """The loud pixel is drawn at its own frequency and time, not flipped."""
    energy = np.zeros((8, 5))
    energy[6, 1] = 50
    axis = panels(plots.qplot_row({"one": energy}, LOG, TIME))[0]
    corners = mesh(axis).get_coordinates()
    assert corners[6, 1, 1] < LOG[6] < corners[7, 1, 1]
    assert corners[6, 1, 0] < TIME[1] < corners[6, 2, 0]
    assert mesh(axis).get_array().reshape(8, 5)[6, 1] == 50


def test_colour_scale_ends_where_told_and_never_below_noise():
    assert plots.colour_scale(image(), maximum=25.0).vmax == 25.0
    assert plots.colour_scale(np.zeros((8, 5))).vmax == pytest.approx(2 * NOISE_ENERGY)
    assert plots.colour_scale(image(30)).vmax < image(30).max()


def test_gallery_has_a_row_per_event():
    t, g, r = image(4), image(4, seed=1), image(4, seed=2)
    figure = plots.event_gallery(t, g, r, ["a", "b", "c", "d"], LOG, TIME)
    axes = panels(figure)
    assert len(axes) == 12 and axes[3].get_ylabel() == "b\nfrequency [Hz]"
    np.testing.assert_array_equal(mesh(axes[7]).get_array().reshape(8, 5), g[2])
    assert written(figure)


def test_strain_stands_above_its_witnesses():
    energies = image(2, 3)
    figure = plots.witnesses_and_strain(energies, ["STRAIN", "A", "B"], LOG, TIME, ["first", "second"])
    axes = panels(figure)
    assert [axes[i].get_ylabel().split("\n")[0] for i in (0, 2, 4)] == ["STRAIN", "A", "B"]
    np.testing.assert_array_equal(mesh(axes[1]).get_array().reshape(8, 5), energies[1, 0])
    np.testing.assert_array_equal(mesh(axes[4]).get_array().reshape(8, 5), energies[0, 2])
    assert len(panels(plots.witnesses_and_strain(energies[0], ["STRAIN", "A", "B"], LOG, TIME))) == 3
    with pytest.raises(ValueError, match="do not fit"):
        plots.witnesses_and_strain(energies, ["STRAIN", "A"], LOG, TIME, ["first", "second"])


def test_nothing_is_left_in_pyplot():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    plots.qplot_row({"one": image()}, LOG, TIME)
    curves.loss_curves([1.0], [1.0])
    assert pyplot.get_fignums() == before


def test_series_a_channel_a_row_and_a_column_for_each_way_to_look():
    time = np.linspace(-1, 1, 50)
    series = np.random.default_rng(0).standard_normal((3, 50))
    figure = plots.series_rows(
        {"whitened": series, "as recorded": 2 * series}, ["A", "B", "C"], time, "event 1"
    )
    assert len(figure.axes) == 6
    np.testing.assert_array_equal(figure.axes[3].lines[0].get_ydata(), 2 * series[1])
    assert [figure.axes[i].get_title() for i in (0, 1)] == ["whitened", "as recorded"]
    with pytest.raises(ValueError, match="do not fit 2 channels"):
        plots.series_rows({"whitened": series}, ["A", "B"], time)
