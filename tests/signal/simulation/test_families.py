"""Families of transients: their physics in the strain, and what of it the witnesses' images show."""

import numpy as np
import pytest
from helpers import detector_recipe

from glitchflow.config.families import LINEAR, Families
from glitchflow.signal.qtransform import QTransform
from glitchflow.signal.simulation.families import FAMILIES
from glitchflow.signal.simulation.noise import advanced_detector_asd

DURATION, RATE = 16, 512
STRAIN, SUS, ACC, ASC, FRINGE, PRODUCT = (
    "SIM:STRAIN", "SIM:SUS", "SIM:ACC", "SIM:ASC", "SIM:FRINGE", "SIM:PRODUCT"
)  # fmt: skip
ENGINE = QTransform(
    DURATION, RATE, q=12, frange=(10, 200), logf=True, outseg=(6, 10), shape=(64, 128), fftlength=4
)


def ridge(series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loudest frequency and its energy in every column of the Q-plot of a series, and the columns' times in s from
    the centre."""
    energy = ENGINE(series[None, None]).energy[0, 0].numpy()
    return (
        np.asarray(ENGINE.frequencies)[energy.argmax(0)],
        energy.max(0),
        np.asarray(ENGINE.times) - DURATION / 2,
    )


def test_a_ringdown_begins_at_once_and_decays_at_its_rate(tmp_path):
    recipe, _ = detector_recipe(
        tmp_path, "ringdown", snr=[1e4, 1e4], lines=[], coupling={"ripple": 0.0},
        settings={"frequency": [80, 80], "q": [20, 20]},
    )  # fmt: skip
    strain = recipe.event(0).witnessed
    spectrum = np.fft.rfft(strain)
    spectrum[abs(np.fft.rfftfreq(strain.size, 1 / RATE) - 80) > 40] = 0
    envelope = np.abs(np.fft.ifft(np.r_[2 * spectrum, np.zeros(strain.size - spectrum.size)]))
    time = np.arange(strain.size) / RATE - DURATION / 2
    after = (time > 0.03) & (time < 0.2)
    rate = -np.polyfit(time[after], np.log(envelope[after]), 1)[0]
    assert rate == pytest.approx(np.pi * 80 / 20, rel=0.05)  # 1 / tau = pi f / Q
    assert envelope[time < -0.1].max() < 0.03 * envelope.max()


def test_a_whistle_sweeps_down_and_up_again(tmp_path):
    recipe, _ = detector_recipe(
        tmp_path, "whistle", snr=[300, 300], lines=[], coupling={"ripple": 0.0},
        settings={"low": [40, 40], "high": [140, 140], "length": [0.8, 0.8]},
    )  # fmt: skip
    frequency, _, time = ridge(recipe.event(0).series[0])
    inside = np.abs(time) < 0.55
    expected = 40 + 100 * (time / 0.8) ** 2
    assert np.abs(frequency[inside] / expected[inside] - 1).max() < 0.15
    assert np.median(np.abs(frequency[inside] / expected[inside] - 1)) < 0.05


@pytest.mark.parametrize("bounces", [1, 3])
def test_scattered_light_has_its_fringe_frequencies(tmp_path, bounces):
    """The ridge of the strain's Q-plot lies at 2 |v| / wavelength of the motion that the witness measures."""
    recipe, _ = detector_recipe(
        tmp_path, "scattered_light", snr=[300, 300],
        settings={"fringe": [60, 60], "motion": [0.4, 0.4], "length": [1.5, 1.5], "bounces": bounces,
                  "reflection": 0.7},
    )  # fmt: skip
    event = recipe.event(1)
    spectrum = np.fft.rfft(event.series[2])
    spectrum[4 * DURATION :] = 0  # the sensor's noise above 4 Hz
    fringes = 2 * np.abs(np.gradient(np.fft.irfft(spectrum), 1 / RATE)) / 1.064
    plot = ENGINE(event.series[None, :1])
    expected = fringes[np.round(np.asarray(plot.times) * RATE).astype(int)]
    tops = expected > 45  # where the frequency hardly changes within a tile
    assert tops.sum() > 10
    energy, frequency = plot.energy[0, 0].numpy()[:, tops], np.asarray(plot.frequencies)
    for n in range(1, 4):
        near = np.abs(frequency[:, None] / (n * expected[tops]) - 1) < 0.1
        louder = np.median(np.where(near, energy, 0).max(0))
        assert (louder > 100) == (n <= bounces), f"harmonic {n}"
    if bounces == 1:
        found = frequency[energy.argmax(0)]
        assert np.median(np.abs(found / expected[tops] - 1)) < 0.05


def test_a_scatterer_moves_otherwise_than_its_witness_says(tmp_path):
    """x = (1 + error) / (1 + i f / pole) y: known to who made it, and the strain's phase follows x, not y."""
    exact = {"fringe": [60, 60], "motion": [0.5, 0.5], "length": [1.0, 1.0], "bounces": 1}
    off = {"calibration": [0.1, 0.2], "pole": 2.0}
    common = {"snr": [300, 300], "lines": []}
    recipe, _ = detector_recipe(tmp_path, "scattered_light", settings=exact | off, **common)
    event, error = recipe.event(1), recipe.couplings["scattered_light"]["calibration_error"]
    assert 0.1 <= abs(error) <= 0.2
    frequency = np.fft.rfftfreq(DURATION * RATE, 1 / RATE)
    said = np.fft.rfft(event.series[2]) * (frequency < 4)
    curve = advanced_detector_asd(frequency)
    white = np.fft.irfft(np.fft.rfft(event.witnessed) / curve)

    def unexplained(motion):
        phase = 4 * np.pi / 1.064 * np.fft.irfft(motion)
        fringes = np.stack([np.sin(phase), np.cos(phase) - 1])
        templates = np.fft.irfft(np.fft.rfft(fringes) / curve).T
        left = white - templates @ np.linalg.lstsq(templates, white, rcond=None)[0]
        return np.square(left).sum() / np.square(white).sum()

    assert unexplained(said * (1 + error) / (1 + 1j * frequency / 2.0)) < 0.02
    assert unexplained(said) > 0.5


def test_reflectivity_is_drawn_for_each_event(tmp_path):
    same = {"fringe": [60, 60], "motion": [0.5, 0.5], "length": [1.0, 1.0], "reflectivity": 0.3}
    recipe, _ = detector_recipe(tmp_path, "scattered_light", settings=same)
    steady, _ = detector_recipe(tmp_path, "scattered_light", settings=same | {"reflectivity": 0.0})
    ratio = [np.log(recipe.event(i).snr / steady.event(i).snr) for i in range(60)]
    assert np.std(ratio) == pytest.approx(0.3, abs=0.08)


def test_bilinear_is_the_product_of_what_two_witnesses_see(tmp_path):
    """Without filters and delays: the strain's white series is strength times vibration times swing."""
    recipe, _ = detector_recipe(
        tmp_path, "bilinear", snr=[1e5, 1e5], lines=[],
        coupling={"ripple": 0.0, "delay": 0.0, "gain": [1, 1]}, noise={"slope": [0, 0]}, settings={"swing": [1, 1]},
    )  # fmt: skip
    event = recipe.event(0)
    vibration = event.series[1] / np.sqrt(RATE / 2)  # unit white noise to 1 / sqrt(Hz)
    frequency = np.fft.rfftfreq(event.witnessed.size, 1 / RATE)
    white = np.fft.irfft(np.fft.rfft(event.witnessed) / advanced_detector_asd(frequency)) / np.sqrt(RATE / 2)
    product = vibration * event.series[3]
    assert np.vdot(product, white) / np.vdot(product, product) == pytest.approx(0.3, rel=0.01)
    assert np.corrcoef(product, white)[0, 1] > 0.999


def test_a_chirp_has_newtons_frequency(tmp_path):
    """f(tau) = 134 Hz (1.21 M_sun / Mc)^(5/8) (1 s / tau)^(3/8): Maggiore, Gravitational Waves 1, equation 4.20."""
    recipe, _ = detector_recipe(tmp_path, "chirp", snr=[300, 300], lines=[], settings={"mass": [10, 10]})
    frequency, _, time = ridge(recipe.event(0).series[0])
    last = 4397 / (10 * 2**1.2)  # Hz, c^3 / (6^(3/2) pi G M)
    left = (134 * (1.21 / 10) ** 0.625 / last) ** (8 / 3) - time
    inside = (time > -1.5) & (time < -0.1)
    expected = 134 * (1.21 / 10) ** 0.625 * left[inside] ** -0.375
    assert np.median(np.abs(frequency[inside] / expected - 1)) < 0.04
    assert np.abs(frequency[inside] / expected - 1).max() < 0.12


# -- what the images show ----------------------------------------------------------------------------------------

# the driving parameter, two values of it, who sees it, and who must not
DRIVING = {
    "sine_gaussian": ("frequency", [30, 30], [90, 90], {ACC}, {FRINGE}),
    "ringdown": ("frequency", [30, 30], [90, 90], {ACC}, {FRINGE}),
    "whistle": ("high", [90, 90], [140, 140], {ACC}, {FRINGE}),
    "scattered_light": ("fringe", [30, 30], [80, 80], {FRINGE}, {ACC, SUS, PRODUCT}),
    "bilinear": ("motion", [0.5, 0.5], [1.5, 1.5], {PRODUCT}, {ACC, ASC, FRINGE}),
}


def log_images(recipe, events=4) -> np.ndarray:
    """log(1 + energy), (event, channel, frequency, time)."""
    plot = ENGINE(np.stack([recipe.event(i).series for i in range(events)]))
    return np.log1p(np.maximum(plot.energy.numpy(), 0))


def test_every_witnessed_family_has_a_driving_parameter_here():
    assert DRIVING.keys() == {name for name, family in FAMILIES.items() if family.witnessed}


@pytest.mark.parametrize("family", DRIVING)
def test_some_witness_image_changes_with_the_driving_parameter(tmp_path, family):
    """Same index, same noise, another parameter: a change of the image is a change of what a network can see."""
    name, first, second, sees, blind = DRIVING[family]
    seen = {"witnesses": [ACC]} if family in LINEAR else {}
    recipes = [
        detector_recipe(tmp_path, family, snr=[30, 30], settings={name: value} | seen)[0]
        for value in (first, second)
    ]
    a, b = (log_images(recipe) for recipe in recipes)
    change = np.sqrt(np.mean((a - b) ** 2, axis=(2, 3))).mean(0)
    change = dict(zip(recipes[0].channels, change, strict=True))
    assert change[STRAIN] > 0.2
    for channel in sees:
        assert change[channel] > 0.2, channel
    for channel in blind:
        assert change[channel] < 0.05, f"{channel}: a slow motion is invisible in its own Q-plot"


def test_every_family_has_its_keys_and_its_row():
    assert list(FAMILIES) == list(Families.model_fields)
    assert {name for name in LINEAR if not (FAMILIES[name].witnessed and FAMILIES[name].coupled)} == set()


@pytest.mark.parametrize("family", ["blip", "chirp"])
def test_no_witness_sees_an_unwitnessed_family(tmp_path, family):
    loud, _ = detector_recipe(tmp_path, family, snr=[60, 60])
    quiet, _ = detector_recipe(tmp_path, family, background=1.0)
    for index in range(3):
        a, b = loud.event(index).series, quiet.event(index).series
        np.testing.assert_array_equal(a[1:4], b[1:4])
        np.testing.assert_allclose(a[4:], b[4:])
        assert not np.array_equal(a[0], b[0])
        assert not loud.event(index).witnessed.any()
