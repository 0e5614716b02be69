"""A mask's way through the Q coefficients into the strain, against closed forms."""

import numpy as np
import pytest

from glitchflow.signal.qtransform import QTransform
from glitchflow.twin import estimate
from glitchflow.twin.estimate import Estimator, Shown

RATE, SECONDS = 256.0, 8.0
SHOWN = Shown(np.geomspace(15, 80, 16), 3 + np.arange(32) / 16)  # 3 to 5 s


def glitch(frequency=40.0, width=0.1, middle=4.0):
    t = np.arange(int(RATE * SECONDS)) / RATE
    return np.exp(-(((t - middle) / width) ** 2)) * np.cos(2 * np.pi * frequency * (t - middle))


def noise_in_strain(engine, strain, mask, shown):
    """What one mask an event removes."""
    return estimate.noise_in_strain(engine, strain, mask[:, None], shown)[:, 0]


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


def test_a_signal_loses_what_the_mask_takes_from_it_through_the_strains_own_filter(engine, strain):
    """Cleaning is linear in the strain for a fixed mask and filter: cleaned(strain + h) - cleaned(strain), the long
    way, is one inverse of the signal's own coefficients. A filter estimated anew hardly sees the signal."""
    masks = np.random.default_rng(5).uniform(size=(1, 2, 16, 32)).astype(np.float32)
    signal = 3e-21 * glitch(width=0.3)
    own = engine.coefficients(strain[:1, None])

    def fixed(series):
        part = engine.coefficients(series[None, None], filters=own.filters)
        return estimate.masked(engine, part, estimate.on_tiles(masks, SHOWN, part, SECONDS))

    short = fixed(signal)
    close = {"rtol": 0, "atol": 1e-5 * np.abs(strain).max()}  # coefficients are in single precision
    np.testing.assert_allclose(short, fixed(strain[0] + signal) - fixed(strain[0]), **close)
    again, alone = (
        estimate.noise_in_strain(engine, series[None], masks, SHOWN)
        for series in (strain[0] + signal, strain[0])
    )
    assert np.linalg.norm(again - alone - short) < 0.1 * np.linalg.norm(short)


def test_a_taper_is_one_inside_and_exactly_zero_beyond():
    time = np.arange(0, SECONDS, 1 / RATE)
    taper = SHOWN.taper(time, 1.0)
    assert SHOWN.stop == 5.0
    assert (taper[(time >= 3) & (time <= 5)] == 1).all()
    assert not taper[(time <= 2) | (time >= 6)].any()
    assert taper[time == 2.5] == pytest.approx(0.5)
    assert np.abs(np.diff(taper)).max() < 2 / RATE
    sharp = SHOWN.taper(time, 0.0)  # of data that are not whitened nothing settles
    assert sharp.tolist() == ((time >= 3) & (time <= 5)).astype(float).tolist()


def test_events_are_treated_alike_however_they_are_grouped(engine, strain):
    """Each event has its own axes, or all share them: what is removed is the same."""
    mask = np.random.default_rng(4).uniform(size=(2, 16, 32)).astype(np.float32)
    estimator, own = Estimator(engine, 1.0), Shown(SHOWN.frequency, SHOWN.time)
    together = estimator.tapered(strain, mask, [SHOWN, SHOWN])
    close = {"rtol": 0, "atol": 1e-5 * np.abs(together).max()}  # a product's last bits depend on its size
    np.testing.assert_allclose(estimator.tapered(strain, mask, [SHOWN, own]), together, **close)
    expected = noise_in_strain(engine, strain, mask, SHOWN) * SHOWN.taper(np.arange(2048) / RATE, 1.0)
    np.testing.assert_array_equal(together, expected)
    assert not estimator.removed(strain, 0 * mask, [SHOWN, own]).any()
