"""Stationary noise that witnesses and strain share: how much lower the strain's noise is without what was removed.

Shapes: B block of quiet time, N sample of one, K frequency = N // 2 + 1.
"""

from collections.abc import Mapping

import numpy as np
from scipy.signal.windows import hann

from glitchflow.score.statistics import UNDEFINED, Bootstrap, Interval, bootstrap_ratio, bootstrap_sums
from glitchflow.signal.types import Array

ISCO = 1570.0  # Hz, where the inspiral of two neutron stars of 1.4 solar masses ends


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
    frequency = np.fft.rfftfreq(before.shape[1], 1 / rate)
    power_after, power_before = _power(after), _power(before)

    def ratio(low: float, high: float) -> Interval:
        inside = (frequency >= low) & (frequency <= high)
        if not inside.any():
            return UNDEFINED
        left, there = power_after[:, inside].sum(axis=1), power_before[:, inside].sum(axis=1)
        return bootstrap_ratio(left, there, *interval).root()

    return {name: ratio(*band) for name, band in bands.items()}


def inspiral_range(
    before: Array, after: Array, rate: float, band: tuple[float, float], asd: Array, interval: Bootstrap
) -> Interval:
    """Divides the distance at which a binary of neutron stars is seen after subtraction by that before.

    Range^2 goes with the sum of f^(-7/3) / S(f) (Finn & Chernoff 1993, PRD 47, 2198; `gwpy.astro.sensemon_range` is
    the same in Mpc). S before is `asd` squared; after it is that times the periodograms' ratio inside the band, and
    the same above, where nothing is removed. The sum goes from the band's lower end, > 0, to 1570 Hz or half the rate.
    Intervals as in `shared`.

    Shapes: before and after (B, N) at `rate` Hz, whitened; asd (K,) of the strain at their frequencies. Raises
    ValueError where shapes differ.
    """
    frequency = np.fft.rfftfreq(before.shape[-1], 1 / rate)
    if before.shape != after.shape or asd.shape != frequency.shape:
        raise ValueError(
            f"series {before.shape} and {after.shape}, and an ASD {asd.shape}, do not fit each other"
        )
    if not len(before):
        return UNDEFINED
    heard = (frequency >= band[0]) & (frequency <= min(ISCO, rate / 2))
    weight = frequency[heard] ** (-7 / 3) / np.square(asd[heard])
    inside = frequency[heard] <= band[1]
    left, there = (_power(series)[:, heard][:, inside] for series in (after, before))

    def gained(*sums: Array) -> Array:
        ratio = np.stack(sums[len(sums) // 2 :]) / np.stack(sums[: len(sums) // 2])
        found = np.tensordot(weight[inside], ratio, axes=1) + weight[~inside].sum()
        return found / weight.sum()

    return bootstrap_sums(gained, [*left.T, *there.T], *interval).root()


def _power(series: Array) -> Array:
    """Periodograms (B, K) behind a Hann window."""
    return np.square(np.abs(np.fft.rfft(series * hann(series.shape[-1], sym=False))))
