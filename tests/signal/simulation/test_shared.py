"""Noise that strain and witnesses share: its coherence in quiet time against the closed form."""

import numpy as np
import pytest
from helpers import detector_recipe

from glitchflow.errors import InputError
from glitchflow.signal.simulation.instrument import draw_instrument

RATE, LENGTH = 512, 1024
FREQUENCY = np.fft.rfftfreq(LENGTH, 1 / RATE)
PART = {"name": "PEM", "count": 3, "telling": 2, "shared": 1.0, "band": [20, 60], "lines": [100]}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    where = tmp_path_factory.mktemp("shared")
    recipe, made = detector_recipe(
        where, background=1.0, lines=[], subsystems=[PART], noise={"line_width": 1.0}
    )
    return recipe, draw_instrument(made.simulate.detector, made.series, made.seed)[0]


def spectra(series):
    """Of half-overlapping Hann windows of 2 s: (C, window, K)."""
    cut = np.lib.stride_tricks.sliding_window_view(series, LENGTH, axis=1)[:, :: LENGTH // 2]
    return np.fft.rfft(cut * np.hanning(LENGTH))


def test_coherence_in_quiet_time_is_the_closed_form(quiet):
    recipe, instrument = quiet
    found = np.concatenate([spectra(recipe.event(i).series) for i in range(24)], axis=1)
    strain, one, both = found[0], found[4], found[0] * found[4].conj()
    power = np.mean(np.abs(strain) ** 2, 0) * np.mean(np.abs(one) ** 2, 0)
    coherence = np.abs(both.mean(0)) ** 2 / power
    (shared,) = instrument.shared
    g, h = np.abs(shared.at(0.0)[:2, :: 16 * RATE // LENGTH]) ** 2
    wanted = g * h / ((1 + g) * (1 + h))
    band = (FREQUENCY > 15) & (FREQUENCY < 200)
    assert np.sqrt(np.mean((coherence - wanted)[band] ** 2)) < 0.06
    assert wanted[(FREQUENCY > 25) & (FREQUENCY < 50)].mean() > 0.1
    assert coherence[np.argmin(np.abs(FREQUENCY - 100))] > 0.9, "the line"
    idle = np.abs((found[0] * found[6].conj()).mean(0)) ** 2 / np.mean(np.abs(found[6]) ** 2, 0)
    assert np.mean((idle / np.mean(np.abs(strain) ** 2, 0))[band]) < 0.02, "the third hears nothing"


def test_the_truth_keeps_it_apart(quiet):
    recipe, _ = quiet
    event = recipe.event(0)
    assert recipe.shared
    assert event.shared.shape == event.witnessed.shape
    assert not event.witnessed.any()
    strain, own = event.series[0], event.series[0] - event.shared
    left, there = (np.square(np.abs(spectra(series[None])[0][:, 60:100])).sum() for series in (own, strain))
    assert left < 0.8 * there, "between 30 and 50 Hz"


def test_snr_is_under_all_of_the_noise(tmp_path):
    """A transient is as loud as was drawn against own and shared noise together, so it is larger than without."""
    pulse = {"frequency": [40, 40], "q": [8, 8]}
    common = {"background": 0.0, "settings": pulse, "snr": [20, 20], "lines": []}
    loud, _ = detector_recipe(tmp_path, "sine_gaussian", subsystems=[PART | {"shared": 2.0}], **common)
    bare, _ = detector_recipe(tmp_path, "sine_gaussian", **common)
    assert loud.event(0).snr == pytest.approx(20)
    assert np.abs(loud.event(0).witnessed).max() > 1.3 * np.abs(bare.event(0).witnessed).max()
    assert not bare.shared and bare.event(0).shared is None


def test_a_band_that_no_series_holds_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"^simulate.detector.subsystems.PEM.band = \[300, 400\]: holds no frequency"
    ):
        detector_recipe(tmp_path, subsystems=[PART | {"band": [300, 400]}])
