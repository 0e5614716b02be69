"""A figure on a dark page: its ground and its words change, its image does not."""

import io

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.image import imread

from glitchflow.figures import online, save
from glitchflow.figures.dark import BACK, INK, darken
from glitchflow.figures.qplots import qplot_row

ENERGY = np.random.default_rng(1).exponential(1, (8, 16))


def pixels(figure) -> np.ndarray:
    buffer = io.BytesIO()
    save(figure, buffer, format="png", dpi=100)
    buffer.seek(0)
    return (imread(buffer)[..., :3] * 255).round()


def test_images_stay_and_all_around_them_is_told_on_dark():
    def drawn():
        return qplot_row({"recorded": ENERGY}, np.geomspace(20, 90, 8), np.linspace(-1, 1, 16), "GPS 1")

    figure = drawn()
    light = pixels(figure)
    darken(other := drawn())
    dark = pixels(other)
    ground = np.array([int(BACK[k : k + 2], 16) for k in (1, 3, 5)])
    assert (light == 255).all(axis=2).mean() > 0.2 and (light[0, 0] == 255).all()
    assert (dark[0, 0] == ground).all() and not ((dark == 255).all(axis=2)).any()
    assert not (dark < 10).all(axis=2).any(), "no ink is black any more"
    box = figure.axes[0].get_window_extent()
    x, y = int((box.x0 + box.x1) / 2), int(len(light) - (box.y0 + box.y1) / 2)
    np.testing.assert_array_equal(light[y - 9 : y + 9, x - 9 : x + 9], dark[y - 9 : y + 9, x - 9 : x + 9])


def test_lines_and_words_that_dark_would_swallow_have_another_tone():
    figure = online.hour(1000, [(1000, 1.5, 1.0)], {}, [(1000, 0.4, 1.0)])
    darken(figure)
    recorded, cleaned = figure.axes[0].lines
    assert (to_hex(recorded.get_color()), to_hex(cleaned.get_color())) == ("#999999", "#58a6e0")
    assert to_hex(figure.axes[0].yaxis.label.get_color()) == INK
    assert to_hex(figure.axes[0].get_legend().get_texts()[0].get_color()) == INK
