"""Matched filtering against closed forms for white noise, and gwpy's PSD."""

import numpy as np
import pytest
from gwpy.timeseries import TimeSeries

from glitchflow.score.matched import inner, kept, noise_psd

RATE, N = 256.0, 4096
WHOLE = (0.0, RATE)


def white(sigma=1.0):
    return np.full((1, N // 2 + 1), 2 * sigma**2 / RATE)  # one-sided


def pulse(frequency=40.0):
    t = np.arange(N) / RATE - 8
    return (np.exp(-((t / 0.1) ** 2)) * np.cos(2 * np.pi * frequency * t))[None]


def test_snr_in_white_noise_is_the_norm_over_sigma():
    h = pulse()
    assert inner(h, h, white(3.0), RATE, WHOLE)[0] == pytest.approx((h**2).sum() / 9, rel=1e-9)


def test_the_output_of_the_filter_has_unit_variance_in_noise():
    noise = np.random.default_rng(0).normal(size=(2000, N))
    h = pulse()
    output = inner(noise, h, white(), RATE, WHOLE) / np.sqrt(inner(h, h, white(), RATE, WHOLE))
    assert output.std() == pytest.approx(1, rel=0.05)


def test_psd_is_gwpys_and_hardly_sees_a_glitch():
    noise = 1e-21 * np.random.default_rng(1).normal(size=N)
    for strain in (noise, noise + 1e-19 * pulse()[0]):
        found = noise_psd(strain[None], RATE, 2.0)[0]
        expected = TimeSeries(strain, sample_rate=RATE).psd(2.0, 1.0, method="median")
        inside = slice(8, -8)  # gwpy treats the constant part otherwise
        at = np.fft.rfftfreq(N, 1 / RATE)
        known = np.interp(at, expected.frequencies.value, expected.value)
        np.testing.assert_allclose(found[inside], known[inside], rtol=1e-6)
    quiet, loud = (noise_psd(s[None], RATE, 2.0)[0] for s in (noise, noise + 1e-19 * pulse()[0]))
    assert np.median(loud / quiet) < 1.3


def test_kept_is_the_share_of_the_template_that_is_left():
    h, other = pulse(), pulse(90.0)
    assert kept(h, 0.7 * h, white(), RATE, WHOLE)[0] == pytest.approx(0.7)
    assert kept(h, h + other, white(), RATE, WHOLE)[0] == pytest.approx(1, abs=1e-6)
    assert kept(h + other, h, white(), RATE, WHOLE)[0] == pytest.approx(0.5, rel=1e-3)
    assert kept(h + other, h, white(), RATE, (60, 120))[0] == pytest.approx(0, abs=1e-3)
    red = white() * np.linspace(1, 100, N // 2 + 1)  # noise grows to where `other` is: it counts less
    assert kept(h + other, h, red, RATE, WHOLE)[0] > 0.6
