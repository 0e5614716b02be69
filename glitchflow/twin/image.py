"""The image kind: the strain's Q-plot from those of its witnesses, both normalised.

Shapes: B event of a batch, C channel (the strain first), W witness, F frequency, T time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glitchflow.data.normalise import Normalisation, build_normalisation
from glitchflow.data.store.dataset import Dataset
from glitchflow.data.store.schema import Array
from glitchflow.errors import InputError
from glitchflow.model import IMAGE_MODELS, build_loss
from glitchflow.score import metrics
from glitchflow.twin.geometry import geometry
from glitchflow.twin.kind import Exported, Kind

ARRAY = "qplot"
MASK = metrics.RECORDED_LEVEL  # energy at which masks are compared while training


def normalisation(dataset: Dataset, name: str) -> Normalisation:
    """The normalisation of that name of all channels of a dataset, from the statistics of its train split.

    Raises `InputError` where its train split is empty.
    """
    if dataset.normalisation is None:
        raise InputError(f"{dataset.path}: its train split is empty, there is nothing to learn from")
    return build_normalisation(name, dataset.normalisation)


def about(dataset: Dataset, channels: Sequence[str]) -> dict[str, Any]:
    """How the images are made, and the quantiles of each channel's loudness over the train split.

    Raises ValueError for a channel that the dataset does not have.
    """
    known = (dataset.normalisation or {}).get("loudness")
    loudness = [known[dataset.channels.index(name)] for name in channels] if known else None
    return {"geometry": geometry(dataset, channels), "loudness": loudness}


def predict(network: nn.Module, normalisation: Normalisation, inputs: Tensor) -> dict[str, Tensor]:
    """`qplot`: the strain's energies (B, F, T) from normalised witnesses (B, W, F, T)."""
    return {ARRAY: normalisation.channels([0]).invert(network(inputs))[:, 0]}


def arrays(dataset: Dataset) -> dict[str, Array]:
    """What `predict` gives: images of the size of the dataset's."""
    _, _, frequencies, times = dataset[ARRAY].shape
    return {ARRAY: Array(("frequency", "time"), (frequencies, times), "float32")}


def energies(normalisation: Normalisation, value: Tensor) -> Tensor:
    """The strain as a network generates or is taught it (B, 1, F, T), as energies (B, F, T) on the CPU."""
    return normalisation.channels([0]).invert(value)[:, 0].float().cpu()


TALLIED = ("before", "after", "overlap", "masks")


def tally(recorded: Tensor, generated: Tensor) -> dict[str, float]:
    """Sums over a batch's energies (B, F, T): excess power before and after subtraction, the IoU of masks, and the
    events that it is defined for; zeros where what is generated is not finite."""
    if not torch.isfinite(generated).all():
        return dict.fromkeys(TALLIED, 0.0)
    excess = metrics.excess_power(recorded, generated)
    iou = metrics.mask_iou(recorded, generated, MASK)
    sums = (excess.before.sum(), excess.after.sum(), np.nansum(iou), np.isfinite(iou).sum())
    return dict(zip(TALLIED, map(float, sums)))


def scores(sums: Mapping[str, float]) -> dict[str, float]:
    """The share of excess power removed and the mean IoU; a score without any event it is defined for is left out."""
    found = {}
    if sums["before"] > 0:
        found["validation_excess_removed"] = 1 - abs(sums["after"]) / sums["before"]
    if sums["masks"] > 0:
        found["validation_iou"] = sums["overlap"] / sums["masks"]
    return found


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
    normalisation=normalisation,
    about=about,
    loss=build_loss,
    predict=predict,
    arrays=arrays,
    activations=195,  # measured with the default network
    energies=energies,
    tallied=TALLIED,
    tally=tally,
    scores=scores,
    exported=Exported(
        Program,
        example,
        {
            "input": ["event", "witness", "frequency", "time"],
            "output": ["event", "frequency", "time"],
            "unit": "energies, normalised so that Gaussian noise has median 1; float32",
        },
    ),
)
