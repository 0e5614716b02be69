"""The series that a Q-transform takes: their axes and lengths, and that a part of the strain is whole.

Shapes: E events, C channels, N samples.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from glitchflow.signal.whiten import Filter


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


def filters_of_all(
    whitening: Callable[..., tuple[Tensor, Filter]], samples: int, asd: Tensor | None, limits: Tensor | None
) -> Filter | None:
    """Returns the filters of ASDs (C, A) that every event of so many samples goes through, (1, C); of one ASD (A,) and
    no limits (C,), (1, 1) for all channels; None without an ASD, after whitening was tried.

    Raises ValueError for wrong options.
    """
    if asd is None:
        whitening(torch.zeros(samples))
        return None
    each = torch.atleast_2d(asd)[None].expand(1, -1 if limits is None else len(limits), -1)
    _, filters = whitening(torch.zeros(*each.shape[:-1], samples), asd=each, limits=limits)
    return filters


def power_of_two(series: Tensor) -> Tensor:
    """Returns the power of two (...) next above the largest modulus of each of (..., N) series."""
    low, high = series.amin(-1), series.amax(-1)  # aminmax is ten times slower
    return torch.exp2(torch.frexp(torch.maximum(-low, high)).exponent.double())
