"""What Q-plots show of a glitch, and how far two laws of it are apart: closed forms and scipy."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from glitchflow.score.draws_shapes import Distance, distance, distances, shapes

FREQUENCY, TIME = np.linspace(10, 200, 64), np.linspace(-1, 1, 64)


def test_a_bar_has_its_frequency_and_the_spread_of_even_numbers():
    """k even pixels a step apart: standard deviation step sqrt((k^2 - 1) / 12)."""
    energy = np.ones((2, 64, 64), np.float32)
    energy[0, 30:34, 20:40] = 50
    energy[0, 31, 22] = 51
    found = shapes(energy, FREQUENCY, TIME)
    assert found["peak_frequency"][0] == FREQUENCY[31]
    step = TIME[1] - TIME[0], FREQUENCY[1] - FREQUENCY[0]
    assert found["duration"][0] == pytest.approx(step[0] * np.sqrt((20**2 - 1) / 12), rel=1e-3)
    assert found["bandwidth"][0] == pytest.approx(step[1] * np.sqrt((4**2 - 1) / 12), rel=1e-2)


def test_noise_that_is_not_loud_has_no_shape_and_is_left_out():
    found = shapes(np.full((3, 64, 64), 5.9, np.float32), FREQUENCY, TIME)
    assert all(np.isnan(column).all() for column in found.values())
    alone = distance(np.array([np.nan, np.nan]), np.array([1.0]))
    assert np.isnan(alone.value) and np.isnan(alone.chance)
    assert distance(np.array([1.0, np.nan]), np.array([1.0])).value == 0


def test_a_distance_is_scipys_and_its_limit_the_laws():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=300), rng.normal(0.3, size=200)
    found = distance(a, b)
    assert found.value == ks_2samp(a, b).statistic
    assert found.chance == pytest.approx(1.3581 * np.sqrt(500 / (300 * 200)), rel=1e-3)
    assert distance(np.zeros(9), np.ones(9)) == Distance(
        1.0, pytest.approx(1.3581 * np.sqrt(2 / 9), rel=1e-3)
    )


def test_samples_of_one_law_stay_below_it_95_times_of_100():
    rng = np.random.default_rng(2)
    found = [distance(*rng.normal(size=(2, 150))) for _ in range(400)]
    assert 0.92 <= np.mean([one.value <= one.chance for one in found]) <= 0.985


def test_columns_that_both_have_are_compared():
    one, other = {"duration": np.arange(4.0), "snr": np.ones(3)}, {"duration": np.arange(4.0) + 2}
    assert {name: found.value for name, found in distances(one, other).items()} == {"duration": 0.5}
