"""The posterior kind: what the witnessed part of the strain may have been, drawn again and again, given the witnesses.

    recorded series --coherent twin's front (front.py) and network--> y, templates, inputs    of the middle of an event
    witnessed part w --noise of a drawn level (model/diffusion.py)--> x
    x, level, y, templates, inputs --network (model/posterior.py)--> w in the mean;   in drawing: noise --> w

It is trained upon a coherent twin, whose network it keeps as it is and whose y it draws about; what the strain shows of
an event is no part of what it is given, in training or in drawing. It learns from the witnessed part, which simulated
stores know.

Shapes: B event of a batch, D draw, R recorded channel, A template, C input, N sample, n of the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glitchflow.data.content import Content
from glitchflow.data.loader import Reads
from glitchflow.data.store.dataset import Dataset
from glitchflow.errors import InputError
from glitchflow.model import POSTERIOR_MODELS
from glitchflow.model.diffusion import FAINTEST, LOUDEST, drawn_level, levels, solve
from glitchflow.model.flow import LEVEL, Flow
from glitchflow.model.posterior import ABOUT, FOUND, REST, Posterior, X
from glitchflow.signal.streams import LEVELS, generator
from glitchflow.signal.types import Indices
from glitchflow.twin import coherent, generative, prior, start
from glitchflow.twin.crops import AFTER, BEFORE, CROP, MARGIN, crop, fill
from glitchflow.twin.front import PREPARING, Front
from glitchflow.twin.kind import Exported, Loss, Needs, Prepared, Trained
from glitchflow.twin.white import samples_of

TRUTH = ("witnessed_series", "shared_series")  # what witnesses' disturbances put into the strain, together
LOOKED = 2048  # train events among which amplitudes are sought
KNOWN = 256  # train events that say how far y is off
AT_ONCE = 32  # events whose y is found at once


def normalisation(
    dataset: Dataset, _name: str, _channels: Sequence[str], before: Prepared | None = None
) -> Front:
    """Return the front of the twin that is trained upon: y is that twin's on these numbers alone.

    Raises `InputError` where there is none, and where the dataset does not know what is witnessed.
    """
    if not isinstance(before, Front):
        raise InputError(
            "train.init_from: model.name=posterior is trained upon a coherent twin: name a checkpoint of one"
        )
    config = dataset.config
    for key, here, theirs in (
        (
            "channels",
            [name for name in before.channels if name in dataset.recorded_channels],
            before.channels,
        ),
        ("series.sample_rate", config.series.sample_rate, before.rate),
        ("qplot.span", config.qplot.span, before.span),
        ("qplot.frange", list(config.qplot.frange), list(before.band)),
    ):
        if here != theirs:
            raise InputError(f"train.init_from: its twin knows {key} = {theirs}, {dataset.path} has {here}")
    return before


def sees(front: Front) -> tuple[int, dict[str, Any]]:
    """Say how many rows a network sees, and what it has to know of them."""
    seen, more = coherent.sees(front)
    samples = samples_of(front.rate, front.span, Flow.multiple)
    if samples > round(CROP * front.unit):
        raise InputError(
            f"qplot.span = {front.span:g}: a posterior twin draws what lies within the {CROP * front.slower:g} s that"
            " its coherent twin sees at once"
        )
    return REST + seen, more | {"samples": samples}


# -- what it learns ----------------------------------------------------------------------------------------------------


def reads(dataset: Dataset, front: Front, _channels: Sequence[str], seed: int) -> Reads:
    """Say what a loader reads: of an event's middle w, y, templates and inputs (2 + A + C, n); y is what a network says
    that it goes `through`.

    Raises `InputError` for a dataset that does not know what is witnessed.
    """
    if TRUTH[0] not in dataset:
        raise InputError(
            f"{dataset.path}: does not know the witnessed part of its strain, which a posterior twin learns; a"
            " simulated store with store.series does"
        )
    return Reads(
        array="series",
        channels=places(front, dataset),
        fill=partial(_fill, front, None),
        shape=(2 + front.seen, sees(front)[1]["samples"]),
        beside=[name for name in TRUTH if name in dataset],
        view=partial(view, front, seed),
        settled="a posterior twin learns from the witnessed part that the store holds; must be 0",
    )


def places(front: Front, dataset: Dataset) -> list[int]:
    """Return where a dataset has the channels of a front."""
    return [dataset.recorded_channels.index(name) for name in front.channels]


def through(front: Front, network: nn.Module, reads: Reads) -> Reads:
    """Return what a loader reads with the y of this network's coherent one, which nothing changes any more."""
    return replace(reads, fill=partial(_fill, front, network))


def _fill(front: Front, network: nn.Module | None, series: Sequence[NDArray], out: NDArray) -> None:
    """Write w, y, templates and inputs (B, 2 + A + C, n) of recorded series with the parts of w (R + parts, N) each."""
    both, recorded = torch.from_numpy(np.stack(series).astype(np.float64)), len(front.channels)
    both[:, 0] = both[:, recorded:].sum(1)  # in the strain's place: cut where all else is
    out[:] = _middle(front, network, both[:, :recorded], out.shape[-1]).numpy()


