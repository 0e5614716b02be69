"""Validation: loss and scores over a split, every event counted once, and a figure of samples.

Shapes: B batch of a rank, F frequency, T time; energies of the strain.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from glitchflow.data.loader import Batch, Loader
from glitchflow.figures import qplots as plots
from glitchflow.score import metrics
from glitchflow.train.workers import World

MASK = metrics.RECORDED_LEVEL  # energy at which masks are compared while training
Forward = Callable[[nn.Module, Batch], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


@torch.no_grad()
def validate(
    model: nn.Module,
    forward: Forward,
    loader: Loader,
    batch: int,
    world: World,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Mean loss, share of excess power removed and IoU of masks, each event counted once over all workers.

    `model` is the bare one, not the wrapped one: ranks may have one batch more or less than others. A score
    without any event it is defined for is left out. `between` is called after each batch.
    """
    model.eval()
    total = torch.zeros(6, dtype=torch.float64, device=world.device)
    for part in loader.once(batch, world.rank, world.size):
        loss, generated, target = forward(model, part)
        scores = _scores(_energies(loader, target), _energies(loader, generated))
        total[0] += loss.double() * len(part.events)
        total[1:] += torch.tensor([len(part.events), *scores], dtype=torch.float64).to(total.device)
        between()
    loss_sum, events, before, after, overlap, masks = world.add(total).tolist()
    found = {"validation_loss": loss_sum / events}
    if before > 0:
        found["validation_excess_removed"] = 1 - abs(after) / before
    if masks > 0:
        found["validation_iou"] = overlap / masks
    return found


def _energies(loader: Loader, value: torch.Tensor) -> torch.Tensor:
    """What the network sees or generates (B, 1, F, T) as energies (B, F, T) on the CPU."""
    return loader.normalisation.channels([0]).invert(value)[:, 0].float().cpu()


def _scores(recorded: torch.Tensor, generated: torch.Tensor) -> list[float]:
    """Sums over a batch: excess before and after subtraction, IoU, and the events it is defined for."""
    if not torch.isfinite(generated).all():
        return [0.0] * 4
    excess = metrics.excess_power(recorded, generated)
    iou = metrics.mask_iou(recorded, generated, MASK)
    return [excess.before.sum(), excess.after.sum(), np.nansum(iou), np.isfinite(iou).sum()]


@torch.no_grad()
def samples(model: nn.Module, forward: Forward, loader: Loader, count: int, title: str) -> Figure:
    """Recorded, generated and residual Q-plots of some events, the same ones in every epoch: the loudest of each
    of `count` equal parts of (at most 64 of) the split."""
    model.eval()
    events = loader.events[:64]
    values = loader.read(events)
    loudest = [int(part[values[part, 0].amax((1, 2)).argmax()]) for part in _parts(len(events), count)]
    chosen = Batch(values[loudest, 1:], values[loudest, :1], events[loudest])
    _, generated, target = forward(model, chosen)
    t, g = (_energies(loader, value).numpy() for value in (target, generated))
    f, s = (_axis(loader, name, size) for name, size in zip(("frequency", "time"), t.shape[1:]))
    names = [f"event {event}" for event in chosen.events]
    return plots.event_gallery(t, g, metrics.subtract(t, g), names, f, s, title)


def _parts(length: int, count: int) -> list[torch.Tensor]:
    return [part for part in torch.arange(length).tensor_split(count) if len(part)]


def _axis(loader: Loader, name: str, size: int) -> np.ndarray:
    """A coordinate of the store; pixels where a crop moves with the event."""
    return np.asarray(loader.dataset[name][:]) if name in loader.dataset else np.arange(1.0, size + 1)
