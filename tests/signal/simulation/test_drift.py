"""State in time: what a process is at a time depends on nothing but its seed, its name and that time."""

import numpy as np
import pytest
from helpers import detector_recipe
from scipy import stats

from glitchflow.signal.simulation.drift import KNOT, Drift, draw_wander, normal

START = 1_400_000_000.0


def test_any_time_alone_has_the_bits_it_has_among_others():
    times = START + np.arange(0, 4 * 3600, 7.3)
    together = draw_wander(1, ["a", "b", "c"], 3600.0).at(times)
    for i in (0, 5, 700, len(times) - 1):
        np.testing.assert_array_equal(draw_wander(1, ["b"], 3600.0).at(times[i])[0], together[1, i])
    np.testing.assert_array_equal(draw_wander(1, ["b"], 3600.0).at(times[300:400])[0], together[1, 300:400])
    assert not np.array_equal(draw_wander(2, ["b"], 3600.0).at(times)[0], together[1])
    assert not np.array_equal(together[0], together[1])


def test_it_is_ar1_with_unit_variance():
    names = [f"name {i}" for i in range(4000)]
    wander = draw_wander(1, names, 1280.0)
    values = wander.at(KNOT * (np.floor(START / KNOT) + np.arange(41)))
    assert values.mean() == pytest.approx(0, abs=0.03)
    assert values.std() == pytest.approx(1, abs=0.02)
    for lag in (1, 10, 20):
        found = np.corrcoef(values[:, 0], values[:, lag])[0, 1]
        assert found == pytest.approx(np.exp(-lag * KNOT / 1280), abs=0.04)


def test_innovations_are_normal_and_independent():
    drawn = normal(draw_wander(1, [f"name {i}" for i in range(100)], 1.0).keys, np.arange(20000))
    likely = [stats.kstest(row, "norm").pvalue for row in drawn]
    assert stats.kstest(likely, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(drawn[0], drawn[1])[0, 1]) < 0.03
    assert abs(np.corrcoef(drawn[0, 1:], drawn[0, :-1])[0, 1]) < 0.03


def test_a_coupling_is_away_for_its_share_of_the_time():
    names = [f"name {i}" for i in range(3000)]
    presence, still = draw_wander(1, names, 3600.0), draw_wander(1, [f"still {n}" for n in names], 3600.0)
    knot = KNOT * np.floor(START / KNOT)
    factor = Drift(0.0, still, 0.2, presence).at(knot + np.array([0.0, 64.0]))
    assert set(np.unique(factor)) == {0.0, 1.0}
    assert np.mean(factor == 0) == pytest.approx(0.2, abs=0.03)
    assert np.mean(factor[:, 0] == factor[:, 1]) > 0.9, "it stays for longer than a knot"


def test_the_noise_of_two_hours_differs_by_what_the_state_says(tmp_path):
    """PSD ratio between two hours: exp(2 size (x(t1) - x(t0))), channel by channel, and 1 without drift."""
    drifting, experiment = detector_recipe(tmp_path, background=1.0, drift={"noise": 0.3})
    steady, _ = detector_recipe(tmp_path, background=1.0)
    early, late = range(0, 4), range(225, 229)  # four hours later

    def power(recipe, indices):
        return np.mean([np.abs(np.fft.rfft(recipe.event(i).series[:4])) ** 2 for i in indices], axis=0)[
            :, 320:
        ]

    levels = Drift(0.3, draw_wander(3, [f"noise {name}" for name in steady.channels[:4]], 3600.0))
    gps = [np.array([experiment.simulate.time(i) for i in indices]) for indices in (early, late)]
    then, now = (np.square(levels.at(times)).mean(1) for times in gps)
    ratio = [np.median(power(recipe, late) / power(recipe, early), axis=1) for recipe in (drifting, steady)]
    np.testing.assert_allclose(ratio[0], now / then, rtol=0.05)
    np.testing.assert_allclose(ratio[1], 1, rtol=0.05)
    assert np.abs(np.log(now / then)).max() > 0.3
