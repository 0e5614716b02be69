"""Simulated events: what they depend on, their physics, and that images show what a twin is to learn."""

import json

import numpy as np
import pytest
from helpers import small
from scipy.signal import welch

from glitchflow.data.generate import build_engine
from glitchflow.signal.simulate import FAMILIES, advanced_detector_asd, build_recipe

DURATION, RATE = 16, 512
SUS, ACC, FRINGE = "SIM:SUS", "SIM:ACC", "SIM:FRINGE"


def recipe_of(tmp_path, family=None, *, background=0.0, events=2000, seed=3, settings=None, **detector):
    """A detector recipe at 512 Hz with one family (or all), and its experiment."""
    families = {name: {"weight": float(family in (None, name))} for name in FAMILIES}
    if family:
        families[family] |= settings or {}
    experiment = small(
        tmp_path,
        seed=seed,
        series={"duration": DURATION, "sample_rate": RATE},
        qplot={"q": 12, "frange": [10, 200], "shape": [64, 128], "span": 4, "fftlength": 4},
        simulate={
            "events": events,
            "detector": {
                "witnesses": [ACC, SUS], "background": background, "jitter": 0.0, "families": families, **detector
            },
        },
    )  # fmt: skip
    return build_recipe(experiment), experiment


def log_images(experiment, events) -> np.ndarray:
    """log(1 + energy), (event, channel, frequency, time)."""
    plot = build_engine(experiment)(np.stack([event.series for event in events]))
    return np.log1p(np.maximum(plot.energy.numpy(), 0))


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


def test_couplings_are_fixed_for_a_dataset_and_stored(tmp_path):
    (a, _), (b, _), (c, _) = (recipe_of(tmp_path, seed=seed) for seed in (3, 3, 4))
    assert json.loads(json.dumps(a.couplings)) == a.couplings == b.couplings != c.couplings
    linear = a.couplings["linear"]
    assert linear.keys() == {"SIM:STRAIN", ACC}, "the scatterer's witness does not see the linear family"
    assert linear["SIM:STRAIN"]["gain"] == 1
    assert 0.5 <= linear[ACC]["gain"] <= 2
    assert abs(linear[ACC]["delay"]) <= 0.02
    assert a.couplings["scattered_light"]["witness"] == SUS


@pytest.mark.parametrize("taps", [64, 65])
def test_a_witness_sees_a_disturbance_through_its_stored_coupling(tmp_path, taps):
    """Deconvolving strain and witness by their stored filters, gains and delays gives one and the same pulse."""
    recipe, _ = recipe_of(
        tmp_path, "sine_gaussian", snr=[1e6, 1e6], coupling={"taps": taps, "gain": [0.7, 0.7], "delay": 0.02},
        lines=[], settings={"q": [4, 4], "frequency": [60, 60]},
    )  # fmt: skip
    event, frequency = recipe.event(0), np.fft.rfftfreq(DURATION * RATE, 1 / RATE)
    slope = recipe.couplings["witness_noise_slopes"][ACC]
    asds = (advanced_detector_asd(frequency), np.maximum(frequency, 1.0) ** -slope)
    pulses = []
    for series, asd, name in zip(event.series[:2], asds, ("SIM:STRAIN", ACC), strict=True):
        coupling = recipe.couplings["linear"][name]
        fir = np.array(coupling["fir"])
        np.testing.assert_allclose(fir, fir[::-1], atol=1e-12)
        centre = (len(fir) - 1) / 2 / RATE - coupling["delay"]
        response = (
            coupling["gain"] * np.fft.rfft(fir, DURATION * RATE) * np.exp(2j * np.pi * frequency * centre)
        )
        inside = (frequency > 40) & (frequency < 80)
        pulses.append((np.fft.rfft(series) / asd)[inside] / response[inside])
    assert np.linalg.norm(pulses[0] - pulses[1]) < 1e-3 * np.linalg.norm(pulses[0])


def test_a_matched_filter_finds_the_snr(tmp_path):
    """rho^2 = 4 int |h|^2 / S df (Allen et al. 2012), from the series in units of strain and the analytic PSD."""
    frequency = np.fft.rfftfreq(DURATION * RATE, 1 / RATE)
    asd = advanced_detector_asd(frequency)
    # a power line: 31 times the floor, 0.1 Hz wide
    asd *= 1 + 30 * sum(1 / (1 + ((frequency - f) / 0.1) ** 2) for f in (60.0, 120.0, 180.0))
    for family in ("sine_gaussian", "scattered_light", "blip"):
        recipe, _ = recipe_of(tmp_path, family, snr=[8, 60])
        bare, _ = recipe_of(tmp_path, family, snr=[8, 60], background=1.0)
        for index in range(5):
            event = recipe.event(index)
            signal = event.witnessed if family != "blip" else None
            if signal is None:  # nothing is witnessed: take the same noise away
                signal = event.series[0] - bare.event(index).series[0]
            h = np.fft.rfft(signal) / RATE
            density = np.abs(h) ** 2 / asd**2
            rho = np.sqrt(4 * (density.sum() - density[[0, -1]].sum() / 2) / DURATION)
            assert event.snr == pytest.approx(rho, rel=1e-6)
            if family != "scattered_light":
                assert 8 <= event.snr <= 60
            assert FAMILIES[family].witnessed == bool(np.any(event.witnessed))


