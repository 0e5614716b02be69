"""ASD of quiet time after and before: closed forms of known gains."""

import numpy as np
import pytest

from glitchflow.score.shared import inspiral_range, shared
from glitchflow.score.statistics import Bootstrap

RATE, INTERVAL = 128.0, Bootstrap(0, 200)
BANDS = {"10-20": (10.0, 20.0), "20-60": (20.5, 60.0)}


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(size=(30, 512))


def test_nothing_removed_is_one_and_a_gain_is_itself(noise):
    same, less = (
        shared(noise, noise, RATE, BANDS, INTERVAL),
        shared(noise, 0.3 * noise, RATE, BANDS, INTERVAL),
    )
    for name in BANDS:
        assert (same[name].value, same[name].low, same[name].high) == (1, 1, 1)
        assert less[name].value == pytest.approx(0.3) == pytest.approx(less[name].high)


def test_bands_are_apart(noise):
    """A sine is taken out of one band: the other one stays, and the interval holds what is true."""
    time = np.arange(512) / RATE
    phase = np.random.default_rng(1).uniform(0, 2 * np.pi, (30, 1))
    line = np.sin(2 * np.pi * 15 * time + phase)
    found = shared(noise + line, noise, RATE, BANDS | {"15": (14.5, 15.5)}, INTERVAL)
    assert found["20-60"].value == pytest.approx(1, abs=1e-3)  # a Hann window lets nearly nothing leak
    # white noise of one has 2 / rate a Hz, 20 / 128 in 10 Hz; the sine a half
    assert found["10-20"].value == pytest.approx(np.sqrt(1 / (1 + 0.5 / (2 * 10.25 / RATE))), rel=0.05)
    assert found["15"].value < found["10-20"].value < found["10-20"].high < 1


def test_added_noise_is_above_one(noise):
    other = np.random.default_rng(2).normal(size=noise.shape)
    for interval in shared(noise, noise + other, RATE, BANDS, INTERVAL).values():
        assert interval.low < np.sqrt(2) < interval.high
        assert interval.low > 1.2


def test_without_a_frequency_or_a_block_there_is_no_value(noise):
    assert np.isnan(shared(noise, noise, RATE, {"x": (10.01, 10.02)}, INTERVAL)["x"].value)
    assert np.isnan(shared(noise[:0], noise[:0], RATE, BANDS, INTERVAL)["10-20"].value)
    with pytest.raises(ValueError, match=r"alike before and after: \(30, 512\), \(29, 512\)"):
        shared(noise, noise[1:], RATE, BANDS, INTERVAL)


def test_inspiral_range_is_that_of_gwpy():
    """Of white noise under a curve, of which a third of the amplitude goes between 10 and 60 Hz."""
    from gwpy.astro import sensemon_range
    from gwpy.frequencyseries import FrequencySeries

    rate, band = 512.0, (10.0, 60.0)
    white = np.random.default_rng(3).normal(size=(40, 1024))
    spectrum, frequency = np.fft.rfft(white), np.fft.rfftfreq(1024, 1 / rate)
    left = np.fft.irfft(np.where((frequency > 5) & (frequency < 70), 2 / 3, 1) * spectrum)
    asd = 1e-23 * (1 + (40 / np.maximum(frequency, 8)) ** 4)
    found = inspiral_range(white, left, rate, band, asd, INTERVAL)

    def megaparsecs(asd):
        psd = FrequencySeries(asd**2, frequencies=frequency, unit="strain2/Hz")
        return sensemon_range(psd, fmin=band[0], fmax=rate / 2).value

    inside = (frequency >= band[0]) & (frequency <= band[1])
    assert found.value == pytest.approx(
        megaparsecs(np.where(inside, 2 / 3, 1) * asd) / megaparsecs(asd), rel=0.01
    )
    assert found.low <= found.value <= found.high
    same = inspiral_range(white, white, rate, band, asd, INTERVAL)
    assert (same.value, same.low, same.high) == pytest.approx((1, 1, 1))


def test_inspiral_range_of_nothing_and_of_what_does_not_fit(noise):
    asd, band = np.ones(257), (10.0, 60.0)
    assert np.isnan(inspiral_range(noise[:0], noise[:0], RATE, band, asd, INTERVAL).value)
    with pytest.raises(
        ValueError, match=r"\(30, 512\) and \(30, 512\), and an ASD \(3,\), do not fit each other"
    ):
        inspiral_range(noise, noise, RATE, band, asd[:3], INTERVAL)
