"""Whitening of a batch of series, with the numbers of gwpy's `TimeSeries.whiten`, and its frequency response.

A power spectrum is estimated from each series (median of overlapping periodograms), its inverse square
root is cut to a FIR filter of `fduration` seconds (inverse spectrum truncation, arXiv:gr-qc/0509116 appendix B),
and the series is filtered with it. The filter is symmetric, hence without phase: its response is real, and dividing
by it undoes it in a band. All in float64: a strain of 1e-21 has a power spectrum that underflows float32.

Shapes: E events, C channels, N samples, L samples of a periodogram, A frequencies of an ASD (0 to Nyquist).
Units: an ASD is in series units / sqrt(Hz), one-sided; a whitened series has unit variance.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.signal import get_window
from torch import Tensor

from glitchflow.signal.batch_invariant import (
    irfft,
    mean,
    median_of_few,
    rfft,
    squared_modulus,
    take,
    untraced,
)
from glitchflow.signal.prediction import PredictionFilter, design_prediction, of_channel
from glitchflow.signal.types import Array

TINY = 1e-200  # keeps a vanishing ASD from dividing by zero; far below any physical one


@dataclass(frozen=True)
class WhiteningFilter:
    """Holds a zero-phase FIR filter per series.

    side: (..., H) float64: the centre tap, then twice each tap beside it. The full filter is 2 H - 1 taps long and
    symmetric, so its response is the real part of the transform of this side.
    """

    side: Tensor
    sample_rate: float

    def response(self, samples: int) -> Tensor:
        """Returns the real gain (..., samples // 2 + 1) at the rfft frequencies of `samples`, in 1/(series units)."""
        return rfft(self.side, samples).real

    def __call__(self, series: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Filters (..., N), after removing the mean and tapering half a filter at each end, as gwpy does.

        dtype: of the result and of the last inverse transform; what comes before is float64.
        """
        samples, taps = series.shape[-1], self.side.shape[-1]
        window = _hann(2 * taps).to(self.side)
        length = _fast_length(samples + taps - 1)
        padded = self.side.new_zeros(*series.shape[:-1], length)
        padded[..., :samples] = series - mean(series)
        padded[..., :taps] *= window[:taps]
        padded[..., samples - taps : samples] *= window[taps:]
        spectrum = rfft(padded)
        spectrum *= self.response(length)
        if dtype == torch.float32:
            spectrum = spectrum.to(torch.complex64)
        return irfft(spectrum, length)[..., :samples]

    def channel(self, place: int | slice) -> "WhiteningFilter":
        """Returns the filters of one channel, or of a slice of them, of those of (event, channel).

        Filters of (event, 1) are every channel's.
        """
        return WhiteningFilter(of_channel(self.side, place), self.sample_rate)

    def to(self, device: torch.device) -> "WhiteningFilter":
        """Returns the filters on a device."""
        return WhiteningFilter(self.side.to(device), self.sample_rate)

    def undo(self, series: Tensor, frange: tuple[float, float]) -> Tensor:
        """Colours (..., N) back: divides by the response within `frange` (Hz); outside it leaves zero.

        It is exact away from the ends; within half a filter of them the whitening itself lost information.
        """
        samples = series.shape[-1]
        gain = self.response(samples)
        frequency = torch.arange(gain.shape[-1], device=gain.device) * (self.sample_rate / samples)
        inside = (frequency >= frange[0]) & (frequency <= frange[1]) & (gain != 0)
        inverse = torch.where(inside, 1 / gain, torch.zeros_like(gain))
        return irfft(rfft(series.to(gain.dtype)) * inverse, samples)


def default_fftlength(sample_rate: float) -> int:
    """Returns the seconds of a periodogram that gwpy chooses for a rate: 2 s, more below 1024 Hz."""
    return int(max(2, math.ceil(2048 / sample_rate)))


def estimate_asd(series: Tensor, sample_rate: float, fftlength: float | None = None) -> Tensor:
    """Estimates the amplitude spectral density (..., A) of (..., N), as gwpy's `TimeSeries.asd` by its method "median".

    It is the median of Hann-windowed periodograms of `fftlength` seconds (default: gwpy's for the rate) that overlap by
    half, over its bias for exponential noise. Raises ValueError for a series shorter than `fftlength`.
    """
    fftlength = default_fftlength(sample_rate) if fftlength is None else fftlength
    seconds, length = series.shape[-1] / sample_rate, _periodogram(sample_rate, fftlength)
    if length > series.shape[-1]:
        raise ValueError(f"a series of {seconds:g} s is too short for an ASD with fftlength {fftlength:g} s")
    pieces = series.to(torch.float64).unfold(
        -1, length, length - int(fftlength / 2 * sample_rate)
    )  # (..., S, L)
    window = _hann(length).to(pieces)
    spectra = rfft(pieces * window)
    # of a constant, a Hann window leaves the first two frequencies only: remove each piece's mean there
    spectra[..., :2] -= mean(pieces) * rfft(window)[:2].real
    density = _average(squared_modulus(spectra)) * (2 / (sample_rate * window.square().sum()))
    density[..., 0] /= 2  # one-sided; zero and Nyquist have no mirror image
    if length % 2 == 0:
        density[..., -1] /= 2
    return density.sqrt_()


def design_filter(
    asd: Tensor,
    duration: float,
    sample_rate: float,
    fduration: float = 2.0,
    highpass: float | None = None,
    spacing: float | None = None,
) -> WhiteningFilter:
    """Designs whitening filters of `fduration` seconds from (..., A) amplitude spectral densities on 0 ... Nyquist.

    spacing: Hz between the ASD's values, where its last one is not at Nyquist (periodograms of odd length).

    As gwpy: the ASD is interpolated linearly to 1/duration, inverted, five samples tapered at each end (`highpass`,
    Hz: all below it zeroed first), and its impulse response cut with a Hann window. Where an ASD vanishes anywhere
    the whole filter is zero (gwpy divides by zero).
    Raises ValueError for an odd number of taps, or more than the series has samples.
    """
    taps = int(fduration * sample_rate)
    if taps % 2 or taps < 2:
        raise ValueError(
            f"fduration {fduration} s is {taps} samples at {sample_rate} Hz: an even number is needed"
        )
    spacing = spacing or sample_rate / 2 / (asd.shape[-1] - 1)
    size = int(np.rint((asd.shape[-1] - 1) * (spacing / (1 / duration)) + 1))
    if 2 * (size - 1) < taps:
        raise ValueError(f"fduration {fduration} s is longer than the series, {duration} s")
    vanishing = ~(asd > 0).all(-1, keepdim=True)  # also NaN: a channel of which nothing is known
    transfer = _interpolate(asd.clamp(min=TINY), size, 1 / (duration * spacing)).reciprocal_()
    if bool(vanishing.any()):
        transfer = torch.where(vanishing, 0.0, transfer)
    corner = int(highpass * duration) if highpass else 0
    edge = torch.from_numpy(np.sin(np.pi * np.arange(5) / 9) ** 2).to(transfer)  # gwpy: a Tukey window of ten
    transfer[..., :corner] = 0
    transfer[..., corner : corner + 5] *= edge
    transfer[..., -5:] *= edge.flip(-1)
    impulse = irfft(transfer.to(torch.complex128), 2 * (size - 1))[..., : taps // 2]
    window = _hann(taps)[taps // 2 :].to(impulse) * math.sqrt(2 / sample_rate)
    impulse *= window
    impulse[..., 1:] *= 2
    return WhiteningFilter(impulse, sample_rate)


Filter = WhiteningFilter | PredictionFilter
DESIGNS: dict[str, Callable[..., Filter]] = {"zero_phase": design_filter, "prediction": design_prediction}


def whiten(
    series: Tensor,
    sample_rate: float,
    asd: Tensor | None = None,
    fftlength: float | None = None,
    fduration: float = 2.0,
    highpass: float | None = None,
    dtype: torch.dtype = torch.float64,
    kind: str = "zero_phase",
    limits: Tensor | None = None,
) -> tuple[Tensor, Filter]:
    """Whitens (..., N) by its own spectrum, or by `asd` (..., A); returns the filter too, for what must go through it.

    kind: of filter, one of `DESIGNS`. limits: (...) Hz, half of the rate that each series was recorded at: what is
    above is rounding, or nothing, and is not brought up to unit variance.
    Raises ValueError as `estimate_asd` and the kind's design.
    """
    spacing = None  # of an ASD that is given: it ends at Nyquist
    if asd is None:
        asd = estimate_asd(series, sample_rate, fftlength)
        spacing = sample_rate / _periodogram(sample_rate, fftlength)
    if limits is not None:
        asd = _level_above(asd, spacing or sample_rate / 2 / (asd.shape[-1] - 1), limits)
    duration = series.shape[-1] * (1 / sample_rate)  # as gwpy rounds it
    filters: Filter = DESIGNS[kind](asd, duration, sample_rate, fduration, highpass, spacing)
    return filters(series, dtype), filters


def _level_above(asd: Tensor, spacing: float, limits: Tensor) -> Tensor:
    """(..., A) at multiples of `spacing` Hz, above the limits (...) what it is in the middle below them."""
    frequency = torch.arange(asd.shape[-1], dtype=asd.dtype, device=asd.device) * spacing
    above = frequency > limits.to(asd.device)[..., None]
    middle = asd.masked_fill(above, torch.nan).nanmedian(-1, keepdim=True).values
    return torch.where(above, middle, asd)


def asd_frequencies(sample_rate: float, fftlength: float | None) -> Array:
    """Returns the frequencies (A,) in Hz of the ASD that `estimate_asd` makes with this fftlength (s)."""
    samples = _periodogram(sample_rate, fftlength)
    return np.arange(samples // 2 + 1, dtype=np.float64) * (sample_rate / samples)


def _periodogram(sample_rate: float, fftlength: float | None) -> int:
    """Returns the samples of a periodogram."""
    return int((default_fftlength(sample_rate) if fftlength is None else fftlength) * sample_rate)


def _average(power: Tensor) -> Tensor:
    """The median over S of (..., S, A) periodograms, divided by its bias for exponential noise."""
    count, middle = power.shape[-2], median_of_few(power)
    even_terms = 2.0 * np.arange(1, (count - 1) // 2 + 1)
    return middle / (1 + float(np.sum(1 / (even_terms + 1) - 1 / even_terms)))


def _interpolate(values: Tensor, size: int, step: float) -> Tensor:
    """Interpolates (..., A) linearly at indices 0, step, 2 step ... (size), constant beyond the last."""
    below, share = (x.to(values.device) for x in _positions(values.shape[-1], size, step))
    return torch.lerp(take(values, below), take(values, below + 1), share)


@untraced
@lru_cache(maxsize=8)
def _positions(count: int, size: int, step: float) -> tuple[Tensor, Tensor]:
    position = np.clip(np.arange(size) * step, 0, count - 1)
    below = np.minimum(position.astype(np.int64), count - 2)
    return torch.from_numpy(below), torch.from_numpy(position - below)


@untraced
@lru_cache(maxsize=8)
def _hann(size: int) -> Tensor:
    return torch.from_numpy(get_window("hann", size))


@untraced
def _fast_length(size: int) -> int:
    return next_fast_len(size, real=True)
