"""What vetoes catch and cost, against closed forms and against counting seconds on a fine grid."""

import numpy as np
import pytest

from glitchflow.score import vetoes
from glitchflow.score.vetoes import (
    THRESHOLDS,
    Watch,
    calibrate,
    chance,
    figures,
    lowest_threshold,
    tally,
)

EVENTS = 100


def watch(glitches=(), quiet=None, stride=64.0, block=0.0, events=EVENTS):
    """Windows of 2 s in 8 columns; the glitch, where there is one, in the middle of the fourth."""
    edges = 1000.0 + stride * np.arange(events)[:, None] + np.arange(9) / 4
    loudest = np.full(events, np.nan)
    loudest[list(glitches)] = edges[list(glitches), 3] + 0.125
    recorded = np.isfinite(loudest)[:, None] & (np.arange(8) == 3)
    return Watch(edges, loudest, recorded, np.isnan(loudest) if quiet is None else quiet, block)


def covered(columns, *events, number=EVENTS):
    found = np.zeros((number, 8), bool)
    found[np.ix_(list(events), columns)] = True
    return found


def values(tallies, **options):
    return {name: curve.value for name, curve in figures(tallies, seed=1, resamples=100, **options).items()}


def test_figures_by_hand():
    judged = watch(glitches=range(20))
    some = judged.vetoed(covered([3, 4], *range(10), 30, 31, 32, 33), padding=0.125, minimum=0.0)
    assert len(some) == 14 and np.diff(some).tolist() == [[0.75]] * 14
    nothing = judged.vetoed(covered([]), 0.125, 0.0)
    everything = judged.vetoed(covered(range(8), *range(EVENTS)), 0.125, 0.0)
    found = values([tally(one, judged) for one in (everything, some, nothing)])
    np.testing.assert_allclose(found["efficiency"], [1, 10 / 20, 0])
    np.testing.assert_allclose(found["deadtime"], [1, 14 * 0.75 / 200, 0])
    np.testing.assert_allclose(found["efficiency_over_deadtime"], [1, 0.5 / (14 * 0.75 / 200), np.nan])
    np.testing.assert_allclose(found["use_percentage"], [0.2, 10 / 14, np.nan])
    np.testing.assert_allclose(found["false_alarm_probability"], [1, 4 * 0.75 / 160, 0])


def test_padding_stops_at_the_window_and_the_minimum_widens():
    judged = watch()
    at_the_edge = judged.vetoed(covered([7], 5), padding=0.5, minimum=0.0)
    np.testing.assert_allclose(at_the_edge, [[1000 + 5 * 64 + 1.25, 1000 + 5 * 64 + 2]])
    wide = judged.vetoed(covered([4], 5), padding=0.1, minimum=0.75)
    np.testing.assert_allclose(np.diff(wide), [[0.75]])


def test_a_glitch_is_caught_where_its_time_is_vetoed_not_where_its_window_is():
    judged = watch(glitches=[5])
    for column, caught in ((3, 1), (6, 0)):
        found = tally(judged.vetoed(covered([column], 5), 0.125, 0.0), judged)
        assert found["caught"].sum() == found["used"].sum() == caught


@pytest.mark.parametrize("stride", [0.5, 0.75, 2.0, 3.0])
def test_seconds_and_glitches_of_overlapping_windows_count_once(stride):
    rng = np.random.default_rng(3)
    order = rng.permutation(60)
    edges = (1000.0 + stride * np.arange(60)[:, None] + np.arange(9) / 4)[order]
    # one glitch from 1010.3 to 1010.5: all windows that hold it show it
    holds = (edges[:, 0] <= 1010.3) & (edges[:, -1] > 1010.5)
    loudest = np.where(holds, 1010.3 + 0.2 * rng.random(60), np.nan)  # each sees it a bit different
    recorded = (edges[:, :-1] < 1010.5) & (edges[:, 1:] > 1010.3)
    judged = Watch(edges, loudest, recorded, ~holds, 8.0)
    marks = rng.random((60, 8)) < 0.2
    vetoed = judged.vetoed(marks, 0.0, 0.0)
    grid = np.arange(990, 1200, 1 / 64) + 1 / 128
    at = (grid[:, None] - edges[:, 0]) * 4
    inside = (at >= 0) & (at < 8)
    hit = (marks[np.arange(60), at.astype(int).clip(0, 7)] & inside).any(axis=1)
    found = tally(vetoed, judged)
    assert found["seconds"].sum() == pytest.approx(hit.sum() / 64, abs=1e-9)
    assert found["analysed"].sum() == pytest.approx(inside.any(axis=1).sum() / 64, abs=1e-9)
    assert found["glitches"].sum() == min(1, holds.sum())
    assert found["segments"].sum() == len(vetoed)


