"""What the coherent twin makes of recorded channels before its network sees them, and how it comes back from there.

    strain, witnesses --prediction filters--> white --band edges-->                       strain, inputs
    a x low-passed(b), a white but for its lines, for pairs that `derived` names -->      inputs
    sin, cos of n 4 pi x / wavelength --the strain's filter, band edges, scales-->        templates

Recorded channels alone are read: of a derived channel only its definition is used. All is linear in the strain, and
the same wherever the twin is used: the filters are those of the store that it was trained on.

Shapes: B event, R recorded channel (the strain first), A template, C input, N sample, n sample of a part of it.
Units: series in their own units come in, white ones (unit variance in quiet time) go out; s and Hz. Lengths in s are
those for a band from 10 Hz; where it begins lower all of them, here and wherever a `Front` is used, are `slower` times
as long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.signal import lfilter, savgol_coeffs
from torch import Tensor

from glitchflow.config import Derived
from glitchflow.data.store.dataset import Dataset
from glitchflow.errors import InputError
from glitchflow.signal.fir import filtered
from glitchflow.signal.prediction import design_prediction, without_lines
from glitchflow.signal.types import Array, Indices
from glitchflow.twin.made import Product, Scatter, arranged
from glitchflow.twin.ridge import likeliest

LOW = 10.0  # Hz, where a band begins that lengths are given for: in one from below they are longer, as periods are
LONG = 8.0  # s of a series that the crops of a training reach: lengths may grow until these fill it
PAST = 0.25  # s that a prediction filter looks back: 2.6 % of the band's power is left in lines
EDGE = 0.05  # of the band's limits, over which it ends
# s of the slow channels' low-pass, a Savitzky-Golay filter of order 3: it keeps their motion up to about 17 Hz, and
# what it keeps of their sensors' noise does not matter; a corner of 8 Hz leaves six times as much of an arch
SMOOTH = 0.125
LINES = 10.0  # Hz of the running median that an ASD without lines is
SCALED = 256  # train events that scales are the rms of
JUDGED = 256  # validation events that a prior is chosen by
AT_ONCE = (
    2**25
)  # bytes of recorded series, float64, that are prepared at once: four hundred channels have few events
EVENTS = 64  # of them at most
PREPARING = 11  # copies of these that are held while they are prepared: spectra, products, white and limited; measured


@dataclass(frozen=True)
class Front:
    """Holds all numbers that recorded channels are prepared with; a checkpoint keeps them."""

    rate: float
    band: tuple[float, float]  # Hz
    span: float  # s in the middle of an event that is judged
    channels: list[str]  # R of them
    taps: list[list[float]]  # (R, P + 1) prediction filters
    inputs: list[int]  # places of the recorded witnesses that the bank takes
    products: list[Product]
    scatters: list[Scatter]
    offsets: list[float]  # (R,) mean of each channel over train events: what a slow one swings about
    prior: float = 1.0  # standard deviation of a template's amplitude before anything is known
    slower: float = 1.0  # times that all lengths are those for a band from 10 Hz
    steady: int = 0  # experts for what witnesses and strain share all the time

    @property
    def unit(self) -> float:
        """Return the samples in what is a second for a band from 10 Hz: those of all lengths are counted by it."""
        return self.rate * self.slower

    @property
    def templates(self) -> int:
        """Count the templates, A."""
        return sum(2 * len(one.scales) for one in self.scatters)

    @property
    def kept(self) -> float:
        """Return the variance of white noise of unit variance that is limited to the band."""
        impulse = torch.zeros(2 * round(self.unit) + 1, dtype=torch.float64)
        impulse[round(self.unit)] = 1
        return float(self.limit(impulse).square().sum())

    @property
    def seen(self) -> int:
        """Count what a network sees, A + C."""
        return self.templates + len(self.inputs) + len(self.products)

    def problem(self, channels: int) -> str:
        """Say what is wrong with numbers that were read from a file; empty where nothing is."""
        made: list[Product | Scatter] = [*self.products, *self.scatters]
        places = [*self.inputs, *(place for one in made for place in one.sources)]
        sizes = {len(self.channels), len(self.taps), len(self.offsets)}
        if len(sizes) > 1 or not all(0 < place < len(self.channels) for place in places):
            return "is not of its channels"
        scales = [
            self.prior,
            self.slower,
            *(p.scale for p in self.products),
            *(s for one in self.scatters for s in one.scales),
        ]
        rows = [self.offsets, *self.taps, *(one.taps for one in made)]
        finite = all(map(math.isfinite, [*scales, *(tap for row in rows for tap in row)]))
        return "" if finite and 0 not in scales else "its numbers must be finite, and a scale not 0"

    def to_json(self) -> dict[str, Any]:
        """Give what a checkpoint writes."""
        return asdict(self)

    def prepare(self, series: Tensor) -> Tensor:
        """Make of recorded series (B, R, N) float64 what is learned from: strain, templates, inputs (B, 1 + A + C, N).

        The first samples, whose past is not known, are 0.
        """
        series = series.nan_to_num()
        smoothed = {p.slow: self.slow(series[:, p.slow]) for p in self.products}
        needed = [0, *self.inputs]
        white = dict(zip(needed, self._whiten(series[:, needed], needed).unbind(1), strict=True))
        templates = self._templates(series)
        inputs = [white[place] for place in self.inputs]
        for one in self.products:
            fast = self._filter(series[:, [one.fast]], [one.taps or self.taps[one.fast]])[:, 0]
            inputs.append(fast * (smoothed[one.slow] - self.offsets[one.slow]) / one.scale)
        return self.limit(torch.stack([white[0], *templates, *inputs], dim=1))

    def strain(self, series: Tensor) -> Tensor:
        """Prepare the strain alone, or a part of it, (B, N) float64, as `prepare` does."""
        return self.limit(self._whiten(series[:, None].nan_to_num(), [0]))[:, 0]

    def witness(self, series: Tensor, place: int) -> Tensor:
        """Prepare one witness (B, N), by its place, as `prepare` does."""
        return self.limit(self._whiten(series[:, None].nan_to_num(), [place]))[:, 0]

    def undo(self, white: Array) -> Array:
        """Bring white series (..., N) back into the strain's unit, float64: exactly within the band.

        Limited before and after: below the band, where the strain is loudest, the inverse filter makes a slow drift of
        the least step at a series' end.
        """
        limited = self.limit(torch.from_numpy(np.asarray(white, np.float64))).numpy()
        return self.limit(torch.from_numpy(lfilter([1.0], self.taps[0], limited, axis=-1))).numpy()

    def limit(self, series: Tensor) -> Tensor:
        """Keep of (..., N) what is inside the band, with cosine edges just outside it: twice is once within it."""
        samples = series.shape[-1]
        size = samples + round(self.unit)  # beyond the longest edge's ringing of note
        frequency = torch.arange(size // 2 + 1, dtype=series.dtype, device=series.device) * (self.rate / size)
        (low, high), past = self.band, torch.zeros_like(frequency)
        for edge, beyond in ((low, low - frequency), (high, frequency - high)):
            past = torch.maximum(past, beyond / (EDGE * edge))
        gain = torch.where(
            past < 1, torch.cos(torch.pi / 2 * past.clamp(0, 1)).square(), torch.zeros_like(past)
        )
        return torch.fft.irfft(torch.fft.rfft(series, size) * gain, size)[..., :samples]

    def _whiten(self, series: Tensor, places: Sequence[int]) -> Tensor:
        """Filter (B, some, N) by the filters of these places; the first samples are 0."""
        return self._filter(series, self._filters[list(places)])

    def _filter(self, series: Tensor, filters: Array | Sequence[Sequence[float]]) -> Tensor:
        """Filter (B, some, N) by these prediction filters; the first samples, whose past is not known, are 0."""
        taps = torch.from_numpy(np.asarray(filters)).to(series)
        white = filtered(series, taps)
        return white * (torch.arange(series.shape[-1], device=series.device) >= taps.shape[-1] - 1)

    @cached_property
    def _filters(self) -> Array:
        """The prediction filters as an array (R, P + 1)."""
        return np.array(self.taps)

    def slow(self, series: Tensor, taps: Sequence[float] = ()) -> Tensor:
        """Low-pass slow channels (B, N), both ends held; by the taps of a scatterer's, where there are any."""
        half = max(2, round(SMOOTH / 2 * self.unit))
        weights = torch.from_numpy(np.array(taps if taps else savgol_coeffs(2 * half + 1, 3))).to(series)
        held = torch.nn.functional.pad(series[:, None], (len(weights) - 1 - half, half), mode="replicate")
        return filtered(held, weights)[:, 0, len(weights) - 1 :]

    def _templates(self, series: Tensor) -> list[Tensor]:
        """White, scaled quadratures of each bounce of recorded series (B, R, N): A of (B, N)."""
        found = []
        for one in self.scatters:
            phase = 4 * torch.pi / one.wavelength * self.slow(series[:, one.motion], one.taps)
            for bounce, scale in enumerate(one.scales, 1):
                pair = torch.stack([torch.sin(bounce * phase), torch.cos(bounce * phase)], dim=1)
                found += list((self._whiten(pair, [0, 0]) / scale).unbind(1))
        return found


