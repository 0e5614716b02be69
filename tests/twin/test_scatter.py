"""How a scatterer follows its witness, found in made-up strain: a pole and a wrong scale, neither of them supposed."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fronts import FRONT

from glitchflow.twin import scatter
from glitchflow.twin.scatter import AS_RECORDED, Matches, Response

RATE, SAMPLES, EVENTS = 512.0, 4096, 24
TIME = (np.arange(SAMPLES) - SAMPLES / 2) / RATE
FREQUENCY = np.fft.rfftfreq(SAMPLES, 1 / RATE)
LOW = np.arange(0.02, 0.8, 0.02)


def made(response, seed=1):
    """Matches of bursts of motion of some 200 rad, in white strain in which scatterers follow so, (K,)."""
    rng = np.random.default_rng(seed)
    motion, fringe, length = (rng.uniform(*r, (EVENTS, 1)) for r in ((0.25, 0.6), (25, 90), (0.8, 1.6)))
    motions = (
        fringe / motion * np.exp(-0.5 * (TIME / length) ** 2) * np.sin(2 * np.pi * motion * (TIME + 0.2))
    )
    moved = np.fft.irfft(np.fft.rfft(motions) * response, SAMPLES)
    strain = np.sin(moved + rng.uniform(0, 2 * np.pi, (EVENTS, 1))) + rng.standard_normal((EVENTS, SAMPLES))
    inside = slice(SAMPLES // 2 - 1024, SAMPLES // 2 + 1024)
    return Matches(strain[:, inside].astype(np.complex64), motions, np.full(EVENTS, 1024.0), RATE, inside)


@pytest.fixture(scope="module")
def behind_a_pole():
    return made(0.88 / (1 + 1j * FREQUENCY / 3))


@pytest.mark.ci
def test_a_pole_and_a_wrong_scale_are_found(behind_a_pole):
    found = scatter.search(behind_a_pole)
    off = found.at(LOW) - 0.88 / (1 + 1j * LOW / 3)
    assert np.abs(off).max() < 0.01  # of up to 300 rad
    assert found.delay == pytest.approx(1 / (2 * np.pi * 3), abs=2e-3)
    best = behind_a_pole.score(found)
    assert best.min() > 300  # of 512 in the strain
    assert np.median(behind_a_pole.score(AS_RECORDED)) < 100


def test_scales_by_turning_are_scales_one_by_one(behind_a_pole):
    some = behind_a_pole.some(slice(0, 3))
    known = [some.score(Response(scale, 0.05)).sum() for scale in scatter.SCALES[[0, 50, -1]]]
    np.testing.assert_allclose(some.by_scale(0.05)[[0, 50, -1]], known, rtol=2e-3)


@pytest.mark.parametrize("terms", [(1.0, 0.0, 0.0, 0.0), (1.05, 0.053, 0.053, 0.012), (0.8, 0.1, 0.2, 0.05)])
def test_the_filter_does_what_the_response_says(terms):
    response = Response(*terms)
    taps = response.taps(RATE)
    lags = np.arange(-scatter.ahead(RATE), len(taps) - scatter.ahead(RATE)) / RATE
    turns = np.exp(-2j * np.pi * LOW[:, None] * lags)
    np.testing.assert_allclose(turns @ taps, response.at(LOW), atol=2e-3)
    assert np.sqrt(np.square(taps).sum()) < 0.25  # of what a sensor's noise is
    x = np.exp(-0.5 * (TIME / 1.2) ** 2) * np.sin(2 * np.pi * 0.5 * TIME)
    front = replace(FRONT, rate=RATE)
    filtered = front.slow(torch.from_numpy(x)[None], tuple(taps.tolist()))[0].numpy()
    np.testing.assert_allclose(filtered, scatter.followed(x[None], response, RATE)[0], atol=3e-3)


def test_what_moves_as_recorded_stays_so(monkeypatch):
    front = replace(FRONT, rate=RATE)
    exact = made(np.ones(len(FREQUENCY)))
    monkeypatch.setattr(scatter, "_matches", lambda *_: exact)
    assert scatter.known(front, None) is front


def test_noise_says_nothing_of_a_scatterer(monkeypatch):
    front, silent = replace(FRONT, rate=RATE), made(np.ones(len(FREQUENCY)))
    noise = np.random.default_rng(3).standard_normal(silent.strain.shape).astype(np.complex64)
    monkeypatch.setattr(scatter, "_matches", lambda *_: replace(silent, strain=noise))
    assert scatter.known(front, None) is front


@pytest.mark.ci
def test_a_scatterer_of_a_store_is_set_right_where_its_sensor_is_wrong(monkeypatch, capsys):
    """Of its train events, those without fringes in the band and those with a gap say nothing."""
    some = [made(0.88 / (1 + 1j * FREQUENCY / 3), seed) for seed in (1, 2)]
    motions = np.concatenate([one.motions for one in some]) * 1.064 / (4 * np.pi)
    strain = np.random.default_rng(4).standard_normal(motions.shape)
    strain[:, some[0].inside] = np.concatenate([one.strain for one in some]).real
    recorded = torch.from_numpy(np.stack([strain, 0 * strain, motions + 3], axis=1))
    recorded[0, 2, 100] = torch.nan
    recorded[1, 2] = 3
    front = replace(FRONT, rate=RATE, band=(20.0, 200.0), taps=[[1.0, 0, 0]] * 3, products=[])
    front = replace(front, scatters=[replace(FRONT.scatters[0], wavelength=1.064)])
    dataset = SimpleNamespace(indices=lambda split: np.arange(len(recorded)))
    monkeypatch.setattr(scatter, "read", lambda *_: iter(recorded.split(16)))
    monkeypatch.setattr(scatter, "scaled", lambda front, _: front)
    matches = scatter._matches(front, front.scatters[0], dataset)
    assert len(matches.strain) == len(recorded) - 2
    found = scatter.known(front, dataset)
    lags = np.arange(-scatter.ahead(RATE), len(found.scatters[0].taps) - scatter.ahead(RATE)) / RATE
    response = np.exp(-2j * np.pi * LOW[:, None] * lags) @ np.array(found.scatters[0].taps)
    np.testing.assert_allclose(response, 0.88 / (1 + 1j * LOW / 3), atol=0.01)
    name = front.channels[front.scatters[0].motion]
    assert f"{name}: what scatters moves 0.88" in capsys.readouterr().err
    assert found.problem(3) == ""


def test_few_events_with_fringes_say_nothing(monkeypatch):
    monkeypatch.setattr(scatter, "read", lambda *_: iter(torch.zeros(1, 20, 3, SAMPLES).double()))
    dataset = SimpleNamespace(indices=lambda split: np.arange(20))
    assert scatter.known(FRONT, dataset) is FRONT
