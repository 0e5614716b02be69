"""The image kind: the strain's Q-plot from those of its witnesses, both normalised.

Shapes: B event of a batch, C channel (the strain first), W witness, F frequency, T time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glitchflow.data.content import Content
from glitchflow.data.loader import Reads
from glitchflow.data.normalise import Normalisation, build_normalisation
from glitchflow.data.store.dataset import Dataset
from glitchflow.data.store.schema import Array
from glitchflow.errors import InputError
from glitchflow.model import IMAGE_MODELS, build_loss
from glitchflow.model.loss import OF_ENERGIES, Loss
from glitchflow.score import metrics, skill
from glitchflow.signal.types import NOISE_ENERGY, Indices
from glitchflow.twin.geometry import geometry
from glitchflow.twin.kind import Answers, Asking, Exported, Kind, Needs, Replaced, Trained

ARRAY = "qplot"
MASK = metrics.RECORDED_LEVEL  # energy at which masks are compared while training
# The least mean energy that a likelihood is asked about. Scores have half of each row's own mean instead, 1.0-1.2 in
# quiet windows, which is not known while training.
LEAST = NOISE_ENERGY / 2
QUIET_BYTES = 2**26  # of the images that a median is taken of at once


def normalisation(
    dataset: Dataset, name: str, channels: Sequence[str], _before: object = None
) -> Normalisation:
    """The normalisation of that name of these channels of a dataset, from the statistics of its train split.

    Raises `InputError` where its train split is empty.
    """
    if dataset.normalisation is None:
        raise InputError(f"{dataset.path}: its train split is empty, there is nothing to learn from")
    places = [dataset.channels.index(channel) for channel in channels]
    return build_normalisation(name, dataset.normalisation).channels(places)


def reads(dataset: Dataset, normalisation: Normalisation, channels: Sequence[str], seed: int) -> Reads:
    """What a loader reads: images, the same in every epoch."""
    places = [dataset.channels.index(channel) for channel in channels]
    shape = (len(places), *dataset[ARRAY].shape[2:])
    return Reads(ARRAY, places, _fill, shape, normalisation)


def _fill(images: Sequence[NDArray], out: NDArray) -> None:
    """Write some events' images (C, F, T)."""
    for row, image in zip(out, images, strict=True):
        row[:] = image


def needs(content: Content, channels: Sequence[str], _train: int) -> Needs:
    """Say what a training on images of these channels will hold."""
    shape = (len(channels) - 1, *content.qplot.shape)
    numbers = len(channels) * math.prod(content.qplot.shape)
    return Needs(ARRAY, len(channels), shape, {}, numbers, numbers)


def about(dataset: Dataset, channels: Sequence[str]) -> dict[str, Any]:
    """How the images are made, and the quantiles of each channel's loudness over the train split.

    Raises ValueError for a channel that the dataset does not have.
    """
    known = (dataset.normalisation or {}).get("loudness")
    loudness = [known[dataset.channels.index(name)] for name in channels] if known else None
    return {"geometry": geometry(dataset, channels), "loudness": loudness}


def loss(name: str, normalisation: Normalisation) -> Loss:
    """Return the loss of that name, of normalised values (B, 1, F, T). Raises `InputError` where there is none."""
    found, strain = build_loss(name), normalisation.channels([0])
    if name not in OF_ENERGIES:
        return found
    return lambda generated, recorded: found(strain.invert(generated), strain.invert(recorded))


def finish(network: nn.Module, normalisation: Normalisation, loss: str) -> None:
    """Give a network the last step that its loss asks for: energies above `LEAST` where that takes their logarithm.

    As a part of what the network puts out, loss, validation, predictions and exported programs see the same energies;
    as a hook, it changes no name of a weight, so that any network can be trained on with any loss.
    """
    if loss in OF_ENERGIES:
        network.register_forward_hook(partial(_floored, normalisation.channels([0])))


def _floored(
    strain: Normalisation, _network: nn.Module, _inputs: tuple[Tensor, ...], value: Tensor
) -> Tensor:
    """What a network puts out (B, 1, F, T) with energies above `LEAST`, in at least float32 also under autocast."""
    return strain.floored(value.to(torch.promote_types(value.dtype, torch.float32)), LEAST)