def build_front(dataset: Dataset, channels: Sequence[str]) -> Front:
    """Find how the series of these channels of a dataset (the strain, then witnesses) are prepared.

    Raises `InputError` where the dataset kept no series or has no train split, and for a channel that is derived from
    one that is not recorded, or not among them.
    """
    if "series" not in dataset:
        raise InputError(
            f"{dataset.path}: kept no series, which a coherent twin learns from; set store.series=float32"
        )
    train = dataset.indices("train")
    if not len(train):
        raise InputError(f"{dataset.path}: its train split is empty, there is nothing to learn from")
    derived = [one for one in dataset.config.derived if one.name in channels]
    names = [name for name in channels if name in dataset.recorded_channels]
    for one in derived:
        for name in set(one.channels) - set(names):
            raise InputError(
                f"loader.witnesses: {one.name} is derived from {name}, which has to be there, and recorded"
            )
    front = _unscaled(dataset, names, derived)
    return scaled(front, dataset)


def slowness(low: float, duration: float) -> float:
    """Return how many times longer than here lengths are where a band begins at `low` Hz, in series of `duration` s.

    1 from 10 Hz on: what lies above 20 Hz has lines as narrow, and transients as long, whatever is left out below.
    """
    return max(1.0, min(LOW / low, duration / LONG))


