"""One signal in one event's strain: where it lies on a glitch, and what is left of it after each method.

    place     a compact binary so that more than half of its SNR^2 is inside given pixels
    examine   what methods leave of it, and what a search would say of that

What is left of a signal is cleaned(strain + signal) - cleaned(strain). A mask cleans linearly in the strain for a fixed
whitening filter: it takes the signal's own coefficients under the mask, through the filter of the strain without it. (A
filter that is estimated anew, with the signal in the strain, changes what is kept by less than a per cent.)

Shapes: F frequency and T time of a Q-plot, N sample, K frequency of its spectrum, B template, M mask, R row and n tile
of a plane. Times in s from the middle of the series.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from glitchflow.config import Harm
from glitchflow.score import matched
from glitchflow.signal.qtransform.qplot import Coefficients
from glitchflow.signal.simulation.families import inspiral
from glitchflow.signal.types import Array, Energies, Flags, Spectrum
from glitchflow.twin.estimate import Estimator, Shown, masked, on_tiles

INSIDE = 0.5  # share of a signal's SNR^2 that has to be inside
# Chirp masses of the bank over the signal's own, which comes first: steps near it of a cycle or so of a light binary,
# and far enough from it that a signal cut in half is found under another mass.
BANK = 1 + np.array(
    [0, *(sign * step for step in (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08) for sign in (-1, 1))]
)
VERDICT = ("kept", "late", "turned", "heavier", "chi2")  # what `examine` says of a signal, see there


@dataclass(frozen=True)
class Signal:
    """Says which compact binary is added to an event."""

    mass: float  # chirp mass, solar masses
    phase: float  # at coalescence, rad
    snr: float
    time: float  # of coalescence

    def bank(self, time: Array, start: float, ratios: Array = BANK) -> Array:
        """Compute templates (B, N) whose masses are `ratios` (B,) times the signal's, all else as the signal's."""
        return np.stack([inspiral(time - self.time, self.mass * r, self.phase, start) for r in ratios])


@dataclass(frozen=True)
class Heard:
    """Holds one event's strain as cleaning and searches hear a signal in it."""

    estimator: Estimator
    strain: Array  # (N,)
    shown: Shown

    @cached_property
    def time(self) -> Array:
        """Return the times (N,) of the samples."""
        engine = self.estimator.engine
        return np.arange(engine.samples) / engine.sample_rate - engine.duration / 2

    @cached_property
    def psd(self) -> Array:
        """Return the strain's own PSD (K,)."""
        engine = self.estimator.engine  # segments as long as the whitening's, where these are of minutes
        return matched.noise_psd(self.strain, engine.sample_rate, max(matched.SEGMENT, engine.fftlength or 0))

    @cached_property
    def own(self) -> Coefficients:
        """Return the strain's own coefficients, with its whitening filter."""
        return self.estimator.engine.coefficients(self.strain[None, None], q=self.shown.q)

    def coefficients(self, series: Array) -> Coefficients:
        """Compute the coefficients of another series (N,) in the strain's place, through the strain's own filter."""
        return self.estimator.engine.coefficients(series[None, None], self.shown.q, self.own.filters)

    def spectra(self, series: Array) -> Spectrum:
        """Compute whitened spectra (..., K) of series (..., N)."""
        engine = self.estimator.engine
        return matched.whitened(series, self.psd, engine.sample_rate, engine.frange)

    def tiles(self, mask: Energies) -> list[torch.Tensor]:
        """Bring masks (M, F, T) onto the strain's tiles: (1, M, R, n) of each group of rows."""
        return on_tiles(mask[None], self.shown, self.own, self.estimator.engine.duration)

    def inside(self, pixels: Flags) -> "Inside":
        """Bring pixels (F, T) that signals are to lie in onto the strain's tiles."""
        return Inside(self.tiles(pixels[None].astype(np.float32)))

    def taken(self, signal: Array, tiles: list[torch.Tensor]) -> Array:
        """Compute what masks, brought onto tiles, take from a signal (N,): (M, N)."""
        engine = self.estimator.engine
        (found,) = masked(engine, self.coefficients(signal), tiles)
        return found * self.shown.taper(self.time + engine.duration / 2, self.estimator.settle)


