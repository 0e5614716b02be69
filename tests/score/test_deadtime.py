"""Deadtime against counting seconds on a fine grid, and against closed forms."""

import numpy as np
import pytest

from glitchflow.score.deadtime import deadtime, own_seconds

GPS = 1000.0 + 2 * np.arange(100)  # 100 windows of 2 s side by side
NOTHING = np.zeros(100, bool)


def places(*which):
    found = NOTHING.copy()
    found[list(which)] = True
    return found


@pytest.mark.parametrize("stride", [0.5, 0.75, 2.0, 3.0])
def test_seconds_of_overlapping_windows_count_once(stride):
    rng = np.random.default_rng(3)
    gps = rng.permutation(100.0 + stride * np.arange(60))
    chosen = rng.random(60) < 0.4
    grid = np.arange(90, 300, 1 / 64) + 1 / 128
    covered = (np.abs(grid[:, None] - gps[chosen]) < 1).any(axis=1).sum() / 64
    own = own_seconds(gps, 2.0, chosen)
    assert own.sum() == pytest.approx(covered, abs=1e-9)
    assert not own[~chosen].any()
    assert own_seconds(gps, 2.0, np.zeros(60, bool)).sum() == 0


def test_deadtime_and_efficiency_over_deadtime_by_hand():
    vetoed = np.stack([places(*range(10)), places(1, 2, 50, 51), NOTHING])
    found = deadtime(GPS, 2.0, vetoed, places(0, 1, 2, 3), 8.0, seed=1, resamples=200)
    assert found.analysed == 200
    np.testing.assert_allclose(found.vetoed, [20, 8, 0])
    np.testing.assert_allclose(found.share.value, [0.1, 0.04, 0])
    np.testing.assert_allclose(found.ratio.value, [10, 12.5, np.nan])
    for curve in (found.share, found.ratio):
        assert (curve.low[:2] <= curve.value[:2]).all()
        assert (curve.value[:2] <= curve.high[:2]).all()
    assert np.isnan(found.ratio.low[2]), "nothing vetoed: nothing to divide by"


def test_a_random_veto_buys_nothing():
    rng = np.random.default_rng(0)
    gps = 1e9 + 2 * np.arange(20000)
    vetoed, truth = rng.random((1, 20000)) < 0.1, rng.random(20000) < 0.2
    found = deadtime(gps, 2.0, vetoed, truth, 2.0, seed=1, resamples=400)
    assert found.ratio.value[0] == pytest.approx(1, abs=0.05)
    assert found.ratio.low[0] < 1 < found.ratio.high[0]
    width = found.share.high[0] - found.share.low[0]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.1 * 0.9 / 20000), rel=0.15), (
        "blocks of one window: binomial"
    )


def test_what_comes_in_blocks_is_resampled_in_blocks():
    """Vetoes that fill whole blocks of 50 windows tell as much as one window of each."""
    gps = 1e9 + 2 * np.arange(20000)
    vetoed = (np.random.default_rng(0).random(400) < 0.1).repeat(50)[None]
    found = deadtime(gps, 2.0, vetoed, vetoed[0], 100.0, seed=1, resamples=400)
    share = float(found.share.value[0])
    assert found.share.high[0] - found.share.low[0] == pytest.approx(
        2 * 1.96 * np.sqrt(share * (1 - share) / 400), rel=0.15
    )


def test_no_glitch_at_all_has_no_efficiency():
    found = deadtime(GPS, 2.0, places(3)[None], NOTHING, 8.0, seed=1, resamples=50)
    assert np.isnan(found.ratio.value).all()
    assert np.isnan(found.ratio.high).all()
