"""Intervals against scipy and closed forms."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from glitchflow.score import statistics
from glitchflow.score.statistics import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_quantile,
    bootstrap_ratio,
    bootstrap_sums,
    proportion,
    quotient,
)


@pytest.mark.parametrize("hits, trials", [(0, 20), (3, 20), (20, 20), (517, 1000)])
@pytest.mark.parametrize("confidence", [0.68, 0.95])
def test_wilson_interval_agrees_with_scipy(hits, trials, confidence):
    ours = proportion(hits, trials, confidence)
    theirs = binomtest(hits, trials).proportion_ci(confidence, method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)
    assert ours.value == hits / trials


def excludes(interval, number=0.0):
    return not interval.low <= number <= interval.high


def test_proportions_are_arrays_and_few_events_are_not_resolvable():
    shares = proportion([0, 9, 10, 0], [100, 100, 100, 0])
    assert shares.resolvable.tolist() == [False, False, True, False]
    assert np.isnan(shares.value[3]) and (shares.low[3], shares.high[3]) == (0, 1)
    assert shares.low[0] == 0


@pytest.mark.parametrize("hits, trials", [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(hits, trials):
    with pytest.raises(ValueError, match="between 0 and trials"):
        proportion(hits, trials)


def test_bootstrap_of_a_mean_has_the_normal_width():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=2000)
    interval = bootstrap_mean(values, seed=1, resamples=2000)
    half = norm.ppf(0.975) * values.std() / np.sqrt(2000)
    assert interval.value == pytest.approx(values.mean())
    assert (interval.high - interval.low) / (2 * half) == pytest.approx(1, abs=0.08)


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(2)
    covered = [
        not excludes(bootstrap_mean(generator.normal(size=60), seed=s, resamples=200, confidence=0.8))
        for s in range(300)
    ]
    assert 0.72 < np.mean(covered) < 0.87


def test_pairing_sees_a_small_difference_between_noisy_scores():
    generator = np.random.default_rng(3)
    hard = generator.normal(size=400) * 10
    better, worse = hard, hard + 0.1 + generator.normal(size=400) * 0.2
    difference = bootstrap_difference(better, worse, seed=4)
    assert excludes(difference) and difference.high < 0
    assert not excludes(bootstrap_mean(better, seed=4), worse.mean())


def test_bootstrap_is_decided_by_its_seed():
    values = np.arange(30.0)
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(values, seed=5)
    assert bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)


def test_ratio_of_sums_is_not_the_mean_of_ratios():
    interval = bootstrap_ratio([1.0, 30.0], [10.0, 100.0], seed=0)
    assert interval.value == pytest.approx(31 / 110)
    assert (interval.low, interval.high) == pytest.approx((0.1, 0.3))


@pytest.mark.parametrize("batch", [2**20, 100])
def test_an_interval_is_that_of_a_loop_over_resamples(batch, monkeypatch):
    """However many resamples are drawn at a time; those without a ratio are left out."""
    monkeypatch.setattr(statistics, "BATCH", batch)
    generator = np.random.default_rng(6)
    above, below = generator.normal(size=8), generator.normal(size=8) * (generator.random(8) < 0.3)
    rng, draws = np.random.default_rng(7), []
    for _ in range(300):
        index = rng.integers(8, size=8)
        if below[index].sum() != 0:
            draws.append(above[index].sum() / below[index].sum())
    interval = bootstrap_ratio(above, below, seed=7, resamples=300)
    assert len(draws) < 300
    tail = (1 - 0.95) / 2
    wanted = np.quantile(draws, [tail, 1 - tail])
    assert (interval.low, interval.high) == pytest.approx(tuple(wanted), rel=1e-12)


def test_a_function_of_sums_is_made_anew_in_every_resample():
    """Weighted by how many of each kind were drawn, the share of each is 2 and 5 whatever is drawn."""
    kind, value = np.array([True, True, False]), np.array([2.0, 2.0, 5.0])
    interval = bootstrap_sums(
        lambda a, b, n, m: quotient(a, n) + quotient(b, m), [value * kind, value * ~kind, kind, ~kind], seed=0
    )
    assert interval == Interval(7.0, 7.0, 7.0)
    counted = bootstrap_sums(lambda n: n, [kind], seed=0)
    assert (counted.value, counted.low, counted.high) == (2, 0, 3)


def test_quantile_and_its_interval():
    values = np.append(np.arange(101.0), np.nan)
    interval = bootstrap_quantile(values, 0.9, seed=1)
    assert interval.value == 90 and 80 < interval.low < 90 < interval.high < 97
    assert np.isnan(bootstrap_quantile([np.nan], 0.5, seed=1).value)


def test_root_of_an_interval():
    assert Interval(4.0, 1.0, 9.0).root() == Interval(2.0, 1.0, 3.0)
    assert np.isnan(statistics.UNDEFINED.root().value)


def test_nothing_to_divide_by():
    np.testing.assert_array_equal(quotient([1.0, 2.0], np.array([2.0, 0.0])), [0.5, np.nan])


def test_what_one_event_and_nothing_below_the_line_say():
    assert bootstrap_mean([2.0], seed=0) == Interval(2.0, 2.0, 2.0)
    nothing = bootstrap_ratio([1.0, 2.0], [0.0, 0.0], seed=0)
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_undefined_events_are_left_out():
    assert bootstrap_mean([1.0, np.nan, 3.0], seed=0).value == 2.0
    assert np.isnan(bootstrap_mean([np.nan], seed=0).low)
    assert bootstrap_difference([1.0, np.nan, 3.0], [0.0, 0.0, 1.0], seed=0).value == 1.5


def test_refusals():
    with pytest.raises(ValueError, match="same events in both"):
        bootstrap_difference([1.0, 2.0], [1.0], seed=0)
    with pytest.raises(ValueError, match="same events in both"):
        bootstrap_ratio([1.0, 2.0], [1.0], seed=0)
    with pytest.raises(ValueError, match=r"confidence=95"):
        bootstrap_mean([1.0], seed=0, confidence=95)
