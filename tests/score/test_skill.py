"""The likelihood of energies: closed forms, who wins it, and who cannot."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from glitchflow.score import skill
from glitchflow.score.made import Who
from glitchflow.score.statistics import Bootstrap

FEW = Bootstrap(0, 100)
R = np.full(4, 1.2)
GLITCH = np.arange(20) < 10
WHO = Who(GLITCH, GLITCH, ~GLITCH, 32.0)


def energies(*shape, seed=0, mean=1.0):
    return (np.random.default_rng(seed).exponential(1, shape) * mean).astype(np.float32)


def test_likelihood_by_hand():
    t, g = np.full((2, 4, 3), 3.0, np.float32), np.full((2, 4, 3), 2.0, np.float32)
    np.testing.assert_allclose(skill.nll(t, g, R), np.log(2) + 1.5, rtol=1e-6)
    np.testing.assert_allclose(skill.nll(t, 0 * g, R), np.log(0.6) + 5, rtol=1e-6)  # G is r / 2 at least
    np.testing.assert_allclose(skill.nll(0 * t, 0 * g, R), np.log(0.6), rtol=1e-6)


def test_rows_without_noise_are_left_out():
    t, g = energies(3, 4, 5), energies(3, 4, 5, seed=1)
    floor = np.array([1.2, 0, 1.2, 0])
    np.testing.assert_array_equal(skill.nll(t, g, floor), skill.nll(t[:, ::2], g[:, ::2], R[::2]))
    assert np.isnan(skill.nll(t, g, np.zeros(4))).all()


def test_the_mean_of_an_exponential_is_best():
    t = energies(1, 4, 100_000, mean=7.0)
    at = {g: skill.nll(t, np.full_like(t, g), R)[0] for g in (6.3, 7.0, 7.7)}
    assert at[7.0] < min(at[6.3], at[7.7])
    assert at[7.0] == pytest.approx(np.log(7) + 1, abs=0.01)


@given(some.integers(0, 2**32 - 1), some.floats(1.001, 10), some.floats(1.001, 10))
def test_generating_more_than_is_there_never_helps(seed, a, more):
    """T = W + r: G = T is best, and more is ever worse."""
    t = energies(2, 4, 4, seed=seed, mean=5.0) + np.float32(1.2)
    best, worse, worst = (skill.nll(t, t * np.float32(g), R) for g in (1, a, a * more))
    assert (best < worse).all() and (worse < worst).all()


@given(some.integers(0, 2**32 - 1), some.floats(0.1, 0.999), some.floats(0, 0.999))
def test_generating_less_than_is_there_never_helps(seed, a, less):
    t = energies(2, 4, 4, seed=seed, mean=5.0) + np.float32(1.2)
    best, worse, worst = (skill.nll(t, t * np.float32(g), R) for g in (1, a, a * less))
    assert (best <= worse).all() and (worse <= worst).all()


def test_floor_is_the_mean_of_a_row_over_background():
    t = energies(6, 3, 5)
    w, label = np.full_like(t, 0.25), np.array([0, 1, 0, 2, 1, 0])
    expected = t[[0, 2, 5]].mean(axis=(0, 2))
    np.testing.assert_allclose(skill.floor(t, None, label), expected, rtol=1e-6)
    np.testing.assert_allclose(skill.floor(t, w, label), expected - 0.25, rtol=1e-6)
    np.testing.assert_allclose(skill.floor(t - 10, None, label), 0)  # energies are clamped at 0
    np.testing.assert_allclose(skill.floor(t, w, label + 1), 1 / np.log(2))


@pytest.fixture
def measured():
    """Twenty events, ten with W = 50 in a corner; and what several methods say of them."""
    w = np.zeros((20, 4, 20), np.float32)
    w[:10, :2, :5] = 50
    t = energies(*w.shape, seed=3, mean=w + 1.2)
    g = {
        "nothing": 0 * w,
        "constant": np.full_like(w, t.mean()),
        "mean": np.broadcast_to(t.mean(axis=0), w.shape),
        "oracle": w + np.float32(1.2),
        "half": w / 2 + np.float32(1.2),
    }
    return {name: {"nll": skill.nll(t, value, R)} for name, value in g.items()}


def test_skill_is_one_for_the_oracle_and_none_for_the_best_blind_method(measured):
    at = {name: skill.skill(measured, name, WHO, FEW) for name in measured}
    assert at["oracle"] == skill.Interval(1, 1, 1)
    assert at["mean"] == skill.Interval(0, 0, 0)
    assert at["nothing"].value < at["constant"].value < 0
    assert 0 < at["half"].low < at["half"].value < at["half"].high < 1
    mean = {name: columns["nll"].mean() for name, columns in measured.items()}
    expected = (mean["mean"] - mean["half"]) / (mean["mean"] - mean["oracle"])
    assert at["half"].value == pytest.approx(expected)


def test_skill_is_over_a_family_and_background(measured):
    third = np.arange(20) < 3
    who = replace(WHO, family=third, glitch=third)
    some_events = third | WHO.quiet
    mean = {name: columns["nll"][some_events].mean() for name, columns in measured.items()}
    assert skill.mean_nll(measured, "half", who, FEW).value == pytest.approx(mean["half"])
    blind = min(mean[name] for name in skill.BLIND)
    expected = (blind - mean["half"]) / (blind - mean["oracle"])
    assert skill.skill(measured, "half", who, FEW).value == pytest.approx(expected)


def test_skill_has_no_value_without_what_it_is_measured_by(measured):
    def value(columns, who=WHO):
        return skill.skill(columns, "half", who, FEW).value

    assert np.isnan(value(measured, replace(WHO, glitch=np.zeros(20, bool))))
    assert np.isnan(value({name: c for name, c in measured.items() if name != "oracle"}))
    assert np.isnan(value({name: c for name, c in measured.items() if name in ("oracle", "half")}))
    assert np.isfinite(value({name: c for name, c in measured.items() if name in ("mean", "oracle", "half")}))
