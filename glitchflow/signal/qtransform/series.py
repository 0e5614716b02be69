"""The series that a Q-transform takes: their axes and lengths, and that a part of the strain is whole.

Shapes: E events, C channels, N samples.
"""

import numpy as np
import torch
from torch import Tensor


def check_series(
    series: Tensor | np.ndarray, axes: tuple[str, ...], samples: int, sample_rate: float
) -> Tensor:
    """Returns the series as a tensor with these axes, the last of so many samples at a rate in Hz.

    Raises ValueError for another number of axes, another length, or nothing at all.
    """
    series = torch.as_tensor(series)
    if series.ndim != len(axes) or series.shape[-1] != samples or 0 in series.shape:
        raise ValueError(
            f"series of shape {tuple(series.shape)}: ({', '.join(axes)}) with {samples} samples "
            f"({samples / sample_rate:g} s at {sample_rate:g} Hz) is needed"
        )
    return series


def check_given(series: Tensor, part: Tensor | None, asd: Tensor | None, limits: Tensor | None) -> None:
    """Raises ValueError where a part (E, N) of the strain of (E, C, N) series has another number of events, NaN or
    infinite samples, and for ASDs (C, A) or limits (C,) of another number of channels."""
    for name, each in (("ASDs", asd if asd is None or asd.ndim > 1 else None), ("limits", limits)):
        if each is not None and len(each) != series.shape[1]:
            raise ValueError(f"{name} of {len(each)} channels, for series of {series.shape[1]}")
    if part is None:
        return
    if len(part) != len(series):
        raise ValueError(f"companion has {len(part)} events, series {len(series)}")
    finite = torch.isfinite(part).all(1)
    if not bool(finite.all()):
        event = int((~finite).nonzero()[0])
        raise ValueError(f"event {event}: the companion has NaN or infinite samples")


def asd_of_each(asd: Tensor | None, series: Tensor, first: int = 0) -> Tensor | None:
    """Returns the ASD (E, c, A) of each of (E, c, N) series from (A,) or (C, A), whose `first` channel is the series'
    first; none stays none."""
    if asd is None:
        return None
    mine = asd if asd.ndim == 1 else asd[first : first + series.shape[1]]
    return mine.to(series.device).expand(*series.shape[:2], asd.shape[-1])


def power_of_two(series: Tensor) -> Tensor:
    """Returns the power of two (...) next above the largest modulus of each of (..., N) series."""
    low, high = series.amin(-1), series.amax(-1)  # aminmax is ten times slower
    return torch.exp2(torch.frexp(torch.maximum(-low, high)).exponent.double())