def test_shares_of_families_and_background(tmp_path):
    recipe, _ = recipe_of(tmp_path, background=0.3)
    labels = np.array([recipe.event(i).label for i in range(600)])
    share = np.bincount(labels, minlength=4) / 600
    assert recipe.labels == ["background", "sine_gaussian", "scattered_light", "blip"]
    np.testing.assert_allclose(share, [0.3, 0.7 / 3, 0.7 / 3, 0.7 / 3], atol=4 * np.sqrt(0.21 / 600))
    quiet = recipe.event(int(np.flatnonzero(labels == 0)[0]))
    assert quiet.snr == 0
    assert not quiet.witnessed.any()


# -- physics -----------------------------------------------------------------------------------------------------


def test_noise_has_the_advanced_detectors_spectrum(tmp_path):
    recipe, _ = recipe_of(tmp_path, background=1.0, lines=[])
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
    ])  # fmt: skip
    ratio = found[:3, band] / expected[:, band]
    np.testing.assert_allclose(ratio, 1, atol=0.15)
    np.testing.assert_allclose(ratio.mean(1), 1, atol=0.01)


def test_the_curve_is_advanced_ligos():
    """Sathyaprakash & Schutz 2009, table 1: S(f0 = 215 Hz) = 1e-49 (1 - 5 + 111 / 3) / Hz."""
    assert advanced_detector_asd(np.array([215.0]))[0] == pytest.approx(
        np.sqrt(1e-49 * (1 - 5 + 111 / 3)), rel=1e-9
    )
    low = advanced_detector_asd(np.array([0.0, 4.0, 8.0]))
    np.testing.assert_array_equal(low, low[2])


def test_power_lines_stand_in_every_channel(tmp_path):
    recipe, _ = recipe_of(tmp_path, "blip", background=1.0, lines=[60.0])
    frequency, density = welch(recipe.event(0).series[:2], RATE, nperseg=8 * RATE)
    line = np.argmin(abs(frequency - 60))
    floor = np.median(density[:, line - 80 : line - 20], axis=1)
    assert (density[:, line] > 30 * floor).all()


def test_scattered_light_has_its_fringe_frequency(tmp_path):
    """The ridge of the strain's Q-plot lies at 2 n |v| / wavelength of the motion that the witness measures."""
    for bounces, fringe in ((1, 60), (2, 80)):
        recipe, experiment = recipe_of(
            tmp_path, "scattered_light", snr=[300, 300],
            settings={"fringe": [fringe, fringe], "motion": [0.4, 0.4], "length": [1.5, 1.5], "bounces": bounces},
        )  # fmt: skip
        event = recipe.event(1)
        spectrum = np.fft.rfft(event.series[2])
        spectrum[4 * DURATION :] = 0  # the sensor's noise above 4 Hz
        x = np.fft.irfft(spectrum)
        fringes = 2 * bounces * np.abs(np.gradient(x, 1 / RATE)) / 1.064
        plot = build_engine(experiment)(event.series[None])
        ridge = np.asarray(plot.frequencies)[plot.energy[0, 0].numpy().argmax(0)]
        expected = fringes[np.round(np.asarray(plot.times) * RATE).astype(int)]
        tops = expected > 0.75 * fringe  # where the frequency hardly changes within a tile
        assert tops.sum() > 10
        assert np.abs(ridge[tops] / expected[tops] - 1).max() < 0.12
        assert np.median(np.abs(ridge[tops] / expected[tops] - 1)) < 0.05


# -- what the images show ----------------------------------------------------------------------------------------

DRIVING = {
    "sine_gaussian": {"frequency": ([30, 30], [90, 90])},
    "scattered_light": {"fringe": ([30, 30], [80, 80])},
}
SEEN = {"sine_gaussian": {"witnesses": [ACC]}, "scattered_light": {}}


def test_every_witnessed_family_has_a_driving_parameter_here():
    assert DRIVING.keys() == {name for name, family in FAMILIES.items() if family.witnessed}


@pytest.mark.parametrize("family", DRIVING)
def test_some_witness_image_changes_with_the_driving_parameter(tmp_path, family):
    """Same index, same noise, another parameter: a change of the image is a change of what a network can see."""
    ((name, values),) = DRIVING[family].items()
    images = []
    for value in values:
        recipe, experiment = recipe_of(tmp_path, family, snr=[30, 30], settings={name: value} | SEEN[family])
        images.append(log_images(experiment, [recipe.event(i) for i in range(4)]))
    change = np.sqrt(np.mean((images[0] - images[1]) ** 2, axis=(2, 3))).mean(0)
    change = dict(zip(recipe.channels, change, strict=True))
    sees, blind = (ACC, FRINGE) if family == "sine_gaussian" else (FRINGE, ACC)
    assert change["SIM:STRAIN"] > 0.3
    assert change[sees] > 0.3
    assert change[blind] < 0.05
    assert change[SUS] < 0.05, "a slow motion is invisible in its own Q-plot"


def test_no_witness_sees_a_blip(tmp_path):
    with_blip, _ = recipe_of(tmp_path, "blip", snr=[60, 60])
    without, _ = recipe_of(tmp_path, "blip", background=1.0)
    for index in range(3):
        loud, quiet = with_blip.event(index).series, without.event(index).series
        np.testing.assert_array_equal(loud[1:3], quiet[1:3])
        np.testing.assert_allclose(loud[3], quiet[3])
        assert not np.array_equal(loud[0], quiet[0])


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
