"""Simulated events: what they depend on, their physics, and that images show what a twin is to learn."""

import numpy as np
import pytest
from helpers import detector_recipe, recipe_of, small

from glitchflow.signal.simulation.families import FAMILIES
from glitchflow.signal.simulation.noise import advanced_detector_asd

DURATION, RATE = 16, 512
SUS, ACC, ASC = "SIM:SUS", "SIM:ACC", "SIM:ASC"
SIMULATED = [name for name in FAMILIES if name != "sampled"]  # which needs a store of draws


# -- what an event depends on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["detector", "notebook"])
def test_an_event_is_a_function_of_configuration_seed_and_index(tmp_path, recipe):
    def build(**changes):
        base = {"seed": 3, "simulate": {"recipe": recipe, "events": 50, "notebook": {"frequency": [15, 80]}}}
        if recipe == "notebook":
            base["derived"] = []
        return recipe_of(small(tmp_path, **{**base, **changes}))

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


@pytest.mark.parametrize("family", SIMULATED)
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


def test_a_burst_next_to_a_power_line_does_not_ring(tmp_path):
    """Coloured by the ASD without its lines, a burst of 0.1 s at 60 Hz is over after a second, in every channel."""
    burst = {"frequency": [59.5, 60.5], "q": [12, 12]}
    recipe, _ = detector_recipe(tmp_path, "sine_gaussian", settings=burst)
    bare, _ = detector_recipe(tmp_path, "sine_gaussian", background=1.0)
    event = recipe.event(0)
    added = np.square(event.series - bare.event(0).series)[:2]  # in the strain and in a witness that sees it
    time = np.arange(added.shape[-1]) / RATE - DURATION / 2
    assert (added[:, np.abs(time) > 1.5].sum(-1) < 1e-4 * added.sum(-1)).all()


@pytest.mark.ci
def test_shares_of_families_and_background(tmp_path):
    recipe, _ = detector_recipe(tmp_path, background=0.3)
    labels = np.array([recipe.event(i).label for i in range(600)])
    share = np.bincount(labels, minlength=8) / 600
    assert recipe.labels == ["background", *SIMULATED]
    assert recipe.witnessed == ["sine_gaussian", "ringdown", "whistle", "scattered_light", "bilinear"]
    np.testing.assert_allclose(share, [0.3, *[0.1] * 7], atol=4 * np.sqrt(0.21 / 600))
    quiet = recipe.event(int(np.flatnonzero(labels == 0)[0]))
    assert quiet.snr == 0
    assert not quiet.witnessed.any()


def test_a_family_without_weight_has_no_label(tmp_path):
    recipe, _ = detector_recipe(tmp_path, "blip")
    assert recipe.labels == ["background", "blip"]
    assert recipe.witnessed == []
