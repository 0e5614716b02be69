"""A search for compact binaries in continuous strain, second by second, by whitened spectra of a block of it.

Shapes: N sample of a block, K frequency = N // 2 + 1, B template of a bank, n = N / rate second of a block.
"""

import numpy as np
from scipy import fft

from glitchflow.score.matched import BANDS, inner
from glitchflow.signal.types import Array, Spectrum


def whitened_series(spectra: Spectrum) -> Array:
    """Returns series (..., N) of whitened spectra (..., K), whose squares add up to `matched.inner`."""
    samples = 2 * (spectra.shape[-1] - 1)
    return fft.irfft(spectra, samples) * np.sqrt(samples / 2)


def loudest(strain: Spectrum, bank: Spectrum, sample_rate: int) -> Array:
    """Returns for each second (n,) the loudest re-weighted SNR of any template, whitened spectra both: (K,), (B, K).

    Templates end at sample 0. The re-weighted SNR is the matched-filter SNR where chi^2 per degree of freedom is at
    most 1, else less by [(1 + (chi^2)^3) / 2]^(1/6): Usman et al., CQG 33, 215004 (2016), equation 8. Without it every
    glitch would count as a signal of its SNR.
    """
    samples = 2 * (strain.shape[-1] - 1)
    found = np.zeros(samples, np.float32)
    for template in bank:
        np.maximum(found, _reweighted(strain, template, samples), out=found)
    return found.reshape(-1, sample_rate).max(axis=1).astype(np.float64)


def _reweighted(strain: Spectrum, template: Spectrum, samples: int) -> Array:
    """The re-weighted SNR (N,) by one template (K,), with Allen's chi^2 over `BANDS` bands of equal SNR^2.

    In place, and without the moduli of complex numbers: what remains are its transforms, one a band.
    """
    power = (template * template.conj()).real
    reached = np.cumsum(power) / power.sum()
    product = (strain * template.conj() * (samples / np.sqrt(inner(template, template)))).astype(np.complex64)
    edges = np.unique(np.searchsorted(reached, np.arange(BANDS) / BANDS, side="right"))
    whole = fft.ifft(product, samples)
    squares, expected = (
        np.zeros(2 * samples, np.float32),
        whole.view(np.float32),
    )  # real parts beside imaginary ones
    for first, stop in zip(edges, [*edges[1:], len(product)]):
        part = np.zeros(samples, np.complex64)
        part[first:stop] = product[first:stop]
        share = np.float32(power[first:stop].sum() / power.sum())
        off = fft.ifft(part, overwrite_x=True).view(np.float32)
        off -= share * expected
        off *= off
        off /= share
        squares += off
    reduced = squares.reshape(-1, 2).sum(axis=1) / max(1, 2 * len(edges) - 2)
    return np.abs(whole) / np.maximum(1.0, (1 + reduced**3) / 2) ** (1 / 6)
