"""Bands that are watched: their powers, when they are said to be louder, and how they are taken out."""

import numpy as np

from glitchflow.twin.guard import BANDS, EDGE, LOUDER, edges, louder, powers, rms, without

RATE, BAND = 512.0, (10.0, 200.0)
TIME = np.arange(2048) / RATE


def tone(frequency: float) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * TIME)


def test_a_band_has_the_power_of_the_tones_in_it():
    limits = edges(BAND)
    np.testing.assert_allclose(limits[1:] / limits[:-1], 20 ** (1 / BANDS))
    before, after = powers(3 * tone(60) + tone(15), tone(60), RATE, limits)
    # a sine window keeps half of a tone's power, of which a one-sided spectrum has half
    power = len(TIME) ** 2 / 8
    np.testing.assert_allclose(before, np.array([1, 0, 9, 0]) * power, atol=0.001 * power)
    np.testing.assert_allclose(after, np.array([1, 0, 4, 0]) * power, atol=0.001 * power)


def test_a_band_is_louder_by_what_was_added_over_the_whole_memory():
    heard = np.ones((3, 2, 2))
    heard[2, 1] = 1 + LOUDER * 10 * np.array([0.99, 1.01])  # in one of ten blocks, of which three are known
    assert louder(heard, 10, LOUDER).tolist() == [False, True]
    heard[1, 1] = 0.9  # where something was taken out before
    assert not louder(heard, 10, LOUDER).any()


def test_bands_are_taken_out_and_others_stay():
    limits = edges(BAND)
    bands = np.array([False, False, True, False])
    low, high = limits[2:4]
    middle = slice(512, -512)
    left = without(tone(60) + tone(30), RATE, limits, bands)
    np.testing.assert_allclose(left[middle], tone(30)[middle], atol=0.01)
    assert low * (1 - EDGE) > 30 and high > 60


def test_white_noise_has_its_own_rms_and_a_band_that_is_passed_what_was_recorded():
    rng, limits = np.random.default_rng(1), edges(BAND)
    strain = 2 * rng.standard_normal((400, 128))
    heard = np.stack([powers(one, 0.75 * one, RATE, limits) for one in strain])
    none, every = np.zeros(BANDS, bool), np.ones(BANDS, bool)
    before, after = rms(heard, 128, RATE, limits, none)
    assert abs(before - 2) < 0.05 and abs(after - before / 4) < 1e-9
    assert rms(heard, 128, RATE, limits, every) == (before, before)
