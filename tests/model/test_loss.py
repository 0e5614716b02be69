"""Losses against closed forms and a reference formula of SSIM."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from glitchflow.model import build_loss
from glitchflow.model.loss import ssim, whittle


def pair(shape=(3, 1, 24, 32), seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, noise = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return 0.7 * x + 0.3 * noise, x


def reference_ssim(x, y):
    """Wang et al. 2004 as scikit-image computes it, on the target's scale, for one image."""
    low, span = y.min(), y.max() - y.min()
    x, y = (x - low) / span, (y - low) / span

    def mean(image):
        return gaussian_filter(image, 1.5, radius=5)[5:-5, 5:-5]

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return (((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()


def test_l1_and_l2_are_means_over_everything():
    x = torch.tensor([[[[1.0, 2.0]]], [[[3.0, -6.0]]]])
    zero = torch.zeros_like(x)
    assert build_loss("l1")(x, zero) == 3.0
    assert build_loss("l2")(x, zero) == 12.5


def test_ssim_agrees_with_the_reference_formula():
    x, y = pair()
    expected = [reference_ssim(a, b) for a, b in zip(x[:, 0].numpy(), y[:, 0].numpy())]
    np.testing.assert_allclose(ssim(x, y).numpy(), expected, rtol=1e-10)
    assert max(expected) < 0.99  # a case where the images do differ


def test_ssim_of_one_window_by_hand():
    """A flat image against a single bright pixel, in an image of exactly one window."""
    x, y = (
        torch.full((1, 1, 11, 11), 0.8, dtype=torch.float64),
        torch.zeros(1, 1, 11, 11, dtype=torch.float64),
    )
    y[..., 5, 5] = 1.0
    w = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    w0 = (w / w.sum())[5] ** 2
    c1, c2 = 1e-4, 9e-4
    expected = (2 * 0.8 * w0 + c1) / (0.64 + w0**2 + c1) * c2 / (w0 - w0**2 + c2)
    assert ssim(x, y).item() == pytest.approx(expected, rel=1e-9)


def test_ssim_is_one_for_equal_images_and_blind_to_the_unit():
    x, y = pair()
    torch.testing.assert_close(ssim(y, y), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(ssim(40 * x - 3, 40 * y - 3), ssim(x, y))
    assert torch.isfinite(ssim(x, torch.ones_like(y))).all()


def test_ssim_on_images_smaller_than_its_window():
    x, y = pair((2, 1, 4, 3))
    value = ssim(x, y)
    assert value.shape == (2,) and (value < 1).all()


def test_gradients_match_finite_differences():
    x, y = pair((1, 1, 12, 12))
    assert torch.autograd.gradcheck(lambda p: build_loss("l1+ssim")(p, y), x.clone().requires_grad_())


def test_l1_ssim_is_the_sum():
    x, y = pair()
    expected = (x - y).abs().mean() + (1 - ssim(x, y).mean())
    torch.testing.assert_close(build_loss("l1+ssim")(x, y), expected)


def test_ssim_keeps_its_precision_under_autocast():
    x, y = (image.float() for image in pair())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = ssim(x, y)
    torch.testing.assert_close(value, ssim(x, y))


def test_whittle_by_hand():
    generated, recorded = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[0.0, 6.0]]]])
    assert build_loss("whittle")(generated, recorded).item() == pytest.approx((0 + np.log(2) + 3) / 2)


def test_whittle_is_least_at_the_mean_energy():
    energy = torch.empty(1, 1, 50, 50, dtype=torch.float64).exponential_(
        generator=torch.Generator().manual_seed(1)
    )
    level = torch.full((1,), energy.mean().item(), dtype=torch.float64, requires_grad=True)
    least = whittle(level.expand_as(energy), energy)
    assert torch.autograd.grad(least, level)[0].item() == pytest.approx(0, abs=1e-12)
    assert least.item() == pytest.approx(np.log(level.item()) + 1)


def test_the_gradient_of_whittle_matches_finite_differences():
    generated, recorded = pair((1, 1, 4, 5))
    assert torch.autograd.gradcheck(lambda g: whittle(g, recorded), (generated + 0.1).requires_grad_())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["l1", "l2", "l1+ssim", "whittle"])
def test_a_gpu_gives_what_a_cpu_gives(name, gpu):
    given, recorded = (1 + image for image in pair())
    losses = [build_loss(name)(given.to(where), recorded.to(where)).item() for where in ("cpu", gpu)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)


@pytest.mark.parametrize("name", ["l1", "l2", "l1+ssim", "whittle"])
def test_shapes_that_would_broadcast_are_refused(name):
    with pytest.raises(ValueError, match="differ in shape"):
        build_loss(name)(torch.zeros(4, 1, 8, 8), torch.zeros(4, 8, 8))
