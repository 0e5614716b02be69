"""Filters by overlapping pieces are the sums of products that filters are, whatever lengths meet."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from glitchflow.signal.fir import filtered, joined, pieces


@pytest.mark.parametrize("taps", [1, 2, 9, 65, 129])
@pytest.mark.parametrize("samples", [1, 7, 128, 383, 384, 385, 2048])
def test_filters_are_sums_of_products(taps, samples):
    rng = np.random.default_rng(taps)
    series, filters = rng.standard_normal((2, 3, samples)), rng.standard_normal((3, taps))
    found = filtered(torch.from_numpy(series), torch.from_numpy(filters)).numpy()
    wanted = np.stack([lfilter(row, 1, series[:, k]) for k, row in enumerate(filters)], axis=1)
    assert found.shape == series.shape
    np.testing.assert_allclose(found, wanted, atol=1e-13)


def test_a_filter_that_looks_ahead_sees_what_comes():
    series = torch.arange(1.0, 1001, dtype=torch.float64)
    cut = pieces(series, 5, ahead=2)
    spectra = torch.fft.rfft(cut) * torch.fft.rfft(torch.eye(5, dtype=torch.float64)[0], cut.shape[-1])
    found = joined(spectra, cut.shape[-1], 5, 1000)
    np.testing.assert_allclose(found, np.append(series[2:], [0, 0]), atol=1e-10)


def test_a_loud_moment_is_not_heard_before_it_or_beyond_the_filter():
    series = torch.zeros(4000, dtype=torch.float64)
    series[2000] = 1e21
    found = filtered(series, torch.ones(129, dtype=torch.float64)).numpy()
    assert np.abs(found[:1500]).max() == 0 and np.abs(found[2600:]).max() == 0, "other pieces"
    np.testing.assert_allclose(found[2000:2129], 1e21)
