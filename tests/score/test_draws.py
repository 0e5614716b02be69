"""How near draws are to what was learned: closed forms, and what generators that know nothing get."""

import numpy as np
import pytest

from glitchflow.score.draws import _ratio_of_medians, nearest, nearness, of_mean_spectrum, remembered
from glitchflow.score.statistics import Bootstrap, Interval, bootstrap_apart

INTERVAL = Bootstrap(7, 400)
TIME = np.arange(256) / 256


def pulses(count, seed):
    """Sine-Gaussians of random frequency, phase and time."""
    rng = np.random.default_rng(seed)
    f, phase, centre = (
        rng.uniform(20, 60, count),
        rng.uniform(0, 2 * np.pi, count),
        rng.uniform(0.3, 0.7, count),
    )
    away = TIME - centre[:, None]
    return np.exp(-((away / 0.05) ** 2)) * np.cos(2 * np.pi * f[:, None] * away + phase[:, None])


def test_a_match_does_not_know_size_sign_or_time():
    event = pulses(1, 1)
    assert nearest(-3 * np.roll(event, 9, axis=1), event)[0] == pytest.approx(1, abs=1e-6)
    assert nearest(np.zeros((1, 256)), event)[0] == 0


def test_the_match_of_two_tones_under_one_gaussian():
    """exp(-2 (pi tau df / 2)^2) of two frequencies df apart: the transform of the product of both envelopes."""
    away, tau = TIME - 0.5, 0.05
    tones = [np.exp(-((away / tau) ** 2)) * np.cos(2 * np.pi * f * away) for f in (60.0, 64.0)]
    wanted = np.exp(-((np.pi * tau * 4.0) ** 2) / 2)
    assert nearest(tones[0][None], tones[1][None])[0] == pytest.approx(wanted, abs=0.01)


def test_a_draw_has_the_nearest_of_several():
    learned = pulses(5, 2)
    assert nearest(learned[3:4], learned)[0] == pytest.approx(1)
    assert nearest(learned[3:4], np.delete(learned, 3, axis=0))[0] < 0.999


def test_honest_draws_are_as_near_as_other_events_and_the_trivial_ones_are_not():
    learned, others, rng = pulses(200, 3), pulses(200, 4), np.random.default_rng(5)
    honest = nearness(pulses(200, 6), learned, others, INTERVAL)
    assert honest.ratio.value == pytest.approx(1, abs=0.01) and honest.remembered.value <= 0.05
    assert honest.ratio.low <= 1 <= honest.ratio.high and honest.remembered.low <= 0.01
    known = nearness(remembered(learned, 200, rng), learned, others, INTERVAL)
    assert known.remembered.low > 0.5
    noise = nearness(of_mean_spectrum(learned, 200, rng), learned, others, INTERVAL)
    assert noise.ratio.high < 0.6
    none_of_200 = 1.96**2 / (200 + 1.96**2)  # Wilson's
    assert noise.remembered == Interval(0, 0, pytest.approx(none_of_200, rel=1e-3))


def test_the_intervals_are_those_of_drawing_both_sides_anew():
    """Medians of n uniform numbers scatter by 1 / (2 sqrt(n)): a ratio of two, by sqrt(2) / 1.5 of that."""
    rng = np.random.default_rng(1)
    sides = rng.uniform(1, 2, (2, 400))
    found = bootstrap_apart(_ratio_of_medians, sides, *INTERVAL)
    width = 2 * 1.96 * np.sqrt(2) * 0.5 / np.sqrt(400) / 1.5
    assert found.value == np.median(sides[0]) / np.median(sides[1])
    assert found.high - found.low == pytest.approx(width, rel=0.3)


def test_noise_of_the_mean_spectrum_has_it():
    learned = pulses(200, 7)
    learned /= np.linalg.norm(learned, axis=1, keepdims=True)
    drawn = of_mean_spectrum(learned, 2000, np.random.default_rng(8))
    power = [np.square(np.abs(np.fft.rfft(one))).mean(0)[20:60] for one in (drawn, learned)]
    np.testing.assert_allclose(power[0], power[1], rtol=0.25)
