"""Couplings: fixed for a dataset, stored, with gain, delay, filter, deaf witnesses and drift."""

import json

import numpy as np
import pytest
from helpers import detector_recipe

from glitchflow.signal.simulation.noise import advanced_detector_asd

DURATION, RATE = 16, 512
PULSE = {"frequency": [60, 60], "q": [4, 4]}
SUS, ACC, ASC = "SIM:SUS", "SIM:ACC", "SIM:ASC"


def transfer(recipe, family, index, channel):
    """Witness over strain on the white scale, without the stored filters, gain and delay: 1 in the family's band."""
    event, frequency = recipe.event(index), np.fft.rfftfreq(DURATION * RATE, 1 / RATE)
    slope = recipe.couplings["witness_noise_slopes"][channel]
    asds = (advanced_detector_asd(frequency), np.maximum(frequency, 1.0) ** -slope)
    place = recipe.channels.index(channel)
    pulses = []
    for series, asd, name in zip(event.series[[0, place]], asds, ("SIM:STRAIN", channel), strict=True):
        coupling = recipe.couplings["linear"][family][name]
        fir = np.array(coupling["fir"])
        np.testing.assert_allclose(fir, fir[::-1], atol=1e-12)
        centre = (len(fir) - 1) / 2 / RATE - coupling["delay"]
        response = (
            coupling["gain"] * np.fft.rfft(fir, DURATION * RATE) * np.exp(2j * np.pi * frequency * centre)
        )
        inside = (frequency > 50) & (frequency < 70)
        pulses.append((np.fft.rfft(series) / asd)[inside] / response[inside])
    return np.vdot(pulses[0], pulses[1]) / np.vdot(pulses[0], pulses[0])


def test_couplings_are_fixed_for_a_dataset_and_stored(tmp_path):
    (a, _), (b, _), (c, _) = (detector_recipe(tmp_path, seed=seed) for seed in (3, 3, 4))
    assert json.loads(json.dumps(a.couplings)) == a.couplings == b.couplings != c.couplings
    linear = a.couplings["linear"]
    assert linear.keys() == {"sine_gaussian", "ringdown", "whistle", "bilinear"}
    for family in linear.values():
        assert family.keys() == {"SIM:STRAIN", ACC}, "the witnesses of slow motions see no linear family"
        assert family["SIM:STRAIN"]["gain"] == 1
        assert 0.5 <= family[ACC]["gain"] <= 2
        assert abs(family[ACC]["delay"]) <= 0.02
    assert len({family[ACC]["gain"] for family in linear.values()}) == 4, "each family has its own path"
    assert a.couplings["scattered_light"]["witness"] == SUS
    assert a.couplings["bilinear"]["swing"] == ASC


def test_other_families_do_not_change_a_coupling(tmp_path):
    alone, together = detector_recipe(tmp_path, "ringdown")[0], detector_recipe(tmp_path)[0]
    linear = together.couplings["linear"]["ringdown"]
    assert alone.couplings["linear"]["ringdown"][ACC] == linear[ACC]


@pytest.mark.parametrize("family, taps", [("sine_gaussian", 64), ("ringdown", 65), ("whistle", 65)])
def test_a_witness_sees_a_disturbance_through_its_stored_coupling(tmp_path, family, taps):
    """Deconvolving strain and witness by their stored filters, gains and delays gives one and the same pulse."""
    recipe, _ = detector_recipe(
        tmp_path, family, snr=[1e6, 1e6], coupling={"taps": taps, "gain": [0.7, 0.7], "delay": 0.02}, lines=[]
    )
    assert abs(transfer(recipe, family, 0, ACC) - 1) < 1e-3


def test_a_share_of_witnesses_is_deaf(tmp_path):
    witnesses = [*(f"SIM:ACC_{i}" for i in range(6)), SUS, ASC]
    changes = {"witnesses": witnesses, "coupling": {"deaf": 0.5}, "snr": [50, 50]}
    settings = {"witnesses": ["SIM:ACC_0", ASC]}
    recipe, _ = detector_recipe(tmp_path, "bilinear", settings=settings, **changes)
    deaf = recipe.couplings["deaf"]
    assert len(deaf) == 3, "of the six that no family names (SUS has no family here)"
    assert not {"SIM:ACC_0", ASC} & set(deaf)
    linear, _ = detector_recipe(tmp_path, "ringdown", **changes)
    assert set(linear.couplings["linear"]["ringdown"]) == {"SIM:STRAIN", *witnesses} - set(
        linear.couplings["deaf"]
    )
    quiet, _ = detector_recipe(tmp_path, "ringdown", background=1.0, **changes)
    changed = (linear.event(0).series != quiet.event(0).series).any(axis=1)
    names = {name for name, change in zip(recipe.channels, changed) if change} - {"SIM:STRAIN"}
    assert names & set(witnesses) == set(witnesses) - set(linear.couplings["deaf"])


def test_some_witness_always_hears(tmp_path):
    recipe, _ = detector_recipe(tmp_path, "ringdown", witnesses=[ACC, SUS], coupling={"deaf": 0.99})
    assert len(recipe.couplings["deaf"]) == 1


def test_couplings_drift_with_time(tmp_path):
    """A witness's gain follows its stored phase; the strain's does not: its SNR is drawn."""
    drift = {"drift": 0.4, "drift_period": 64 * 20.0, "gain": [1, 1]}
    recipe, _ = detector_recipe(
        tmp_path, "sine_gaussian", snr=[1e6, 1e6], lines=[], coupling=drift, settings=PULSE
    )
    phase = recipe.couplings["linear"]["sine_gaussian"][ACC]["drift_phase"]
    assert recipe.couplings["drift"] == {"size": 0.4, "period": 1280.0}
    for index in (0, 5, 11):
        event = recipe.event(index)
        expected = np.exp(0.4 * np.sin(2 * np.pi * event.gps / 1280 + phase))
        assert abs(transfer(recipe, "sine_gaussian", index, ACC) / expected - 1) < 1e-3
        assert event.snr == pytest.approx(1e6)


def test_scattered_lights_strength_drifts_too(tmp_path):
    same = {"fringe": [60, 60], "motion": [0.4, 0.4], "length": [1, 1]}
    drift = {"drift": 0.4, "drift_period": 64 * 20.0}
    steady, _ = detector_recipe(tmp_path, "scattered_light", settings=same)
    drifting, _ = detector_recipe(tmp_path, "scattered_light", settings=same, coupling=drift)
    ratios = [drifting.event(i).snr / steady.event(i).snr for i in range(20)]
    assert 0.65 < min(ratios) < 0.7
    assert 1.4 < max(ratios) < 1.5
