"""Stationary noise against its PSD, by Welch's method and closed forms."""

import numpy as np
import pytest
from gwpy.timeseries import TimeSeries
from helpers import detector_recipe
from scipy.signal import welch

from glitchflow.config.recipes import Detector, Noise, Subsystem
from glitchflow.errors import InputError
from glitchflow.signal.simulation import noise
from glitchflow.signal.simulation.noise import (
    advanced_detector_asd,
    channel_spectra,
    colour_channels,
    strain_asd,
)

RATE = 512
ACC = "SIM:ACC"


def test_noise_has_the_advanced_detectors_spectrum(tmp_path):
    recipe, _ = detector_recipe(tmp_path, background=1.0, lines=[])
    power = []
    for index in range(40):
        frequency, density = welch(recipe.event(index).series, RATE, nperseg=2 * RATE)
        power.append(density)
    found = np.sqrt(np.mean(power, axis=0))
    band = (frequency > 12) & (frequency < 240)
    expected = np.stack([
        advanced_detector_asd(frequency),
        np.maximum(frequency, 1.0) ** -recipe.couplings["witness_noise_slopes"][ACC],
        np.full_like(frequency, 3e-4),  # um / sqrt(Hz)
        np.full_like(frequency, 3e-4),  # urad / sqrt(Hz)
    ])  # fmt: skip
    ratio = found[:4, band] / expected[:, band]
    np.testing.assert_allclose(ratio, 1, atol=0.15)
    np.testing.assert_allclose(ratio.mean(1), 1, atol=0.01)


def test_the_curve_is_advanced_ligos():
    """Sathyaprakash & Schutz 2009, table 1: S(f0 = 215 Hz) = 1e-49 (1 - 5 + 111 / 3) / Hz."""
    found = advanced_detector_asd(np.array([215.0]))[0]
    assert found == pytest.approx(np.sqrt(1e-49 * (1 - 5 + 111 / 3)), rel=1e-9)
    low = advanced_detector_asd(np.array([0.0, 4.0, 8.0]))
    np.testing.assert_array_equal(low, low[2])


def test_power_lines_stand_in_every_channel(tmp_path):
    recipe, _ = detector_recipe(tmp_path, "blip", background=1.0, lines=[60.0])
    frequency, density = welch(recipe.event(0).series[:2], RATE, nperseg=8 * RATE)
    line = np.argmin(abs(frequency - 60))
    floor = np.median(density[:, line - 80 : line - 20], axis=1)
    assert (density[:, line] > 30 * floor).all()


def test_every_witness_has_its_own_colour(tmp_path):
    recipe, _ = detector_recipe(tmp_path)
    slopes = list(recipe.couplings["witness_noise_slopes"].values())
    assert len(set(slopes)) == len(slopes)
    assert all(0 <= slope <= 1.5 for slope in slopes)


def test_a_curve_from_a_file(tmp_path):
    path = tmp_path / "curve.txt"
    path.write_text("# Hz, 1/sqrt(Hz)\n10 1e-22\n100 1e-23\n1000 1e-23\n")
    found = strain_asd(
        Noise(psd="file", files=[str(path)]), np.array([0.0, 10.0, 31.6227766, 100.0, 500.0, 4000.0])
    )
    expected = [1e-22, 1e-22, 10**-22.5, 1e-23, 1e-23, 1e-23]  # straight on logarithmic scales
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_estimated_from_recorded_data(tmp_path):
    path = str(tmp_path / "recorded.hdf5")
    white = 1e-21 * np.random.default_rng(0).standard_normal(256 * 1024)
    TimeSeries(white, sample_rate=1024, t0=1e9, name="X:STRAIN").write(path, path="X:STRAIN")
    settings = Noise(psd="recorded", files=[path], channel="X:STRAIN")
    found = strain_asd(settings, np.linspace(0, 256, 200))
    assert np.median(found) == pytest.approx(1e-21 / np.sqrt(512), rel=0.03)
    np.testing.assert_allclose(found, 1e-21 / np.sqrt(512), rtol=0.5)


@pytest.mark.parametrize(
    "text, message",
    [
        ("10 1e-22\n5 1e-22\n", r"noise.files = .*curve.txt: needs ascending frequencies"),
        ("10\n20\n", r"noise.files = .*curve.txt: needs two columns"),
        ("ten 1e-22\n", r"noise.files = .*curve.txt: cannot be read"),
    ],
)
def test_a_curve_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / "curve.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        strain_asd(Noise(psd="file", files=[str(path)]), np.ones(3))


def test_a_missing_file_and_a_missing_key_are_named(tmp_path):
    with pytest.raises(InputError, match=r"noise.files = .*nowhere.txt: no such file"):
        strain_asd(Noise(psd="file", files=[str(tmp_path / "nowhere.txt")]), np.ones(3))
    with pytest.raises(ValueError, match="files: psd = file takes at least one"):
        Noise(psd="file")
    with pytest.raises(ValueError, match="files: psd = advanced takes none"):
        Noise(files=["x"])


def test_rows_made_when_they_are_asked_for_are_those_of_all_channels():
    settings = Detector(subsystems=[Subsystem(name="PEM", count=2, rate=64.0)], lines=[60.0])
    frequency, slopes = np.arange(1025) / 4, np.linspace(0.2, 1.4, len(settings.names))
    spectra = channel_spectra(settings, frequency, slopes, RATE)
    colour, floor = spectra.colour(), spectra.floor()
    assert colour.shape == (1 + len(settings.names), frequency.size)
    for rows in (np.array([5, 0, 3]), slice(2, 4)):
        np.testing.assert_array_equal(spectra.colour(rows), colour[rows])
        np.testing.assert_array_equal(spectra.floor(rows), floor[rows])
    unit = np.sqrt(RATE / 2)
    np.testing.assert_allclose(floor[0], unit * advanced_detector_asd(frequency))
    np.testing.assert_allclose(floor[1], unit * np.maximum(frequency, 1.0) ** -slopes[0])
    line = frequency == 60
    np.testing.assert_allclose(colour[:3, line], (1 + settings.noise.line_height) * floor[:3, line])
    slow = 1 + settings.names.index(settings.families.scattered_light.witness)
    np.testing.assert_array_equal(colour[slow], floor[slow])  # white, without lines
    assert (floor[5:, frequency >= 32] == 0).all()  # beyond half of their own rate
    white = np.random.default_rng(0).standard_normal((len(colour), 2048))
    filtered = white.copy()
    colour_channels(filtered, spectra)
    np.testing.assert_array_equal(filtered, noise.colour(white, colour))
