"""Filters of finite length, by short Fourier transforms: overlap-save, Oppenheim and Schafer, "Discrete-Time Signal
Processing", section 8.7.3.

    series --pieces four filters long, each a filter's reach before its part--> spectra x filters --> end to end

By transforms of a whole series a filter's spectrum is as long as the series, however short the filter.

Shapes: N sample, P tap, S piece, n sample of a piece.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def pieces(series: Tensor, taps: int, ahead: int = 0) -> Tensor:
    """Cut (..., N) into overlapping pieces (..., S, n) for filters of so many taps, of which `ahead` look ahead, with
    zeros around. `joined` puts them end to end."""
    known = taps - 1
    size = 4 * 2 ** (max(1, known) - 1).bit_length()
    count = -(-series.shape[-1] // (size - known))
    around = (known - ahead, count * (size - known) - series.shape[-1] + ahead)
    return F.pad(series, around).unfold(-1, size, size - known)


def joined(spectra: Tensor, size: int, taps: int, samples: int) -> Tensor:
    """Bring spectra (..., S, F) of filtered pieces of `size` samples back to a series (..., N) of `samples`."""
    return torch.fft.irfft(spectra, size)[..., taps - 1 :].flatten(-2)[..., :samples]


def filtered(series: Tensor, taps: Tensor) -> Tensor:
    """Filter (..., N) by taps (..., P), that of no delay first, with zeros before the start."""
    count = taps.shape[-1]
    cut = pieces(series, count)
    size = cut.shape[-1]
    spectra = torch.fft.rfft(cut) * torch.fft.rfft(taps, size)[..., None, :]
    return joined(spectra, size, count, series.shape[-1])
