"""Image methods against closed forms and draws of exponential energies."""

import numpy as np
import pytest
from scipy.optimize import minimize

from glitchflow.methods import images, oracle
from glitchflow.methods.method import Block, Train, Truth
from glitchflow.twin.estimate import Shown


def train(x, y, floor=1.5, threshold=16.0):
    return Train(x, y, np.full(y.shape[1], floor), threshold)


def block(x, witnessed=None):
    """Events without series, as a store of images has them."""
    events, valid = np.arange(len(x)), np.ones(x.shape[:2], bool)
    truth = None if witnessed is None else Truth(witnessed, None, np.ones(len(x), int))
    shown = [Shown(np.geomspace(10, 100, x.shape[2]), np.arange(x.shape[3]) / 16)] * len(x)
    return Block(events, events * 64.0, x, None, None, valid, 256.0, shown, truth=truth)


def energies(events=300, witnesses=2, rows=3, columns=8, seed=0):
    """Witnesses' energies, and a strain whose mean is a share of each plus the noise's own."""
    generator = np.random.default_rng(seed)
    x = generator.exponential(5, size=(events, witnesses, rows, columns)).astype(np.float32)
    shares = generator.uniform(0.1, 2, size=(witnesses, rows))
    mean = 1.5 + np.einsum("wf,ewft->eft", shares, x)
    return x, (mean * generator.exponential(size=mean.shape)).astype(np.float32), shares


def test_blind_methods_are_the_statistics_they_are_called_after():
    x, y, _ = energies()
    assert (images.fit_nothing(train(x, y)).removed(block(x)).generated == 0).all()
    np.testing.assert_allclose(
        images.fit_constant(train(x, y)).removed(block(x)).generated, y.mean(), rtol=1e-5
    )
    mean = images.fit_mean(train(x, y)).removed(block(x)).generated
    np.testing.assert_allclose(mean[7], y.mean(axis=0), rtol=1e-5)
    assert all(
        found.shape == y.shape
        for found in (mean, images.fit_nothing(train(x, y)).removed(block(x)).generated)
    )


def test_the_gate_takes_everything_and_expects_nothing():
    x, y, _ = energies(4)
    found = images.fit_gate(train(x, y)).removed(block(x))
    assert found.generated is None and found.series is None
    assert (found.mask == 1).all() and found.mask.shape == y.shape


def test_the_loudest_witness_is_copied_and_below_the_threshold_set_to_zero():
    x, y, _ = energies(20)
    loudest = images.fit_loudest(train(x, y)).removed(block(x)).generated
    np.testing.assert_array_equal(loudest, x.max(axis=1))
    found = images.fit_thresholded(train(x, y, threshold=8.0)).removed(block(x)).generated
    np.testing.assert_array_equal(found, np.where(loudest >= 8, loudest, 0))
    assert 0 < (found == 0).mean() < 1


def test_the_sum_finds_the_shares_that_energies_were_drawn_with():
    x, y, shares = energies(3000)
    fitted = images.fit_linear(train(x, y))
    np.testing.assert_allclose(fitted.shares, shares, rtol=0.15)
    np.testing.assert_allclose(fitted.offset, 1.5, rtol=0.25)
    expected = fitted.offset[:, None] + np.einsum("wf,ewft->eft", fitted.shares, x)
    np.testing.assert_allclose(fitted.removed(block(x)).generated, expected, rtol=1e-5)


def test_the_sum_is_the_likeliest():
    """Its likelihood against scipy's own descent from the truth."""
    x, y, shares = energies(400, rows=1)
    fitted = images.fit_linear(train(x, y))
    flat = np.concatenate([np.ones((1, y.size)), x[:, :, 0].transpose(1, 0, 2).reshape(2, -1)])

    def nll(weights):
        mean = weights @ flat
        return (np.log(mean) + y.ravel() / mean).mean()

    bounds = [(1e-6, None)] * 3
    best = minimize(nll, [1.5, *shares[:, 0]], bounds=bounds, method="L-BFGS-B").fun
    found = nll(np.array([fitted.offset[0], *fitted.shares[:, 0]]))
    assert best - 1e-6 <= found <= best + 1e-3


def test_a_dead_witness_is_survived():
    x, y, _ = energies()
    x[:, 1] = 0
    fitted = images.fit_linear(train(x, y))
    assert np.isfinite(fitted.removed(block(x)).generated).all()
    assert np.isfinite(fitted.shares).all()


@pytest.mark.parametrize("floor", [0.0, 1.4])
def test_the_oracle_expects_the_witnessed_energy_and_the_noise(floor):
    x, y, _ = energies(5)
    found = oracle.fit(train(x, y, floor)).removed(block(x, y)).generated
    np.testing.assert_allclose(found, y + floor, rtol=1e-6)
