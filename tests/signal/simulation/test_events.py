"""Simulated events: what they depend on, their physics, and that images show what a twin is to learn."""

import numpy as np
import pytest
from helpers import detector_recipe, small

from glitchflow.signal.simulation.events import build_recipe, sum_of_sines
from glitchflow.signal.simulation.families import FAMILIES
from glitchflow.signal.simulation.noise import advanced_detector_asd

DURATION, RATE = 16, 512
SUS, ACC, ASC = "SIM:SUS", "SIM:ACC", "SIM:ASC"


# -- what an event depends on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["detector", "notebook"])
def test_an_event_is_a_function_of_configuration_seed_and_index(tmp_path, recipe):
    def build(**changes):
        base = {"seed": 3, "simulate": {"recipe": recipe, "events": 50, "notebook": {"frequency": [15, 80]}}}
        if recipe == "notebook":
            base["derived"] = []
        return build_recipe(small(tmp_path, **{**base, **changes}))

    first, again, other = build(), build(), build(seed=4)
    for index in (7, 3):  # in another order than `first`'s
        again.event(index)
    for index in (3, 7, 49):
        a, b = first.event(index), again.event(index)
        np.testing.assert_array_equal(a.series, b.series)
        np.testing.assert_array_equal(a.witnessed, b.witnessed)
        assert (a.label, a.gps, a.snr) == (b.label, b.gps, b.snr)
        assert not np.array_equal(a.series, other.event(index).series)
    assert not np.array_equal(first.event(3).series, first.event(7).series)
    assert first.event(7).gps - first.event(3).gps == 4 * 64
    assert first.event(0).series.shape == (len(first.channels), 8 * 256)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_matched_filter_finds_the_snr(tmp_path, family):
    """rho^2 = 4 int |h|^2 / S df (Allen et al. 2012), from the series in units of strain and the analytic PSD."""
    frequency = np.fft.rfftfreq(DURATION * RATE, 1 / RATE)
    asd = advanced_detector_asd(frequency)
    # a power line: 31 times the floor, 0.1 Hz wide
    asd *= 1 + 30 * sum(1 / (1 + ((frequency - f) / 0.1) ** 2) for f in (60.0, 120.0, 180.0))
    recipe, _ = detector_recipe(tmp_path, family, snr=[8, 60])
    bare, _ = detector_recipe(tmp_path, family, snr=[8, 60], background=1.0)
    for index in range(3):
        event = recipe.event(index)
        added = event.series[0] - bare.event(index).series[0]  # the same noise taken away
        h = np.fft.rfft(added) / RATE
        density = np.abs(h) ** 2 / asd**2
        rho = np.sqrt(4 * (density.sum() - density[[0, -1]].sum() / 2) / DURATION)
        assert event.snr == pytest.approx(rho, rel=1e-6)
        if family != "scattered_light":
            assert 8 <= event.snr <= 60
        expected = added if FAMILIES[family].witnessed else 0 * added
        np.testing.assert_allclose(event.witnessed, expected, atol=1e-9 * np.abs(event.series[0]).max())


def test_shares_of_families_and_background(tmp_path):
    recipe, _ = detector_recipe(tmp_path, background=0.3)
    labels = np.array([recipe.event(i).label for i in range(600)])
    share = np.bincount(labels, minlength=8) / 600
    assert recipe.labels == ["background", *FAMILIES]
    assert recipe.witnessed == ["sine_gaussian", "ringdown", "whistle", "scattered_light", "bilinear"]
    np.testing.assert_allclose(share, [0.3, *[0.1] * 7], atol=4 * np.sqrt(0.21 / 600))
    quiet = recipe.event(int(np.flatnonzero(labels == 0)[0]))
    assert quiet.snr == 0
    assert not quiet.witnessed.any()


def test_a_family_without_weight_has_no_label(tmp_path):
    recipe, _ = detector_recipe(tmp_path, "blip")
    assert recipe.labels == ["background", "blip"]
    assert recipe.witnessed == []


# -- recipe "notebook" -------------------------------------------------------------------------------------------


def notebook(tmp_path, **settings):
    settings = {"frequency": [15, 80], **settings}
    return build_recipe(
        small(tmp_path, derived=[], simulate={"recipe": "notebook", "events": 9, "notebook": settings})
    )


def test_the_notebooks_strain_is_a_fixed_weighted_sum(tmp_path):
    recipe = notebook(tmp_path, strain_noise=0.0)
    weights = recipe.couplings["weights"]
    assert len(weights) == 3
    assert all(0.5 <= w <= 1.5 for w in weights)
    assert recipe.channels == ["SIM:STRAIN", "SIM:WITNESS_1", "SIM:WITNESS_2", "SIM:WITNESS_3"]
    for index in range(3):
        event = recipe.event(index)
        np.testing.assert_allclose(event.series[0], weights @ event.series[1:], atol=1e-12)
        np.testing.assert_allclose(event.witnessed, event.series[0])


@pytest.mark.parametrize("samples", [1, 2, 63, 64, 65, 8000])
def test_a_sum_of_sines_is_the_sum_of_the_sines(samples):
    rng = np.random.default_rng(1)
    amplitude, frequency, phase = rng.uniform(0.5, 2, 24), rng.uniform(0, 0.5, 24), rng.uniform(0, 7, 24)
    time = np.arange(samples)
    expected = (amplitude[:, None] * np.sin(2 * np.pi * frequency[:, None] * time + phase[:, None])).sum(0)
    np.testing.assert_allclose(sum_of_sines(amplitude, frequency, phase, samples), expected, atol=1e-9)


def test_the_notebooks_noise_and_sines(tmp_path):
    event = notebook(tmp_path, strain_noise=0.1).event(0)
    residual = event.series[0] - event.witnessed
    assert residual.std() == pytest.approx(0.1, rel=0.1)
    bare = notebook(tmp_path, witness_noise=0.0, sines=[1, 1], amplitude=[2, 2], frequency=[32, 32]).event(0)
    power = np.abs(np.fft.rfft(bare.series[1])) * 2 / bare.series.shape[1]
    assert power.argmax() == 32 * 8
    assert power.max() == pytest.approx(2)
    assert np.delete(power, 32 * 8).max() < 1e-9


def test_weights_redrawn_for_every_event(tmp_path):
    recipe = notebook(tmp_path, redraw_weights=True, strain_noise=0.0)
    assert recipe.couplings == {}
    found = [np.linalg.lstsq(e.series[1:].T, e.series[0], rcond=None)[0] for e in map(recipe.event, range(3))]
    assert not np.allclose(found[0], found[1])
    assert not np.allclose(found[1], found[2])


def test_constant_noise_is_one_value_per_series(tmp_path):
    event = notebook(tmp_path, constant_noise=True, strain_noise=0.1).event(0)
    residual = event.series[0] - event.witnessed
    assert np.ptp(residual) < 1e-12
    assert abs(residual[0]) > 1e-6
