"""The Q-transform engine: parity with gwpy, and its own promises."""

import numpy as np
import pytest
import torch
from gwpy.timeseries import TimeSeries

from glitchflow.signal import QTransform


def coloured(rng, events, channels, samples, rate, scale=1e-21):
    """Red noise with a sine-Gaussian in every channel, each at its own time and frequency."""
    t = np.arange(samples) / rate
    noise = rng.normal(size=(events, channels, samples))
    at = t[-1] * rng.uniform(0.3, 0.7, (events, channels, 1))
    frequency = rng.uniform(30, 100, (events, channels, 1))
    noise += 20 * np.exp(-(((t - at) / 0.02) ** 2)) * np.sin(2 * np.pi * frequency * t)
    return scale * (noise + 0.05 * noise.cumsum(-1))


@pytest.mark.parametrize("logf", [False, True])
@pytest.mark.parametrize("whiten", [False, True])
def test_every_pixel_is_gwpys(logf, whiten):
    series = coloured(np.random.default_rng(1), 2, 2, 8000, 500)
    plot = QTransform(16, 500, frange=(10, 150), logf=logf, whiten=whiten, select="channel")(series)
    for event in range(2):
        for channel in range(2):
            reference = TimeSeries(series[event, channel], sample_rate=500).q_transform(
                frange=(10, 150), logf=logf, whiten=whiten
            )
            error = np.abs(plot.energy[event, channel].numpy() - reference.value.T).max()
            assert error < 1e-4 * reference.value.max()
            assert plot.q[event, channel] == pytest.approx(reference.q, rel=1e-12)
            np.testing.assert_allclose(plot.frequencies, reference.frequencies.value, rtol=1e-6)


def test_crop_is_the_window_around_the_strains_loudest_pixel():
    series = coloured(np.random.default_rng(2), 3, 3, 8000, 500)
    options = {"duration": 16, "sample_rate": 500, "frange": (10, 150), "select": "channel"}
    whole = QTransform(**options)(series)
    crop = QTransform(**options, crop=64)(series)
    assert crop.energy.shape == (3, 3, 64, 64)
    for event in range(3):
        image = whole.energy[event, 0].numpy()
        row, column = np.unravel_index(image.argmax(), image.shape)
        row, column = min(max(row - 32, 0), 280 - 64), min(max(column - 32, 0), 1000 - 64)
        expected = whole.energy[event, :, row : row + 64, column : column + 64]
        torch.testing.assert_close(crop.energy[event], expected, rtol=1e-5, atol=1e-5 * image.max())
        np.testing.assert_array_equal(crop.frequencies[event], whole.frequencies[row : row + 64])
        np.testing.assert_array_equal(crop.times[event], whole.times[column : column + 64])


def test_companion_equal_to_the_strain_has_the_strains_energy():
    series = coloured(np.random.default_rng(3), 2, 2, 8000, 500)
    plot = QTransform(16, 500, frange=(10, 150), crop=(32, 48))(series, companion=series[:, 0])
    torch.testing.assert_close(plot.companion, plot.energy[:, 0], rtol=1e-6, atol=1e-4)
    plot = QTransform(16, 500, frange=(10, 150), crop=(32, 48))(series, companion=0.5 * series[:, 0])
    torch.testing.assert_close(plot.companion, plot.energy[:, 0] / 4, rtol=1e-6, atol=1e-4)
