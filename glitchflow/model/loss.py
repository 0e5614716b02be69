"""Losses between generated and recorded strain Q-plots: means over every pixel of a batch.

All compare normalised values, `whittle` alone energies.

Shapes: prediction and target (event, 1, frequency, time) -> scalar; `ssim` -> (event,).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from glitchflow.config import import_path

Loss = Callable[[Tensor, Tensor], Tensor]

# Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", section III.B
SSIM_SIGMA, SSIM_RADIUS = 1.5, 5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def same_shape(prediction: Tensor, target: Tensor) -> None:
    """Raises ValueError where shapes differ: torch would broadcast them and return a wrong number."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape"
        )


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Returns the mean absolute difference, which the conditional median minimises."""
    same_shape(prediction, target)
    return (prediction - target).abs().mean()


def l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Returns the mean squared difference, which the conditional mean minimises."""
    same_shape(prediction, target)
    return (prediction - target).square().mean()


def _smooth(images: Tensor) -> Tensor:
    """Averages locally, by Gaussian weights, (event, 1, frequency, time), where the window lies inside the image."""
    # as products with banded matrices: several times faster on a CPU than a convolution of one channel
    over_frequency, over_time = (_window(size, images) for size in images.shape[-2:])
    return over_frequency @ images @ over_time.T


def _window(size: int, like: Tensor) -> Tensor:
    """Makes the Gaussian window along an axis of `size` pixels, as a matrix (size - 2 radius, size)."""
    radius = min(SSIM_RADIUS, (size - 1) // 2)
    place = torch.arange(size, dtype=like.dtype, device=like.device)
    offset = place - (place[: size - 2 * radius, None] + radius)
    weight = torch.exp(-0.5 * (offset / SSIM_SIGMA) ** 2) * (offset.abs() <= radius)
    return weight / weight.sum(dim=1, keepdim=True)


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Compares images by their structural similarity (SSIM), which is 1 for identical ones, and differentiable.

    Wang et al. 2004 (doi:10.1109/TIP.2003.819861), equation 13 averaged over the image, with Gaussian windows of
    11 pixels and sigma 1.5 (smaller where the image is). Q-plots have no fixed dynamic range, so both
    images are first put on the scale in which the target spans 0 to 1: the value does not depend on the
    unit or normalisation of the energies. Computed in at least float32, also under autocast.

    Shapes: two (event, 1, frequency, time) -> (event,). Raises ValueError where they differ or have more channels.
    """
    same_shape(prediction, target)
    if prediction.ndim != 4 or prediction.shape[1] != 1:
        raise ValueError(f"ssim compares (event, 1, frequency, time), not {tuple(prediction.shape)}")
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    with torch.autocast(prediction.device.type, enabled=False):
        x, y = prediction.to(dtype), target.to(dtype)
        low, high = torch.aminmax(y.flatten(1), dim=1)
        # a target without any contrast is compared in the unit it has
        span = torch.where(high > low, high - low, 1)[:, None, None, None]
        low = low[:, None, None, None]
        x, y = (x - low) / span, (y - low) / span
        mean_x, mean_y, xx, yy, xy = _smooth(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
        c1, c2 = SSIM_K1**2, SSIM_K2**2
        covariance, variances = xy - mean_x * mean_y, xx - mean_x**2 + yy - mean_y**2
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        return (luminance * (2 * covariance + c2) / (variances + c2)).mean(dim=(1, 2, 3))


def l1_ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Adds how unlike the shapes are to how far off the pixels are: l1 + (1 - mean ssim)."""
    return l1(prediction, target) + (1 - ssim(prediction, target).mean())


def whittle(generated: Tensor, recorded: Tensor) -> Tensor:
    """Return the mean of log G + T / G: how unlikely energies T are where G > 0 are expected, in nats a pixel.

    A pixel's energy is exponential with mean G (of two Gaussian quadratures), and this is -log of its density; the
    conditional mean of T minimises it. Whittle 1953 (doi:10.1007/BF02590998) for spectra; as a distance of spectrograms
    that of Itakura and Saito, Fevotte et al. 2009 (doi:10.1162/neco.2008.04-08-771).
    """
    same_shape(generated, recorded)
    return (generated.log() + recorded / generated).mean()


LOSSES: dict[str, Loss] = {"l1": l1, "l2": l2, "l1+ssim": l1_ssim, "whittle": whittle}
OF_ENERGIES = frozenset({"whittle"})  # the losses that take energies, not normalised values


def build_loss(name: str) -> Loss:
    """Finds the loss(prediction, target) -> scalar of that name: a key of `LOSSES` or an import path.

    An import path names a function, or a class such as an nn.Module, which is made without arguments.
    Raises `InputError` for a name that is neither known nor can be imported.
    """
    loss = LOSSES.get(name) or import_path(name, "train.loss", LOSSES)
    return loss() if isinstance(loss, type) else loss
