"""Cubic spline interpolation between two fixed grids, as a banded linear operator in blocks.

An interpolating cubic spline is linear in its data, and a datum's influence decays by 2 - sqrt(3) = 0.27 a point:
the spline through the neighbourhood of a pixel is the spline through all points, to 0.27 ** MARGIN. So consecutive
pixels are taken in blocks, each a small dense matrix over the points near it. Memory and work grow with the number
of pixels and points, never with their product. At the ends of the grid the neighbourhood ends with it, and the
block is exact: the not-a-knot conditions there are those of FITPACK, which gwpy calls through scipy.

Shapes: B series, M rows (anything else), N points, P pixels; K blocks of S pixels, each over W points.
"""

import numpy as np
import torch
from scipy.interpolate import make_interp_spline
from torch import Tensor, nn

from glitchflow.signal.batch_invariant import matmul, take

# Neighbours on each side; what is left out is 1e-7 and 1e-16, the rounding
MARGIN = {torch.float32: 12, torch.float64: 28}
# A block's matrix, 512 x 64 at most, fits a core's cache (128 kB in float32), and is seldom mostly margin
LARGEST_BLOCK = 64  # pixels
LARGEST_REACH = 512  # points that the pixels of a block span


class SplineMap(nn.Module):
    """Maps values at N `points` to the interpolating cubic spline's values at P `pixels` (both ascending, 1-D).

    `clamp=True` repeats the first and last value outside the points, as FITPACK's surfaces do; otherwise the end
    polynomials extrapolate, as its curves do.
    """

    starts: Tensor
    weight: Tensor

    def __init__(self, points: np.ndarray, pixels: np.ndarray, clamp: bool, dtype: torch.dtype):
        super().__init__()
        if clamp:
            pixels = np.clip(pixels, points[0], points[-1])
        self.pixels, self.points = len(pixels), len(points)
        starts, weight = _build_blocks(points, pixels, MARGIN[dtype])
        self.block = weight.shape[-1]
        self.register_buffer("starts", torch.from_numpy(starts), persistent=False)
        self.register_buffer("weight", torch.from_numpy(weight).to(dtype), persistent=False)

    def time(self, values: Tensor, first: Tensor | None = None, count: int = 0) -> Tensor:
        """Maps (B, M, N) to (B, M, P) along the last axis; for a crop to (B, M, count), from pixel first[b] on."""
        chosen, weight, offset = self._blocks(first, count)
        near = self._near(chosen)
        if first is None:
            local = take(values, near)  # (B, M, K, W)
        else:
            index = near.flatten(1)[:, None].expand(-1, values.shape[1], -1)
            local = values.gather(2, index).unflatten(2, near.shape[1:])
        out = values.new_empty(*local.shape[:3], self.block)
        matmul(local.transpose(1, 2), weight, out.transpose(1, 2))
        out = out.flatten(2)
        if first is None:
            return out[..., : self.pixels]
        pick = offset[:, None] + torch.arange(count, device=values.device)
        return out.gather(2, pick[:, None].expand(-1, values.shape[1], -1))

    def frequency(self, values: Tensor, first: Tensor | None = None, count: int = 0) -> Tensor:
        """Maps (B, N, M) to (B, P, M) along the middle axis; for a crop to (B, count, M), from pixel first[b] on."""
        chosen, weight, offset = self._blocks(first, count)
        near = self._near(chosen)
        batch = torch.arange(len(values), device=values.device)[:, None]
        local = values[:, near] if first is None else values[batch[..., None], near]  # (B, K, W, M)
        out = values.new_empty(*local.shape[:2], self.block, values.shape[2])
        out = matmul(weight.transpose(-1, -2), local, out).flatten(1, 2)
        if first is None:
            return out[:, : self.pixels]
        return out[batch, offset[:, None] + torch.arange(count, device=values.device)]

    def _blocks(self, first: Tensor | None, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns blocks to evaluate (K) or (B, K), their matrices, and where in them a crop begins (B,)."""
        blocks = len(self.starts)
        if first is None:
            every = torch.arange(blocks, device=self.starts.device)
            return every, self.weight, every[:0]
        wanted = min((count - 1) // self.block + 2, blocks)
        begin = (first // self.block).clamp(max=blocks - wanted)
        chosen = begin[:, None] + torch.arange(wanted, device=first.device)
        return chosen, self.weight[chosen], first - begin * self.block

    def _near(self, chosen: Tensor) -> Tensor:
        """Returns the points of each block, (..., W)."""
        return self.starts[chosen][..., None] + torch.arange(self.weight.shape[1], device=chosen.device)


def _build_blocks(points: np.ndarray, pixels: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """Makes first point (K,) and matrix (K, W, S) of each block of pixels; the last block is padded with zeros."""
    reached = np.searchsorted(points, pixels[[0, -1]])
    per_pixel = max(reached[1] - reached[0], 1) / len(pixels)
    size = max(1, min(LARGEST_BLOCK, len(pixels), int(LARGEST_REACH / per_pixel)))
    firsts = range(0, len(pixels), size)
    spans = []
    for first in firsts:
        part = pixels[first : first + size]
        left = int(np.searchsorted(points, part[0], side="right")) - 1 - margin
        right = int(np.searchsorted(points, part[-1], side="left")) + 1 + margin
        spans.append((max(left, 0), min(right, len(points))))
    width = min(len(points), max(right - left for left, right in spans))
    starts = np.array([min(left, len(points) - width) for left, _ in spans], dtype=np.int64)
    weight = np.zeros((len(starts), width, size))
    for block, (first, start) in enumerate(zip(firsts, starts, strict=True)):
        part = pixels[first : first + size]
        spline = make_interp_spline(points[start : start + width], np.eye(width), k=3)
        weight[block, :, : len(part)] = spline(part).T
        # at a point the spline is that point's value, exactly: equal pixels then stay equal, whatever is summed
        at, which = np.nonzero(part[:, None] == points[None, start : start + width])
        weight[block, :, at] = np.eye(width)[which]
    return starts, weight
