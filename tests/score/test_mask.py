"""The gain mask, and how windows share what it removes, against closed forms."""

import numpy as np
import pytest

from glitchflow.score.mask import overlap_share, removal_mask, upsample
from glitchflow.score.metrics import NOISE_ENERGY

RATE, SECONDS = 256.0, 8.0


def test_a_mask_is_the_amplitudes_share_of_spectral_subtraction():
    energy = np.array([[[0.0, 1.0, 4.9, 5.0, 50.0]]], np.float32)
    expected = [0, 0, 0, 1 - np.sqrt(NOISE_ENERGY / 5), 1 - np.sqrt(NOISE_ENERGY / 50)]
    np.testing.assert_allclose(removal_mask(energy, 5.0)[0, 0], expected, rtol=1e-6)


def test_overlapping_windows_share_and_fade():
    start = np.array([0.0, 1.0, 1.5, 7.0])
    stop = start + 2
    time = np.linspace(0, 10, 4001)
    shares = np.stack([overlap_share(start, stop, i, time) for i in range(4)])
    covered = (time <= 3.5) | ((time >= 7) & (time <= 9))
    np.testing.assert_allclose(shares.sum(0)[covered], 1, rtol=1e-6)
    assert not shares.sum(0)[~covered].any()
    assert (shares[3][covered & (time >= 7)] == 1).all()
    inside = (time > 0.1) & (time < 3.4)
    assert np.abs(np.diff(shares[:, inside])).max() < 0.02, "no step where a window begins or ends"


@pytest.mark.parametrize("delay", [0.0, 1e-4])
def test_upsampling_is_exact_below_nyquist(delay):
    def tone(t):
        return np.sin(2 * np.pi * 40 * t) + np.cos(2 * np.pi * 99.5 * t)

    coarse = tone(np.arange(2048) / RATE)
    fine = upsample(coarse, SECONDS, 4096.0, delay)
    np.testing.assert_allclose(fine, tone(np.arange(32768) / 4096 + delay), atol=1e-10)
    np.testing.assert_allclose(upsample(fine, SECONDS, RATE, -delay), coarse, atol=1e-10)


def test_upsampling_needs_whole_samples():
    with pytest.raises(ValueError, match=r"8 s is not a whole number of samples at 100.1 Hz"):
        upsample(np.zeros(2048), SECONDS, 100.1)
