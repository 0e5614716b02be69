"""Baselines against closed forms, numpy and linear programming."""

import numpy as np
import pytest
from scipy.optimize import linprog

from glitchflow.methods.baselines import BASELINES, fit


def data(events=200, witnesses=2, shape=(3, 4), seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(events, witnesses, *shape)).astype(np.float32)
    slopes = generator.normal(size=(witnesses, *shape)).astype(np.float32)
    noise = generator.standard_t(2, size=(events, *shape)).astype(np.float32) * 0.3
    return x, np.einsum("ewft,wft->eft", x, slopes) + 1.5 + noise, slopes


def score(loss, prediction, target):
    return np.mean(np.abs(prediction - target) if loss == "l1" else (prediction - target) ** 2)


def test_simple_baselines_are_the_statistics_they_are_called_after():
    x, y, _ = data()
    for loss, expected in (("l1", np.median(y)), ("l2", y.mean())):
        np.testing.assert_allclose(
            fit("constant", x, y, loss).predict(x), np.full_like(y, expected), rtol=1e-5
        )
    np.testing.assert_allclose(fit("mean", x, y, "l1").predict(x)[7], y.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(fit("median", x, y, "l2").predict(x)[7], np.median(y, axis=0), rtol=1e-5)
    np.testing.assert_array_equal(
        fit("zero", x, y, "l1", zero=-0.8).predict(x[:5]), np.full_like(y[:5], -0.8)
    )


def test_least_squares_agrees_with_numpy():
    x, y, _ = data()
    prediction = fit("linear", x, y, "l2").predict(x)
    for f, t in np.ndindex(3, 4):
        design = np.column_stack([np.ones(len(x)), x[:, :, f, t]])
        expected = design @ np.linalg.lstsq(design, y[:, f, t])[0]
        np.testing.assert_allclose(prediction[:, f, t], expected, atol=0.02)  # of about 5: the little ridge


def test_least_absolute_deviations_reach_the_optimum_of_linear_programming():
    x, y, _ = data(events=120)
    prediction = fit("linear", x, y, "l1").predict(x)
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
    errors = [np.abs(fit("linear", x, y, loss).slopes - slopes).max() for loss in ("l1", "l2")]
    assert errors[0] < 0.15 < errors[1]


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_prediction_does_not_depend_on_the_normalisation(loss):
    """Energies divided by their maximum are tiny; the ridge must not grow with that."""
    x, y, _ = data()
    small = fit("linear", x * 1e-4 + 3e-4, y * 1e-4, loss).predict(x * 1e-4 + 3e-4)
    np.testing.assert_allclose(small * 1e4, fit("linear", x, y, loss).predict(x), atol=0.01)


def test_a_dead_witness_is_survived():
    x, y, _ = data()
    x[:, 1] = 2.5
    fitted = fit("linear", x, y, "l1")
    assert np.isfinite(fitted.predict(x)).all() and np.abs(fitted.slopes[1]).max() < 1e-6


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_oracle_is_the_conditional_median_or_mean(loss):
    """T given W is non-central: |sqrt(W) + noise|^2 has mean W + b; the median comes from draws."""
    generator = np.random.default_rng(1)
    w = 10 ** generator.uniform(-1, 3, size=(60, 32, 32))
    x, y = generator.normal(size=(2, *w.shape)) * np.sqrt(1.4427 / 2)
    target = (np.sqrt(w) + x) ** 2 + y**2
    fitted = fit("oracle", np.zeros((60, 1, 32, 32)), target, loss, witnessed=w)
    for level in (3.0, 30.0, 300.0):
        a, b = generator.normal(size=(2, 200_000)) * np.sqrt(1.4427 / 2)
        draws = (np.sqrt(level) + a) ** 2 + b**2
        expected = np.median(draws) if loss == "l1" else level + 1.4427
        found = fitted.predict(np.zeros((1, 1, 1, 1)), np.full((1, 1, 1), level)).item()
        assert found == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_order_of_the_baselines_on_a_world_they_can_learn(loss):
    x, y, slopes = data(events=600)
    w = np.abs(np.einsum("ewft,wft->eft", x, slopes)).astype(np.float32)
    y = (w + np.random.default_rng(2).normal(size=w.shape) * 0.1).astype(np.float32)
    scores = {n: score(loss, fit(n, x, y, loss, w).predict(x, w), y) for n in BASELINES}
    assert scores["oracle"] < 0.3 * scores["linear"]
    assert scores["linear"] <= min(scores["median"], scores["mean"]) * 1.001
    best = "median" if loss == "l1" else "mean"
    assert scores[best] <= scores["constant"] <= scores["zero"]
    assert scores[best] <= scores["median" if best == "mean" else "mean"]


def test_oracle_of_few_and_of_equal_pixels():
    y = np.arange(8.0).reshape(2, 2, 2)
    fitted = fit("oracle", np.zeros((2, 1, 2, 2)), y, "l2", witnessed=np.full((2, 2, 2), 3.0))
    assert (fitted.predict(np.zeros((2, 1, 2, 2)), np.full((2, 2, 2), 50.0)) == 3.5).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "fourier"}, "allowed are zero, constant"),
        ({"loss": "l1+ssim"}, "fitted to l1 or l2"),
        ({"name": "oracle"}, "only a synthetic dataset has"),
        ({"target": np.zeros((3, 4, 4))}, "of the same events"),
        ({"inputs": np.zeros((0, 1, 3, 4)), "target": np.zeros((0, 3, 4))}, "at least one"),
        ({"name": "oracle", "witnessed": np.zeros((1, 3, 4))}, "differ in shape"),
    ],
)
def test_refusals(arguments, message):
    x, y, _ = data(5)
    with pytest.raises(ValueError, match=message):
        fit(**({"name": "mean", "inputs": x, "target": y, "loss": "l1"} | arguments))


def test_oracle_needs_w_to_predict():
    x, y, _ = data(5)
    with pytest.raises(ValueError, match="needs the witnessed energies"):
        fit("oracle", x, y, "l1", witnessed=np.abs(y)).predict(x)
