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


def check_part(part: Tensor | None, events: int) -> None:
    """Raises ValueError where a part of the strain, (E, N), has another number of events, NaN or infinite samples."""
    if part is None:
        return
    if len(part) != events:
        raise ValueError(f"companion has {len(part)} events, series {events}")
    finite = torch.isfinite(part).all(1)
    if not bool(finite.all()):
        event = int((~finite).nonzero()[0])
        raise ValueError(f"event {event}: the companion has NaN or infinite samples")


def asd_of_each(asd: Tensor | None, series: Tensor) -> Tensor | None:
    """Returns the ASD (E, C, A) of each of (E, C, N) series from (A,) or (C, A); none stays none.

    Raises ValueError for other channels than the series'.
    """
    if asd is None:
        return None
    if asd.ndim > 1 and len(asd) != series.shape[1]:
        raise ValueError(f"ASDs of {len(asd)} channels, for series of {series.shape[1]}")
    return asd.to(series.device).expand(*series.shape[:2], asd.shape[-1])
