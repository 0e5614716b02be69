"""Whitening by linear prediction: closed forms of autoregressive noise, whiteness, causality, the way back."""

import numpy as np
import pytest
import torch
from scipy.signal import freqz, lfilter

from glitchflow.signal.prediction import autocorrelation, design_prediction, predictor, without_lines
from glitchflow.signal.simulation.noise import advanced_detector_asd
from glitchflow.signal.whiten import estimate_asd, whiten

RATE = 512
AR = {"AR(1)": [0.9], "AR(1), alternating": [-0.7], "AR(2), a line": [2 * 0.98 * np.cos(0.6), -(0.98**2)]}


def asd_of(past, sigma=3.0, size=RATE + 1):
    """The one-sided ASD of x(n) = sum_k a_k x(n - k) + sigma e(n) at `RATE`, from 0 to Nyquist."""
    _, response = freqz([sigma], [1, *-np.array(past)], worN=np.linspace(0, np.pi, size))
    asd = np.abs(response) * np.sqrt(2 / RATE)
    asd[[0, -1]] /= np.sqrt(2)
    return asd


def detector_asd():
    """A strain's, with lines thirty times the floor."""
    frequency = np.linspace(0, RATE / 2, RATE + 1)
    lines = sum(1 / (1 + ((frequency - f) / 0.1) ** 2) for f in (60.0, 120.0, 180.0))
    return advanced_detector_asd(frequency) * (1 + 30 * lines)


def noise(asd, seconds, channels=2, seed=0):
    white = np.random.default_rng(seed).standard_normal((channels, seconds * RATE))
    frequency = np.fft.rfftfreq(seconds * RATE, 1 / RATE)
    colour = np.interp(frequency, np.linspace(0, RATE / 2, len(asd)), asd) * np.sqrt(RATE / 2)
    return torch.from_numpy(np.fft.irfft(np.fft.rfft(white) * colour))


@pytest.mark.parametrize("name", AR)
def test_the_coefficients_of_autoregressive_noise_come_back(name):
    past = AR[name]
    filters = design_prediction(torch.from_numpy(asd_of(past)), 16, RATE, length=16 / RATE)
    wanted = np.concatenate([[1], -np.array(past), np.zeros(16 - len(past))]) / 3
    np.testing.assert_allclose(filters.taps, wanted, atol=1e-6)


def test_the_autocorrelation_of_ar_1():
    found = autocorrelation(asd_of([0.9]), RATE, 0.5)
    np.testing.assert_allclose(found[:50], 9 / (1 - 0.81) * 0.9 ** np.arange(50), rtol=1e-6)


def test_the_recursion_solves_the_normal_equations():
    known = autocorrelation(detector_asd(), RATE, 0.5)
    taps = predictor(known, 40)
    matrix = known[np.abs(np.subtract.outer(np.arange(1, 41), np.arange(1, 41)))]
    np.testing.assert_allclose(matrix @ (-taps[1:] / taps[0]), known[1:41], rtol=1e-6)


def test_white_noise_of_unit_variance_comes_out():
    asd = torch.from_numpy(detector_asd())
    white = design_prediction(asd, 16, RATE)(noise(detector_asd(), 64))
    assert not white[:, : RATE // 4].any()
    assert white[:, RATE:].std(-1).numpy() == pytest.approx(1, abs=0.05)
    flat = estimate_asd(white[:, RATE:], RATE, 1) * np.sqrt(RATE / 2)
    lines = [
        near for line in (60, 120, 180) for near in range(line - 4, line + 5)
    ]  # 0.25 s tells no 4 Hz apart
    away = np.setdiff1d(np.arange(10, RATE // 2), lines)
    assert flat[:, away].numpy() == pytest.approx(1, abs=0.3)


def test_no_sample_depends_on_a_later_one():
    series = noise(detector_asd(), 8)
    filters = design_prediction(torch.from_numpy(detector_asd()), 8, RATE)
    whole = filters(series)
    assert torch.equal(filters(series[:, :2000]), whole[:, :2000])


def test_the_way_back_is_exact():
    series = noise(detector_asd(), 16)
    filters = design_prediction(torch.from_numpy(detector_asd()), 16, RATE)
    assert np.abs(np.roots(filters.taps.numpy())).max() < 1, "minimum phase"
    back = filters.undo(filters.run(series))
    assert float((back - series).abs().max() / series.abs().max()) < 1e-12
    assert np.allclose(
        back[0], lfilter([1], filters.taps.numpy(), filters.run(series)[0]), rtol=0, atol=1e-30
    )


def test_a_channel_of_which_nothing_is_known_is_silent():
    asd = torch.from_numpy(np.stack([detector_asd(), np.full(RATE + 1, np.nan), np.zeros(RATE + 1)]))
    filters = design_prediction(asd, 8, RATE)
    assert filters.taps[0].any()
    assert not filters.taps[1:].any()
    assert torch.equal(filters.channel(0).taps, filters.taps[:, 0])


def test_an_asd_without_lines_is_what_lies_under_them():
    frequency = np.arange(0, RATE / 2 + 0.5, 0.5)
    floor = torch.from_numpy(np.stack([1 + frequency / 100, np.full_like(frequency, 3.0)]))
    lined = floor.clone()
    lined[:, 118:123] *= 30
    found = without_lines(lined, RATE, 10.0)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found[:, 11:-11], floor[:, 11:-11], rtol=0.02, atol=0)


def test_it_is_a_kind_of_whitening():
    series = noise(detector_asd(), 16)
    white, filters = whiten(series, RATE, fduration=0.25, kind="prediction")
    assert torch.equal(white, filters(series))
    assert white[:, RATE:].std(-1).numpy() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"length": 1.5},
            r"1\.5 s is 768 samples: between 1 and half of the ASD's fftlength, 1 s, are needed",
        ),
        ({"length": 0.001}, r"0\.001 s is 0 samples: "),
        ({"highpass": 10.0}, "highpass 10 Hz: a prediction filter has none"),
    ],
)
def test_errors_say_what_is_wrong(settings, message):
    with pytest.raises(ValueError, match=message):
        design_prediction(torch.from_numpy(detector_asd()), 16, RATE, **settings)
