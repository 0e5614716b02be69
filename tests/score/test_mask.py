"""The gain mask, its way through the Q coefficients into the strain, and its windows, against closed forms."""

import numpy as np
import pytest

from glitchflow.score.mask import Shown, noise_in_strain, overlap_share, removal_mask, upsample
from glitchflow.score.metrics import NOISE_ENERGY
from glitchflow.signal.qtransform import QTransform

RATE, SECONDS = 256.0, 8.0
SHOWN = Shown(np.geomspace(15, 80, 16), 3 + np.arange(32) / 16)  # 3 to 5 s


def glitch(frequency=40.0, width=0.1, middle=4.0):
    t = np.arange(int(RATE * SECONDS)) / RATE
    return np.exp(-(((t - middle) / width) ** 2)) * np.cos(2 * np.pi * frequency * (t - middle))


@pytest.fixture(scope="module")
def engine():
    return QTransform(SECONDS, RATE, q=8, frange=(15, 80), fftlength=2)


@pytest.fixture(scope="module")
def strain():
    """Coloured noise of strain's size, two events."""
    white = np.random.default_rng(1).normal(size=(2, int(RATE * SECONDS)))
    colour = 1e-21 * (1 + (30 / np.fft.rfftfreq(white.shape[1], 1 / RATE).clip(5)) ** 2)
    return np.fft.irfft(np.fft.rfft(white) * colour)


def whitened(engine, strain, part):
    """`part` through the whitening filter of the strain."""
    import torch

    return engine.coefficients(strain[:, None]).filters(torch.from_numpy(part)[:, None])[:, 0].numpy()


def test_a_mask_is_the_amplitudes_share_of_spectral_subtraction():
    energy = np.array([[[0.0, 1.0, 4.9, 5.0, 50.0]]], np.float32)
    expected = [0, 0, 0, 1 - np.sqrt(NOISE_ENERGY / 5), 1 - np.sqrt(NOISE_ENERGY / 50)]
    np.testing.assert_allclose(removal_mask(energy, 5.0)[0, 0], expected, rtol=1e-6)


def test_a_mask_of_nothing_removes_nothing_and_of_everything_the_band(engine, strain):
    ones = np.ones((2, 16, 32), np.float32)
    assert not noise_in_strain(engine, strain, 0 * ones, SHOWN).any()
    whole = Shown(SHOWN.frequency, np.linspace(0, SECONDS, 33)[:-1])
    removed = noise_in_strain(engine, strain, ones, whole)
    spectrum = np.fft.rfft(strain)
    frequency = np.fft.rfftfreq(strain.shape[1], 1 / RATE)
    spectrum[:, (frequency < 15) | (frequency > 80)] = 0
    middle = slice(int(2 * RATE), -int(2 * RATE))  # half a whitening filter at each end is lost
    difference = (removed - np.fft.irfft(spectrum))[:, middle]
    assert np.linalg.norm(difference) < 0.01 * np.linalg.norm(strain[:, middle])


def test_it_takes_out_what_the_mask_shows_and_only_there(engine, strain):
    loud = strain + 2e-20 * glitch()
    mask = np.zeros((2, 16, 32), np.float32)
    mask[:, 5:14, 8:24] = 1  # 26 to 66 Hz, 3.5 to 4.5 s
    left = loud - noise_in_strain(engine, loud, mask, SHOWN)
    before, after = (whitened(engine, loud, part) for part in (loud, left))
    at, elsewhere = slice(int(3.8 * RATE), int(4.2 * RATE)), slice(int(RATE), int(2.5 * RATE))
    assert np.square(after[:, at]).sum() < 0.05 * np.square(before[:, at]).sum()
    assert np.abs(after - before)[:, elsewhere].max() < 0.05


def test_it_is_linear_in_the_mask(engine, strain):
    first, second = np.random.default_rng(2).uniform(size=(2, 2, 16, 32)).astype(np.float32) / 2
    both = noise_in_strain(engine, strain, first + second, SHOWN)
    parts = [noise_in_strain(engine, strain, mask, SHOWN) for mask in (first, second)]
    np.testing.assert_allclose(sum(parts), both, atol=1e-5 * np.abs(both).max())


def test_a_taper_is_one_inside_and_exactly_zero_beyond():
    time = np.arange(0, SECONDS, 1 / RATE)
    taper = SHOWN.taper(time, 1.0)
    assert SHOWN.stop == 5.0
    assert (taper[(time >= 3) & (time <= 5)] == 1).all()
    assert not taper[(time <= 2) | (time >= 6)].any()
    assert taper[time == 2.5] == pytest.approx(0.5)
    assert np.abs(np.diff(taper)).max() < 2 / RATE


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
