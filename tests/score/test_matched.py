"""Matched filtering against closed forms for white noise, and gwpy's PSD."""

import numpy as np
import pytest
from gwpy.timeseries import TimeSeries

from glitchflow.score.matched import BANDS, chi_squared, inner, kept, match, noise_psd, whitened

RATE, N = 256.0, 4096
WHOLE = (0.0, RATE)
TIME = np.arange(N) / RATE - 8


def white(series, sigma=1.0, band=WHOLE):
    return whitened(series, np.full(N // 2 + 1, 2 * sigma**2 / RATE), RATE, band)  # one-sided


def pulse(frequency=40.0, width=0.1, phase=0.0, time=0.0):
    t = TIME - time
    return np.exp(-((t / width) ** 2)) * np.cos(2 * np.pi * frequency * t + phase)


def sweep(rate=10.0, phase=0.0, time=0.0):
    """A sweep of `rate` Hz / s through 60 Hz: its band is wide enough for chi^2."""
    t = TIME - time
    return np.exp(-((t / 1.5) ** 2)) * np.cos(2 * np.pi * (60 * t + rate / 2 * t**2) + phase)


def test_snr_in_white_noise_is_the_norm_over_sigma():
    h = white(pulse(), 3.0)
    assert inner(h, h) == pytest.approx((pulse() ** 2).sum() / 9, rel=1e-9)


def test_the_output_of_the_filter_has_unit_variance_in_noise():
    noise, h = white(np.random.default_rng(0).normal(size=(2000, N))), white(pulse())
    assert (inner(noise, h) / np.sqrt(inner(h, h))).std() == pytest.approx(1, rel=0.05)


def test_psd_is_gwpys_and_hardly_sees_a_glitch():
    noise = 1e-21 * np.random.default_rng(1).normal(size=N)
    for strain in (noise, noise + 1e-19 * pulse()):
        found = noise_psd(strain[None], RATE, 2.0)[0]
        expected = TimeSeries(strain, sample_rate=RATE).psd(2.0, 1.0, method="median")
        inside = slice(8, -8)  # gwpy treats the constant part otherwise
        at = np.fft.rfftfreq(N, 1 / RATE)
        known = np.interp(at, expected.frequencies.value, expected.value)
        np.testing.assert_allclose(found[inside], known[inside], rtol=1e-6)
    quiet, loud = (noise_psd(s, RATE, 2.0) for s in (noise, noise + 1e-19 * pulse()))
    assert np.median(loud / quiet) < 1.3


def test_a_psd_of_some_seconds_at_the_frequencies_of_all():
    """Of noise that is 0 in nearly half of its time: the PSD of the rest is that of noise without a gap."""
    noise = 1e-21 * np.random.default_rng(2).normal(size=(60, round(RATE)))
    there = np.arange(60) % 4 < 2
    found = noise_psd(noise[there].ravel(), RATE, 2.0, samples=noise.size)
    whole = noise_psd(noise.ravel(), RATE, 2.0)
    assert found.shape == whole.shape
    assert np.median(found / whole) == pytest.approx(1, abs=0.1)


def test_kept_is_the_share_of_the_template_that_is_left():
    h, other = white(pulse()), white(pulse(90.0))
    assert kept(h, 0.7 * h) == pytest.approx(0.7)
    assert kept(h, h + other) == pytest.approx(1, abs=1e-6)
    assert kept(h + other, h) == pytest.approx(0.5, rel=1e-3)
    narrow = [white(series, band=(60, 120)) for series in (pulse() + pulse(90.0), pulse())]
    assert kept(*narrow) == pytest.approx(0, abs=1e-3)
    red = np.linspace(1, 100, N // 2 + 1)  # noise grows to where `other` is: it counts less
    both, alone = (whitened(series, red, RATE, WHOLE) for series in (pulse() + pulse(90.0), pulse()))
    assert kept(both, alone) > 0.6


@pytest.mark.parametrize("late", [0.0, 0.5, -1.0, 0.1234])
@pytest.mark.parametrize("ahead", [0.0, 1.0, -3.0])
def test_a_match_finds_the_template_its_time_and_its_phase(late, ahead):
    bank = np.stack([white(pulse(f, 0.3)) for f in (30.0, 40.0, 50.0)])
    left = white(3 * pulse(40.0, 0.3, ahead, late))
    (found,) = match(left[None], bank, RATE)
    assert found.template == 1
    assert found.time == pytest.approx(late, abs=0.02 / RATE)
    assert found.phase == pytest.approx(ahead, abs=0.02)
    assert found.snr == pytest.approx(np.sqrt(inner(left, left)), rel=1e-4)


def test_a_match_of_the_template_itself_is_exact_and_of_nothing_none():
    bank = np.stack([white(sweep(rate)) for rate in (9.0, 10.0, 11.0)])
    found, nothing = match(np.stack([bank[1], 0 * bank[1]]), bank, RATE)
    assert (found.template, found.time) == (1, pytest.approx(0, abs=1e-12))
    assert found.phase == pytest.approx(0, abs=1e-9)
    assert nothing.snr == 0
    assert np.isnan([nothing.time, nothing.phase]).all()


def test_chi_squared_is_zero_for_the_template_wherever_it_is_and_however_loud():
    template = white(sweep())
    for late, ahead in ((0.0, 0.0), (0.25, 1.0)):
        left = white(5 * sweep(phase=ahead, time=late))
        assert chi_squared(left, template, RATE, late) == pytest.approx(0, abs=1e-3)
        assert chi_squared(left, template, RATE, late + 0.01) > 10


def test_chi_squared_of_half_the_bands_is_half_the_snr_squared():
    """z_j = q_j z in half of the bands and 0 in the others: chi^2 = |z|^2 / 4 of the whole template's z."""
    template = white(sweep())
    power = np.cumsum(np.abs(template) ** 2)
    left = np.where(power <= power[-1] / 2, template, 0)
    expected = inner(template, template) / 4 / (2 * BANDS - 2)
    assert chi_squared(left, template, RATE, 0.0) == pytest.approx(expected, rel=0.02)


def test_noise_adds_one_to_chi_squared_on_average():
    template, noise = white(sweep()), white(np.random.default_rng(2).normal(size=(400, N)))
    found = [chi_squared(10 * template + row, template, RATE, 0.0) for row in noise]
    assert np.mean(found) == pytest.approx(1, abs=4 * np.std(found) / 20)
    assert np.var(found) == pytest.approx(
        2 / (2 * BANDS - 2), rel=0.3
    )  # as chi^2 of 2 p - 2 degrees of freedom
