"""Image methods against closed forms, numpy and linear programming; the oracle against draws."""

import numpy as np
import pytest
from scipy.optimize import linprog

from glitchflow.data.normalise import Normalisation
from glitchflow.methods import images
from glitchflow.methods.method import Block, Train
from glitchflow.methods.oracle import fit_curve, fit_oracle
from glitchflow.score.former_table import Unit

PLAIN = Normalisation("mean", [0.0], [1.0])  # energies as they are


def data(events=200, witnesses=2, shape=(3, 4), seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(events, witnesses, *shape)).astype(np.float32)
    slopes = generator.normal(size=(witnesses, *shape)).astype(np.float32)
    noise = generator.standard_t(2, size=(events, *shape)).astype(np.float32) * 0.3
    return x, np.einsum("ewft,wft->eft", x, slopes) + 1.5 + noise, slopes


def train(x, y, loss, witnessed=None):
    return Train(x, y, witnessed, Unit(loss, PLAIN))


def linear(x, y, loss):
    return images.fit_linear(train(x, y, loss))


def score(loss, prediction, target):
    return np.mean(np.abs(prediction - target) if loss == "l1" else (prediction - target) ** 2)


def block(x, witnessed=None):
    """Events without series, as a store of images has them."""
    events, valid = np.arange(len(x)), np.ones(x.shape[:2], bool)
    return Block(events, events * 64.0, x, None, None, valid, 256.0, witnessed)


def test_simple_methods_are_the_statistics_they_are_called_after():
    x, y, _ = data()
    for loss, expected in (("l1", np.median(y)), ("l2", y.mean())):
        found = images.fit_constant(train(x, y, loss)).predict(x)
        np.testing.assert_allclose(found, np.full_like(y, expected), rtol=1e-5)
    np.testing.assert_allclose(images.fit_mean(train(x, y, "l1")).predict(x)[7], y.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        images.fit_median(train(x, y, "l2")).predict(x)[7], np.median(y, axis=0), rtol=1e-5
    )


def test_zero_is_no_energy_in_any_normalisation():
    x, y, _ = data(5)
    unit = Unit("l1", Normalisation("log1p", [0.7], [0.5]))
    nothing = images.fit_zero(Train(x, y, None, unit))
    np.testing.assert_allclose(nothing.predict(x), np.full_like(y, -1.4))
    np.testing.assert_allclose(nothing.removed(block(x)).generated, 0, atol=1e-6)


def test_what_is_removed_is_the_energy_of_the_prediction():
    x, y, _ = data(20)
    fitted = linear(x, y, "l2")
    found = fitted.removed(block(x))
    np.testing.assert_array_equal(found.generated, fitted.predict(x).clip(0))
    assert found.left is None, "by spectral subtraction"


def test_least_squares_agrees_with_numpy():
    x, y, _ = data()
    prediction = linear(x, y, "l2").predict(x)
    for f, t in np.ndindex(3, 4):
        design = np.column_stack([np.ones(len(x)), x[:, :, f, t]])
        expected = design @ np.linalg.lstsq(design, y[:, f, t])[0]
        np.testing.assert_allclose(prediction[:, f, t], expected, atol=0.02)  # of about 5: the little ridge


def test_least_absolute_deviations_reach_the_optimum_of_linear_programming():
    x, y, _ = data(events=120)
    prediction = linear(x, y, "l1").predict(x)
    events = len(x)
    for f, t in [(0, 0), (2, 3)]:
        design = np.column_stack([np.ones(events), x[:, :, f, t]])
        # minimise the sum of u + v with design @ c + u - v = y; c free, u and v >= 0
        costs = np.r_[np.zeros(3), np.ones(2 * events)]
        equations = np.hstack([design, np.eye(events), -np.eye(events)])
        bounds = [(None, None)] * 3 + [(0, None)] * (2 * events)
        best = linprog(costs, A_eq=equations, b_eq=y[:, f, t], bounds=bounds).fun / events
        found = score("l1", prediction[:, f, t], y[:, f, t])
        assert best - 1e-6 <= found <= 1.003 * best


def test_l1_regression_resists_outliers_that_least_squares_follows():
    x, y, slopes = data(events=1000)
    y[::50] += 100
    errors = [np.abs(linear(x, y, loss).slopes - slopes).max() for loss in ("l1", "l2")]
    assert errors[0] < 0.15 < errors[1]


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_prediction_does_not_depend_on_the_normalisation(loss):
    """Energies divided by their maximum are tiny; the ridge must not grow with that."""
    x, y, _ = data()
    small = linear(x * 1e-4 + 3e-4, y * 1e-4, loss).predict(x * 1e-4 + 3e-4)
    np.testing.assert_allclose(small * 1e4, linear(x, y, loss).predict(x), atol=0.01)


def test_a_dead_witness_is_survived():
    x, y, _ = data()
    x[:, 1] = 2.5
    fitted = linear(x, y, "l1")
    assert np.isfinite(fitted.predict(x)).all() and np.abs(fitted.slopes[1]).max() < 1e-6


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_oracle_is_the_conditional_median_or_mean(loss):
    """T given W is non-central: |sqrt(W) + noise|^2 has mean W + b; the median comes from draws."""
    generator = np.random.default_rng(1)
    w = 10 ** generator.uniform(-1, 3, size=(60, 32, 32))
    x, y = generator.normal(size=(2, *w.shape)) * np.sqrt(1.4427 / 2)
    target = (np.sqrt(w) + x) ** 2 + y**2
    fitted = fit_curve(target, w, Unit(loss, PLAIN))
    for level in (3.0, 30.0, 300.0):
        a, b = generator.normal(size=(2, 200_000)) * np.sqrt(1.4427 / 2)
        draws = (np.sqrt(level) + a) ** 2 + b**2
        expected = np.median(draws) if loss == "l1" else level + 1.4427
        found = fitted.generate(np.full((1, 1, 1), level)).item()
        assert found == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_order_of_the_methods_on_a_world_they_can_learn(loss):
    x, y, slopes = data(events=600)
    w = np.abs(np.einsum("ewft,wft->eft", x, slopes)).astype(np.float32)
    y = (w + np.random.default_rng(2).normal(size=w.shape) * 0.1).astype(np.float32)
    given = train(x, y, loss, w)
    fits = {name: getattr(images, f"fit_{name}") for name in ("zero", "constant", "mean", "median", "linear")}
    fits["oracle"] = fit_oracle
    found = {name: fit(given).removed(block(x, w)).generated for name, fit in fits.items()}
    scores = {name: score(loss, energy, y) for name, energy in found.items()}
    assert scores["oracle"] < 0.3 * scores["linear"]
    assert scores["linear"] <= min(scores["median"], scores["mean"]) * 1.001
    best = "median" if loss == "l1" else "mean"
    assert scores[best] <= scores["constant"] <= scores["zero"]
    assert scores[best] <= scores["median" if best == "mean" else "mean"]


def test_oracle_of_few_and_of_equal_pixels():
    y = np.arange(8.0).reshape(2, 2, 2)
    fitted = fit_curve(y, np.full((2, 2, 2), 3.0), Unit("l2", PLAIN))
    assert (fitted.generate(np.full((2, 2, 2), 50.0)) == 3.5).all()
