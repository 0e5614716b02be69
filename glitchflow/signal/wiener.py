"""The classical subtraction: a multichannel Wiener filter of the witnesses' series, which uses their phase.

    witnesses and strain of the train split --cross spectra--> one FIR filter per witness --> predicted strain

Shapes: E event, W witness, N sample, L samples of a segment, K = L // 2 + 1 frequencies.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import get_window

from glitchflow.signal.types import Array, Spectrum

RIDGE = 1e-6  # of each witness's own power: no effect on a real coupling, finite where witnesses are alike


@dataclass(frozen=True)
class Wiener:
    """Holds the least-squares FIR filters, one per witness."""

    taps: Array  # (W, L), zero delay in the middle: a witness may lag the strain

    def predict(self, witnesses: Array) -> Array:
        """Predicts the part of the strain (E, N), in its units, that the witnesses (E, W, N) explain."""
        length, samples = self.taps.shape[1], witnesses.shape[2]
        size = samples + length
        centred = witnesses - witnesses.mean(axis=2, keepdims=True)
        spectrum = (np.fft.rfft(centred, size) * np.fft.rfft(self.taps, size)).sum(axis=1)
        return np.fft.irfft(spectrum, size)[:, length // 2 : length // 2 + samples]


@dataclass(frozen=True)
class CrossSpectra:
    """Holds what filters are fitted from: witnesses' cross spectra with each other and the strain, over segments."""

    power: Spectrum  # (K, W, W)
    cross: Spectrum  # (K, W)
    length: int  # L

    def of(self, places: Sequence[int]) -> "CrossSpectra":
        """Returns those of some of the witnesses."""
        some = np.asarray(places)
        return CrossSpectra(self.power[:, some[:, None], some], self.cross[:, some], self.length)


def cross_spectra(blocks: Iterable[tuple[Array, Array]], length: int) -> CrossSpectra:
    """Adds up the cross spectra of Hann-windowed segments that overlap by half (Welch).

    blocks: (strain (E, N), witnesses (E, W, N)), the stretches that are to be cleaned, some events at a time;
    length: samples of a segment. Raises ValueError for stretches shorter than a segment, or no event.
    """
    window = get_window("hann", length)
    power, cross = None, None
    for strain, witnesses in blocks:
        if strain.shape[-1] < length:
            raise ValueError(f"a stretch of {strain.shape[-1]} samples is shorter than a segment of {length}")
        s, w = _segments(strain, window), _segments(witnesses, window)  # (E, S, K), (E, W, S, K)
        more = np.einsum("easf,ebsf->fab", w.conj(), w), np.einsum("easf,esf->fa", w.conj(), s)
        power, cross = more if power is None else (power + more[0], cross + more[1])
    if power is None or cross is None:
        raise ValueError("a Wiener filter needs at least one event")
    return CrossSpectra(power, cross, length)


def fit_wiener(spectra: CrossSpectra, sample_rate: float, band: tuple[float, float]) -> Wiener:
    """Fits the filters that predict the strain best, in the mean square, from the witnesses together.

    band: Hz, outside which the filters, as long as a segment, are zero. At each frequency H = <w* w^T>^-1 <w* s>,
    averaged over segments: Allen, Hua & Ottewill, arXiv:gr-qc/9909083; Davis et al., CQG 36, 055011 (2019).
    """
    power, cross, length = spectra.power, spectra.cross, spectra.length
    own = np.einsum("faa->fa", power).real  # scaled by it, witnesses of any unit are equals
    unit = np.sqrt(np.maximum(own, np.finfo(float).tiny))
    scaled = power / (unit[:, :, None] * unit[:, None, :]) + RIDGE * np.eye(power.shape[1])
    transfer = np.linalg.solve(scaled, (cross / unit)[:, :, None])[:, :, 0] / unit
    frequency = np.fft.rfftfreq(length, 1 / sample_rate)
    transfer[(frequency < band[0]) | (frequency > band[1])] = 0
    taps = np.fft.fftshift(np.fft.irfft(transfer.T, length), axes=1)
    return Wiener(taps * np.sqrt(get_window("hann", length)))  # what wraps around at the ends is no filter


def _segments(series: Array, window: Array) -> Spectrum:
    """Spectra (..., S, K) of the windowed segments of (..., N), each without its mean."""
    pieces = np.lib.stride_tricks.sliding_window_view(series, window.size, axis=-1)[
        ..., :: window.size // 2, :
    ]
    return np.fft.rfft((pieces - pieces.mean(axis=-1, keepdims=True)) * window)
