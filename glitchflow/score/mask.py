"""The gain mask of spectral subtraction, and how what it removes is shared among windows and brought to other rates.

Shapes: E event, F frequency and T time of a Q-plot, N sample. Units: times in s, energies dimensionless.
"""

import numpy as np
from numpy.typing import NDArray

from glitchflow.score.metrics import NOISE_ENERGY
from glitchflow.signal.types import Array

FAINT = 1e-9  # for rows without any noise, above the strain's own Nyquist frequency: 0 / 0 otherwise
EDGE = 1e-6  # s: what a window still weighs at its very edge, so that a sample only it covers is not 0 / 0


def removal_mask(
    generated: NDArray[np.float32], threshold: float, noise: float | Array = NOISE_ENERGY
) -> NDArray[np.float32]:
    """Returns the share of the amplitude that is noise: 1 - sqrt(r / max(G, r)) where G >= threshold, else 0.

    It is the amplitude's part of the spectral subtraction R = T r / max(G, r) (see `metrics.subtract`); below the
    threshold the strain stays as it is, so that quiet stretches do not lose anything to a network's guesses.
    noise: r, the mean energy of noise alone, one number or (F, 1). Where it is not known it is that of Gaussian noise
    over its median. In the middle of a series it is more, since the medians that energies are divided by hold the
    tapered ends too; a mask that took the difference for a glitch would take away noise all the time.
    """
    least = np.maximum(noise, FAINT).astype(np.float32)
    energy = np.maximum(generated, least)
    return np.where(energy >= threshold, 1 - np.sqrt(least / energy), 0).astype(np.float32)


def overlap_share(
    start: Array, stop: Array, index: int, time: Array, longest: float | None = None
) -> NDArray[np.float32]:
    """Tells how much of what is subtracted at GPS times (T,) window `index` of many answers for, between 0 and 1.

    start, stop: (E,) of all windows, start ascending; longest: s of the longest of them, where it is known, for to find
    it takes longer than all else. A window weighs as much as the time is away from its nearest
    edge; shares add up to 1 wherever a window is, so that overlapping windows fade into one another.
    """
    longest = float((stop - start).max()) if longest is None else longest
    low, high = np.searchsorted(start, [start[index] - longest, stop[index]])
    near = np.minimum(time - start[low:high, None], stop[low:high, None] - time)
    weight = np.where(near >= -EDGE, np.maximum(near, EDGE), 0)
    own = weight[index - low]
    return (own / np.where(own > 0, weight.sum(axis=0), 1)).astype(np.float32)


def upsample(series: Array, duration: float, sample_rate: float, delay: float = 0.0) -> Array:
    """Resamples a periodic series (N,) of `duration` s at another rate (Hz), from `delay` s after its start on.

    It is exact for what is below both rates' Nyquist frequencies. Raises ValueError where the duration is not a whole
    number of samples.
    """
    samples = round(duration * sample_rate)
    if abs(samples - duration * sample_rate) > 1e-6:
        raise ValueError(f"{duration:g} s is not a whole number of samples at {sample_rate:g} Hz")
    if samples == len(series) and abs(delay) * sample_rate < 1e-3:
        return series
    spectrum = np.fft.rfft(series)
    spectrum *= np.exp(2j * np.pi * np.arange(len(spectrum)) * (delay / duration))
    return np.fft.irfft(spectrum, samples) * (samples / len(series))