def given(front: Front, network: nn.Module | None, series: Tensor, samples: int) -> Tensor:
    """Make of recorded series (B, R, N) float64 what draws are given: y, templates, inputs (B, 1 + A + C, n) float32.

    The strain among them is not used.
    """
    return _middle(front, network, series, samples)[:, 1:]


@torch.no_grad()
def _middle(front: Front, network: nn.Module | None, series: Tensor, samples: int) -> Tensor:
    """Make of recorded series (B, R, N) float64 white strain, y, templates, inputs (B, 2 + A + C, n) float32 around the
    event."""
    duration = series.shape[-1] / front.rate
    crops = np.zeros((len(series), 1 + front.seen, round((BEFORE + AFTER) * front.unit)))
    fill(front, round(duration * front.rate / 2 - BEFORE * front.unit), [*series.numpy()], crops)
    around = crop(front.unit, 0, torch.from_numpy(crops), np.arange(len(series)), None).float()
    y = around.new_zeros(len(series), 1, around.shape[-1])
    if network is not None:
        parts = [network.mean(some.to(next(network.parameters()))) for some in around[:, 1:].split(AT_ONCE)]  # type: ignore[operator]
        y = torch.cat(parts).float().cpu()
    first = around.shape[-1] // 2 - samples // 2
    return torch.cat([around[:, :1], y, around[:, 1:]], 1)[..., first : first + samples]


def view(front: Front, seed: int, values: Tensor, events: NDArray[np.int64], epoch: int | None) -> Tensor:
    """Return rows (B, 4 + A + C, n): w, and what a network is given, of w, y, templates and inputs (B, 2 + A + C, n).

    The noise, limited to the band as all else is, is of each event a function of (seed, epoch, event).
    """
    once = generative.ONCE if epoch is None else epoch
    rngs = [generator(seed, LEVELS, once, int(event)) for event in events]
    level = drawn_level(torch.tensor([rng.random() for rng in rngs]), torch.zeros(len(events)))
    noise = torch.from_numpy(np.stack([rng.standard_normal(values.shape[-1]) for rng in rngs]))
    told = torch.zeros_like(values[:, 0])
    told[:, LEVEL] = level.to(told)
    x = values[:, 0] + told[:, LEVEL, None] * front.limit(noise).to(told)
    return torch.cat([torch.stack([values[:, 0], told, x], 1), values[:, 1:]], 1)


def loss(name: str, _front: Front) -> Loss:
    """Return the loss of what is clean, with its weight (B, 2, n), given w (B, 1, n). Raises `InputError` for another
    name than l2."""
    if name != "l2":
        raise InputError(
            f"train.loss = {name}: a posterior twin is trained with l2, whose mean is what is clean"
        )
    return lambda generated, target: (generated[:, 1] * (generated[:, 0] - target[:, 0]).square()).mean()


# -- what is known before it is trained --------------------------------------------------------------------------------


@torch.no_grad()
def begin(network: nn.Module, front: Front, dataset: Dataset) -> None:
    """Give a network that has its coherent one what train events say of y's errors, and of templates' amplitudes."""
    assert isinstance(network, Posterior), "of this kind"
    train, reading = dataset.indices("train"), reads(dataset, front, (), 0)
    known, found = list[tuple[Tensor, Tensor, Tensor]](), list[Tensor]()
    for first in range(0, min(len(train), LOOKED), AT_ONCE):
        asked = first < KNOWN
        if not asked and sum(len(one) for one in found) >= FOUND:
            break
        source = through(front, network, reading) if asked else reading
        rows = seen(source, dataset, train[first : first + AT_ONCE])
        w, y, templates = rows[:, 0], rows[:, 1], rows[:, 2 : 2 + network.templates]
        loud = prior.loud(templates, front.prior)
        found.append(prior.amplitudes(templates[loud], w[loud], front.prior))
        if asked:
            known.append((w - y, y, loud))
    off, y, loud = (torch.cat(parts) for parts in zip(*known, strict=True))
    some = ~loud if not loud.all() else loud  # light is no error of y, but where there is always some
    prior.learn_errors(network, off[some], y[some], front.kept)
    bounces = [len(one.scales) for one in front.scatters]
    prior.learn_amplitudes(network, torch.cat(found), bounces, front.prior)


def seen(source: Reads, dataset: Dataset, events: Indices) -> Tensor:
    """Read w, y, templates and inputs (B, 2 + A + C, n), float64, of ascending events."""
    series = dataset.events("series", events, source.channels)
    parts = [dataset.events(name, events)[:, None] for name in source.beside]
    out = np.empty((len(events), *source.shape))
    source.fill([*np.concatenate([series, *parts], axis=1)], out)
    return torch.from_numpy(out)


