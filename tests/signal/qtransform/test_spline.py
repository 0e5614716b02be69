"""The banded spline operators against scipy's splines through all points."""

import numpy as np
import pytest
import torch
from scipy.interpolate import InterpolatedUnivariateSpline, RectBivariateSpline

from glitchflow.signal.qtransform.spline import SplineMap

GRIDS = {
    "fewer pixels": (np.arange(4096) / 64, np.arange(300) * (64 / 300)),
    "far fewer pixels": (np.arange(2**15) / 1024, 3 + np.arange(40) * 0.7),
    "more pixels": (np.arange(64) / 4, np.arange(1000) * 0.016),
    "a part": (np.arange(2048) / 128, 7 + np.arange(257) * (2 / 257)),
    "beyond the end": (np.arange(32) / 2, np.arange(1000) * 0.016),
    "four points": (np.arange(4.0), np.linspace(0, 3.5, 9)),
    "uneven": (np.unique(np.floor(10 * 1.02 ** np.arange(150) * 16) / 16), np.arange(12, 150, 0.5)),
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_time_is_the_spline_through_all_points(grid, dtype, tolerance):
    points, pixels = GRIDS[grid]
    values = np.random.default_rng(0).exponential(size=(2, 3, len(points)))
    found = SplineMap(points, pixels, clamp=False, dtype=dtype).time(torch.from_numpy(values).to(dtype))
    for b, m in np.ndindex(2, 3):
        expected = InterpolatedUnivariateSpline(points, values[b, m])(pixels)
        assert np.abs(found[b, m].numpy() - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("clamp_below", [False, True])
def test_frequency_is_a_surface_constant_outside(clamp_below):
    points = GRIDS["uneven"][0]
    pixels = np.geomspace(8 if clamp_below else 12, 260, 90)
    values = np.random.default_rng(1).exponential(size=(2, len(points), 7))
    found = SplineMap(points, pixels, clamp=True, dtype=torch.float64).frequency(torch.from_numpy(values))
    for b in range(2):
        surface = RectBivariateSpline(points, np.arange(7), values[b])
        expected = surface(pixels, np.arange(7))
        assert np.abs(found[b].numpy() - expected).max() < 1e-11 * np.abs(expected).max()
    if clamp_below:  # bit for bit: the loudest of equal pixels is then the first
        assert torch.equal(found[:, 0], torch.from_numpy(values[:, 0]))
        assert torch.equal(found[:, 0], found[:, 1])


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("count", [1, 5, 9])
def test_a_window_is_cut_from_the_whole(grid, count):
    points, pixels = GRIDS[grid]
    spline = SplineMap(points, pixels, clamp=True, dtype=torch.float64)
    rng = np.random.default_rng(2)
    values = torch.from_numpy(rng.exponential(size=(6, 3, len(points))))
    last = len(pixels) - count
    first = torch.tensor([0, last, *rng.integers(0, last + 1, 4)])
    in_time, whole = spline.time(values, first, count), spline.time(values)
    rows, image = spline.frequency(values.mT, first, count), spline.frequency(values.mT)
    for b, start in enumerate(first.tolist()):
        torch.testing.assert_close(in_time[b], whole[b, :, start : start + count])
        torch.testing.assert_close(rows[b], image[b, start : start + count])


def test_the_operator_grows_with_pixels_and_points_not_with_their_product():
    points, pixels = np.arange(2**17) / 2**13, np.arange(1000) * 0.016
    spline = SplineMap(points, pixels, clamp=False, dtype=torch.float32)
    assert spline.weight.numel() < 8 * (len(points) + len(pixels) * 64)
