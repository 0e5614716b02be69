"""The reference against closed forms, transient by transient, and on a small real store."""

from types import SimpleNamespace

import numpy as np
import pytest

from glitchflow.config import Detector, Simulate
from glitchflow.config.sections import Cluster, Series
from glitchflow.config.training import Loader
from glitchflow.data.store.dataset import open_store
from glitchflow.methods import reference
from glitchflow.methods.compare import basis_of, compare, fit_methods
from glitchflow.methods.reference import Predicted, Seen, gated
from glitchflow.score.levels import Rule
from glitchflow.signal.simulation.families import FAMILIES
from glitchflow.signal.simulation.instrument import draw_instrument
from glitchflow.signal.simulation.noise import colour

RATE, SAMPLES, SEED = 512.0, 8192, 5
WITNESSES = ["SIM:ACC_X", "SIM:ACC_Y", "SIM:SUS", "SIM:ASC"]
FREQUENCY = np.arange(SAMPLES // 2 + 1) * (RATE / SAMPLES)


@pytest.fixture(scope="module")
def instrument():
    settings = Simulate().detector
    return draw_instrument(settings, Series(duration=SAMPLES / RATE, sample_rate=RATE), SEED)[0]


def event(instrument, family, noise=0.0, missing=()):
    """One transient of a family, and its white series; noise: deviation of every white channel."""
    rng = np.random.default_rng(4)
    time = np.arange(SAMPLES) / RATE - SAMPLES / RATE / 2
    made = FAMILIES[family].make(instrument, rng, time, 0.0)
    recorded = colour(noise * rng.standard_normal((1 + len(WITNESSES), SAMPLES)), instrument.spectra.colour())
    recorded[0] += colour(made.strain[None], instrument.floor[None])[0]
    if made.witnesses is not None:
        recorded[made.places] += colour(made.witnesses, instrument.spectra.floor(made.places))
    for place, moved in (made.motion or {}).items():
        recorded[1 + place] += moved
    valid = np.array([name not in missing for name in WITNESSES])
    wanted = colour(made.strain[None], instrument.above_noise(0.0))[0]
    return Seen(0.0, FREQUENCY, recorded, np.fft.rfft(recorded) / instrument.spectra.colour(), valid), wanted


def left(found, wanted):
    return np.square(found - wanted).sum() / np.square(wanted).sum()


def predict(instrument, seen, family):
    return reference.PREDICTORS.get(family, reference.linear)(instrument, seen, family)


@pytest.mark.parametrize("family", ["sine_gaussian", "ringdown", "whistle", "bilinear", "scattered_light"])
def test_without_noise_witnesses_tell_everything(instrument, family):
    seen, wanted = event(instrument, family)
    # of the product, what lies under a witness's power lines is left out: nobody could tell it from them
    assert left(predict(instrument, seen, family).series, wanted) < (1e-5 if family == "bilinear" else 1e-6)


def test_no_lines_are_put_into_the_strain():
    above = np.array([1.0, 0.5, 0.0])
    np.testing.assert_allclose(reference.between_lines(above), [1.0, 1.1 * 2.5 / 3.5, 0.0])


@pytest.mark.parametrize("family", ["sine_gaussian", "bilinear"])
def test_a_prediction_knows_its_own_noise(instrument, family):
    """Prediction less truth, whose spectrum over what it should be is 1 on average: chi^2 of many frequencies."""
    seen, wanted = event(instrument, family, noise=1.0)
    found = predict(instrument, seen, family)
    spectrum = np.square(np.abs(np.fft.rfft(found.series - wanted))) / SAMPLES
    band = (FREQUENCY > 20) & (FREQUENCY < 200)
    expected = found.noise * found.loudness.mean()
    assert np.mean(spectrum[band] / expected[band]) == pytest.approx(1, abs=0.15)


def test_several_witnesses_are_better_than_one(instrument):
    noise = {}
    for missing in ((), ("SIM:ACC_X",), ("SIM:ACC_X", "SIM:ACC_Y")):
        seen, _ = event(instrument, "ringdown", missing=missing)
        coupling = instrument.couplings["ringdown"]
        response = coupling.response[1:] * seen.valid[coupling.places[1:] - 1, None]
        found = predict(instrument, seen, "ringdown")
        noise[len(missing)] = found.noise
        if len(missing) < 2:
            strain = np.square(np.abs(coupling.response[0]))
            np.testing.assert_allclose(
                found.noise, strain / np.square(np.abs(response)).sum(axis=0), rtol=1e-9
            )
    assert (noise[0] < noise[1]).all()
    assert not found.series.any()  # no witness is left: nothing is said


def test_fringes_of_a_missing_motion_are_none(instrument):
    seen, _ = event(instrument, "scattered_light", noise=1.0, missing=["SIM:SUS"])
    assert np.abs(predict(instrument, seen, "scattered_light").series).max() < 1e-9


def test_gates():
    rng = np.random.default_rng(0)
    series, one = rng.standard_normal(SAMPLES), np.ones(SAMPLES)
    silent, white = np.zeros_like(FREQUENCY), np.ones_like(FREQUENCY)
    np.testing.assert_allclose(
        gated(Predicted(series, silent, one), series, FREQUENCY, RATE), series, atol=1e-12
    )
    nothing = gated(Predicted(series, white, one), 0 * series, FREQUENCY, RATE)
    assert not nothing.any()
    # a truth far above and far below the noise: all of it, and what Wiener's gain |W|^2 / noise leaves
    loud = gated(Predicted(series, white, one), 1e6 * series, FREQUENCY, RATE)
    np.testing.assert_allclose(loud, series, rtol=1e-4, atol=1e-4)
    quiet = gated(Predicted(series, white, 1e6 * one), series, FREQUENCY, RATE)
    assert np.abs(quiet).max() < 1e-3


def test_noise_that_comes_and_goes_is_gated_when_it_is_there():
    later = np.repeat([0.0, 1e9], SAMPLES // 2)
    series = np.random.default_rng(0).standard_normal(SAMPLES)
    found = gated(Predicted(series, np.ones_like(FREQUENCY), later), series, FREQUENCY, RATE)
    edge = round(reference.GATE * RATE)
    np.testing.assert_allclose(found[: SAMPLES // 2 - edge], series[: SAMPLES // 2 - edge], atol=1e-9)
    assert np.abs(found[SAMPLES // 2 + edge :]).max() < 1e-6


@pytest.fixture(scope="module")
def dataset(dataset_run):
    return open_store(dataset_run.dataset)


def test_on_a_store_it_is_better_than_the_perfect_mask_and_quiet_where_there_is_nothing(dataset):
    fit = fit_methods(dataset, basis_of(dataset, Loader()), 16.0)
    rule = Rule(np.full(16, 0.6), 0.5, 16.0, np.array([4.0, 16.0]))
    scored = compare(dataset, dataset.indices("test"), fit, rule, Cluster(cpus=2))
    told, mask = scored.columns["reference"], scored.columns["oracle"]
    glitch = told["witnessed2"] >= 1
    assert told["residual2"][glitch].sum() < 0.5 * mask["residual2"][glitch].sum()
    assert told["residual2"][glitch].sum() < 0.1 * told["witnessed2"][glitch].sum()
    unwitnessed = ~np.isin(scored.label, [dataset.labels.index(name) for name in dataset.witnessed_labels])
    assert unwitnessed.any() and not told["residual2"][unwitnessed].any()
    assert "nll" not in told  # it has no skill: its gates are the truth's


HARD = {
    "rate": {"rate": 0.1},
    "bursts": {"subsystems": [{"name": "PEM", "count": 1, "bursts": 0.1}]},
    "shared": {"subsystems": [{"name": "PEM", "count": 1, "telling": 1, "shared": 0.5}]},
    "noise": {"drift": {"noise": 0.1}},
    "scatterer": {"families": {"scattered_light": {"pole": 3.0}}},
    "faults": {"faults": {"rate": 1.0}},
}


@pytest.mark.parametrize("name", HARD)
def test_where_it_is_no_bound_it_is_not_offered(name):
    assert not reference.is_bound(Detector.model_validate(HARD[name]))


def test_of_sensors_with_drifting_couplings_and_low_rates_it_is_one():
    slow = [{"name": "PEM", "count": 2, "rate": 128, "telling": 1, "hears": ["ringdown"]}]
    hard = {"subsystems": slow, "coupling": {"per": "sensor"}, "drift": {"coupling": 0.3, "away": 0.2}}
    settings = Detector.model_validate(hard)
    assert reference.is_bound(settings)
    assert reference.is_bound(Simulate().detector)
    instrument = draw_instrument(settings, Series(duration=SAMPLES / RATE, sample_rate=RATE), SEED)[0]
    rng, time = np.random.default_rng(4), np.arange(SAMPLES) / RATE - SAMPLES / RATE / 2
    made, gps = FAMILIES["ringdown"].make(instrument, rng, time, 1e9), 1e9
    recorded = np.zeros((1 + len(settings.names), SAMPLES))
    recorded[made.places] += colour(made.witnesses, instrument.spectra.floor(made.places))
    white, colours = np.fft.rfft(recorded), instrument.spectra.colour()
    spectra = np.divide(white, colours, out=np.zeros_like(white), where=colours > 0)
    seen = Seen(gps, FREQUENCY, recorded, spectra, np.ones(len(settings.names), bool))
    wanted = colour(made.strain[None], instrument.above_noise(gps))[0]
    assert left(predict(instrument, seen, "ringdown").series, wanted) < 1e-5


def test_of_another_detector_or_recorded_data_it_is_told_nothing(dataset):
    assert reference.told(dataset, dataset) is not None
    other = SimpleNamespace(source="simulate", couplings={})
    assert reference.told(dataset, other) is None
    assert reference.told(dataset, SimpleNamespace(source="ingest", couplings=dataset.couplings)) is None
