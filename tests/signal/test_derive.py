"""Derived channels against closed forms."""

import numpy as np
import pytest

from glitchflow.config import Derived
from glitchflow.signal.derive import append_derived, band_limits, spread_invalid

RATE, N = 256.0, 4096
TIME = np.arange(N) / RATE


def derive(series, names, *items: dict, seed: int = 1) -> np.ndarray:
    made = [Derived(name=f"D{i}", **{"floor": 0.0, **item}) for i, item in enumerate(items)]
    return append_derived(np.stack(series), names, made, RATE, np.random.default_rng(seed))


@pytest.mark.parametrize("phase, function", [("sin", np.sin), ("cos", np.cos)])
@pytest.mark.parametrize("bounces, gain", [(1, 1.0), (3, 2.5)])
def test_scatter_is_the_phase_of_the_light(phase, function, bounces, gain):
    x = 0.8 * np.sin(2 * np.pi * 0.5 * TIME)  # a whole number of periods, well below the low-pass
    result = derive(
        [0 * x, x + 7.0], ["", "X"],
        {"function": "scatter", "channels": ["X"], "phase": phase, "bounces": bounces, "gain": gain, "wavelength": 1.5},
    )  # fmt: skip
    assert result.shape == (3, N)
    np.testing.assert_array_equal(result[1], x + 7.0)
    expected = gain * function(4 * np.pi * bounces / 1.5 * x)  # the mean is taken out of the motion
    np.testing.assert_allclose(result[2], expected, atol=1e-6 * gain)


def test_the_lowpass_is_a_fourth_order_butterworth():
    """Of a motion so small that sin(phase) = phase the gain at f is 1 / sqrt(1 + (f / corner)^8)."""
    for frequency in (2.0, 8.0, 16.0):
        x = 1e-6 * np.sin(2 * np.pi * frequency * TIME)
        result = derive([0 * x, x], ["", "X"], {"function": "scatter", "channels": ["X"], "lowpass": 8.0})[2]
        expected = 4 * np.pi / 1.064 * x / np.sqrt(1 + (frequency / 8) ** 8)
        np.testing.assert_allclose(result, expected, atol=1e-6 * np.abs(expected).max())


def test_product_of_a_whitened_witness_and_a_slow_one():
    rng = np.random.default_rng(0)
    white, swing = rng.standard_normal(N), np.sin(2 * np.pi * 0.5 * TIME)
    red = np.fft.irfft(np.fft.rfft(white) / np.maximum(np.fft.rfftfreq(N, 1 / RATE), 1))  # falls as 1 / f
    item = {"function": "product", "channels": ["A", "B"], "gain": 3.0}
    result = derive([0 * red, 1e-9 * red + 3.0, swing - 4], ["", "A", "B"], item)[3]
    inside = slice(256, -256)  # half a whitening filter at each end
    assert np.corrcoef(result[inside], (white * swing)[inside])[0, 1] > 0.95
    assert result[inside].std() == pytest.approx(3 * np.sqrt(0.5), rel=0.25)  # whitened: unit variance


def test_product_with_a_dead_channel_is_zero_and_not_nan():
    a = np.sin(2 * np.pi * 3 * TIME)
    for names in (["A", "B"], ["B", "A"]):
        item = {"function": "product", "channels": names}
        result = derive([a, a, np.full(N, 2.0)], ["", "A", "B"], item)
        np.testing.assert_allclose(result[3], 0 * a, atol=1e-9)


def test_a_derived_channel_may_use_one_before_it():
    x = 0.3 * np.sin(2 * np.pi * 0.5 * TIME)
    result = derive(
        [0 * x, x], ["", "X"],
        {"function": "scatter", "channels": ["X"]}, {"function": "scatter", "channels": ["D0"]},
    )  # fmt: skip
    (expected,) = derive([result[2]], ["D0"], {"function": "scatter", "channels": ["D0"]})[1:]
    np.testing.assert_allclose(result[3], expected, atol=1e-9)


def test_the_floor_is_white_noise_of_its_deviation_fixed_by_the_generator():
    x = np.zeros(N)
    item = {"function": "scatter", "channels": ["X"], "floor": 0.1}
    first, second, other = (derive([x, x], ["", "X"], item, seed=seed)[2] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.1
    assert first.std() == pytest.approx(0.1, rel=0.05)
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.06


def test_how_high_derived_channels_reach():
    derived = [
        Derived(name="P", function="product", channels=["SLOW", "B"], lowpass=6.0),
        Derived(name="Q", function="product", channels=["B", "SLOW"]),
        Derived(name="C", function="scatter", channels=["SLOW"]),
    ]
    found = band_limits(["S", "SLOW", "B", "P", "Q", "C"], {"SLOW": 32.0}, derived)
    assert found.tolist() == [np.inf, 16, np.inf, 22, np.inf, np.inf]
    assert band_limits(["S"], {}, derived) is None


def test_what_is_derived_from_nothing_is_nothing():
    derived = [
        Derived(name="C", function="scatter", channels=["A"]),
        Derived(name="P", function="product", channels=["B", "C"]),
        Derived(name="Q", function="product", channels=["B", "B"]),
    ]
    valid = np.array([[True] * 6, [True, False, True, True, True, True]])
    spread_invalid(valid, ["S", "A", "B", "C", "P", "Q"], derived)
    assert valid.tolist() == [[True] * 6, [True, False, True, False, False, True]]
