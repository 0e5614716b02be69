"""From generated energies to what is subtracted from the strain: a gain mask on its complex Q coefficients.

    generated energy G --spectral subtraction--> mask 1 - gain --linearly onto the tiles--> (1 - gain) c
    --exact inverse--> whitened series --divided by the whitening response within frange--> series in units of strain

Shapes: E event, F frequency and T time of a Q-plot, N sample, R rows of a group of tiles, n tiles of a row.
Units: times in s from the series' start unless they are GPS, frequencies in Hz, energies dimensionless.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glitchflow.score.metrics import NOISE_ENERGY
from glitchflow.signal.qtransform import QTransform

Array = NDArray[np.float64]
Axis = NDArray[np.floating[Any]]
EDGE = 1e-6  # s: what a window still weighs at its very edge


def removal_mask(generated: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """1 - sqrt(b / max(G, b)) where G >= threshold, else 0: the share of the amplitude that is noise.

    The amplitude's part of the spectral subtraction R = T b / max(G, b) (see `metrics.subtract`); below the
    threshold the strain stays as it is, so that quiet stretches do not lose anything to a network's guesses.
    """
    energy = np.maximum(generated, NOISE_ENERGY)
    return np.where(energy >= threshold, 1 - np.sqrt(NOISE_ENERGY / energy), 0).astype(np.float32)


@dataclass(frozen=True)
class Shown:
    """What a Q-plot shows of its series: frequencies (F,) and times (T,), the latter evenly spaced."""

    frequency: Axis
    time: Axis

    @property
    def start(self) -> float:
        return float(self.time[0])

    @property
    def stop(self) -> float:
        """The end of the last column."""
        return float(2 * self.time[-1] - self.time[-2])

    def taper(self, time: Array, settle: float) -> Array:
        """Weights at `time` (N,): 1 inside the window, down to 0 over `settle` s beyond each end, then exactly 0."""
        outside = np.maximum(np.maximum(self.start - time, time - self.stop), 0) / settle
        return np.where(outside < 1, np.cos(np.pi / 2 * np.minimum(outside, 1)) ** 2, 0.0)


@torch.no_grad()
def noise_in_strain(
    engine: QTransform, strain: Array, mask: NDArray[np.float32], shown: Shown, q: float | None = None
) -> Array:
    """The part of the strain (E, N) that masks (E, F, T) remove, in units of strain: (E, N) float64.

    It is spread a little beyond the window that is shown, by the tiles and by the whitening that is undone; taper it.
    `q` chooses the plane where the engine has several. For given data it is linear in the mask.
    """
    coefficients = engine.coefficients(strain[:, None], q=q)
    removed = [
        value * _on_tiles(torch.from_numpy(mask), shown, rows, value.shape[-1], engine.duration)[:, None]
        for value, rows in zip(coefficients.values, coefficients.frequencies, strict=True)
    ]
    white = engine.inverse(replace(coefficients, values=tuple(removed)))
    if coefficients.filters is not None:
        white = coefficients.filters.undo(white, engine.frange)
    return white[:, 0].numpy()


def _on_tiles(mask: Tensor, shown: Shown, rows: Tensor, tiles: int, duration: float) -> Tensor:
    """Masks (E, F, T) at rows (R,) Hz of `tiles` tiles each, (E, R, n): linear in log frequency and time."""
    first, last = (int(np.ceil(edge / duration * tiles - 1e-9)) for edge in (shown.start, shown.stop))
    inside = np.arange(first, last) * (duration / tiles)
    lines = _weights(np.log(shown.frequency), np.log(rows.numpy())) @ mask
    found = mask.new_zeros(len(mask), len(rows), tiles)
    found[..., first:last] = lines @ _weights(shown.time, inside).T
    return found


def _weights(known: Axis, wanted: Axis) -> Tensor:
    """(wanted, known): linear interpolation between ascending points, constant beyond both ends."""
    place = np.interp(wanted, known, np.arange(len(known)))
    below = np.minimum(place.astype(int), len(known) - 2)
    weights = np.zeros((len(wanted), len(known)), np.float32)
    weights[np.arange(len(wanted)), below] = 1 - (place - below)
    weights[np.arange(len(wanted)), below + 1] = place - below
    return torch.from_numpy(weights)


def overlap_share(start: Array, stop: Array, index: int, time: Array) -> NDArray[np.float32]:
    """How much of what is subtracted at GPS times (T,) window `index` of many answers for, between 0 and 1.

    start, stop: (E,) of all windows, start ascending. A window weighs as much as the time is away from its nearest
    edge; shares add up to 1 wherever a window is, so that overlapping windows fade into one another.
    """
    low, high = np.searchsorted(start, [start[index] - (stop - start).max(), stop[index]])
    near = np.minimum(time - start[low:high, None], stop[low:high, None] - time)
    weight = np.where(near >= -EDGE, np.maximum(near, EDGE), 0)
    own = weight[index - low]
    return (own / np.where(own > 0, weight.sum(axis=0), 1)).astype(np.float32)


def upsample(series: Array, duration: float, sample_rate: float, delay: float = 0.0) -> Array:
    """A periodic series (N,) of `duration` s at another rate, sampled from `delay` s after its start on.

    Exact for what is below both rates' Nyquist frequencies. Raises ValueError where the duration is not a whole
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
