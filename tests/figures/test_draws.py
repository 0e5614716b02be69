"""Mosaics of Q-plots: where each image lies, and which side is which."""

import numpy as np

from glitchflow.figures.draws import GAP, SIDE, mosaic, side_by_side


def test_a_mosaic_has_its_images_in_rows_with_the_lowest_frequency_beneath():
    images = np.arange(7.0)[:, None, None] + np.linspace(0, 0.5, 4)[:, None] + np.zeros((7, 4, 6))
    found = mosaic(images)
    assert found.shape == (SIDE * (4 + GAP) - GAP, SIDE * (6 + GAP) - GAP)
    assert np.array_equal(found[:4, 6 + GAP : 12 + GAP], images[1, ::-1].astype(np.float32))
    second = slice(4 + GAP, 8 + GAP)
    assert np.array_equal(found[second, :6], images[5, ::-1].astype(np.float32))
    assert np.isnan(found[second, 2 * (6 + GAP) :]).all()  # there is no eighth
    assert np.isnan(found[4 : 4 + GAP]).all()


def test_families_stand_side_by_side_with_their_names():
    sides = np.full((25, 8, 8), 20.0), np.full((25, 8, 8), 2.0)
    frequency, time = np.geomspace(10, 200, 8), np.arange(8) / 4 - 1
    families = {"blip": sides, "chirp": sides[::-1], "whistle": sides}
    figure = side_by_side(families, frequency, time, across=2)
    *axes, bar = figure.axes
    titles = [axis.get_title(loc="left") for axis in axes]
    assert titles == [
        *("blip, real", "blip, drawn", "chirp, real", "chirp, drawn"),
        *("whistle, real", "whistle, drawn", "", ""),
    ]
    shown = [np.nanmax(axis.images[0].get_array()) for axis in axes if axis.images]
    assert shown == [20, 2, 2, 20, 20, 2]
    assert bar.get_ylabel() == "normalised energy"
    words = [text.get_text() for text in (*axes[0].get_yticklabels(), *axes[0].get_xticklabels())]
    assert words == ["248 Hz", "8", "0", "2 s"]
    assert axes[0].get_yticks().tolist() == [4 * (8 + GAP) - 0.5, 4 * (8 + GAP) + 7.5]


def test_of_few_images_the_last_row_says_what_they_span():
    few = np.ones((7, 8, 8))
    axis = side_by_side({"blip": (few, few)}, np.geomspace(10, 200, 8), np.arange(8) / 4).axes[0]
    assert axis.get_yticks().tolist() == [(8 + GAP) - 0.5, (8 + GAP) + 7.5]
