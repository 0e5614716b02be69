"""What a method of series could do on the simulator, were it told all but the noise: a bound, no baseline.

    family, transfer functions --> w predicted from the recorded witnesses (sensor noise and all)
    w itself --> gates in time and frequency: only where it stands out from the prediction's own noise is it removed

The prediction of a linear family is the least-squares one of all witnesses that see it, sum conj(H_i) X_i / sum |H_i|^2
times the strain's H_0, of unit white noise in each X_i (the multichannel filter of Allen, Hua & Ottewill 1999,
arXiv:gr-qc/9909083, with known couplings); its noise is |H_0|^2 / sum |H_i|^2. It is optimistic: nobody is told a
family, and the gates are the truth's. It knows transfer functions of families and of sensors, and how these drift; of a
detector with more than one transient at a time, with noise that is shared or of changing level, with a scatterer whose
motion no witness has exactly, or with faults, it would be no bound and is not offered (`is_bound`).

Everything is on the white scale of each channel, where stationary noise has unit variance, as the simulator has it.
Shapes: E event, W witness, N sample, K frequency = N // 2 + 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from glitchflow.config import Detector
from glitchflow.config.recipes import Faults
from glitchflow.data.store import Dataset
from glitchflow.errors import InputError
from glitchflow.methods.method import Block, Removed, Train
from glitchflow.signal.simulation.families import Instrument
from glitchflow.signal.simulation.instrument import draw_instrument
from glitchflow.signal.types import Array, Flags, Spectrum

# s of a gate's window: 0.033, 0.027, 0.028, 0.039 of `synthetic`'s witnessed energy are left at 1/16, 1/8, 1/4, 1/2 s
GATE = 0.125
SLOW = (4.0, 8.0)  # Hz: slow motions lie below, and what is above is their sensors' noise
# of the greatest sum |H_i|^2: where all witnesses are this deaf (-40 dB) they say nothing, and dividing would only ring
DEAF = 1e-4
# energy of a transient over the prediction's noise in cells that are kept: 3 and 10 leave the same within 5 %
LOUD = 10.0
SILENT = 1e-30  # in place of 0, without any witness: noise that no gate lets through


@dataclass(frozen=True)
class Seen:
    """Holds one event as the reference sees it: its strain, and the detector's witnesses in the detector's order."""

    gps: float
    frequency: Array  # (K,) Hz
    recorded: Array  # (1 + W, N) in each channel's unit
    spectra: Spectrum  # (1 + W, K) white
    valid: Flags  # (W,)

    def series(self, spectrum: Spectrum) -> Array:
        """Return the series (N,) of a spectrum (K,)."""
        return np.fft.irfft(spectrum, n=self.recorded.shape[1])


@dataclass(frozen=True)
class Predicted:
    """Holds a prediction of the strain's witnessed part, and the variance of its own noise."""

    series: Array  # (N,)
    noise: Array  # (K,) at each frequency; that of the strain's own noise is 1
    loudness: Array  # (N,) times which it is at each time


