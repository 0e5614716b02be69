"""Couplings: fixed for a dataset, stored, with gain, delay, filter, deaf witnesses and drift."""

import json

import numpy as np
import pytest
from helpers import detector_recipe

from glitchflow.signal.simulation.couplings import draw_drift
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
    """A witness's gain follows its process in time; the strain's does not: its SNR is drawn."""
    settings = {"snr": [1e6, 1e6], "lines": [], "settings": PULSE, "coupling": {"gain": [1, 1]}}
    recipe, experiment = detector_recipe(tmp_path, "sine_gaussian", drift={"coupling": 0.4}, **settings)
    drift = draw_drift(experiment.simulate.detector, [f"sine_gaussian {ACC}"], experiment.seed)
    factors = []
    for index in (0, 60, 120):
        event = recipe.event(index)
        factors.append(float(drift.at(event.gps)[0]))
        assert abs(transfer(recipe, "sine_gaussian", index, ACC) / factors[-1] - 1) < 1e-3
        assert event.snr == pytest.approx(1e6)
    assert max(factors) / min(factors) > 1.1


def test_scattered_lights_strength_drifts_too(tmp_path):
    same = {"fringe": [60, 60], "motion": [0.4, 0.4], "length": [1, 1]}
    steady, _ = detector_recipe(tmp_path, "scattered_light", settings=same)
    drifting, experiment = detector_recipe(
        tmp_path, "scattered_light", settings=same, drift={"coupling": 0.4}
    )
    drift = draw_drift(experiment.simulate.detector, ["scattered_light SIM:STRAIN"], experiment.seed)
    for index in (0, 40, 80):
        ratio = drifting.event(index).snr / steady.event(index).snr
        assert ratio == pytest.approx(float(drift.at(drifting.event(index).gps)[0]), rel=1e-9)


def test_a_coupling_that_is_away_tells_nothing(tmp_path):
    """Then no witness sees the transient, and the truth says so."""
    away = {"drift": {"away": 0.5, "memory": 64.0}}
    recipe, experiment = detector_recipe(tmp_path, "ringdown", settings={"witnesses": [ACC]}, **away)
    bare, _ = detector_recipe(tmp_path, "ringdown", background=1.0, **away)
    drift = draw_drift(experiment.simulate.detector, [f"ringdown {ACC}"], experiment.seed)
    there = []
    for index in range(24):
        event, quiet = recipe.event(index), bare.event(index)
        there.append(bool(drift.at(event.gps)[0]))
        assert event.transient.any()
        assert event.transients[0].witnessed == event.witnessed.any() == there[-1]
        assert (event.series[1] != quiet.series[1]).any() == there[-1]
    assert 4 < sum(there) < 20


# -- one transfer function a sensor, subsystems, an unsafe witness ------------------------------------------------

PARTS = [
    {"name": "PEM-ACC", "count": 3, "telling": 2, "hears": ["ringdown", "sine_gaussian"], "bursts": 0.1},
    {"name": "SUS-L", "count": 2, "rate": 16},
]


def test_a_sensor_has_one_transfer_function_for_all_that_it_hears(tmp_path):
    one = {"per": "sensor", "gain": [1, 100]}
    recipe, _ = detector_recipe(tmp_path, subsystems=PARTS, coupling=one, window=4.0)
    first, third = "SIM:PEM-ACC_1", "SIM:PEM-ACC_3"
    table = recipe.couplings
    assert recipe.channels[4:9] == [first, "SIM:PEM-ACC_2", third, "SIM:SUS-L_1", "SIM:SUS-L_2"]
    assert first in table["heard_by"]["ringdown"] and first in table["heard_by"]["subsystem PEM-ACC"]
    assert third in table["heard_by"]["subsystem PEM-ACC"] and third not in table["heard_by"]["ringdown"]
    assert "SIM:SUS-L_1" not in table["sensors"], "it is idle"
    assert table["linear"]["ringdown"]["SIM:STRAIN"] != table["linear"]["sine_gaussian"]["SIM:STRAIN"]
    alone, _ = detector_recipe(tmp_path, "ringdown", subsystems=PARTS, coupling=one, window=4.0)
    assert alone.couplings["sensors"][first] == table["sensors"][first]


def test_what_is_in_the_strain_leaks_into_an_unsafe_witness_and_no_other(tmp_path):
    unsafe, _ = detector_recipe(tmp_path, "chirp", unsafe=ACC, coupling={"gain": [3, 3]}, snr=[40, 40])
    safe, _ = detector_recipe(tmp_path, "chirp", snr=[40, 40])
    leaks, clean = unsafe.event(0), safe.event(0)
    changed = (leaks.series != clean.series).any(1)
    names = [name for name, change in zip(unsafe.channels, changed) if change]
    assert names == [ACC, "SIM:PRODUCT"]
    assert not leaks.witnessed.any() and not leaks.transients[0].witnessed