def groups(network: nn.Module) -> list[dict[str, Any]]:
    """All weights, learned alike."""
    return [{"params": list(network.parameters())}]


def generate(network: nn.Module, normalisation: Normalisation, inputs: Tensor) -> Tensor:
    """The strain's energies (B, F, T) from normalised witnesses (B, W, F, T)."""
    return normalisation.channels([0]).invert(network(inputs))[:, 0]


@torch.inference_mode()
def predict(
    trained: Trained, block: NDArray, channels: Sequence[str], batch: int, replaced: Replaced = None
) -> dict[str, NDArray]:
    """`qplot`: the strain's energies (E, F, T) of events whose images are (E, channel, F, T)."""
    normalisation, parts = trained.normalisation, []
    assert isinstance(normalisation, Normalisation), "an image twin's"
    columns = [channels.index(name) for name in trained.channels]
    parameter = next(trained.network.parameters())
    for start in range(0, len(block), batch):
        span = slice(start, start + batch)
        values = torch.from_numpy(block[span][:, columns]).to(parameter.device, parameter.dtype)
        inputs = normalisation.apply(values)[:, 1:]
        for witness, shown in (replaced or {}).items():
            inputs[:, witness] = torch.from_numpy(shown).to(inputs)
        parts.append(generate(trained.network, normalisation, inputs).float().cpu())
    return {ARRAY: torch.cat(parts).numpy()}


def infer(asked: Sequence[Asking], dataset: Dataset, events: Indices, batch: int) -> Answers:
    """The same of ascending events of a dataset, all at once: a few of them are no less to read."""
    channels = list(dict.fromkeys(name for one in asked for name in one.trained.channels))
    block = dataset.events(ARRAY, events, [dataset.channels.index(name) for name in channels])
    for one in asked:
        yield predict(one.trained, block, channels, batch, one.replaced)


