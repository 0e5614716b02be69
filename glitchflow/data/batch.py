"""Batches, made before they are asked for, and on a GPU brought there while the network is at work.

    a thread: make the batch on the host -> copy it on a stream of its own -> mark the end of that
    who asks: the network's stream waits for that mark, and the host for nothing

Shapes: B batch, W witness, S channel that the loss sees, "..." one channel's part of an event.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

T = TypeVar("T")

AHEAD = 2  # batches made before they are asked for: one may be late without the network waiting


@dataclass(frozen=True)
class Batch:
    """Some events as a network sees them."""

    inputs: torch.Tensor  # (B, W, ...) normalised: all but the strain
    target: torch.Tensor  # (B, S, ...) normalised: the strain, and what else the loss compares with
    events: NDArray[np.int64]  # (B,) indices in the store


def early(makes: Iterable[Callable[[], T]], count: int) -> Iterator[T]:
    """Hand out, in order, what each call makes; `count` of them are made before they are asked for, one after the
    other, in a thread."""
    makes = iter(makes)
    with ThreadPoolExecutor(1) as maker:
        coming = deque(maker.submit(make) for make in islice(makes, count))
        while coming:
            found = coming.popleft().result()
            coming.extend(maker.submit(make) for make in islice(makes, 1))
            yield found


def ahead(makes: Iterable[Callable[[], Batch]], device: torch.device) -> Iterator[Batch]:
    """Hand out, in order, what each call makes on a device; `AHEAD` of them are made before they are asked for, one
    after the other, in a thread."""
    side = None
    if device.type == "cuda":  # ROCm's devices are called cuda too
        side = torch.cuda.Stream(device)
        side.wait_stream(
            torch.cuda.current_stream(device)
        )  # which may have filled what batches are taken from
    for batch, done in early((partial(_made, make, side) for make in makes), AHEAD):
        if done:
            current = torch.cuda.current_stream(device)
            current.wait_event(done)
            for tensor in (batch.inputs, batch.target):  # their memory is taken again only after it
                tensor.record_stream(current)
        yield batch


def _made(make: Callable[[], Batch], side: torch.cuda.Stream | None) -> tuple[Batch, torch.cuda.Event | None]:
    """Make a batch, on a stream where there is one; with what marks its end there."""
    if side is None:
        return make(), None
    with torch.cuda.stream(side):
        return make(), side.record_event()