def _unscaled(dataset: Dataset, names: list[str], derived: Sequence[Derived]) -> Front:
    """The filters, and what is made of which channel."""
    made = dataset.config
    inputs, products, scatters = arranged(names, derived)
    asd = torch.from_numpy(dataset["asd"][:][[dataset.channels.index(name) for name in names]])
    rate, duration = made.series.sample_rate, made.series.duration
    slower = slowness(made.qplot.frange[0], duration)
    plain = without_lines(asd, rate, LINES / slower)
    try:
        taps, smooth = (
            design_prediction(one, duration, rate, PAST * slower).taps.tolist() for one in (asd, plain)
        )
    except ValueError as error:
        raise InputError(f"{dataset.path}: whiten.fftlength: {error}") from None
    return Front(
        rate=rate,
        band=made.qplot.frange,
        span=made.qplot.span,
        channels=names,
        taps=taps,
        inputs=inputs,
        products=[replace(one, taps=tuple(smooth[one.fast])) for one in products],
        scatters=scatters,
        offsets=[0.0] * len(names),
        slower=slower,
    )


def scaled(front: Front, dataset: Dataset) -> Front:
    """Return a front with the scales and offsets of train events, and the prior of validation events."""
    train = dataset.indices("train")
    products = [replace(one, scale=1.0) for one in front.products]
    scatters = [replace(one, scales=(1.0,) * len(one.scales)) for one in front.scatters]
    front = replace(front, products=products, scatters=scatters)
    return _with_prior(_scaled(front, dataset, train[:: max(1, len(train) // SCALED)][:SCALED]), dataset)


def _scaled(front: Front, dataset: Dataset, events: Indices) -> Front:
    """With the offsets of some train events, and scales in place of 1."""
    means = [series.nan_to_num().mean(dim=2) for series in read(front, dataset, events)]
    front = replace(front, offsets=torch.cat(means).mean(dim=0).tolist())
    powers = [front.prepare(series).square().mean(dim=2) for series in read(front, dataset, events)]
    rms = torch.cat(powers).mean(dim=0).sqrt()
    pairs = (
        rms[1 : 1 + front.templates].unflatten(0, (-1, 2)).square().mean(1).sqrt()
        if front.templates
        else rms[:0]
    )
    scales = iter(_nonzero(pairs))
    products = zip(front.products, _nonzero(rms[len(rms) - len(front.products) :]))
    return replace(
        front,
        products=[replace(one, scale=scale) for one, scale in products],
        scatters=[replace(one, scales=tuple(next(scales) for _ in one.scales)) for one in front.scatters],
    )


def _nonzero(values: Tensor) -> list[float]:
    """Numbers to divide by: 1 where there is nothing to divide."""
    return [value if value > 0 else 1.0 for value in values.tolist()]


def _with_prior(front: Front, dataset: Dataset) -> Front:
    """With the width of the prior under which the validation split's strain is likeliest."""
    events = dataset.indices("validation")[:JUDGED]
    if not front.templates or not len(events):
        return front
    half = round(front.span * front.rate)  # twice the span, as a crop is
    parts = []
    for series in read(front, dataset, events):
        middle = series.shape[-1] // 2
        inside = slice(max(0, middle - half), middle + half)
        parts.append(front.prepare(series)[:, : 1 + front.templates, inside].clone())
    shown = torch.cat(parts)
    return replace(front, prior=likeliest(shown[:, 1:], shown[:, 0]))


def read(front: Front, dataset: Dataset, events: Indices) -> Iterator[Tensor]:
    """Read the recorded series (E, R, N) that a front takes of ascending events, float64, as many as are prepared at
    once."""
    places = [dataset.recorded_channels.index(name) for name in front.channels]
    step = together(len(places), dataset.config.series.samples)
    for first in range(0, len(events), step):
        some = dataset.events("series", events[first : first + step], places)
        yield torch.from_numpy(some.astype(np.float64))


def together(channels: int, samples: int) -> int:
    """Count the events that are prepared at once, of so many recorded channels and samples."""
    return int(np.clip(AT_ONCE // (8 * channels * samples), 1, EVENTS))
