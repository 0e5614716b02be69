"""How disturbances reach the channels: a gain, a delay and a filter for each channel, drawn once a dataset.

Couplings of a detector's surroundings are measured sensor by sensor, as ratios over frequency of strain to sensor while
something is shaken; a sensor stands at what is shaken and hears it far above its noise where the strain hardly does
(Nguyen et al., CQG 38, 145001, 2021).

A disturbance (a family, or what shakes a subsystem) has a path of its own into the strain. A witness hears each family
through a response of its own, or, with `coupling.per: sensor`, all of them through one: a sensor has one transfer
function, and what differs between disturbances is their way to the strain.

Shapes: S channel that hears the disturbance (the strain first), K frequency = N // 2 + 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.signal import firwin2

from glitchflow.config import Detector, Series
from glitchflow.signal.simulation.drift import Drift, draw_wander
from glitchflow.signal.types import Array, Flags, Indices, Spectrum

Random = Callable[[str], np.random.Generator]  # the random numbers of a name


@dataclass(frozen=True)
class Coupling:
    """Holds the linear responses of those channels that hear one disturbance, on the white scale of each."""

    places: Indices  # (S,) of the channels, the strain's 0 first
    response: Spectrum  # (S, K)
    drift: Drift  # of all S

    def at(self, gps: float) -> Spectrum:
        """Returns the responses (S, K) at a GPS time. The strain's own does not drift: its SNR is drawn."""
        factor = self.drift.at(gps)
        factor[0] = 1.0
        return self.response * factor[:, None]

    def take(self, rows: Flags) -> "Coupling":
        """Returns the coupling of some of the channels (S,)."""
        return Coupling(self.places[rows], self.response[rows], self.drift.take(rows))


def draw_drift(settings: Detector, names: Sequence[str], seed: int) -> Drift:
    """Draws the drift of the gains of these names, and when they are away."""
    drift = settings.drift
    wander = draw_wander(seed, [f"drift {name}" for name in names], drift.memory)
    presence = draw_wander(seed, [f"presence {name}" for name in names], drift.memory) if drift.away else None
    return Drift(drift.coupling, wander, drift.away, presence)


def draw_deaf(settings: Detector, random: Random) -> list[str]:
    """Draws the witnesses that couple to nothing: a share of those that no family names, but never all of them."""
    candidates = [w for w in settings.witnesses if w not in settings.named]
    count = max(0, min(round(settings.coupling.deaf * len(candidates)), len(candidates) - 1))
    return sorted(random("deaf").permutation(candidates)[:count].tolist())


def draw_coupling(
    settings: Detector, source: str, hearing: list[str], series: Series, seed: int, random: Random
) -> tuple[Coupling, dict[str, Any]]:
    """Draws the coupling of a disturbance, for series of that rate and length, and the same as names and numbers.

    A response is gain x FIR x delay on the channel's white scale: a gain of 1 shows a disturbance as far above
    the witness's noise as above the strain's. A (family, channel), or a sensor, draws its own random numbers, so that
    what other families and channels there are does not change them.
    """
    coupling, rate, samples = settings.coupling, series.sample_rate, series.samples
    frequency = np.arange(samples // 2 + 1) * (rate / samples)
    alone = "sensor" if coupling.per == "sensor" else source
    names = [f"{source} {settings.strain}", *(f"{alone} {witness}" for witness in hearing)]
    response = np.empty((len(names), frequency.size), complex)
    table: dict[str, Any] = {}
    for i, (name, channel) in enumerate(zip(names, [settings.strain, *hearing])):
        rng = random(name)
        fir = _random_fir(rng, coupling.taps, coupling.ripple, rate)
        gain = float(np.exp(rng.uniform(*np.log(coupling.gain))))
        delay = float(rng.uniform(-coupling.delay, coupling.delay))
        if i == 0:
            gain, delay = 1.0, 0.0
        shift = delay - (fir.size - 1) / 2 / rate  # the FIR is symmetric: take its own delay out
        response[i] = gain * np.fft.rfft(fir, n=samples)
        response[i] *= np.exp(-2j * np.pi * frequency * shift)
        table[channel] = {"gain": gain, "delay": delay, "fir": fir.tolist()}
    places = np.array([0, *(1 + settings.names.index(witness) for witness in hearing)])
    return Coupling(places, response, draw_drift(settings, names, seed)), table


def _random_fir(rng: np.random.Generator, taps: int, ripple: float, rate: float) -> Array:
    """A symmetric FIR filter whose magnitude wanders by `ripple` dB (standard deviation) over frequency."""
    knots = np.linspace(0, rate / 2, 9)
    return firwin2(taps | 1, knots, 10 ** (ripple * rng.standard_normal(knots.size) / 20), fs=rate)
