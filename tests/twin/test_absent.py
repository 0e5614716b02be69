"""Moments in which an estimate is loud, and the strain as quiet as its noise: closed forms, and how often it errs."""

import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfilt

from glitchflow.twin.absent import LOUD, alone, heard

RATE, PIECE, SAMPLES = 512, 64, 2048
BAND = (10.0, 200.0)
VARIANCE = (BAND[1] - BAND[0]) / (RATE / 2)
MIDDLE = slice(SAMPLES // 2 - 256, SAMPLES // 2 + 256)
TIME = torch.arange(SAMPLES, dtype=torch.float64) / RATE - SAMPLES / RATE / 2


def noise(events, seed, band=BAND):
    """White noise of the band, of unit density as the white strain's: (B, n)."""
    rng, order = np.random.default_rng(seed), 8 if band == BAND else 3
    limited = butter(order, band, "bandpass", fs=RATE, output="sos")
    white = sosfilt(limited, rng.standard_normal((events, 2 * SAMPLES)))
    return torch.from_numpy(white[:, SAMPLES:])


def burst(snr, frequency=40.0, duration=0.04, events=1):
    """A sine-Gaussian of that SNR in the middle: (B, n)."""
    shape = torch.exp(-((TIME / duration) ** 2)) * torch.sin(2 * torch.pi * frequency * TIME)
    return (snr * shape / shape.norm()).repeat(events, 1)


def through(y, strain):
    return heard(y, strain, PIECE, VARIANCE)


def test_a_burst_that_the_strain_lacks_is_passed_through():
    found = through(y := burst(12.0), noise(1, 1))
    assert (found * y).norm() < 0.01 * y.norm()
    assert found[0, MIDDLE.start - 256 :].max() == 1 and found.min() == 0  # and what is elsewhere is not
    assert torch.equal(found[0, :512], torch.ones(512, dtype=torch.float64))


@pytest.mark.parametrize("share", [1.0, 0.7, 1.3])
def test_one_that_it_has_is_removed_though_its_size_is_off(share):
    y = burst(12.0)
    assert through(share * y, y + noise(1, 2)).min() == 1


@pytest.mark.parametrize("snr", [0.0, 1.0, 0.9 * LOUD])
def test_what_is_quiet_is_not_asked(snr):
    assert through(burst(snr), noise(1, 3)).min() == 1


def test_under_a_signal_that_speaks_against_it_nothing_changes():
    """A signal of three times its SNR, of the opposite sign and half of another frequency: the strain is not quiet."""
    y, strain = burst(10.0), noise(1, 4)
    signal = -burst(20.0) + burst(22.0, frequency=80.0)
    assert through(y, strain + y + signal).min() == 1
    assert through(y, strain + signal).min() == 1  # nor where there is no glitch at all: nobody can tell


@pytest.mark.parametrize(("louder", "snr"), [(0.7, 9.0), (1.15, 40.0), (1.3, 40.0)])
def test_the_noise_need_not_be_what_its_asd_says(louder, snr):
    """Where it is louder, a loud burst is not in a strain that has a quarter of its power."""
    y, strain = burst(snr, events=200), louder * noise(200, 8)
    assert ((through(y, strain) * y).norm(dim=1) > 5).double().mean() <= 0.01
    assert (through(y, strain + y).amin(1) < 1).double().mean() <= 0.01


@pytest.mark.parametrize("band", [(10.0, 200.0), (20.0, 40.0), (10.0, 20.0)])
def test_a_narrow_band_has_few_numbers_a_piece(band):
    """Bursts of SNR 12 in its middle."""
    frequency, variance = sum(band) / 2, (band[1] - band[0]) / (RATE / 2)
    y, strain = burst(12.0, frequency, 0.15, events=500), noise(500, 9, band)
    removed = heard(y, strain, PIECE, variance) * y
    assert (removed.norm(dim=1) > 5).double().mean() < 0.01
    assert (heard(y, strain + y, PIECE, variance).amin(1) < 1).double().mean() < 0.01


def test_how_often_it_errs():
    """Of 2,000 each: bursts of SNR 7 that are there, and stay in, and that are not, and are removed."""
    y, strain = burst(7.0, events=2000), noise(2000, 5)
    there, not_there = through(y, strain + y), through(y, strain)
    assert (there[:, MIDDLE].amin(1) < 0.5).double().mean() < 0.01
    assert ((not_there * y).norm(dim=1) > 5).double().mean() < 0.01


def test_each_event_is_judged_for_itself():
    y, strain = burst(9.0, events=5), noise(5, 6)
    strain[::2] += y[::2]
    together = through(y, strain)
    one_by_one = torch.cat([through(a[None], b[None]) for a, b in zip(y, strain, strict=True)])
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=0)
    assert together[0].min() == 1 and together[1].min() == 0


def test_a_crop_need_not_be_whole_pieces_and_nothing_is_learned_through_it():
    y = burst(12.0)[:, : SAMPLES - 30].requires_grad_()
    found = through(y, noise(1, 7)[:, : SAMPLES - 30])
    assert found.shape == y.shape and found.min() == 0 and not found.requires_grad


def test_witnesses_alone_heard_what_is_loud_and_stays():
    y = burst(9.0)[0].numpy()
    assert alone(y, 0.4 * y, PIECE) and not alone(y, 0.6 * y, PIECE)
    assert not alone(0.3 * y, 0 * y, PIECE)
    both = y + np.roll(10 * y, 512)  # beside a louder glitch, which is removed
    assert alone(both, both - y, PIECE) and not alone(both, both, PIECE)
