"""What a Q-transform returns, and the grids it is drawn on.

Shapes: E events, C channels (0 is the strain), F frequencies, T times, R rows of a group, n tiles of a row.
Units: energies are dimensionless (norm "median": 1 is a row's median), times s from the series' start, Hz.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from glitchflow.signal.whiten import WhiteningFilter


@dataclass(frozen=True)
class Peak:
    """The loudest tile of each series' plane, each (E, C): normalised energy, s from the start, Hz."""

    energy: Tensor
    time: Tensor
    frequency: Tensor


@dataclass(frozen=True)
class QPlot:
    """A batch of Q-plots.

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


@dataclass(frozen=True)
class Coefficients:
    """Complex tiles of one plane of (E, C) series, and what `QTransform.inverse` needs besides.

    values: (E, C, R, n) for each group of rows, or one such tensor where every row has the same n. In the units of
    the series (whitened, where the transform whitens, by `filters`); |value|^2 is the tile's energy before
    normalisation. Tile j of n is at j / n of the duration; frequencies: (R,) Hz for each of values.
    """

    values: tuple[Tensor, ...]
    frequencies: tuple[Tensor, ...]
    q: float
    filters: WhiteningFilter | None


Result = TypeVar("Result", QPlot, Peak)


def concatenate(parts: list[Result], fixed: tuple[str, ...] = ()) -> Result:
    """Join pieces of a batch along the event, but for the `fixed` fields."""
    if len(parts) == 1:
        return parts[0]
    joined = {}
    for field in fields(parts[0]):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], Peak):
            joined[field.name] = concatenate(values)
        elif values[0] is None or field.name in fixed:
            joined[field.name] = values[0]
        else:
            joined[field.name] = torch.cat(values)
    return type(parts[0])(**joined)


def grid_times(
    duration: float, tres: float | None, outseg: tuple[float, float] | None, shape: tuple[int, int] | None
) -> np.ndarray:
    """Times (T,) of the output, as gwpy's `QGram.interpolate` lays them out."""
    start, stop = outseg or (0.0, duration)
    if not 0 <= start < stop <= duration:
        raise ValueError(f"outseg {(start, stop)} must ascend within the series, 0 to {duration:g} s")
    if shape is not None:
        return start + np.arange(shape[1]) * ((stop - start) / shape[1])
    return np.arange(start, stop, (stop - start) / 1000 if tres is None else tres)


def grid_frequencies(
    frange: tuple[float, float], fres: float | None, logf: bool, shape: tuple[int, int] | None, double: bool
) -> np.ndarray:
    """Frequencies (F,) of the output, as gwpy's `QGram.interpolate` lays them out: linear ones in float32."""
    if logf:
        return np.geomspace(*frange, shape[0] if shape else int(fres or 500))
    step = (frange[1] - frange[0]) / shape[0] if shape else (fres or 0.5)
    found = np.arange(*frange, step, dtype=np.float64 if double else np.float32)
    return found[: shape[0] if shape else None].astype(np.float64)
