"""What witnesses and strain share all the time, and the filter that takes it out: where a steady expert starts.

    train events in which every input is quiet --cross spectra--> multichannel Wiener filter (C, P)
    validation events, quiet likewise --what it leaves of them--> whether there is anything to share

    y, moment by moment --fitted to strain - y--> by how much it is too loud there

Which events are quiet is told by the inputs alone: by the strain, a filter would choose what it is good at. A burst of
one input, which the strain may never have seen, would teach it not to listen. Instead it listens all the time, and
where what it says is not in the strain, the fit takes it back: bursts are too rare to learn from what they look like.

Shapes: B event of a batch, E event, C input, N, n sample of a crop, S piece, P tap, M moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glitchflow.data.store.dataset import Dataset
from glitchflow.model.bank import STEADY
from glitchflow.signal.types import Array, Indices
from glitchflow.signal.wiener import Wiener, cross_spectra, fit_wiener
from glitchflow.twin.crops import CROP, MARGIN
from glitchflow.twin.front import EDGE, Front, read

Float32 = NDArray[np.float32]

EVENTS = 512  # of a split that are looked at: half of them, of 4 s each, are a thousand pieces a filter long
BYTES = 2**28  # and no more than fit into so many
BLOCK = 8  # events whose spectra are held at once
# of the quiet strain's power, from which on what is shared is worth an expert: in `synthetic`, where witnesses and
# strain share glitches alone, a filter adds .0003-.0007 to it; in a shared band or line it takes out tenths
WORTH = 0.005
MOMENT = 0.125  # s from one moment to the next: a signal of one has 50 numbers, of which the fit may take one
# standard deviation of an estimate's relative error before anything is known. What is no louder than the noise stays
# as it is; of what is 20 times as loud, as a burst is, the strain decides (`seafloor`: .01 and .1 leave 5 % more)
ERROR = 0.03


def known(front: Front, dataset: Dataset) -> Front:
    """Return a front that says whether its network has a steady expert: where one would help on validation events."""
    train, validation = (_quiet(front, dataset, split) for split in ("train", "validation"))
    if not train.size or not validation.size:
        return front
    filters, there, left = _fit(front, train), 0.0, 0.0
    for strain, inputs in _blocks(validation):
        there += float(np.square(strain).sum())
        left += float(np.square(strain - filters.predict(inputs)).sum())
    return replace(front, steady=int(left < (1 - WORTH) * there))


def taps(front: Front, dataset: Dataset) -> Tensor:
    """Fit the filter (C, P) of all inputs that leaves the least of the strain of quiet train events, float64.

    P = 2 `STEADY` s and a tap, no delay in the middle, as a `Bank` of that reach has them.
    """
    return torch.from_numpy(np.pad(_fit(front, _quiet(front, dataset, "train")).taps, ((0, 0), (0, 1))))


def moments(front: Front, y: Tensor) -> Tensor:
    """Cut an estimate y (B, n) into moments (B, M, n) that give way to each other, and add up to `ERROR` y: templates
    of what it may be off by."""
    hop = round(MOMENT * front.unit)
    middles = torch.arange(0, y.shape[-1] + hop, hop, device=y.device)
    away = (torch.arange(y.shape[-1], device=y.device) - middles[:, None]).abs() / hop
    return ERROR * y[:, None] * torch.cos(torch.pi / 2 * away.clamp(max=1)).square().to(y)


def _fit(front: Front, crops: Float32) -> Wiener:
    """The Wiener filters of crops (E, 1 + C, N), limited to the band as all that is prepared is."""
    low, high = front.band
    spectra = cross_spectra(_blocks(crops), _length(front))
    return fit_wiener(spectra, front.rate, (low * (1 - EDGE), high * (1 + EDGE)))


def _quiet(front: Front, dataset: Dataset, split: str) -> Float32:
    """Crops (E, 1 + C, N) of strain and inputs of that half of a split's events in which the loudest piece of any
    input, over its median, is quietest."""
    crops, length = _crops(front, dataset, dataset.indices(split)), _length(front)
    if not crops.size:
        return crops
    pieces = crops[:, 1:, : crops.shape[-1] // length * length]
    pieces = pieces.reshape(*pieces.shape[:2], -1, length)
    power = np.einsum("ecsn,ecsn->ecs", pieces, pieces)  # (E, C, S)
    median = np.median(power, axis=(0, 2), keepdims=True)
    loud = (power / np.maximum(median, np.finfo(np.float32).tiny)).max(axis=(1, 2))
    return crops[np.sort(np.argsort(loud, kind="stable")[: -(-len(crops) // 2)])]


def _crops(front: Front, dataset: Dataset, events: Indices) -> Float32:
    """Strain and inputs (E, 1 + C, N), white, of crops in the middle of some of these events."""
    half, margin = round(CROP / 2 * front.unit), round(MARGIN * front.unit)
    middle = dataset["series"].shape[-1] // 2
    half = min(half, middle)
    first = max(0, middle - half - margin)
    channels = [0, *range(1 + front.templates, 1 + front.seen)]
    some = events[:: max(1, -(-len(events) // _most(front.seen - front.templates, 2 * half)))]
    found, done = np.empty((len(some), len(channels), 2 * half), np.float32), 0
    for raw in read(front, dataset, some):
        prepared = front.prepare(raw[..., first : middle + half + margin])[:, channels]
        found[done : done + len(raw)] = prepared[..., middle - half - first :][..., : 2 * half]
        done += len(raw)
    return found


def holds(events: int, inputs: int, samples: int) -> int:
    """Count the bytes of crops that are held while quiet ones are sought among so many events."""
    return 6 * min(events, _most(inputs, samples)) * (1 + inputs) * samples  # all, and half of them once more


def _most(inputs: int, samples: int) -> int:
    """The events that are looked at, of so many inputs and samples."""
    return max(1, min(EVENTS, BYTES // (4 * (1 + inputs) * samples)))


def _blocks(crops: Float32) -> Iterator[tuple[Array, Array]]:
    """Strain (E, N) and inputs (E, C, N) of crops, some at a time, float64."""
    for start in range(0, len(crops), BLOCK):
        block = crops[start : start + BLOCK].astype(np.float64)
        yield block[:, 0], block[:, 1:]


def _length(front: Front) -> int:
    """The samples of a piece, which a filter is as long as."""
    return 2 * round(STEADY * front.unit)
