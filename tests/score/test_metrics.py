"""Scores against closed forms and brute force."""

import numpy as np
import pytest
import torch

from glitchflow.score.metrics import (
    BLOCK,
    NOISE_ENERGY,
    energies,
    l1,
    mask_iou,
    ssim,
    subtract,
    wanted,
)

B = 1 / np.log(2)


def noise(events=4, shape=(16, 20), seed=0):
    return np.random.default_rng(seed).exponential(B, size=(events, *shape)).astype(np.float32)


def test_noise_energy_is_the_mean_of_noise_with_median_one():
    draws = noise(50)
    assert np.median(draws) == pytest.approx(1, rel=0.03)
    assert draws.mean() == pytest.approx(NOISE_ENERGY, rel=0.03)


def test_subtraction_leaves_background_alone_and_brings_a_perfect_glitch_to_noise():
    t = noise()
    np.testing.assert_allclose(subtract(t, np.full_like(t, 1.0)), t, rtol=1e-6)
    np.testing.assert_allclose(subtract(t + 50, t + 50), B, rtol=1e-5)
    np.testing.assert_allclose(
        subtract(np.full((1, 2, 2), 80.0), np.full((1, 2, 2), 20.0)), 80 * B / 20, rtol=1e-6
    )


def test_perfect_subtraction_is_what_the_true_energy_asks_for():
    t, w = noise() + 5, noise(seed=1)
    np.testing.assert_allclose(wanted(t, w), subtract(t, w + B), rtol=1e-6)
    r = np.array([[1.5], [3.0]])
    np.testing.assert_allclose(wanted(t[:, :2], w[:, :2], r), t[:, :2] * r / (w[:, :2] + r), rtol=1e-6)
    np.testing.assert_array_equal(
        wanted(0 * t, 0 * w, 0.0), 0
    )  # a row without noise, above its Nyquist frequency


def test_negative_energies_are_clamped():
    assert (subtract(np.full((1, 2, 2), -12.0), np.zeros((1, 2, 2))) == 0).all()
    assert l1(np.full((1, 2, 2), -12.0), np.full((1, 2, 2), -3.0)) == 0


def test_iou_by_hand():
    t, g = np.zeros((3, 2, 4)), np.zeros((3, 2, 4))
    t[0, 0, :] = 5
    g[0, 0, 2:] = g[0, 1, 2:] = 5
    t[1] = g[1] = 7
    np.testing.assert_allclose(mask_iou(t, g, 5.0), [2 / 6, 1.0, np.nan])


def test_l1_and_ssim_per_event():
    t = noise()
    g = t.copy()
    g[1] += 2.0
    np.testing.assert_allclose(l1(t, g), [0, 2, 0, 0], atol=1e-6)
    assert ssim(t, g)[0] == pytest.approx(1, abs=1e-5) and ssim(t, g)[1] < 0.999


def test_tensors_and_arrays_give_the_same_and_nothing_is_changed():
    t, g = noise() - 1, noise(seed=1)
    kept = t.copy()
    tensor = torch.from_numpy(t).requires_grad_()
    np.testing.assert_array_equal(subtract(tensor, torch.from_numpy(g)), subtract(t, g))
    np.testing.assert_array_equal(t, kept)


def test_blocks_do_not_show():
    t, g = noise(2 * BLOCK + 3, (6, 7)), noise(2 * BLOCK + 3, (6, 7), seed=1)
    for score in (
        subtract,
        l1,
        ssim,
        lambda a, b: mask_iou(a, b, 1.0),
    ):
        np.testing.assert_allclose(
            score(t, g), np.concatenate([score(a[None], b[None]) for a, b in zip(t, g)]), rtol=1e-6, atol=1e-6
        )


def test_no_event_at_all():
    empty = np.zeros((0, 6, 7), np.float32)
    assert subtract(empty, empty).shape == (0, 6, 7)
    assert l1(empty, empty).shape == mask_iou(empty, empty, 2.0).shape == (0,)


def test_refusals():
    with pytest.raises(ValueError, match=r"\(event, frequency, time\), not of shape \(2, 3\)"):
        energies(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        energies(np.full((1, 2, 2), np.nan))
    with pytest.raises(ValueError, match="differ in shape"):
        subtract(np.zeros((2, 3, 3)), np.zeros((1, 3, 3)))
