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
    figure = side_by_side({"blip": sides, "chirp": sides[::-1], "whistle": sides}, across=2)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == [
        *("blip, real", "blip, drawn", "chirp, real", "chirp, drawn"),
        *("whistle, real", "whistle, drawn", "", ""),
    ]
    shown = [np.nanmax(axis.images[0].get_array()) for axis in figure.axes if axis.images]
    assert shown == [20, 2, 2, 20, 20, 2]
