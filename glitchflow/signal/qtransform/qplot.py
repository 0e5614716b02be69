"""What a Q-transform returns, and the grids it is drawn on.

Shapes: E events, C channels (0 is the strain), B series, F frequencies, T times, R rows of a group, n tiles of a row.
Units: energies are dimensionless (1 is a row's median), times s from the series' start, Hz.
"""

from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from glitchflow.signal.qtransform.grid import Crop
from glitchflow.signal.whiten import Filter


@dataclass(frozen=True)
class Peak:
    """Holds the loudest tile of each series' plane, (E, C) or a number a series: normalised energy, s from the start,
    Hz."""

    energy: Tensor
    time: Tensor
    frequency: Tensor


@dataclass(frozen=True)
class QPlot:
    """Holds a batch of Q-plots.

    energy: (E, C, F, T), unclamped: splines undershoot below zero. q: (E, C) of the plane shown.
    frequencies, times: (F,) Hz and (T,) s from the series' start; (E, F) and (E, T) where a crop moves with the event.
    valid: (E, C), False where the series was dead and its energies are zeros (`invalid="mask"`).
    companion: (E, F, T), energies of a part of the strain in the strain's own units, where one was given.
    """

    energy: Tensor
    q: Tensor
    frequencies: Tensor
    times: Tensor
    peak: Peak
    valid: Tensor
    companion: Tensor | None = None

    def cpu(self) -> "QPlot":
        """Returns the batch in the CPU's memory."""
        return QPlot(
            energy=self.energy.cpu(),
            q=self.q.cpu(),
            frequencies=self.frequencies.cpu(),
            times=self.times.cpu(),
            peak=Peak(self.peak.energy.cpu(), self.peak.time.cpu(), self.peak.frequency.cpu()),
            valid=self.valid.cpu(),
            companion=None if self.companion is None else self.companion.cpu(),
        )


@dataclass(frozen=True)
class Coefficients:
    """Holds complex tiles of one plane of (E, C) series, and what `QTransform.inverse` needs besides.

    values: (E, C, R, n) for each group of rows, in the units of the series (whitened, where the transform whitens, by
    `filters`); |value|^2 is the tile's energy before normalisation. Tile j of n is at j / n of the duration;
    frequencies: (R,) Hz for each of values.
    """

    values: tuple[Tensor, ...]
    frequencies: tuple[Tensor, ...]
    q: float
    filters: Filter | None


@dataclass(frozen=True)
class Drawn:
    """Holds images (B, F, T) of B series, the units (B, rows) they were divided by, and their loudest tiles."""

    image: Tensor
    units: Tensor
    peak: Peak


@dataclass(frozen=True)
class Lead:
    """Holds what the strain decides for the other channels: the plane (E, 1), and the crop."""

    plane: Tensor
    crop: Crop | None


def clear(limits: Tensor, frequencies: Tensor, energy: Tensor, companion: Tensor | None) -> None:
    """Sets to 0, in place, the rows of energies (E, C, F, T) above each channel's limit (C,), and of a companion
    (E, F, T) those above the first channel's; frequencies are (F,) or (E, F), all in Hz."""
    empty = frequencies[..., None, :] > limits[:, None].to(frequencies.device)
    energy.masked_fill_(empty[..., None], 0)
    if companion is not None:
        companion.masked_fill_(empty[..., 0, :, None], 0)


Result = TypeVar("Result", QPlot, Peak)


def concatenate(parts: list[Result], fixed: tuple[str, ...] = (), axis: int = 0) -> Result:
    """Joins pieces of a batch along the event, or another axis, but for the `fixed` fields."""
    if len(parts) == 1:
        return parts[0]
    joined = {}
    for field in fields(parts[0]):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], Peak):
            joined[field.name] = concatenate(values, axis=axis)
        elif values[0] is None or field.name in fixed:
            joined[field.name] = values[0]
        else:
            joined[field.name] = torch.cat(values, axis)
    return type(parts[0])(**joined)
