"""Whitening by linear prediction: what a series' past tells of its next sample is taken away, causally and reversibly.

    ASD --inverse transform of its square--> autocorrelation --Levinson--> predictor a_1 ... a_P, error sigma
    white(n) = (x(n) - sum_k a_k x(n - k)) / sigma

The taps (1, -a) / sigma of a positive spectrum are of minimum phase (Makhoul, Proc. IEEE 63, 561, 1975), so the filter
looks at no later sample and the all-pole filter of the same taps undoes it exactly.

Shapes: N samples, A frequencies of an ASD (0 to Nyquist), P samples of the past.
Units: an ASD is in series units / sqrt(Hz), one-sided; a whitened series has unit variance.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve_toeplitz
from scipy.ndimage import median_filter
from scipy.signal import lfilter
from torch import Tensor

from glitchflow.signal.types import Array

# A white floor under the spectrum, as a share of the variance: of a spectrum that falls further, double precision
# leaves the recursion no digits. A strain's band lies 7 powers of ten below its variance, far above this.
FLOOR = 1e-14


@dataclass(frozen=True)
class PredictionFilter:
    """Holds a causal, invertible FIR filter per series. taps: (..., P + 1) float64, the present sample's first."""

    taps: Tensor
    sample_rate: float

    def __call__(self, series: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Filters (..., N), as `run`; the first P samples, whose past is not known, are zero."""
        white = self.run(series).to(dtype)
        white[..., : self.taps.shape[-1] - 1] = 0
        return white

    def run(self, series: Tensor) -> Tensor:
        """Filters (..., N), with zeros before the first sample."""
        # in the time domain: what a sample becomes depends on its past alone, to the last bit
        return self._each(series, lambda taps, x: np.convolve(taps, x)[: x.size])

    def undo(self, white: Tensor, frange: tuple[float, float] | None = None) -> Tensor:
        """Colours (..., N) back, with zeros before the first sample: the exact inverse of `run` in every band."""
        return self._each(white, lambda taps, x: lfilter([1.0], taps, x))

    def channel(self, place: int | slice) -> "PredictionFilter":
        """Returns the filters of one channel, or of a slice of them, of those of (event, channel).

        Filters of (event, 1) are every channel's.
        """
        return PredictionFilter(of_channel(self.taps, place), self.sample_rate)

    def to(self, device: torch.device) -> "PredictionFilter":
        """Returns the filters on a device."""
        return PredictionFilter(self.taps.to(device), self.sample_rate)

    def _each(self, series: Tensor, function: Callable[[Array, Array], Array]) -> Tensor:
        values = series.to(torch.float64).cpu().numpy()
        taps = self.taps.cpu().numpy()
        taps = np.broadcast_to(taps, (*values.shape[:-1], taps.shape[-1]))
        found = np.empty_like(values)
        for place in np.ndindex(values.shape[:-1]):
            found[place] = function(taps[place], values[place])
        return torch.from_numpy(found).to(series.device)


def of_channel(taps: Tensor, place: int | slice) -> Tensor:
    """Returns a channel, or a slice of them, of taps (event, channel, tap), of which one channel serves all."""
    if taps.shape[1] > 1:
        return taps[:, place]
    return taps if isinstance(place, slice) else taps[:, 0]


def design_prediction(
    asd: Tensor,
    duration: float,
    sample_rate: float,
    length: float = 0.25,
    highpass: float | None = None,
    spacing: float | None = None,
) -> PredictionFilter:
    """Designs filters that predict from `length` seconds of the past, from (..., A) amplitude spectral densities.

    spacing: Hz between the ASD's values, where its last one is not at Nyquist. Where an ASD vanishes anywhere, or is
    not a number, the whole filter is zero.
    Raises ValueError for a past longer than the ASD resolves, or than a series of `duration` s, and for `highpass`:
    what it took away could not be brought back.
    """
    order = int(length * sample_rate)
    spacing = spacing or sample_rate / 2 / (asd.shape[-1] - 1)
    if highpass:
        raise ValueError(f"highpass {highpass:g} Hz: a prediction filter has none")
    if not 0 < order < min(duration, 1 / (2 * spacing)) * sample_rate:
        raise ValueError(
            f"a prediction filter of {length:g} s is {order} samples: between 1 and half of the ASD's fftlength,"
            f" {1 / (2 * spacing):g} s, are needed, and no more than a series has"
        )
    values = asd.to(torch.float64).cpu().numpy()
    taps = np.zeros((*values.shape[:-1], order + 1))
    for place in np.ndindex(values.shape[:-1]):
        if (values[place] > 0).all():
            taps[place] = predictor(autocorrelation(values[place], sample_rate, spacing), order)
    return PredictionFilter(torch.from_numpy(taps).to(asd.device), sample_rate)


def without_lines(asd: Tensor, sample_rate: float, wide: float) -> Tensor:
    """Returns ASDs (..., A), 0 to Nyquist, as running medians over `wide` Hz, in float64: lines are narrower."""
    spacing = sample_rate / 2 / (asd.shape[-1] - 1)
    size = (*[1] * (asd.ndim - 1), 2 * round(wide / 2 / spacing) + 1)
    return torch.from_numpy(median_filter(asd.double().cpu().numpy(), size, mode="nearest"))


def autocorrelation(asd: Array, sample_rate: float, spacing: float) -> Array:
    """Returns the autocorrelation at lags 0, 1, ... of noise with a one-sided ASD (A,), in series units squared."""
    samples = round(sample_rate / spacing)
    power = asd**2 / 2
    power[0] *= 2  # zero and Nyquist have no mirror image
    if samples % 2 == 0:
        power[-1] *= 2
    return np.fft.irfft(power, samples) * sample_rate


def predictor(correlation: Array, order: int) -> Array:
    """Returns the taps (order + 1,) that whiten noise of this autocorrelation to unit variance (Yule-Walker)."""
    known = correlation[: order + 1] / correlation[0]
    known[0] += FLOOR
    past = solve_toeplitz(known[:-1], known[1:])
    error = (known[0] - past @ known[1:]) * correlation[0]
    return np.concatenate([[1.0], -past]) / np.sqrt(error)
