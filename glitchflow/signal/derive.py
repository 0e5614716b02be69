"""Derived channels: functions of recorded witnesses that join them as further channels.

A scatterer's slow motion is invisible in its own 10-200 Hz Q-plot; the sine of its optical phase is not.

Shapes: C channel, N sample.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from glitchflow.config import Derived
from glitchflow.signal.types import Array, Flags
from glitchflow.signal.whiten import whiten


def append_derived(
    series: Array,
    names: Sequence[str],
    derived: Sequence[Derived],
    sample_rate: float,
    rng: np.random.Generator,
) -> Array:
    """Appends each derived channel to the channels of one event, (C, N): (C + len(derived), N).

    `names` are those of the C channels; a derived channel may use one that was derived before it. `rng` makes the
    white noise of `Derived.floor`, which stands for what the sensor cannot resolve: without it the whitening of
    a channel that is silent between its arches would amplify rounding errors.
    """
    if not derived:
        return series
    whole = np.empty((len(series) + len(derived), series.shape[1]))
    whole[: len(series)] = series
    derive(whole, names, derived, sample_rate, rng)
    return whole


def derive(
    whole: Array,
    names: Sequence[str],
    derived: Sequence[Derived],
    sample_rate: float,
    rng: np.random.Generator,
) -> None:
    """Does what `append_derived` does in place: whole (C + len(derived), N) holds the channels, and room for more."""
    known = list(names)
    for row, item in zip(whole[len(names) :], derived):
        sources = [whole[known.index(channel)] for channel in item.channels]
        value = _FUNCTIONS[item.function](item, sources, sample_rate)
        row[:] = value + item.floor * rng.standard_normal(value.size)
        known.append(item.name)


def band_limits(names: Sequence[str], rates: Mapping[str, float], derived: Sequence[Derived]) -> Array | None:
    """Returns the frequency in Hz up to which each of the named channels has anything, (C,); None without any limit.

    rates: Hz that channels were recorded at. A product reaches as far above its first channel's limit as the second's
    low-pass; a scattered phase reaches everywhere, however slow the motion.
    """
    if not rates:
        return None
    known = {name: rate / 2 for name, rate in rates.items()}
    for item in derived:
        if item.function == "product" and item.channels[0] in known:
            known[item.name] = known[item.channels[0]] + item.lowpass
    return np.array([known.get(name, np.inf) for name in names])


def spread_invalid(valid: Flags, names: Sequence[str], derived: Sequence[Derived]) -> None:
    """Marks in place, in (..., C) flags of the named channels, those that are derived from one without data."""
    place = {name: i for i, name in enumerate(names)}
    for item in derived:
        if item.name in place:
            sources = [place[name] for name in item.channels if name in place]
            valid[..., place[item.name]] &= valid[..., sources].all(-1)


def _scatter(item: Derived, sources: list[Array], sample_rate: float) -> Array:
    """Stray light's phase, sin(4 pi n x / wavelength): Accadia et al., CQG 27, 194011 (2010), equation 4.

    x is low-passed because the sine turns the sensor's high-frequency noise into phase noise over the whole band.
    """
    phase = 4 * np.pi * item.bounces / item.wavelength * _lowpass(sources[0], item.lowpass, sample_rate)
    return item.gain * (np.sin(phase) if item.phase == "sin" else np.cos(phase))


def _product(item: Derived, sources: list[Array], sample_rate: float) -> Array:
    """The product of two witnesses, the first whitened, the second slow and in its own unit: bilinear coupling.

    Whitened (unit variance) because a product would spread the first one's lines and low frequencies over the
    image; the second is low-passed as x is for `scatter`. Zero where either is dead. Mukund et al., PRD 101, 102006
    (2020).
    """
    first, second = sources
    if not np.ptp(first):
        return np.zeros_like(first)
    white = whiten(torch.from_numpy(np.ascontiguousarray(first))[None], sample_rate)[0][0].numpy()
    return item.gain * white * _lowpass(second, item.lowpass, sample_rate)


def _lowpass(x: Array, corner: float, sample_rate: float) -> Array:
    """x without its mean, through the magnitude of a 4th-order Butterworth filter, zero phase."""
    frequency = np.fft.rfftfreq(x.size, 1 / sample_rate)
    return np.fft.irfft(np.fft.rfft(x - x.mean()) / np.sqrt(1 + (frequency / corner) ** 8), n=x.size)


_FUNCTIONS = {"scatter": _scatter, "product": _product}
