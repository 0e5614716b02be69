"""How disturbances reach the channels: a gain, a delay and a filter for each (family, channel), drawn once a dataset.

Shapes: C channel (the strain first), K frequency = N // 2 + 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.signal import firwin2

from glitchflow.config import Detector
from glitchflow.signal.types import Array, Spectrum

Random = Callable[[str], np.random.Generator]  # the random numbers of a name


@dataclass(frozen=True)
class Drift:
    """Changes a detector's couplings by the hour: gain(t) = gain exp(size sin(2 pi t / period + phase))."""

    size: float
    period: float  # s
    phase: Array  # (...): rad

    def at(self, gps: float) -> Array:
        """Returns the factor on the gain at a GPS time, in the shape of `phase`."""
        return np.exp(self.size * np.sin(2 * np.pi * gps / self.period + self.phase))


@dataclass(frozen=True)
class Coupling:
    """Holds the channels' linear responses to one family's disturbance, on the white scale of each."""

    response: Spectrum  # (C, K)
    drift: Drift

    def at(self, gps: float) -> Spectrum:
        """Returns the responses (C, K) at a GPS time. The strain's own does not drift: its SNR is drawn."""
        factor = self.drift.at(gps)
        factor[0] = 1.0
        return self.response * factor[:, None]


def draw_drift(settings: Detector, name: str, channels: list[str], random: Random) -> Drift:
    """Draws each channel's drift, with a phase of its own."""
    coupling = settings.coupling
    phase = [random(f"drift {name} {channel}").uniform(0, 2 * np.pi) for channel in channels]
    return Drift(coupling.drift, coupling.drift_period, np.array(phase))


def draw_deaf(settings: Detector, random: Random) -> list[str]:
    """Draws the witnesses that couple to nothing: a share of those that no family names, but never all of them."""
    candidates = [w for w in settings.witnesses if w not in settings.named]
    count = max(0, min(round(settings.coupling.deaf * len(candidates)), len(candidates) - 1))
    return sorted(random("deaf").permutation(candidates)[:count].tolist())


def draw_coupling(
    settings: Detector, family: str, deaf: list[str], rate: float, samples: int, random: Random
) -> tuple[Coupling, dict[str, Any]]:
    """Draws a family's coupling for series of that rate (Hz) and length, and the same as names and numbers.

    A response is gain x FIR x delay on the channel's white scale: a gain of 1 shows a disturbance as far above
    the witness's noise as above the strain's. A (family, channel) draws its own random numbers, so that what
    other families and channels there are does not change them.
    """
    coupling, frequency = settings.coupling, np.arange(samples // 2 + 1) * (rate / samples)
    channels = [settings.strain, *settings.witnesses]
    drift = draw_drift(settings, family, channels, random)
    response = np.zeros((len(channels), frequency.size), complex)
    table: dict[str, Any] = {}
    for i, channel in enumerate(channels):
        rng = random(f"{family} {channel}")
        fir = _random_fir(rng, coupling.taps, coupling.ripple, rate)
        gain = float(np.exp(rng.uniform(*np.log(coupling.gain))))
        delay = float(rng.uniform(-coupling.delay, coupling.delay))
        if i == 0:
            gain, delay = 1.0, 0.0
        elif channel in deaf or channel not in settings.seeing(family):
            continue
        shift = delay - (fir.size - 1) / 2 / rate  # the FIR is symmetric: take its own delay out
        response[i] = gain * np.fft.rfft(fir, n=samples)
        response[i] *= np.exp(-2j * np.pi * frequency * shift)
        table[channel] = {"gain": gain, "delay": delay, "fir": fir.tolist()}
        if i and drift.size:
            table[channel] |= {"drift_phase": float(drift.phase[i])}
    return Coupling(response, drift), table


def _random_fir(rng: np.random.Generator, taps: int, ripple: float, rate: float) -> Array:
    """A symmetric FIR filter whose magnitude wanders by `ripple` dB (standard deviation) over frequency."""
    knots = np.linspace(0, rate / 2, 9)
    return firwin2(taps | 1, knots, 10 ** (ripple * rng.standard_normal(knots.size) / 20), fs=rate)
