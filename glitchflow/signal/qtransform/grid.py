"""The pixels of a Q-plot: their frequencies and times, the splines onto them, and crops of them.

Shapes: E events, B series, R rows of a group, n tiles of a row; F frequencies, T times, f x t pixels of a crop.
Units: Hz, and s from the series' start.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from glitchflow.signal.qtransform.spline import SplineMap
from glitchflow.signal.qtransform.tiling import Tiling


@dataclass(frozen=True)
class Crop:
    """Places the window of each event: first pixel (E, 2), its rows (E, f) and columns (E, t) of the whole image."""

    first: Tensor
    rows: Tensor
    columns: Tensor

    def cut(self, image: Tensor) -> Tensor:
        """Cuts the windows out of images, (E, F, T) -> (E, f, t)."""
        event = torch.arange(len(image), device=image.device)
        return image[event[:, None, None], self.rows[:, :, None], self.columns[:, None]]


class Grid(nn.Module):
    """Holds frequencies (F,) and times (T,) of an image, and the operators from every plane's tiles to it.

    crop: (f, t) pixels of the windows that are cut from it, if any. Raises ValueError where it is larger.
    """

    times: Tensor
    frequencies: Tensor

    def __init__(
        self,
        tiling: Tiling,
        duration: float,
        frequencies: np.ndarray,
        times: np.ndarray,
        crop: tuple[int, int] | None,
        dtype: torch.dtype,
    ):
        super().__init__()
        self.shape = (len(frequencies), len(times))
        self.crop = crop
        if crop is not None and not (0 < crop[0] <= self.shape[0] and 0 < crop[1] <= self.shape[1]):
            raise ValueError(f"crop {crop} is larger than the image, {self.shape}, or empty")
        self.in_frequency = nn.ModuleList(
            SplineMap(plane.frequencies, frequencies, True, dtype) for plane in tiling.planes
        )
        counts = sorted({group.tiles for plane in tiling.planes for group in plane.groups})
        self.in_time = nn.ModuleDict(
            {str(n): SplineMap(np.arange(n) * (duration / n), times, False, dtype) for n in counts}
        )
        self.register_buffer("times", torch.from_numpy(times), persistent=False)
        self.register_buffer("frequencies", torch.from_numpy(frequencies), persistent=False)

    def forward(self, index: int, tiles: list[Tensor], units: Tensor, first: Tensor | None = None) -> Tensor:
        """Draws energies (B, R, n) of each group of a plane, in units (B, rows), as images (B, F, T).

        With the first pixel (B, 2) of each series' crop it draws only that, (B, f, t).
        """
        height, width = self.crop or (0, 0)
        row, column = (None, None) if first is None else first.unbind(1)
        lines = [
            cast(SplineMap, self.in_time[str(energy.shape[-1])]).time(energy, column, width)
            for energy in tiles
        ]
        image = torch.cat(lines, 1) * units[..., None]
        return cast(SplineMap, self.in_frequency[index]).frequency(image, row, height)

    def around_peak(self, image: Tensor) -> Crop:
        """Returns the crop around the loudest pixel of each of (E, F, T), moved inside at the edges."""
        height, width = cast(tuple[int, int], self.crop)
        column = image.amax(1).argmax(1)
        row = image[torch.arange(len(image), device=image.device), :, column].argmax(1)
        row = (row - height // 2).clamp(0, image.shape[1] - height)
        column = (column - width // 2).clamp(0, image.shape[2] - width)
        rows = row[:, None] + torch.arange(height, device=image.device)
        columns = column[:, None] + torch.arange(width, device=image.device)
        return Crop(torch.stack([row, column], 1), rows, columns)


def grid_times(
    duration: float, tres: float | None, outseg: tuple[float, float] | None, shape: tuple[int, int] | None
) -> np.ndarray:
    """Returns the times (T,) of the output in s, as gwpy's `QGram.interpolate` lays them out.

    Raises ValueError for an `outseg` that does not lie within the series.
    """
    start, stop = outseg or (0.0, duration)
    if not 0 <= start < stop <= duration:
        raise ValueError(f"outseg {(start, stop)} must ascend within the series, 0 to {duration:g} s")
    if shape is not None:
        return start + np.arange(shape[1]) * ((stop - start) / shape[1])
    return np.arange(start, stop, (stop - start) / 1000 if tres is None else tres)


def grid_frequencies(
    frange: tuple[float, float], fres: float | None, logf: bool, shape: tuple[int, int] | None
) -> np.ndarray:
    """Returns the frequencies (F,) of the output in Hz, as gwpy's `QGram.interpolate` lays them out.

    Linear ones have the rounding of float32, as gwpy's have.
    """
    if logf:
        return np.geomspace(*frange, shape[0] if shape else int(fres or 500))
    step = (frange[1] - frange[0]) / shape[0] if shape else (fres or 0.5)
    found = np.arange(*frange, step, dtype=np.float32)
    return found[: shape[0] if shape else None].astype(np.float64)
