"""The generative kind: glitches as white series, drawn out of noise.

    white middle of an event (white.py) --scaled to unit rms--> u --noise of a drawn level (model/diffusion.py)--> x
    x and what is told of it (level, family, SNR) --network (model/flow.py)--> what is clean

One loss for glitches that are known without noise (`store.transients`) and for recorded ones: on the white scale the
detector's noise is N(0, 1) as the flow's own, so that an event of SNR rho, scaled to a glitch of unit rms, lies at the
level sqrt(n) / rho already, and teaches what is clean above it.

Shapes: B event of a batch, n sample, L label. A batch holds three rows (B, 3, n): the target; what is told, in the
first places of a row; x. The network is given the last two, the loss the first two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glitchflow.data.content import Content
from glitchflow.data.loader import Reads
from glitchflow.data.store.dataset import Dataset
from glitchflow.data.store.schema import Array
from glitchflow.errors import InputError
from glitchflow.model import GENERATIVE_MODELS
from glitchflow.model.bank import Stft
from glitchflow.model.diffusion import FAINTEST, drawn_level, levels, noisier, solve
from glitchflow.model.flow import ANY, FAMILY, LEVEL, SNR, TOLD, Flow
from glitchflow.signal.streams import LEVELS, generator
from glitchflow.signal.types import NOISE_ENERGY, Indices
from glitchflow.twin.geometry import geometry
from glitchflow.twin.kind import Asking, Exported, Kind, Loss, Needs, Prepared, Replaced, Trained
from glitchflow.twin.white import LEAST, SERIES, White, build_white, learnable, samples_of

ROWS, TARGET, ABOUT, X = 3, 0, 1, 2
WEIGHT = TOLD  # beside what the network is told: how much an event counts
UNTOLD = 0.1  # share of the batches' events whose family is not told, which guidance needs
ONCE = 2**31  # in place of an epoch: what validation draws, the same each time
SHOWN = 0.125  # s of the windows of the spectrograms that a training draws
DRAWS = "model.name: a generative twin does not predict, it draws: `glitchflow sample`"
GUESSED = 8  # families, before there is a dataset; a network has hardly more weights for more


def about(dataset: Dataset, channels: Sequence[str]) -> dict[str, Any]:
    """Say how the series are made; nobody asks how loud each channel is."""
    return {"geometry": geometry(dataset, channels), "loudness": None}


def normalisation(dataset: Dataset, _name: str, channels: Sequence[str], _before: object = None) -> White:
    """Find how the strain is made white, and which glitches there are; `loader.normalise` is about images."""
    return build_white(dataset, channels[0], Flow.multiple)


def sees(white: White) -> tuple[int, dict[str, Any]]:
    """Say what a network sees, and what it has to know of it."""
    return 1, {"samples": white.samples, "families": len(white.labels) - 1}


# -- what it learns ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """Makes of white glitches (B, 1, n) what a batch sees of them. label, snr: (event of the store,)."""

    white: White
    label: NDArray[np.int16]
    snr: NDArray[np.float32]
    seed: int

    def __call__(self, values: Tensor, events: NDArray[np.int64], epoch: int | None) -> Tensor:
        """Return rows (B, 3, n): of each event a function of (seed, epoch, event), whatever its batch."""
        glitch = values[:, 0].double()
        here = partial(torch.as_tensor, device=values.device)
        label = here(self.label[events].astype(np.int64))
        if self.white.clean:
            snr, own = glitch.square().sum(1).sqrt().clamp_min(LEAST), glitch.new_zeros(len(events))
        else:
            shares = here(self.white.shares, dtype=torch.float64)[label]
            snr = here(self.snr[events].astype(np.float64)) * shares
            own = self.white.unit / snr
        rngs = [
            generator(self.seed, LEVELS, ONCE if epoch is None else epoch, int(event)) for event in events
        ]
        drawn = here(np.stack([rng.random(2) for rng in rngs]))
        noise = here(np.stack([rng.standard_normal(glitch.shape[1]) for rng in rngs]))
        level = drawn_level(drawn[:, 0], own)
        x, target, weight = noisier(
            glitch * (self.white.unit / snr)[:, None], own[:, None], level[:, None], noise
        )
        told = torch.zeros_like(glitch)
        told[:, LEVEL], told[:, SNR], told[:, WEIGHT] = level, snr, weight[:, 0]
        told[:, FAMILY] = torch.where((drawn[:, 1] < UNTOLD) & (epoch is not None), ANY, label)
        return torch.stack([target, told, x], 1).to(values.dtype)


def reads(dataset: Dataset, white: White, _channels: Sequence[str], seed: int) -> Reads:
    """Say what a loader reads: white glitches whose family and SNR are known, with other noise in every epoch."""
    return Reads(
        array=white.array,
        channels=[0],
        fill=partial(_fill, white),
        shape=(1, white.samples),
        targets=2,
        view=View(white, dataset["label"][:], dataset["snr"][:], seed),
        chosen=learnable(dataset),
        settled="a generative twin is told the families of the events that the store holds; must be 0",
    )


def _fill(white: White, series: Sequence[NDArray], out: NDArray) -> None:
    """Write the white middles (B, 1, n) of series (1, N) each."""
    out[:] = white.of(torch.from_numpy(np.stack(series).astype(np.float64))).numpy()


def loss(name: str, _white: White) -> Loss:
    """Return the loss of what is clean (B, 1, n), given target and weight (B, 2, n). Raises `InputError` for another
    name than l2."""
    if name != "l2":
        raise InputError(
            f"train.loss = {name}: a generative twin is trained with l2, whose mean is what is clean"
        )
    return power


def power(generated: Tensor, target: Tensor) -> Tensor:
    """Compute the mean weighted power of what is clean (B, 1, n) less the target, in (B, 2, n) with its weight."""
    off = (generated[:, 0] - target[:, TARGET]).square().mean(1)
    return (target[:, ABOUT, WEIGHT] * off).mean()


def needs(content: Content, _channels: Sequence[str], _train: int) -> Needs:
    """Say what a training on glitches of this length will hold."""
    samples = samples_of(content.series.sample_rate, content.qplot.span, Flow.multiple)
    options = {"samples": samples, "families": GUESSED}
    return Needs(SERIES, 1, (ROWS - 1, samples), options, samples, 8 * ROWS * samples)


# -- what it draws -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """Says what is to be drawn, and from what: noise (B, n), labels (B,), SNRs (B,)."""

    noise: Tensor
    label: Tensor
    snr: Tensor
    guidance: float = 1.0


@torch.inference_mode()
def draw(trained: Trained, asked: Asked) -> tuple[Tensor, Tensor, Tensor]:
    """Draw white series (B, n) twice: as such events are learned, and the glitch alone, of the SNR that was asked; with
    the rms (B,) that it had before, of 1 in the mean.

    Where glitches were learned without noise both are the same; else the first is glitch + N(0, 1).
    guidance: times that what the family says is followed, over what is said of any; 1 draws what was learned, another
    value another distribution (Ho & Salimans 2022, arXiv:2207.12598), at twice the cost.
    """
    white = white_of(trained)
    own = white.unit / asked.snr
    last = torch.full_like(own, FAINTEST) if white.clean else own
    says = partial(denoised, trained.network, asked)
    path = levels(last)
    if white.clean:  # the last evaluation is the answer
        path = levels(last, len(path) - 2)
    x = solve(says, asked.noise, path)
    alone = says(x, last[:, None])
    size = alone.square().mean(1).sqrt()
    glitch = alone * (asked.snr / (white.unit * size).clamp_min(LEAST))[:, None]
    return (glitch if white.clean else x / own[:, None]), glitch, size


def denoised(network: nn.Module, asked: Asked, x: Tensor, level: Tensor) -> Tensor:
    """Say what is clean (B, n) of x (B, n) at levels (B, 1), by guidance."""

    def of(label: Tensor) -> Tensor:
        told = x.new_zeros(x.shape)
        told[:, LEVEL], told[:, FAMILY], told[:, SNR] = level[:, 0], label.to(x), asked.snr
        return network(torch.stack([told, x], 1))[:, 0]

    found = of(asked.label)
    if asked.guidance == 1:
        return found
    any_family = of(torch.full_like(asked.label, ANY))
    return any_family + asked.guidance * (found - any_family)


def white_of(trained: Trained) -> White:
    """Return what a generative twin knows of its glitches."""
    assert isinstance(trained.normalisation, White), "a generative twin's"
    return trained.normalisation


# -- how a training is shown, and what is not asked of this kind -------------------------------------------------------


def energies(white: White, value: Tensor) -> Tensor:
    """Compute the energies (B, F, T) of what is clean, or a target, in the first of (B, S, n), on the CPU: those of a
    short Fourier transform, times the mean energy of noise."""
    spectra = Stft(round(SHOWN / 2 * white.rate)).to(value.device)(value[:, 0].float())
    return (spectra.abs().square() * NOISE_ENERGY).cpu()


def axes(white: White) -> tuple[NDArray, NDArray]:
    """Return frequencies (F,) in Hz and times (T,) in s from the event of what `energies` gives."""
    hop = round(SHOWN / 2 * white.rate)
    frames = -(-white.samples // hop)
    return np.arange(hop) * (white.rate / (2 * hop)), (
        np.arange(frames) * hop - white.samples / 2
    ) / white.rate


def refuse(*_: Any) -> NoReturn:
    """Raise `InputError`: it draws, and does not predict."""
    raise InputError(DRAWS)


def predict(_t: Trained, _b: NDArray, _c: Sequence[str], _n: int, _r: Replaced = None) -> dict[str, NDArray]:
    """Raise `InputError`."""
    refuse()


def infer(_a: Sequence[Asking], _d: Dataset, _e: Indices, _n: int) -> NoReturn:
    """Raise `InputError`."""
    refuse()


def arrays(_dataset: Dataset) -> dict[str, Array]:
    """Raise `InputError`."""
    refuse()


class Program(nn.Module):
    """A network as it is: what it is given (B, R, n) -> what is clean (B, n)."""

    def __init__(self, network: nn.Module, _white: Prepared) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        """Map what is given (B, R, n), float32, to what is clean (B, n)."""
        return self.network(rows)[:, 0].float()


def example(events: int, shape: Sequence[int]) -> Tensor:
    """Make noise at a level of 2, of the first family, at an SNR of 10."""
    rows = torch.randn(events, *shape, generator=torch.Generator().manual_seed(events))
    rows[:, 0, LEVEL], rows[:, 0, FAMILY], rows[:, 0, SNR] = 2.0, 1.0, 10.0
    rows[:, 1] *= math.sqrt(1 + 2.0**2)
    return rows


def scores(_sums: Mapping[str, float]) -> dict[str, float]:
    """Return no scores: what is drawn is scored by `sample`."""
    return {}


KIND = Kind(
    name="generative",
    models=GENERATIVE_MODELS,
    array=SERIES,
    truth=(),
    channels=lambda _dataset, chosen: chosen[:1],
    normalisation=normalisation,
    about=about,
    levels=lambda *_: None,
    sees=sees,
    reads=reads,
    loss=loss,
    start=lambda network, white, dataset: None,
    finish=lambda network, white, loss: None,
    groups=lambda network: [{"params": list(network.parameters())}],
    predict=predict,
    infer=infer,
    quiet=refuse,
    arrays=arrays,
    needs=needs,
    outputs=1,
    activations=80,
    preparing=1,
    energies=energies,
    axes=lambda _dataset, white: axes(white),
    tallied=(),
    tally=lambda *_: {},
    scores=scores,
    metric="validation_loss",
    exported=Exported(
        Program,
        example,
        lambda white, _shape: (ROWS - 1, white.samples),
        lambda white: {
            "input": ["event", "what is told, x", "sample"],
            "told": {"level": LEVEL, "family": FAMILY, "snr": SNR},
            "families": white.labels,
            "output": ["event", "sample"],
            "rate": white.rate,
            "taps": white.taps,
            "unit": "x: unit rms + noise of the level told; the strain whitened by `taps` (scipy.signal.lfilter([1],"
            " taps, x) undoes it); float32",
        },
    ),
    draws=True,
)
