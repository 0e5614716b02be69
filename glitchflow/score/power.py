"""What is left of recorded strain, of which nobody knows what the witnesses put there: its power in a band.

Doing nothing leaves 1, and a method that takes everything 0: these say how well noise is removed only of methods that
predict it from the witnesses alone, and beside `snr_kept`. The unit is the strain's own, so that loud times count for
what they are.

Shapes: E event (a window of recorded time), N sample.
"""

import numpy as np
from scipy.signal.windows import tukey

from glitchflow.score.made import Columns, Made, Measured, Who
from glitchflow.score.statistics import (
    UNDEFINED,
    Bootstrap,
    Interval,
    bootstrap_quantile,
    bootstrap_ratio,
    proportion,
    quotient,
)
from glitchflow.signal.types import Array

# by how much a window's power grows that counts as made worse: where nothing is there to remove, half of the windows
# grow a little by chance; this is what a band's noise varies by from one to the next (1 / sqrt(B T): 2 s, 200 Hz)
WORSE = 0.05
ENDS = 0.25  # share of a series over which its ends fade, before its spectrum is cut to the band


def in_band(series: Array, rate: float, band: tuple[float, float]) -> Array:
    """Returns series (..., N) at `rate` Hz without what lies outside of a band (Hz, both ends inside).

    By the discrete Fourier transform, whole series at once, with ends that fade as a cosine: the louder noise below and
    above the band does not leak into its middle.
    """
    samples = series.shape[-1]
    frequency = np.fft.rfftfreq(samples, 1 / rate)
    centred = series - series.mean(axis=-1, keepdims=True)
    spectrum = np.fft.rfft(centred * tukey(samples, ENDS))
    spectrum[..., (frequency < band[0]) | (frequency > band[1])] = 0
    return np.fft.irfft(spectrum, samples)


def powers(made: Made) -> Columns:
    """Returns `power`, of the strain in the band over the window, and `power_left` of it (E,): of recorded data."""
    return {} if made.power is None else dict(zip(("power", "power_left"), made.power.T))


def power_left(measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Divides what is left of the power by what was recorded, sums over all windows: the loud ones decide."""
    return _ratio(measured[method], who, interval)


def power_left_median(measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Returns the median window's share of the power that is left."""
    mine = measured[method]
    return bootstrap_quantile(quotient(mine["power_left"], mine["power"])[who.family], 0.5, *interval)


def power_left_gated(measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Divides as `power_left` does, where an oracle keeps the recorded strain in each window whose power grew: what
    the method would leave if it knew when to stay silent."""
    mine = measured[method]
    return _ratio({**mine, "power_left": np.minimum(mine["power_left"], mine["power"])}, who, interval)


def made_worse(measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Returns the share of the windows whose power in the band grew by more than `WORSE`, with Wilson's interval."""
    mine = measured[method]
    worse = (mine["power_left"] > (1 + WORSE) * mine["power"])[who.family]
    if not len(worse):
        return UNDEFINED
    found = proportion(worse.sum(), len(worse))
    return Interval(float(found.value), float(found.low), float(found.high))


def _ratio(columns: Columns, who: Who, interval: Bootstrap) -> Interval:
    return bootstrap_ratio(columns["power_left"][who.family], columns["power"][who.family], *interval)
