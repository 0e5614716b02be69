"""A search finds a signal where and as loud as it is, and a glitch less loud than it is."""

import numpy as np
import pytest

from glitchflow.score import matched
from glitchflow.score.search import loudest, whitened_series
from glitchflow.signal.simulation.families import inspiral

RATE, SECONDS, MIDDLE = 256, 32, 16
SAMPLES = RATE * SECONDS
TIME = np.arange(SAMPLES) / RATE - SECONDS / 2
PSD = np.full(SAMPLES // 2 + 1, 2.0 / RATE)  # of white noise with unit variance


def white(series):
    return matched.whitened(series, PSD, RATE, (10.0, 100.0))


def unit(series):
    return series / np.sqrt(matched.inner(white(series), white(series)))


@pytest.fixture(scope="module")
def bank():
    waves = np.stack([inspiral(TIME, mass, 0.0, 15.0) for mass in (10.0, 15.0, 22.0)])
    return white(np.roll(waves, -SAMPLES // 2, axis=-1))


def test_squares_of_a_whitened_series_add_up_to_the_inner_product():
    series = np.random.default_rng(1).standard_normal((2, SAMPLES))
    spectra = white(series)
    np.testing.assert_allclose(np.square(whitened_series(spectra)).sum(-1), matched.inner(spectra, spectra))
    # 90 of 128 Hz of white noise with unit variance
    assert np.square(whitened_series(spectra)).mean() == pytest.approx(90 / 128, rel=0.05)


@pytest.mark.parametrize("phase", [0.0, 1.0])
def test_a_signal_has_its_snr_in_the_second_that_it_ends_in(bank, phase):
    signal = 12 * unit(inspiral(TIME - 0.5, 15.0, phase, 15.0))
    found = loudest(white(signal), bank, RATE)
    assert found.shape == (SECONDS,)
    assert found.argmax() == MIDDLE
    assert found.max() == pytest.approx(12, rel=0.02)  # chi^2 of the template itself is nearly 0


def test_noise_reaches_what_the_loudest_of_many_normal_numbers_does(bank):
    found = loudest(white(np.random.default_rng(2).standard_normal(SAMPLES)), bank, RATE)
    assert 2 < found.min() < found.max() < 6


def test_a_glitch_is_less_loud_than_its_snr(bank):
    glitch = 40 * unit(np.exp(-((TIME / 0.03) ** 2)) * np.cos(2 * np.pi * 60 * TIME))
    assert loudest(white(glitch), bank, RATE).max() < 12
