"""The shift test against every combination of shifts; Holm and Poisson against the textbook."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import kstest

from glitchflow.score.significance import holm, poisson_significance, shift_test, smallest_p


def test_p_values_are_those_of_all_combinations():
    rng = np.random.default_rng(0)
    sums = [rng.normal(size=(3, 2, k)) for k in (4, 3, 5)]
    sums[0][0, :, 0] += 3
    sums[1][0, :, 0] += 3
    every = [
        sum(b[..., k] for b, k in zip(sums, ks))
        for ks in itertools.product(*(range(b.shape[-1]) for b in sums))
    ]
    values = np.stack(every)  # (60, C, S), the first as recorded
    z = ((values - values.mean(axis=0)) / values.std(axis=0)).max(axis=2)
    exact = (z >= z[0] - 1e-9).mean(axis=0)
    found = shift_test(sums, rng, 20_000)
    np.testing.assert_allclose(found.p, exact, atol=4 * np.sqrt(0.25 / 20_000))
    others = [b[..., 1:] for b in sums]
    chance = sum(b.mean(axis=-1) for b in others)
    np.testing.assert_allclose(found.chance, chance)
    spread = np.sqrt(sum(b.var(axis=-1) for b in others))
    recorded = sum(b[..., 0] for b in sums)
    np.testing.assert_allclose(found.deviation, (recorded - chance) / spread)


def test_p_values_of_chance_are_uniform():
    rng = np.random.default_rng(1)
    sums = [rng.exponential(size=(500, 2, 16)) for _ in range(6)]
    p = shift_test(sums, rng, 999).p
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_a_signal_in_either_score_is_found():
    rng = np.random.default_rng(2)
    sums = [rng.normal(size=(3, 2, 16)) for _ in range(6)]
    for block in sums:
        block[0, 0, 0] += 4
        block[1, 1, 0] += 4
    found = shift_test(sums, rng, 2000)
    assert (found.p[:2] < 0.002).all()
    assert found.p[2] > 0.01
    assert found.deviation[0, 0] > 5 > abs(found.deviation[0, 1])


def test_more_draws_than_fit_at_once_and_the_same_seed():
    sums = [np.random.default_rng(3).normal(size=(2, 2, 8)) for _ in range(4)]
    first, again = (shift_test(sums, np.random.default_rng(4), 2500) for _ in range(2))
    np.testing.assert_array_equal(first.p, again.p)
    assert first.p * 2501 == pytest.approx(np.round(first.p * 2501)), "counted among 2,500 draws"


def test_a_channel_without_any_peak_is_not_significant():
    found = shift_test([np.zeros((1, 2, 8))] * 3, np.random.default_rng(0), 100)
    assert found.p.tolist() == [1.0]
    assert found.deviation.tolist() == [[0.0, 0.0]]


def test_few_events_give_no_small_p():
    assert smallest_p([5], 10_000) == pytest.approx(1 / 5)
    assert smallest_p([4, 4, 3], 10_000) == pytest.approx(1 / 48)
    assert smallest_p([32] * 300, 10_000) == 1 / 10_001
    loud = [np.concatenate([np.full((1, 2, 1), 9.0), np.zeros((1, 2, 3))], axis=2)]
    assert shift_test(loud, np.random.default_rng(0), 10_000).p[0] == pytest.approx(1 / 4, abs=0.02)


def test_holms_adjusted_p_values():
    """The example of Wright, Biometrics 48, 1005 (1992): sorted p times what is left, never falling."""
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.6]), [1.0, 1.0])
    np.testing.assert_allclose(holm([]), [])


def test_holm_keeps_the_chance_of_any_false_one():
    """2,000 families of 20 tests, half of them true findings: a false one in at most 5 %."""
    rng = np.random.default_rng(5)
    p = rng.uniform(size=(2000, 20))
    p[:, 10:] = 1e-6
    false = [(holm(row)[:10] <= 0.05).any() for row in p]
    assert 0.03 < np.mean(false) < 0.065


@pytest.mark.parametrize("n, mu", [(1, 0.5), (3, 0.7), (10, 12.0), (40, 3.0)])
def test_significance_is_the_sum_of_poisson_s_probabilities(n, mu):
    tail = sum(Fraction(mu) ** k / math.factorial(k) for k in range(n, n + 200))
    expected = mu / math.log(10) - math.log10(tail)
    assert poisson_significance(n, mu) == pytest.approx(expected, rel=1e-9)


def test_significance_beyond_double_precision_and_of_nothing():
    # P(>= 1000 | 2) = e^-2 2^1000 / 1000! (1 + 2 / 1001 + ...)
    first = 2 / math.log(10) - 1000 * math.log10(2) + math.lgamma(1001) / math.log(10)
    found = poisson_significance([1000, 0, 0], [2.0, 3.0, 0.0])
    assert found[0] == pytest.approx(first - math.log10(1 + 2 / 1001), rel=1e-9)
    assert found[1:].tolist() == [0, 0]
