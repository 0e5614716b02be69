"""Scores of draws from a posterior: what is perfect, what knows nothing, and how sure each is."""

import numpy as np
import pytest

from glitchflow.score.posterior import coverage, left_by_best, left_by_mean, light
from glitchflow.score.statistics import Bootstrap

INTERVAL = Bootstrap(1, 100)
TIME = np.arange(256) / 256


def swings(phase):
    return np.sin(2 * np.pi * 10 * TIME + np.asarray(phase)[..., None])


def test_draws_of_another_phase_leave_one_and_an_eighth_with_their_mean():
    rng = np.random.default_rng(1)
    w, draws = swings(rng.uniform(0, 2 * np.pi, 400)), swings(rng.uniform(0, 2 * np.pi, (400, 8)))
    assert left_by_mean(w, draws, 8, INTERVAL).value == pytest.approx(1 + 1 / 8, abs=0.03)
    best = left_by_best(w, draws, 8, INTERVAL)
    assert best.low < best.value < best.high < 0.4


def test_by_hand():
    """w = (2, 0), draws (1, 0) and (2, 2): their mean (1.5, 1) leaves (0.25 + 1) / 4, the better one 1 / 4."""
    w, draws = np.array([[2.0, 0.0]] * 2), np.array([[[1.0, 0.0], [2.0, 2.0]]] * 2)
    assert left_by_mean(w, draws, 2, INTERVAL).value == pytest.approx(1.25 / 4)
    assert left_by_mean(w, draws, 1, INTERVAL).value == left_by_best(w, draws, 2, INTERVAL).value == 1 / 4


def test_nothing_leaves_all_and_the_truth_nothing():
    w = swings(np.arange(3.0))
    for count in (1, 8):
        assert left_by_mean(w, np.zeros((3, 8, 256)), count, INTERVAL).value == 1
        assert left_by_best(w, w[:, None].repeat(8, 1), count, INTERVAL).value == 0


@pytest.mark.parametrize("factor, expected", [(1.0, (0.5, 0.9)), (3.0, (0.16, 0.41))])
def test_intervals_hold_what_they_say_where_draws_are_as_wide_as_the_truth(factor, expected):
    """With a truth three times as wide as its draws, 2 Phi(0.674 / 3) - 1 and 2 Phi(1.645 / 3) - 1."""
    rng = np.random.default_rng(2)
    level = rng.uniform(0.5, 2, (300, 1))
    w, draws = (
        factor * level * rng.standard_normal((300, 256)),
        level[:, None] * rng.standard_normal((300, 59, 256)),
    )
    found = [coverage(w, draws, share, 16, INTERVAL).value for share in (0.5, 0.9)]
    np.testing.assert_allclose(found, expected, atol=0.025)


def test_of_silent_samples_nothing_is_asked():
    """Draws that are far too wide where nothing happens do not count."""
    rng = np.random.default_rng(3)
    there = (TIME < 0.5)[None]
    w, draws = rng.standard_normal((100, 256)) * there, rng.standard_normal((100, 19, 256)) * there[None]
    draws += 1e-3 * rng.standard_normal(draws.shape)
    assert coverage(w, draws, 0.5, 1, INTERVAL).value == pytest.approx(0.5, abs=0.02)
    with pytest.raises(ValueError, match=r"^18 draws: must be at least 19$"):
        coverage(w, draws[:, :18], 0.5, 1, INTERVAL)
    with pytest.raises(ValueError, match=r"^18 draws: must be at least 32$"):
        left_by_best(w, draws[:, :18], 32, INTERVAL)


def test_light_of_any_phase_and_of_one():
    rng = np.random.default_rng(4)
    templates = np.stack([swings(0.0), swings(np.pi / 2)])[None].repeat(50, 0)
    any_phase, noise = swings(rng.uniform(0, 2 * np.pi, (50, 20))), rng.standard_normal((50, 20, 256))
    found = light(any_phase, templates, INTERVAL)
    assert found.outside.value < 1e-12 and found.distance < 0.06 and found.chance > 0.01
    found = light(swings(np.full((50, 20), 1.0)), templates, INTERVAL)
    assert found.distance > 0.5 and found.chance < 1e-9
    assert light(noise, templates, INTERVAL).outside.value == pytest.approx(254 / 256, abs=0.01)