@dataclass(frozen=True)
class Inside:
    """Holds what of an event signals are to lie in: a mask of 1 there, on the strain's tiles."""

    tiles: list[torch.Tensor]  # (1, 1, R, n) of each group of rows

    @cached_property
    def spectra(self) -> list[Spectrum]:
        """Transform the rows of each group, (R, n // 2 + 1)."""
        return [np.fft.rfft(one[0, 0].numpy()) for one in self.tiles]

    @property
    def steps(self) -> int:
        """Count the times that are told apart."""
        return self.tiles[-1].shape[-1]


# -- placing -----------------------------------------------------------------------------------------------------


def draw(settings: Harm, rng: np.random.Generator) -> Signal:
    """Draw a signal as `harm` says, its coalescence near the middle."""
    mass, snr = (float(np.exp(rng.uniform(*np.log(r)))) for r in (settings.mass, settings.snr))
    return Signal(mass, rng.uniform(0, 2 * np.pi), snr, rng.uniform(-settings.reach, settings.reach))


def place(
    heard: Heard, inside: Inside, settings: Harm, rng: np.random.Generator, tries: int
) -> Signal | None:
    """Draw a signal until more than half of its SNR^2 is inside; None where `tries` masses do not fit.

    Inside is what a mask takes that is 1 there. Of a mass all times are looked at together, with coalescence in the
    window that is shown, and one that fits is drawn.
    """
    duration = heard.estimator.engine.duration
    late = np.fft.fftfreq(inside.steps, 1 / duration)
    shown = (late >= heard.shown.start - duration / 2) & (late <= heard.shown.stop - duration / 2)
    for _ in range(tries if any(one.any() for one in inside.tiles) else 0):
        signal = replace(draw(settings, rng), time=0.0)
        (h,) = signal.bank(heard.time, settings.start, BANK[:1])
        fits = shown & (inside_share(heard.coefficients(h), inside) > INSIDE)
        if fits.any():
            signal = replace(signal, time=float(rng.choice(late[fits])))
            (h,) = signal.bank(heard.time, settings.start, BANK[:1])
            spectra = heard.spectra(np.stack([h, heard.taken(h, inside.tiles)[0]]))
            if matched.kept(*spectra) > INSIDE:  # tiles tell it within some per cent
                return signal
    return None


def inside_share(coefficients: Coefficients, inside: Inside) -> Array:
    """Compute which share of a series' SNR^2 is inside, when it is moved later by each n-th of the duration: (n,).

    coefficients of one series; n of the last group of tiles.
    A row's windows are as wide as its frequency and of equal norm: their squares add up to something in proportion to
    1 / f, by which the frame's inverse divides. What leaves at the end of the series comes in at the start.
    """
    most = inside.steps
    moved, total = np.zeros(most // 2 + 1, np.complex128), 0.0
    for value, rows, spectra in zip(
        coefficients.values, coefficients.frequencies, inside.spectra, strict=True
    ):
        density = np.square(np.abs(value[0, 0].numpy())) * rows.numpy()[:, None]
        count = density.shape[1]  # fewer than in the last group: interpolated to as many
        product = (spectra * np.fft.rfft(density).conj()).sum(axis=0)
        moved[: len(product)] += product * (most / count**2)
        total += float(density.sum()) / count
    return np.fft.irfft(moved, most) / total


# -- examining ---------------------------------------------------------------------------------------------------


def examine(heard: Heard, bank: Array, ratios: Array, taken: Array) -> Array:
    """Say what is left of a signal of which methods have `taken` (M, N), and what a search finds: (M, `VERDICT`).

    bank: templates (B, N), the first of which is the signal as it is in the strain; ratios: their masses (B,) over its.
    kept: share of its matched-filter SNR. Of the loudest template: late, s between its peak and the signal; turned, rad
    between their phases; heavier, the difference of their masses over the signal's, all three without a sign; chi2,
    what is added to chi^2 per degree of freedom.
    """
    rate = heard.estimator.engine.sample_rate
    templates = heard.spectra(bank)
    left = templates[0] - heard.spectra(taken)
    rows = []
    for one, found in zip(left, matched.match(left, templates, rate)):
        chi2 = matched.chi_squared(one, templates[found.template], rate, found.time)
        kept, heavier = float(matched.kept(templates[0], one)), abs(ratios[found.template] - 1)
        rows.append((kept, abs(found.time), abs(found.phase), heavier, chi2))
    return np.array(rows)
