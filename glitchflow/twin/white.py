"""What a generative twin knows of a dataset: how its strain is made white, and which glitches it holds.

    strain --prediction filter of its ASD--> white --the middle, `qplot.span` long--> what a network learns from

Not limited to the band: noise of N(0, 1) in every sample is what the noise of a flow is.

Shapes: E event, N sample of a whole series, n of its middle, L label (0 is background).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor

from glitchflow.data.store.dataset import Dataset
from glitchflow.errors import InputError
from glitchflow.progress import say
from glitchflow.signal.fir import filtered
from glitchflow.signal.prediction import design_prediction
from glitchflow.signal.types import Array, Flags, Indices
from glitchflow.twin.front import PAST

SERIES, TRUTH = "series", "transient_series"  # what is learned from, and what is where a store has it
QUANTILES = 33  # of the SNRs of each family, from the quietest to the loudest
LOOKED = 4096  # train events that these are of
QUIET = 256  # background events that the noise is measured in
OFF = 0.05  # by which the noise's power in a band may differ from 1
BANDS = 8  # of the noise, from the Q-plots' lowest frequency to Nyquist, even in log frequency
AT_ONCE = 256  # events read at once
LEAST = 1e-6  # SNR that is divided by


@dataclass(frozen=True)
class White:
    """Holds all numbers that glitches are prepared and drawn with; a checkpoint keeps them."""

    rate: float
    samples: int  # n
    taps: list[float]  # of the strain's prediction filter
    clean: bool  # whether glitches were learned without noise
    labels: list[str]  # (L,)
    counts: list[int]  # (L,) train events of each family
    snrs: list[list[float]]  # (L, `QUANTILES`) of these, in n samples
    # (L,) SNR in n samples over the one that is known of an event; 1 where that is measured in each
    shares: list[float]

    @property
    def unit(self) -> float:
        """Return the SNR of what has an rms of 1 on the white scale."""
        return math.sqrt(self.samples)

    @property
    def array(self) -> str:
        """Name the array of a store that is learned from."""
        return TRUTH if self.clean else SERIES

    def problem(self, _channels: int) -> str:
        """Say what is wrong with numbers that were read from a file; empty where nothing is."""
        lists = (self.counts, self.snrs, self.shares)
        if any(len(one) != len(self.labels) for one in lists) or self.samples < 1 or not self.taps:
            return "is not of its families"
        numbers = [*self.taps, *self.shares, *(value for row in self.snrs for value in row)]
        return "" if all(map(math.isfinite, numbers)) and self.taps[0] else "its numbers must be finite"

    def to_json(self) -> dict[str, Any]:
        """Give what a checkpoint writes."""
        return asdict(self)

    def of(self, series: Tensor) -> Tensor:
        """Make white the middle (..., n) of series of the strain (..., N), float64 in its unit."""
        start = (series.shape[-1] - self.samples) // 2
        reach = max(0, start - len(self.taps) + 1)
        taps = torch.tensor(self.taps, dtype=torch.float64)
        return filtered(series[..., reach : start + self.samples].nan_to_num(), taps)[..., start - reach :]

    def undo(self, white: Array) -> Array:
        """Bring white series (..., n) back into the strain's unit, float64, exactly."""
        return lfilter([1.0], self.taps, np.asarray(white, np.float64), axis=-1)


def samples_of(rate: float, span: float, multiple: int) -> int:
    """Return the samples of a span in s, and so many more that they are a multiple of what a network takes."""
    return math.ceil(round(rate * span) / multiple) * multiple


def learnable(dataset: Dataset) -> Flags:
    """Say which events (E,) are glitches whose family and SNR are known."""
    snr = dataset["snr"][:]
    return (dataset["label"][:] > 0) & np.isfinite(snr) & (snr > 0)


