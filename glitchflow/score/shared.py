"""Stationary noise that witnesses and strain share: how much lower the strain's noise is without what was removed.

Shapes: B block of quiet time, N sample of one, K frequency = N // 2 + 1.
"""

from collections.abc import Mapping

import numpy as np
from scipy.signal.windows import hann

from glitchflow.score.statistics import UNDEFINED, Bootstrap, Interval, bootstrap_ratio
from glitchflow.signal.types import Array


def shared(
    before: Array, after: Array, rate: float, bands: Mapping[str, tuple[float, float]], interval: Bootstrap
) -> dict[str, Interval]:
    """Divides the strain's ASD after subtraction by that before, in each band.

    It is 1 where nothing was there to remove, below 1 where shared noise went, above 1 where a method added some. The
    ASD of a band is the root of the power in it, a Hann-windowed periodogram averaged over blocks (Welch 1967, IEEE
    Trans. Audio Electroacoust. 15, 70), of whitened series, so that each frequency of a band counts alike. Neighbouring
    samples are not independent, so whole blocks are drawn for the interval (Carlstein 1986, Ann. Statist. 14, 1171):
    take blocks of a few seconds or more. A line is a band of its own, a few 1 / (length of a block) wide. NaN where no
    frequency lies inside a band.

    Shapes: before and after (B, N) at `rate` Hz, the same quiet times; bands: (low, high) in Hz by name, both ends
    inside. Raises ValueError where shapes differ.
    """
    if before.shape != after.shape or before.ndim != 2:
        raise ValueError(
            f"quiet blocks are (block, sample), alike before and after: {before.shape}, {after.shape}"
        )
    samples = before.shape[1]
    frequency, window = np.fft.rfftfreq(samples, 1 / rate), hann(samples, sym=False)
    power_after, power_before = (np.square(np.abs(np.fft.rfft(s * window))) for s in (after, before))

    def ratio(low: float, high: float) -> Interval:
        inside = (frequency >= low) & (frequency <= high)
        if not inside.any():
            return UNDEFINED
        left, there = power_after[:, inside].sum(axis=1), power_before[:, inside].sum(axis=1)
        return bootstrap_ratio(left, there, *interval).root()

    return {name: ratio(*band) for name, band in bands.items()}
