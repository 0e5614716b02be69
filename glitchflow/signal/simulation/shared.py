"""Stationary noise that witnesses and strain share: what classical noise subtraction exists for.

What shakes a subsystem all the time (ground, sound, magnetic fields, the mains) reaches its telling witnesses and the
strain, each through its own transfer function: Davis et al., CQG 36, 055011 (2019), for broadband noise; Driggers et
al., PRD 99, 042001 (2019), for lines. With unit white noise d, strain = n + G B d and witness = m + H B d on the white
scales of the two, so that their coherence is |G B|^2 |H B|^2 / ((1 + |G B|^2) (1 + |H B|^2)).

Shapes: S channel that hears it (the strain first), K frequency = N // 2 + 1, N sample.
"""

from dataclasses import dataclass

import numpy as np

from glitchflow.config import Detector
from glitchflow.errors import InputError
from glitchflow.signal.simulation.couplings import Coupling
from glitchflow.signal.simulation.noise import Spectra, lorentzians
from glitchflow.signal.types import Array, Indices, Spectrum


@dataclass(frozen=True)
class Shared:
    """Holds how one subsystem's stationary noise reaches the channels, on the white scale of each."""

    name: str  # of the subsystem
    coupling: Coupling
    shape: Array  # (K,): what multiplies the spectrum of unit white noise

    @property
    def places(self) -> Indices:
        """Returns the channels (S,) that hear it, the strain's 0 first."""
        return self.coupling.places

    def at(self, gps: float) -> Spectrum:
        """Returns what multiplies the noise's white spectrum in each channel (S, K). The strain's path drifts, too."""
        return self.coupling.response * self.shape * self.coupling.drift.at(gps)[:, None]


def draw_shared(settings: Detector, subsystems: dict[str, Coupling], frequency: Array) -> list[Shared]:
    """Return the noise of those subsystems that share any, at the frequencies (K,) in Hz.

    Raises `InputError` for a band without any of them.
    """
    found = []
    for one in settings.subsystems:
        if not one.shared:
            continue
        coupling, hearing = subsystems[one.name], settings.telling(one)
        rows = np.isin(coupling.places, [0, *(1 + settings.names.index(name) for name in hearing)])
        low, high = one.band
        with np.errstate(divide="ignore"):  # of 4th order at both ends: short enough for a filter of a second
            inside = 1 / np.sqrt((1 + (low / frequency) ** 8) * (1 + (frequency / high) ** 8))
        peaks = settings.noise.line_height * lorentzians(frequency, one.lines, settings.noise.line_width)
        band = (frequency >= low) & (frequency <= high)
        if not band.any():
            raise InputError(
                f"simulate.detector.subsystems.{one.name}.band = [{low:g}, {high:g}]: holds no frequency of a series"
            )
        level = one.shared / np.sqrt(np.mean(np.square(np.abs(coupling.response[0, band]))))  # in the strain
        found.append(Shared(one.name, coupling.take(rows), level * (inside + peaks)))
    return found


def shared_noise(shared: list[Shared], white: Array, gps: float, spectra: Spectra) -> tuple[Indices, Array]:
    """Make the shared noise at a GPS time: the channels (S,) that hear any, the strain's 0 first, and what each hears.

    white: unit white noise, a row for each of `shared`, (len(shared), N); spectra: the channels' own. The series
    (S, N) are in each channel's unit.
    """
    places = np.unique(np.concatenate([one.places for one in shared]))
    heard = np.zeros((places.size, white.shape[1] // 2 + 1), complex)
    for one, spectrum in zip(shared, np.fft.rfft(white)):
        heard[np.searchsorted(places, one.places)] += one.at(gps) * spectrum
    return places, np.fft.irfft(heard * spectra.floor(places), n=white.shape[-1])