# -- what it draws -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chances:
    """Holds the random numbers of draws of one event: which amplitude (D,), white (D, A), and (D, n)."""

    chosen: Tensor
    about: Tensor
    noise: Tensor


def chances(network: nn.Module, rngs: Sequence[np.random.Generator]) -> Chances:
    """Draw the random numbers of so many draws."""
    assert isinstance(network, Posterior), "of this kind"
    chosen = [int(rng.integers(FOUND)) for rng in rngs]
    about = np.stack([rng.standard_normal(network.templates, np.float32) for rng in rngs])
    noise = np.stack([rng.standard_normal(network.samples, np.float32) for rng in rngs])
    return Chances(torch.tensor(chosen), torch.from_numpy(about), torch.from_numpy(noise))


@torch.inference_mode()
def draw(trained: Trained, event: Tensor, random: Chances) -> Tensor:
    """Draw what the witnessed part of one event may have been, white (D, n), of what is given of it (1 + A + C, n)."""
    network, front = trained.network, trained.normalisation
    assert isinstance(network, Posterior) and isinstance(front, Front), "a posterior twin's"
    noise = front.limit(random.noise.double()).to(event)
    told = noise.new_zeros(noise.shape)
    rest = event.expand(len(noise), *event.shape)

    def clean(x: Tensor, level: Tensor) -> Tensor:
        told[:, LEVEL] = level[:, 0]
        return network(torch.cat([torch.stack([told, x], 1), rest], 1))[:, 0]

    last = torch.full((len(noise),), FAINTEST, dtype=noise.dtype, device=noise.device)
    path = levels(last, len(levels(last)) - 2)  # the last evaluation is the answer
    chosen, about = random.chosen.to(event.device), random.about.to(event)
    x = network.begin(rest, chosen, about, noise, LOUDEST)
    return clean(solve(clean, x / LOUDEST, path), last[:, None])


# -- how a training is shown, and what is not asked of this kind -------------------------------------------------------


def example(events: int, shape: Sequence[int]) -> Tensor:
    """Make noise at a level of 2."""
    rows = torch.randn(events, *shape, generator=torch.Generator().manual_seed(events))
    rows[:, ABOUT], rows[:, ABOUT, LEVEL] = 0, 2.0
    rows[:, X] *= 2.0
    return rows


def needs(content: Content, channels: Sequence[str], train: int) -> Needs:
    """Say what a training on series of these channels will hold."""
    found = start.needs(content, channels, train)
    whole, samples = (
        content.series.samples,
        samples_of(content.series.sample_rate, content.qplot.span, Flow.multiple),
    )
    seen = found.given[0]
    beside, reach = (
        found.channels + len(TRUTH),
        min(whole, round((BEFORE + AFTER + 2 * MARGIN) * found.options["rate"])),
    )
    # as read, joined, and in float64 twice; then prepared
    begun = 8 * AT_ONCE * (3 * beside * whole + PREPARING * found.channels * reach)
    return replace(
        found,
        given=(REST + seen, samples),
        options={**found.options, "samples": samples},
        kept=(2 + seen) * samples,
        batch=2 * (4 + seen) * samples,
        start=begun + 4 * 8 * KNOWN * samples,  # what is known of y's errors, and that joined
        beside=TRUTH,
    )


def axes(front: Front) -> tuple[NDArray, NDArray]:
    """Return frequencies (F,) in Hz and times (T,) in s from the event of what `energies` gives of a draw."""
    hop, samples = round(coherent.SHOWN / 2 * front.unit), sees(front)[1]["samples"]
    frames = -(-samples // hop)
    return np.arange(hop) * (front.rate / (2 * hop)), (np.arange(frames) * hop - samples / 2) / front.rate


KIND = replace(
    generative.KIND,
    name="posterior",
    models=POSTERIOR_MODELS,
    channels=coherent.channels,
    normalisation=normalisation,
    about=coherent.about,
    sees=sees,
    reads=reads,
    loss=loss,
    start=begin,
    groups=lambda network: [{"params": [one for one in network.parameters() if one.requires_grad]}],
    needs=needs,
    activations=80,
    preparing=coherent.KIND.preparing,
    energies=coherent.energies,
    axes=lambda _dataset, front: axes(front),
    exported=Exported(
        generative.Program,
        example,
        lambda front, _shape: (REST + front.seen, sees(front)[1]["samples"]),
        lambda front: {
            "input": ["event", "what is told, x, y, templates, inputs", "sample"],
            "told": {"level": LEVEL},
            "output": ["event", "sample"],
            "rate": front.rate,
            "taps": front.taps[0],
            "unit": "the strain whitened by `taps` (scipy.signal.lfilter([1], taps, x) undoes it) within qplot.frange;"
            " float32",
        },
    ),
    upon=coherent.KIND.name,
    through=through,
)