def test_a_random_veto_buys_nothing():
    rng = np.random.default_rng(2)
    judged = watch(np.flatnonzero(rng.random(20000) < 0.2), stride=2.0, events=20000)
    vetoed = judged.vetoed(covered(range(8), *np.flatnonzero(rng.random(20000) < 0.1), number=20000), 0, 0)
    found = figures([tally(vetoed, judged)], seed=1, resamples=400)
    ratio, deadtime = found["efficiency_over_deadtime"], found["deadtime"]
    assert ratio.value[0] == pytest.approx(1, abs=0.1)
    assert ratio.low[0] < 1 < ratio.high[0]
    # 4,096 groups of independent windows: as wide as the binomial
    width = deadtime.high[0] - deadtime.low[0]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.1 * 0.9 / 20000), rel=0.15)
    assert chance(vetoed, judged).p > 0.01


def test_what_comes_in_blocks_is_resampled_in_blocks():
    """Vetoes that fill whole blocks of 50 windows tell as much as one window of each."""
    chosen = np.flatnonzero((np.random.default_rng(0).random(400) < 0.1).repeat(50))
    judged = watch(stride=2.0, block=100.0, events=20000)
    vetoed = judged.vetoed(covered(range(8), *chosen, number=20000), 0, 0)
    found = figures([tally(vetoed, judged)], seed=1, resamples=400)["deadtime"]
    share = float(found.value[0])
    assert found.high[0] - found.low[0] == pytest.approx(
        2 * 1.96 * np.sqrt(share * (1 - share) / 400), rel=0.15
    )


def test_no_glitch_at_all_has_no_efficiency():
    judged = watch()
    found = figures([tally(judged.vetoed(covered([3], 3), 0.1, 0), judged)], seed=1, resamples=50)
    for name in ("efficiency", "efficiency_over_deadtime"):
        assert np.isnan([*vars(found[name]).values()]).all()
    assert found["use_percentage"].value[0] == 0


def test_the_threshold_of_a_deadtime_is_the_lowest_that_keeps_it():
    judged = watch(glitches=range(20))
    cuts = [judged.vetoed(covered([3, 4], *range(n)), 0.25, 0) for n in (80, 20, 2, 1, 0)]
    tallies = [tally(one, judged) for one in cuts]  # 1 s each: deadtimes 0.4, 0.1, 0.01, 0.005, 0
    assert [lowest_threshold(tallies, "deadtime", most) for most in (1, 0.1, 0.01, 0.001)] == [0, 1, 2, 4]
    assert lowest_threshold(tallies, "false_alarm_probability", 0.001) == 1
    assert lowest_threshold(tallies[:2], "deadtime", 0.001) is None
    assert lowest_threshold(tallies, "use_percentage", 0) is None, "each of them holds a glitch"
    assert (np.diff(THRESHOLDS) > 0).all() and len(THRESHOLDS) < 255


def test_chance_by_hand():
    judged = watch(glitches=range(0, 100, 2))
    right = chance(judged.vetoed(covered([3], *range(0, 100, 2)), 0.0, 0.0), judged)
    assert (right.caught, right.expected) == (50, pytest.approx(50 * 50 * 0.25 / 200))
    # shifts by an even number of windows catch all, the others none
    assert right.shifted == pytest.approx(49 * 50 / 99)
    assert right.p == 0.5
    assert right.deviation == pytest.approx((50 - right.shifted) / (50 * np.sqrt(49 / 99 * 50 / 99)))


def test_what_fires_in_every_window_means_something_to_poisson_alone():
    judged = watch(glitches=np.random.default_rng(1).permutation(100)[:40])
    blind = chance(judged.vetoed(covered([3], *range(100)), 0.0, 0.0), judged)
    assert blind.caught == 40 and blind.expected == pytest.approx(5) and blind.significance > 20
    assert (blind.shifted, blind.p) == (40, 1) and np.isnan(blind.deviation)
    seeing = chance(
        judged.vetoed(covered([3], *np.flatnonzero(np.isfinite(judged.glitch))), 0.0, 0.0), judged
    )
    assert seeing.p == 0.01, "none of the 99 shifts catches as many"


def test_pglitch_is_the_share_of_glitches_where_that_rises():
    rank = np.repeat([1.0, 2, 3, 4], 100)
    glitch = np.concatenate([np.arange(100) < n for n in (10, 40, 20, 100)])
    found = calibrate(rank, glitch)
    p = found.pglitch(np.array([0.0, 1, 2, 3, 4, 9]))
    np.testing.assert_allclose(p, [0.1, 0.1, 0.3, 0.3, 1 - 0.5 / 400, 1 - 0.5 / 400])
    assert found.prior == 0.425
    np.testing.assert_allclose(found.loglike(np.array([1.0])), np.log(0.1 / 0.9 * 0.575 / 0.425))
    assert calibrate(rank, glitch & False) is None
    assert calibrate(rank, glitch | True) is None


def test_blocks_of_time_are_no_more_than_can_be_drawn():
    """A month has more blocks of 64 s than resamples have room for: neighbours are drawn together then."""
    blocks = watch(stride=1.0, block=1.0, events=3 * vetoes.BLOCKS).blocks
    assert blocks.tolist() == (np.arange(3 * vetoes.BLOCKS) // 3).tolist()
    few = watch(stride=1.0, block=2.0, events=100).blocks
    assert len(np.unique(few)) == few.max() + 1
    assert np.bincount(few).max() == 2