@dataclass(frozen=True)
class Reference:
    """Subtracts what a detector's own couplings say of each event, through gates that the truth makes."""

    instrument: Instrument
    families: list[str]  # by label
    witnessed: list[str]  # those of them that some witness sees
    places: list[int]  # of the detector's witnesses among a block's; -1 where it has it not

    def removed(self, block: Block) -> Removed:
        """Predict the witnessed part of a block's strain, event by event; 0 where no witness sees anything."""
        assert block.strain is not None and block.witnesses is not None, "the table says that it needs series"
        assert block.truth is not None and block.truth.series is not None, (
            "the table says that it needs truth"
        )
        samples, colour = block.strain.shape[1], self.instrument.spectra.colour()
        frequency = np.arange(samples // 2 + 1, dtype=np.float64) * (block.rate / samples)
        found = np.zeros_like(block.strain)
        there = np.array(self.places) >= 0
        for event, label in enumerate(block.truth.label):
            family = self.families[label]
            if family not in self.witnessed:
                continue
            recorded = np.stack([block.strain[event], *block.witnesses[event, self.places]])
            white = np.fft.rfft(recorded)
            # above a channel's own Nyquist frequency there is nothing
            spectra = np.divide(white, colour, out=np.zeros_like(white), where=colour > 0)
            valid = there & block.valid[event, self.places]
            seen = Seen(float(block.gps[event]), frequency, recorded, spectra, valid)
            predicted = PREDICTORS.get(family, linear)(self.instrument, seen, family)
            truth = seen.series(np.fft.rfft(block.truth.series[event]) / colour[0])
            kept = np.fft.rfft(gated(predicted, truth, frequency, block.rate)) * colour[0]
            if predicted.noise.any():
                kept *= between_lines(self.instrument.above_noise(seen.gps)[0])
            found[event] = seen.series(kept)
        return Removed(series=found)


def told(training: Dataset, dataset: Dataset) -> Instrument | None:
    """Return the detector that a dataset and the one that was trained on were simulated with.

    None where they were not, by the same one and with a noise curve that is still there, or where it is no bound.
    """
    made = training.config
    simulated = all(one.source == "simulate" for one in (training, dataset))
    if not simulated or made.simulate.recipe != "detector" or dataset.couplings != training.couplings:
        return None
    if not is_bound(made.simulate.detector):
        return None
    try:
        return draw_instrument(made.simulate.detector, made.series, made.seed)[0]
    except InputError:
        return None


def is_bound(settings: Detector) -> bool:
    """Say whether nothing but sensors' noise keeps a detector's witnesses from telling what is in its strain."""
    light = settings.families.scattered_light
    exact = not light.weight or (not any(light.calibration) and light.pole is None)
    shared = any(one.shared for one in settings.subsystems)
    return exact and not (settings.timeline or shared or settings.drift.noise or settings.faults != Faults())


def fit(train: Train) -> Reference:
    """Take the detector's couplings from what its dataset was made from."""
    series = train.series
    assert series is not None, "the table of methods says that it needs series"
    dataset, instrument = series.dataset, told(series.dataset, series.dataset)
    assert instrument is not None, "the table of methods says that it needs couplings"
    order = {name: place for place, name in enumerate(series.witnesses)}
    places = [order.get(name, -1) for name in instrument.settings.names]
    return Reference(instrument, dataset.labels, dataset.witnessed_labels, places)


# -- predictions, by family --------------------------------------------------------------------------------------


def source(instrument: Instrument, seen: Seen, family: str) -> tuple[Spectrum, Array]:
    """Estimate a disturbance's spectrum (K,) from all witnesses that see it, and the variance of its noise (K,)."""
    coupling = instrument.couplings[family]
    heard = coupling.places[1:]
    response = coupling.at(seen.gps)[1:] * (
        seen.valid[heard - 1, None] & (instrument.spectra.colour(heard) > 0)
    )
    seeing = np.square(np.abs(response)).sum(axis=0)
    seeing = np.maximum(seeing, max(DEAF * seeing.max(), SILENT))
    return (response.conj() * seen.spectra[heard]).sum(axis=0) / seeing, 1 / seeing


def linear(instrument: Instrument, seen: Seen, family: str) -> Predicted:
    """Predict a family that witnesses see as the strain does."""
    spectrum, noise = source(instrument, seen, family)
    strain = instrument.couplings[family].at(seen.gps)[0]
    series = seen.series(strain * spectrum)
    return Predicted(series, np.square(np.abs(strain)) * noise, np.ones_like(series))


def bilinear(instrument: Instrument, seen: Seen, family: str) -> Predicted:
    """Predict the product of a vibration and a slow swing, each as its witnesses show it."""
    settings = instrument.settings.families.bilinear
    spectrum, noise = source(instrument, seen, family)
    swing = slow(instrument, seen, settings.witnesses[1])
    strain = settings.strength * instrument.couplings[family].at(seen.gps)[0]
    product = seen.series(strain * np.fft.rfft(seen.series(spectrum) * swing))
    return Predicted(product, np.square(np.abs(strain)) * noise, np.square(swing))


def scattered_light(instrument: Instrument, seen: Seen, family: str) -> Predicted:
    """Fit amplitudes and phases of the recorded motion's fringes to the strain.

    No witness knows the light's static phase. The noise of so few numbers is not worth a gate.
    """
    settings = instrument.settings.families.scattered_light
    phase = 4 * np.pi / settings.wavelength * slow(instrument, seen, settings.witness)
    turns = np.arange(1, settings.bounces + 1)[:, None] * phase
    fringes = np.concatenate([np.sin(turns), np.cos(turns) - 1])  # 0 where nothing moves
    templates = np.fft.irfft(np.fft.rfft(fringes) / instrument.spectra.colour(slice(1))[0], n=phase.size)
    amplitudes = np.linalg.lstsq(templates.T, seen.series(seen.spectra[0]), rcond=None)[0]
    return Predicted(amplitudes @ templates, np.zeros_like(seen.frequency), np.ones_like(phase))


Predictor = Callable[[Instrument, Seen, str], Predicted]
PREDICTORS: dict[str, Predictor] = {
    "bilinear": bilinear,
    "scattered_light": scattered_light,
}  # others: linear


def slow(instrument: Instrument, seen: Seen, witness: str) -> Array:
    """Return a slow motion (N,) as its witness shows it, without the sensor's noise above; 0 where it is missing."""
    place, (low, high) = instrument.place(witness), SLOW
    share = 0.5 + 0.5 * np.cos(np.pi * np.clip((seen.frequency - low) / (high - low), 0, 1))
    return seen.valid[place] * seen.series(share * np.fft.rfft(seen.recorded[1 + place]))


def between_lines(above: Array) -> Array:
    """Return the gain (K,) of what is predicted next to power lines, Wiener's for transients `LOUD` on the floor.

    above: (K,) the strain's floor over its noise with lines. Transients have no lines, and witnesses' noise has:
    coloured as the strain, it would put them into what is removed.
    """
    power = LOUD * np.square(above)
    return power / (power + 1) * (1 + 1 / LOUD)  # 1 away from lines: the gates know the noise there


# -- gates ---------------------------------------------------------------------------------------------------------


def gated(predicted: Predicted, truth: Array, frequency: Array, rate: float) -> Array:
    """Keep of a prediction (N,) what is worth it: of each cell |W|^2 / (|W|^2 + its noise's variance), Wiener's gain.

    truth: the witnessed part (N,); frequency: (K,) Hz of the prediction's noise; rate: Hz.
    """
    size = 2 * round(GATE * rate / 2)
    window = torch.hann_window(size, dtype=torch.float64).sqrt()  # before and after: its squares add up to 1
    stft = partial(torch.stft, n_fft=size, hop_length=size // 2, window=window, return_complex=True)
    cells, energy = stft(torch.from_numpy(predicted.series)), stft(torch.from_numpy(truth)).abs().square()
    rows = np.interp(np.arange(len(energy)) * (rate / size), frequency, predicted.noise)
    centres = np.minimum(np.arange(energy.shape[1]) * (size // 2), truth.size - 1)
    noise = torch.from_numpy(np.outer(rows, predicted.loudness[centres])) * window.square().sum()
    gain = energy / (energy + noise).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.istft(gain * cells, size, size // 2, window=window, length=truth.size).numpy()
