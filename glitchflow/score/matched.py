"""Matched filtering in stationary noise: what a search finds of a signal, and how far off it is.

Everything after `whitened` works on whitened spectra, whose plain products add up to the inner product of the noise.

Shapes: N sample, K frequency = N // 2 + 1, B template of a bank; "..." any axes before. PSDs are one-sided, in squared
units of strain / Hz.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft
from scipy.signal import welch

from glitchflow.signal.types import Array, Spectrum

BANDS = 16  # of Allen's chi^2, each with the same share of the template's SNR^2: what he uses in his examples


SEGMENT = 4.0  # s of a periodogram, where nobody says


def noise_psd(
    strain: Array, sample_rate: float, segment: float = SEGMENT, samples: int | None = None
) -> Array:
    """Estimates PSDs (..., K) of series (..., N) by the median of Hann-windowed periodograms of `segment` s.

    By the median a glitch hardly counts. In squared units of the strain / Hz, one-sided, at the frequencies of a series
    of so many `samples`; None: of these.
    """
    length = min(strain.shape[-1], round(segment * sample_rate))
    known, density = welch(strain, sample_rate, nperseg=length, average="median")
    wanted = np.fft.rfftfreq(samples or strain.shape[-1], 1 / sample_rate)
    return np.apply_along_axis(lambda row: np.interp(wanted, known, row), -1, density)


def whitened(series: Array, psd: Array, sample_rate: float, band: tuple[float, float]) -> Spectrum:
    """Returns the spectra (..., K) of series (..., N), whitened by PSDs (..., K), zero outside of `band` (Hz).

    They are scaled so that `inner` of two of them is 4 Re int a(f) b*(f) / S(f) df.
    """
    samples = series.shape[-1]
    frequency = np.fft.rfftfreq(samples, 1 / sample_rate)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    # (1 / rate)^2 of the transforms, rate / N of df
    weight = np.sqrt(4 / (sample_rate * samples) / np.where(inside, psd, np.inf))
    return fft.rfft(series) * weight


def inner(a: Spectrum, b: Spectrum) -> Array:
    """Computes <a, b> (...) of whitened spectra (..., K).

    The square root of <h, h> is the optimal matched-filter SNR of h: Allen et al., PRD 85, 122006 (2012), 2.2.
    """
    return (a.real * b.real + a.imag * b.imag).sum(axis=-1)


def kept(signal: Spectrum, left: Spectrum) -> Array:
    """Returns the share (...) of a signal's matched-filter SNR that is in what is `left` of it, by its own template.

    It is not maximised over time or phase: where and as the signal was. Shapes: whitened spectra (..., K).
    """
    return inner(left, signal) / inner(signal, signal)


@dataclass(frozen=True)
class Match:
    """Says where a search finds a signal: the loudest template, and its moments; all but SNR NaN for a signal of 0."""

    template: int  # place in the bank
    time: float  # s after the template's own, between -N / 2 and N / 2 samples
    phase: float  # rad ahead of the template's own, between -pi and pi
    snr: float


def match(left: Spectrum, bank: Spectrum, sample_rate: float) -> list[Match]:
    """Finds the loudest of a bank's templates (B, K) in what is `left` of a signal by each method (M, K), all whitened
    spectra: a match each.

    Maximised over phase by the modulus of the complex SNR z(t) = 4 int a(f) h*(f) / S(f) exp(2 pi i f t) df / |h| over
    f > 0, and over time by an FFT: Allen et al., PRD 85, 122006 (2012); between samples by a parabola through |z|.
    """
    unit = bank.conj() / np.sqrt(inner(bank, bank))[:, None]
    rough = unit.astype(np.complex64)  # in half the time, to find the peak
    return [_loudest(one, unit, one.astype(np.complex64) * rough, sample_rate) for one in left]


def _loudest(left: Spectrum, unit: Spectrum, rough: Spectrum, sample_rate: float) -> Match:
    """The match of a signal (K,) with conjugate templates of norm 1; rough: their products (B, K) with it."""
    samples = 2 * (left.shape[-1] - 1)
    z = fft.ifft(rough, samples)
    loud = z.real**2 + z.imag**2
    template, peak = (int(place) for place in np.unravel_index(loud.argmax(), loud.shape))
    if not loud[template, peak]:
        return Match(template, np.nan, np.nan, 0.0)
    product = left * unit[template]
    late = (peak + samples // 2) % samples - samples // 2
    steps = _turn(samples, sample_rate, (late + np.arange(-1, 2)[:, None]) / sample_rate)
    before, top, after = np.abs(steps @ product)
    bend = before - 2 * top + after
    time = (late + ((before - after) / (2 * bend) if bend else 0.0)) / sample_rate
    found = _turn(samples, sample_rate, time) @ product
    return Match(template, float(time), float(np.angle(found)), float(np.abs(found)))


def chi_squared(left: Spectrum, template: Spectrum, sample_rate: float, time: float) -> float:
    """Returns chi^2 / (2 p - 2) of what is `left` of a signal against a template moved by `time` s: (K,) both.

    chi^2 = sum_j |z_j - q_j z|^2 / q_j over p = `BANDS` bands, of which each has a share q_j (nearly 1 / p) of the
    template's SNR^2 and a part z_j of the complex SNR z: Allen, PRD 71, 062001 (2005), with unequal bands. 0 where
    what is left is the template, however loud; Gaussian noise adds 1 on average.
    """
    samples = 2 * (left.shape[-1] - 1)
    power = (template * template.conj()).real
    reached = np.cumsum(power)
    first = np.searchsorted(reached, reached[-1] * np.arange(BANDS) / BANDS, side="right")
    first = np.unique(first)  # a line narrower than a band leaves fewer bands
    share = np.add.reduceat(power, first) / reached[-1]
    product = left * template.conj() * _turn(samples, sample_rate, time) / np.sqrt(reached[-1])
    parts = np.add.reduceat(product, first)
    distance = np.square(np.abs(parts - share * parts.sum())) / share
    return float(distance.sum() / max(1, 2 * len(first) - 2))


def _turn(samples: int, sample_rate: float, time: Any) -> Spectrum:
    """What moves a spectrum (K,) of so many samples to `time` s, a number or (..., 1).

    The exponential of a sum is a product: of two short rows of exponentials, which are slow.
    """
    bins = samples // 2 + 1
    width = math.isqrt(bins) + 1
    step = 2j * np.pi * np.asarray(time) * sample_rate / samples
    coarse, fine = np.exp(step * width * np.arange(width)), np.exp(step * np.arange(width))
    return (coarse[..., :, None] * fine[..., None, :]).reshape(*coarse.shape[:-1], -1)[..., :bins]
