"""Probabilities by loudness: slots by hand, steps in closed form, and a curve that says when they are wrong."""

import numpy as np

from glitchflow.score.chance import Chance, fit, reliability, slots


def test_slots_are_the_snr_of_sixteenths():
    white = np.zeros((2, 128))
    white[0, 8:16] = 3.0
    found = slots(white, 64.0)
    assert found.shape == (2, 32)
    np.testing.assert_allclose(found[0, :6], [0, 0, 6, 6, 0, 0])
    assert not found[1].any()


def test_slots_of_a_rate_that_sixteenths_do_not_divide_hold_every_sample_once():
    white = np.random.default_rng(1).standard_normal(100)
    found = slots(white, 100.0)
    assert found.shape == (16,)
    np.testing.assert_allclose(np.square(found).sum(), np.square(white).sum())


def test_what_is_louder_is_no_less_probable_and_nothing_is_certain():
    loud = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    chance = fit(loud, np.array([False, False, True, False, True, True]))
    assert chance == Chance([1.0, 2.0, 3.5, 5.0, 6.0], [0.25, 0.25, 0.5, 0.75, 0.75]) or (
        chance == Chance([1.5, 3.5, 5.5], [0.5 / 3, 0.5, 2.5 / 3])
    )
    found = chance.of(np.array([[0.0, 3.5], [100.0, 4.5]]))
    assert 0 < found[0, 0] < found[0, 1] == 0.5 < found[1, 1] < found[1, 0] < 1


def test_where_nothing_or_everything_is_a_glitch_nothing_is_fitted():
    assert fit(np.arange(3.0), np.zeros(3, bool)) is None
    assert fit(np.arange(3.0), np.ones(3, bool)) is None


def test_a_curve_of_what_was_said_and_what_came():
    rng = np.random.default_rng(2)
    p = rng.uniform(0, 1, 20_000)
    right = reliability(p, rng.uniform(0, 1, 20_000) < p)
    assert sum(row["slots"] for row in right) == 20_000
    assert all(abs(row["said"] - row["came"]) < 0.05 for row in right)
    wrong = reliability(p, rng.uniform(0, 1, 20_000) < p / 2)
    assert wrong[-1]["high"] < 0.6 < wrong[-1]["said"]
    few = reliability(np.array([0.5] * 3), np.array([True, False, False]))
    assert few == [] or few[0]["slots"] == 3
