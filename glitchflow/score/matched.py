"""Matched filtering in stationary noise: the PSD of a strain, and how much of a signal is left after cleaning.

Shapes: E event, N sample, K frequency = N // 2 + 1. PSDs are one-sided, in squared units of strain / Hz.
"""

import numpy as np
from scipy.signal import welch

from glitchflow.signal.types import Array


def noise_psd(strain: Array, sample_rate: float, segment: float = 4.0) -> Array:
    """Estimates PSDs (E, K) of series (E, N) by the median of Hann-windowed periodograms of `segment` s.

    By the median a glitch hardly counts. In squared units of the strain / Hz, one-sided.
    """
    samples = strain.shape[-1]
    length = min(samples, round(segment * sample_rate))
    known, density = welch(strain, sample_rate, nperseg=length, average="median")
    wanted = np.fft.rfftfreq(samples, 1 / sample_rate)
    return np.stack([np.interp(wanted, known, row) for row in density])


def inner(a: Array, b: Array, psd: Array, sample_rate: float, band: tuple[float, float]) -> Array:
    """Computes <a, b> = 4 Re int a(f) b*(f) / S(f) df over `band` (Hz), of series (E, N) and PSDs (E, K): (E,).

    The square root of <h, h> is the optimal matched-filter SNR of h: Allen et al., PRD 85, 122006 (2012), 2.2.
    """
    samples = a.shape[-1]
    frequency = np.fft.rfftfreq(samples, 1 / sample_rate)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    product = (np.fft.rfft(a) * np.fft.rfft(b).conj()).real[..., inside] / psd[..., inside]
    return (
        4 * product.sum(axis=-1) / (sample_rate * samples)
    )  # (1 / rate)^2 of the transforms, rate / N of df


def kept(signal: Array, left: Array, psd: Array, sample_rate: float, band: tuple[float, float]) -> Array:
    """Returns the share (E,) of a signal's matched-filter SNR that is in what is `left` of it, by its own template.

    It is not maximised over time or phase: where and as the signal was.
    """
    return inner(left, signal, psd, sample_rate, band) / inner(signal, signal, psd, sample_rate, band)
