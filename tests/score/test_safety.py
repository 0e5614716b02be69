"""The safety test against counts by hand, and what it flags by chance."""

import numpy as np
import pytest

from glitchflow.score.safety import answer, judge, judge_moved, loudest
from glitchflow.score.statistics import Bootstrap


def test_ranks_by_hand():
    """6 x 5 pairs, of which the signal's is louder in 30, then in 27 and a tie counts half."""
    signal, quiet = np.array([6.0, 7, 8, 9, 10, 11]), np.array([1.0, 2, 3, 4, 5])
    (found,) = judge([signal], [quiet], 0.01)
    assert found.auc == 1.0
    assert found.p == pytest.approx(1 / 462)  # one of 11! / (6! 5!) orders
    assert found.unsafe and (found.signals, found.background) == (6, 5)
    signal[0] = 3
    (found,) = judge([signal], [quiet], 0.01)
    assert found.auc == pytest.approx((25 + 2.5) / 30)


def test_too_few_decide_nothing_and_nan_is_left_out():
    many, few = np.arange(10.0), np.array([1, 2, 3, 4, np.nan])
    assert judge([few, many], [many, few], 0.05) == [None, None]
    found = judge([np.append(many, np.nan)], [many], 0.05)[0]
    assert (found.signals, found.auc, found.unsafe) == (10, 0.5, False)


@pytest.mark.ci
def test_chance_flags_none_of_many_and_a_leak_is_found():
    """200 channels that hear nothing, in 40 draws, beside one that hears a quarter of the signals."""
    wrong = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        signal, quiet = rng.exponential(size=(201, 60)), rng.exponential(size=(201, 120))
        signal[7, :30] += 4
        found = [one.unsafe for one in judge(list(signal), list(quiet), 0.01)]
        assert found[7]
        wrong += sum(found) - 1
    assert wrong <= 2


def test_what_is_generated_where_the_strain_is_loudest():
    recorded, generated = np.ones((2, 3, 4), np.float32), np.zeros((2, 3, 4), np.float32)
    recorded[0, 1, 2] = recorded[1, 2, 0] = 9
    generated[0, :, 2], generated[1, :, 1] = [1, 2, 6], 50
    np.testing.assert_array_equal(loudest(recorded), [2, 0])
    np.testing.assert_array_equal(answer(generated, loudest(recorded)), [3, 0])


def test_only_the_same_places_are_compared():
    """Something that is louder at some places whatever happens says nothing; of one place it is the plain test."""
    rng = np.random.default_rng(1)
    place = rng.integers(3, 6, 80), rng.integers(0, 8, 200)  # signals lie in the middle
    shape = np.array([1.0, 1, 1, 5, 6, 5, 1, 1])
    blind = [shape[p] for p in place]
    assert judge([blind[0]], [blind[1]], 0.01)[0].unsafe, "it looks like an answer"
    (found,) = judge([blind[0]], [blind[1]], 0.01, place)
    assert (found.auc, found.p, found.unsafe) == (0.5, 1.0, False)
    assert found.signals == 80 and found.background == np.isin(place[1], place[0]).sum()
    heard = [shape[p] + rng.exponential(size=len(p)) + (2 if i == 0 else 0) for i, p in enumerate(place)]
    assert judge([heard[0]], [heard[1]], 0.01, place)[0].unsafe
    same = np.zeros(80, int), np.zeros(200, int)
    assert judge([heard[0]], [heard[1]], 0.01, same) == judge([heard[0]], [heard[1]], 0.01)


def test_places_do_not_flag_by_chance():
    wrong = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        place = rng.integers(0, 10, 60), rng.integers(0, 10, 120)
        values = [rng.exponential(size=len(p)).round(1) + p for p in place]  # ties, and a shape
        wrong += judge([values[0]], [values[1]], 0.05, place)[0].unsafe
    assert 2 <= wrong <= 20, "5 % of 200, within three standard deviations"


def test_pairs_that_differ_are_judged_by_how_far_they_do():
    interval, energy = Bootstrap(1, 200), np.full(20, 100.0)
    none = judge_moved(np.zeros(20), energy, 0.01, interval)
    assert (none.p, none.effect.value, none.unsafe) == (1.0, 0.0, False)
    little = judge_moved(np.linspace(0.4, 0.6, 20), energy, 0.01, interval)
    assert little.p == pytest.approx(2.0**-20)  # all of 20 signs
    assert little.effect.value == pytest.approx(0.005) and not little.unsafe
    much = judge_moved(np.full(20, 5.0), energy, 0.01, interval)
    assert much.effect.value == 0.05 and much.unsafe
    assert much.told()["by"] == "injection"
    assert not judge_moved(np.full(4, 5.0), energy[:4], 0.01, interval).unsafe  # too few to say
    both = judge_moved(np.tile([50.0, -49.0], 10), energy, 0.01, interval)
    assert both.p > 0.01 and not both.unsafe
