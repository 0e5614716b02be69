"""What a coherent twin sees at once: crops of prepared series, other ones in every epoch, and side by side at use.

    recorded series of an event --front.py--> prepared, as far as any crop reaches --crop--> what a batch holds

Shapes: B event of a batch, R recorded channel, A template, C input, N sample of a series, n of a crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glitchflow.data.loader import Reads
from glitchflow.data.store.dataset import Dataset
from glitchflow.signal.streams import CROPS, DROPS, generator
from glitchflow.twin.front import Front

CROP = 4.0  # s that a network sees at once: normalised over all of it, it has to be used as it was trained
MOVED = 1.6  # s that crops are moved by, at most, either way
# s after the event's GPS time at which half of the crops end: the newest seconds are what is asked for online, and of
# crops that are only moved one in seven would end in an event; one that ends much earlier holds nothing of it
ENDS = (-0.7, 1.9)
BEFORE, AFTER = (
    max(CROP / 2 + MOVED, CROP - ENDS[0]),
    max(CROP / 2 + MOVED, ENDS[1]),
)  # s that any crop reaches
FADE = 0.5  # s over which one crop's prediction gives way to the next one's
MARGIN = 0.5  # s beyond a crop that are prepared too: whitening's past, and the band edges' ringing


def reads(dataset: Dataset, front: Front, _channels: Sequence[str], seed: int) -> Reads:
    """Say what a loader reads: prepared series (1 + A + C, n) as long as any crop may need, and crops of them."""
    places = [dataset.recorded_channels.index(name) for name in front.channels]
    middle = dataset.config.series.duration * front.rate / 2
    first, last = round(middle - BEFORE * front.unit), round((BEFORE + AFTER) * front.unit)
    return Reads(
        array="series",
        channels=places,
        fill=partial(fill, front, first),
        shape=(1 + front.seen, last),
        targets=1 + front.templates,
        view=partial(crop, front.unit, seed),
    )


def fill(front: Front, first: int, series: Sequence[NDArray], out: NDArray) -> None:
    """Write the prepared samples (B, 1 + A + C, n) from `first` on of recorded series (R, N) each; 0 where there are
    none."""
    raw, margin = np.stack(series).astype(np.float64), round(MARGIN * front.unit)
    start, stop = max(0, first - margin), min(raw.shape[-1], first + out.shape[-1] + margin)
    out[:] = 0
    prepared = front.prepare(torch.from_numpy(np.ascontiguousarray(raw[..., start:stop]))).numpy()
    inside = slice(max(0, first), min(raw.shape[-1], first + out.shape[-1]))
    out[..., inside.start - first : inside.stop - first] = prepared[
        ..., inside.start - start : inside.stop - start
    ]


def drops(found: Reads, front: Front, seed: int, share: float) -> Reads:
    """Say the same with witnesses silent in a share of the crops that are trained on."""
    return replace(found, view=partial(_seen, front, seed, share))


def _seen(
    front: Front, seed: int, drop: float, values: Tensor, events: NDArray[np.int64], epoch: int | None
) -> Tensor:
    """Cut crops, of which those that are trained on lack witnesses."""
    crops = crop(front.unit, seed, values, events, epoch)
    return crops if epoch is None else silenced(front, seed, drop, crops, events, epoch)


def silenced(
    front: Front, seed: int, drop: float, crops: Tensor, events: NDArray[np.int64], epoch: int
) -> Tensor:
    """Take witnesses, and all that is made of them, out of crops (B, 1 + A + C, n), as if they were missing.

    Each is silent in a share `drop` of the crops; which, is a function of (seed, epoch, event). The strain stays: a
    twin learns what the others still say of it (dropout of sensors: Neverova et al. 2016,
    doi:10.1109/TPAMI.2015.2461544).
    """
    made = [one.sources for one in front.scatters for _ in range(2 * len(one.scales))]
    made += [(place,) for place in front.inputs] + [one.sources for one in front.products]
    lost = np.zeros(crops.shape[:2], dtype=np.bool_)
    for row, event in enumerate(events.tolist()):
        silent = generator(seed, DROPS, epoch, event).random(len(front.channels)) < drop
        lost[row, 1:] = [any(silent[place] for place in sources) for sources in made]
    return crops.masked_fill_(torch.from_numpy(lost).to(crops.device)[..., None], 0)


def crop(unit: float, seed: int, values: Tensor, events: NDArray[np.int64], epoch: int | None) -> Tensor:
    """Cut crops (B, 1 + A + C, n) out of what `reads` gives of some events, around the event where `epoch` is None.

    unit: samples in a second of these lengths, `Front.unit`. Where each one is cut is a function of (seed, epoch,
    event): it does not depend on its batch, or on who makes it.
    """
    length, middle = round(CROP * unit), round(BEFORE * unit)
    ends = [CROP / 2 if epoch is None else _end(generator(seed, CROPS, epoch, e)) for e in events.tolist()]
    starts = torch.tensor([middle + round(end * unit) - length for end in ends], device=values.device)
    rows = torch.arange(len(events), device=values.device)
    return values.unfold(-1, length, 1)[rows, :, starts]  # in one step, on a GPU too


def _end(rng: np.random.Generator) -> float:
    """Draw where a crop ends, in s after the event."""
    return rng.uniform(*ENDS) if rng.random() < 0.5 else CROP / 2 + rng.uniform(-MOVED, MOVED)


def by_crops(
    front: Front, prepared: Tensor, function: Callable[[Tensor], dict[str, Tensor]]
) -> dict[str, NDArray]:
    """Make of whole series (B, ..., N) what a function makes of crops (B, ..., n), float64: (B, N) each.

    Crops of the length that was trained on are laid side by side over the span that is judged and a little more, each
    giving way to the next; 0 beyond them.
    """
    samples, length, fade = prepared.shape[-1], *(round(x * front.unit) for x in (CROP, FADE))
    hop = length - fade
    count = math.ceil((round(front.span * front.rate) + fade) / hop)
    ramp = torch.sin(torch.pi / 2 * (torch.arange(fade, dtype=torch.float64) + 0.5) / fade).square()
    share = torch.cat([ramp, torch.ones(length - 2 * fade, dtype=torch.float64), ramp.flip(0)])
    found: dict[str, Tensor] = {}
    for k in range(count):
        start = samples // 2 + round((k - count / 2) * hop) - fade // 2
        inside = slice(max(0, start), min(samples, start + length))
        crops = prepared.new_zeros(*prepared.shape[:2], length)
        crops[..., inside.start - start : inside.stop - start] = prepared[..., inside]
        for name, white in function(crops).items():
            whole = found.setdefault(name, prepared.new_zeros(len(prepared), samples))
            part = white.double().cpu() * share
            whole[:, inside] += part[:, inside.start - start : inside.stop - start]
    return {name: value.numpy() for name, value in found.items()}
