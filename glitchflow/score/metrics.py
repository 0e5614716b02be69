"""Scores of one generated Q-plot against the recorded one: what is left, how much went, how alike they look.

Shapes: recorded T, generated G and witnessed W are energies (event, frequency, time) of the strain,
dimensionless, as numpy arrays or torch tensors; scores are (event,). Energies are clamped at 0 first, since the
spline of the Q-transform undershoots. Work goes event block by event block, so memory stays small.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.model.loss import ssim as torch_ssim
from glitchflow.signal.types import NOISE_ENERGY, Energies

RECORDED_LEVEL = 10.0  # a loud pixel: noise exceeds it in one of a thousand, 2^-10
BLOCK = 256  # events worked on at once: of 64 x 128 pixels 8 MB an array


def energies(values: Any) -> Energies:
    """Returns `values` (event, frequency, time), array or tensor, as a float32 array clamped at 0.

    Raises ValueError for another number of axes, or energies that are not finite.
    """
    array = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    if array.ndim != 3:
        raise ValueError(f"energies are (event, frequency, time), not of shape {array.shape}")
    clamped: Energies = array.astype(np.float32)
    np.maximum(clamped, 0, out=clamped)
    if not np.isfinite(clamped).all():
        raise ValueError("energies hold NaN or infinity")
    return clamped


def blocks(*values: Any) -> Iterator[tuple[Energies, ...]]:
    """Yields the given energies, some `BLOCK` events at a time, clamped. Raises ValueError where shapes differ."""
    shapes = {tuple(v.shape) for v in values}
    if len(shapes) != 1:
        raise ValueError(f"recorded, generated and witnessed energies differ in shape: {sorted(shapes)}")
    # without any event one empty block, so that results have the right shape all the same
    for start in range(0, max(1, len(values[0])), BLOCK):
        yield tuple(energies(v[start : start + BLOCK]) for v in values)


def per_event(score: Callable[..., NDArray], *values: Any) -> NDArray:
    """Calls score(block of each of `values`) -> (event,) block by block, and joins the results."""
    return np.concatenate([score(*block) for block in blocks(*values)])


def subtract(recorded: Any, generated: Any) -> Energies:
    """Subtracts in the spectrum: R = T b / max(G, b) with b the mean energy of noise.

    Where G sees nothing T stays as it is; a perfectly predicted glitch comes down to b. It is the gain of spectral
    subtraction of energies (Boll 1979, doi:10.1109/TASSP.1979.1163209), floored at no change.

    Shapes: two (event, frequency, time) -> (event, frequency, time).
    """
    return per_event(_subtract, recorded, generated)


def _subtract(t: Energies, g: Energies) -> Energies:
    return np.divide(t * NOISE_ENERGY, np.maximum(g, NOISE_ENERGY), dtype=np.float32)


def wanted(recorded: Any, witnessed: Any, noise: Any = NOISE_ENERGY) -> Energies:
    """Returns what perfect subtraction in the spectrum leaves, R* = T r / (W + r), r the noise's mean energy.

    Shapes: two (event, frequency, time), r one number or (frequency, 1) -> (event, frequency, time).
    """
    least = np.maximum(noise, np.finfo(np.float32).tiny).astype(np.float32)
    return per_event(lambda t, w: t * least / (w + least), recorded, witnessed)


def mask_iou(recorded: Any, generated: Any, threshold: float) -> NDArray[np.float64]:
    """Returns the intersection over union of {T >= s} and {G >= s} in each event; NaN where both are empty.

    Shapes: two (event, frequency, time) -> (event,).
    """

    def score(t: Energies, g: Energies) -> NDArray:
        a, b = t >= threshold, g >= threshold
        union = (a | b).sum(axis=(1, 2))
        return np.where(union > 0, (a & b).sum(axis=(1, 2)) / np.maximum(union, 1), np.nan)

    return per_event(score, recorded, generated)


def l1(recorded: Any, generated: Any) -> NDArray[np.float64]:
    """Returns the mean absolute difference in each event, in units of energy.

    Shapes: two (event, frequency, time) -> (event,).
    """
    return per_event(lambda t, g: np.abs(t - g).mean(axis=(1, 2), dtype=np.float64), recorded, generated)


def ssim(recorded: Any, generated: Any) -> NDArray[np.float64]:
    """Returns the structural similarity of each event, at most 1; see `glitchflow.model.loss.ssim`.

    Shapes: two (event, frequency, time) -> (event,).
    """

    def score(t: Energies, g: Energies) -> NDArray:
        with torch.inference_mode():
            return (
                torch_ssim(torch.from_numpy(g)[:, None], torch.from_numpy(t)[:, None])
                .numpy()
                .astype(np.float64)
            )

    return per_event(score, recorded, generated)