def build_white(dataset: Dataset, channel: str, multiple: int) -> White:
    """Find how the strain of a dataset is made white, and which glitches its train split holds.

    Raises `InputError` where the dataset kept no series, or its train split has no glitch of known family and SNR.
    """
    if SERIES not in dataset:
        raise InputError(
            f"{dataset.path}: kept no series, which a generative twin learns from; set store.series=float32"
        )
    train = dataset.indices("train")
    train = train[learnable(dataset)[train]]
    if not len(train):
        raise InputError(
            f"{dataset.path}: its train split has no glitch of known family and SNR, there is nothing to draw"
        )
    made, rate = dataset.config, dataset.config.series.sample_rate
    samples = samples_of(rate, made.qplot.span, multiple)
    asd = torch.from_numpy(dataset["asd"][:][dataset.channels.index(channel)])
    try:
        taps = design_prediction(asd, made.series.duration, rate, PAST).taps.tolist()
    except ValueError as error:
        raise InputError(f"{dataset.path}: whiten.fftlength: {error}") from None
    if samples + len(taps) > made.series.samples:
        raise InputError(
            f"qplot.span = {made.qplot.span:g}: a generative twin wants {samples / rate:g} s and {PAST:g} s before"
            f" them, and series.duration is {made.series.duration:g}"
        )
    count = len(dataset.labels)
    bare = White(rate, samples, taps, TRUTH in dataset, dataset.labels, [0] * count, [], [1.0] * count)
    return _with_families(_of_unit_noise(bare, dataset), dataset, train)


def read(white: White, dataset: Dataset, events: Indices) -> Iterator[Tensor]:
    """Read ascending events as a network learns from them, white (E, n), some at a time."""
    for first in range(0, len(events), AT_ONCE):
        some = dataset.events(white.array, events[first : first + AT_ONCE], [0])
        yield white.of(torch.from_numpy(some[:, 0].astype(np.float64)))


def _with_families(white: White, dataset: Dataset, train: Indices) -> White:
    """With what these train events say of each family."""
    label = dataset["label"][:][train]
    some = np.sort(np.random.default_rng(0).permutation(len(train))[:LOOKED])
    power = np.concatenate([one.square().sum(-1).numpy() for one in read(white, dataset, train[some])])
    snr, of = dataset["snr"][:][train[some]].astype(np.float64), label[some]
    shares, snrs, levels = [], [], np.linspace(0, 1, QUANTILES)
    for k in range(len(white.labels)):
        mine = of == k
        share, inside = 1.0, np.sqrt(power[mine])
        if not white.clean and mine.any():
            beyond = (power[mine] - white.samples).sum() / np.square(snr[mine]).sum()
            share = float(np.sqrt(np.clip(beyond, 0.01, 100.0)))
            inside = share * snr[mine]
        shares.append(share)
        snrs.append(np.quantile(inside, levels).tolist() if mine.any() else [0.0] * QUANTILES)
    counts = np.bincount(label, minlength=len(white.labels)).tolist()
    return replace(white, counts=counts, snrs=snrs, shares=shares)


def _of_unit_noise(white: White, dataset: Dataset) -> White:
    """With taps by which quiet noise has unit variance: an ASD that is a median of medians is some 4 % low.

    Says in which bands noise is not N(0, 1) all the same, where that is what glitches are learned in.
    """
    train = dataset.indices("train")
    quiet = train[dataset["label"][:][train] == 0][:QUIET]
    if not len(quiet):
        return white
    noise = torch.cat([*read(replace(white, clean=False), dataset, quiet)])
    scale = float(noise.square().mean().sqrt())
    if not white.clean:
        _check_bands(bands_of(white, noise / scale, dataset.config.qplot.frange[0]), dataset)
    return replace(white, taps=[tap / scale for tap in white.taps])


def _check_bands(power: dict[tuple[float, float], float], dataset: Dataset) -> None:
    """Say where noise that is taken to be N(0, 1) is not."""
    for (low, high), found in power.items():
        if abs(found - 1) > OFF:
            say(
                f"{dataset.path}: noise that is to have a variance of 1 has {found:.2f} from {low:.0f} to {high:.0f}"
                " Hz; what is drawn will hold the rest"
            )


def bands_of(white: White, noise: Tensor, low: float) -> dict[tuple[float, float], float]:
    """Measure the power of white noise (E, n) over that of N(0, 1) in bands from `low` Hz on."""
    power = torch.fft.rfft(noise).abs().square().mean(0).numpy() / white.samples
    frequency = np.fft.rfftfreq(white.samples, 1 / white.rate)
    edges = np.geomspace(low, white.rate / 2, BANDS + 1)
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return {(a, b): float(power[(frequency >= a) & (frequency < b)].mean()) for a, b in pairs}