def quiet(
    dataset: Dataset, normalisation: Normalisation, channels: Sequence[str], events: Indices
) -> NDArray[np.float32]:
    """The median normalised image of each witness over some events, (W, F, T), of a few witnesses at a time."""
    places = [dataset.channels.index(name) for name in channels]
    step = max(1, QUIET_BYTES // (4 * len(events) * math.prod(dataset[ARRAY].shape[2:])))
    found = []
    for first in range(1, len(channels), step):
        some = range(first, min(first + step, len(channels)))
        chosen = dataset.events(ARRAY, events, [places[i] for i in some])
        normalisation.channels(some).apply_in_place(chosen)
        found.append(np.median(chosen, axis=0, overwrite_input=True))
    return np.concatenate(found).astype(np.float32)


def arrays(dataset: Dataset) -> dict[str, Array]:
    """What `infer` gives: images of the size of the dataset's."""
    _, _, frequencies, times = dataset[ARRAY].shape
    return {ARRAY: Array(("frequency", "time"), (frequencies, times), "float32")}


def energies(normalisation: Normalisation, value: Tensor) -> Tensor:
    """The strain as a network generates or is taught it (B, 1, F, T), as energies (B, F, T) on the CPU."""
    return normalisation.channels([0]).invert(value)[:, 0].float().cpu()


def axes(dataset: Dataset, _normalisation: Normalisation) -> tuple[NDArray, NDArray]:
    """Frequencies and times of the images; pixels where a crop moves with the event."""
    sizes = zip(("frequency", "time"), dataset[ARRAY].shape[2:])
    found = [dataset[name][:] if name in dataset else np.arange(1.0, size + 1) for name, size in sizes]
    return found[0], found[1]


TALLIED = ("overlap", "masks", "likelihood", "events", "off", "before")


def tally(recorded: Tensor, generated: Tensor, witnessed: Tensor | None) -> dict[str, float]:
    """Sums over a batch's energies (B, F, T), all zeros where what is generated is not finite.

    overlap, masks: the IoU of masks, and the events that it is defined for; likelihood, events: log G + T / G; off,
    before: |R - R*| and |T - R*| with R = T b / max(G, b), R* = T b / (W + b), where W is known.
    """
    found = dict.fromkeys(TALLIED, 0.0)
    if not torch.isfinite(generated).all():
        return found
    t, g = metrics.energies(recorded), metrics.energies(generated)
    iou, likelihood = metrics.mask_iou(t, g, MASK), skill.nll(t, g, np.full(t.shape[1], 2 * LEAST))
    found |= {"overlap": np.nansum(iou), "masks": np.isfinite(iou).sum()}
    found |= {"likelihood": likelihood.sum(), "events": len(t)}
    if witnessed is not None:
        wanted = metrics.wanted(t, witnessed)
        found["off"] = np.abs(metrics.subtract(t, g) - wanted).sum(dtype=np.float64)
        found["before"] = np.abs(t - wanted).sum(dtype=np.float64)
    return {name: float(value) for name, value in found.items()}


def scores(sums: Mapping[str, float]) -> dict[str, float]:
    """Return the scores of a validation, without those that no event defines.

    validation_nll       mean of log G + T / G over all pixels, G at least `LEAST`
    validation_residual  sum |R - R*| / sum |T - R*| over all events: 1 for nothing subtracted, 0 for W itself; what is
                         taken from quiet and unwitnessed events, and from quiet pixels, counts against it
    validation_iou       mean IoU of the masks of loud pixels
    """
    ratios = {
        "validation_nll": ("likelihood", "events"),
        "validation_residual": ("off", "before"),
        "validation_iou": ("overlap", "masks"),
    }
    return {name: sums[a] / sums[b] for name, (a, b) in ratios.items() if sums[b] > 0}


def _tally(
    normalisation: Normalisation, generated: Tensor, target: Tensor, parts: Sequence[Tensor]
) -> dict[str, float]:
    """The same of normalised values (B, 1, F, T); parts: W, or nothing."""
    recorded, predicted = energies(normalisation, target), energies(normalisation, generated)
    return tally(recorded, predicted, parts[0] if parts else None)


class Program(nn.Module):
    """A network with its normalisation: energies of the witnesses (B, W, F, T) -> of the strain (B, F, T)."""

    def __init__(self, network: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.network = network
        self.strain = normalisation.channels([0])
        self.witnesses = normalisation.channels(range(1, len(normalisation.offset)))

    def forward(self, energies: Tensor) -> Tensor:
        """Maps energies of the witnesses (B, W, F, T) to those of the strain (B, F, T), float32."""
        dtype = next(self.network.parameters()).dtype
        generated = self.network(self.witnesses.apply(energies.to(dtype)))
        return self.strain.invert(generated)[:, 0].float()


def example(events: int, shape: Sequence[int]) -> Tensor:
    """Energies of Gaussian noise in the witnesses, with a loud spot; `shape` is (W, F, T) of one event."""
    values = torch.empty(events, *shape).exponential_(generator=torch.Generator().manual_seed(events))
    values[:, :, : shape[1] // 4, : shape[2] // 4] *= 50
    return values


KIND = Kind(
    name="image",
    models=IMAGE_MODELS,
    array=ARRAY,
    truth=("witnessed",),
    channels=lambda _dataset, chosen: chosen,
    normalisation=normalisation,
    about=about,
    levels=lambda *_: None,
    sees=lambda normalisation: (len(normalisation.offset) - 1, {}),
    reads=reads,
    loss=loss,
    start=lambda network, normalisation, dataset: None,
    finish=finish,
    groups=groups,
    predict=predict,
    infer=infer,
    quiet=quiet,
    arrays=arrays,
    needs=needs,
    outputs=1,
    activations=195,  # measured with the default network
    preparing=2,
    energies=energies,
    axes=axes,
    tallied=TALLIED,
    tally=_tally,
    scores=scores,
    metric="validation_nll",
    exported=Exported(
        Program,
        example,
        lambda normalisation, shape: (len(normalisation.offset) - 1, *shape),
        lambda normalisation: {
            "input": ["event", "witness", "frequency", "time"],
            "output": ["event", "frequency", "time"],
            "unit": "energies, normalised so that Gaussian noise has median 1; float32",
        },
    ),
)
