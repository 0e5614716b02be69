"""Batches of a store's events for any number of ranks.

The global batch never depends on the number of ranks. A split is shuffled into V lanes; every global batch of B
events takes B / V from each lane, and a rank of N serves V / N whole lanes. Validation visits each event once.

    1. shuffle the blocks (some neighbouring chunks) of the split by (seed, epoch) and cut the sequence into V lanes
    2. inside a lane, shuffle the events of some blocks, a group, at a time: a block is read once per epoch and lane
    3. a rank reads its lanes' groups ahead in threads; another one makes the coming batches of them, B / V events of
       each lane a step, copied once and normalised while they are in the processor's cache

With `loader.fresh` the events of an epoch are other ones each time, which the recipe draws (fresh.py) where others are
read; they are independent as they come, so that lanes are cut from the sequence of their numbers.

Which array that is, what is made of it, and what of that a batch sees, the kind of twin says (`Reads`).

Shapes: B batch, C channel (what is learned first), W witness, S channel that the loss sees, "..." one channel's part of
an event.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow import config
from glitchflow.data.fresh import fresh
from glitchflow.data.localcopy import local_copy
from glitchflow.data.store import Dataset
from glitchflow.errors import InputError
from glitchflow.signal.streams import SHUFFLE, generator

# The order of events follows from BLOCK and GROUP: another value is another training.
BLOCK = 4  # neighbouring chunks that are read at once: 8 MB of a store as configured, which hides a disk's latency
BLOCK_BYTES = 8 * 2**20  # of a block at most where channels have chunks of their own, or one chunk of each
GROUP = 4  # blocks that a lane shuffles together; it holds two groups in memory, 64 MB a lane as configured
DRAWN = 4  # events drawn anew at once, where no chunks say how many
READERS = 2  # threads that read groups: one decodes while the other waits for the disk
AHEAD = 2  # batches made before they are asked for: one may be late without the network waiting
PIECE = 2**20  # bytes normalised at once: what one pass wrote is still in the processor's cache for the next
_GB = 1e9

Blocks = dict[int, NDArray]  # a block's number -> the array (event, C, ...) of all its events


@dataclass(frozen=True)
class Batch:
    """Some events as a network sees them."""

    inputs: torch.Tensor  # (B, W, ...) normalised: all but the strain
    target: torch.Tensor  # (B, S, ...) normalised: the strain, and what else the loss compares with
    events: NDArray[np.int64]  # (B,) indices in the store


@dataclass(frozen=True)
class Reads:
    """What a loader reads of each event, and how it becomes what a network sees."""

    array: str  # of the store: (event, channel, ...)
    channels: list[int]  # that are read of it: the strain, then the witnesses chosen
    fill: Callable[
        [Sequence[NDArray], NDArray], None
    ]  # writes what is made of these, an event each, (event, C, ...)
    shape: tuple[int, ...]  # of one event then: (C, ...)
    targets: int = 1  # S: the first ones of C
    # what a batch sees of that (None: all), given its events and the epoch, None in validation; of each event alone
    view: Callable[[torch.Tensor, NDArray[np.int64], int | None], torch.Tensor] | None = None
    chosen: NDArray[np.bool_] | None = (
        None  # (event of the store,), those that there is something to learn of; None: all
    )
    settled: str = ""  # why events cannot be drawn anew; empty: they can


@dataclass(frozen=True)
class Loader:
    """One split of a store, normalised; what it hands out depends on (seed, epoch, step) and the rank alone."""

    dataset: Dataset
    events: NDArray[np.int64]  # ascending
    reads: Reads
    batch: int
    lanes: int
    seed: int
    dtype: torch.dtype
    source: Any  # (event, channel, ...) of the whole store: its array, a copy on a local disk, or what draws it anew
    anew: bool = False  # the source makes what it is asked for: each epoch has events of its own
    cache: NDArray | None = None  # (event, C, ...): the whole split, normalised, where it fits in memory

    @property
    def steps(self) -> int:
        """Global batches in an epoch; up to B + V - 2 events, other ones each epoch, are left out."""
        return len(self.events) // self.lanes // (self.batch // self.lanes)

    def epoch(self, epoch: int, rank: int = 0, ranks: int = 1, start: int = 0) -> Iterator[Batch]:
        """The shuffled batches of one rank from step `start` on: (B / ranks) events each."""
        if self.lanes % ranks:
            raise InputError(f"train.workers = {ranks}: must divide loader.lanes = {self.lanes}")
        mine = slice(rank * self.lanes // ranks, (rank + 1) * self.lanes // ranks)
        share = self.batch // self.lanes
        with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(1) as maker:
            lanes = [
                _Lane(lane, self._groups(lane), self._load, readers, start * share)
                for lane in self._lanes(epoch)[mine]
            ]
            make = partial(self._make, lanes, share, epoch)
            coming = deque(maker.submit(make) for _ in range(start, self.steps)[:AHEAD])
            for step in range(start, self.steps):
                batch = coming.popleft().result()
                if step + AHEAD < self.steps:
                    coming.append(maker.submit(make))
                yield batch

    def once(self, batch: int, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """Every event of the split exactly once over all ranks, in order of the store."""
        mine = self.events[rank::ranks]
        for start in range(0, len(mine), batch):
            events = mine[start : start + batch]
            yield self.batch_of(events)

    def batch_of(self, events: NDArray[np.int64]) -> Batch:
        """Some events of the split as validation sees them, in the order given."""
        return self._batch(self.read(events), events, None)

    def read(self, events: NDArray[np.int64]) -> torch.Tensor:
        """What is made (event, C, ...) of any events of the split, in the order given."""
        value = self._empty(len(events))
        blocks = events // self._block
        for k in np.unique(blocks):
            rows = np.flatnonzero(blocks == k)
            value[rows] = self._fill(self._empty(len(rows)), self._load(events[rows]), events[rows])
        return torch.from_numpy(value)

    def _batch(self, value: torch.Tensor, events: NDArray[np.int64], epoch: int | None) -> Batch:
        if self.reads.view:
            value = self.reads.view(value, events, epoch)
        return Batch(value[:, 1:], value[:, : self.reads.targets], events)

    def _make(self, lanes: "list[_Lane]", share: int, epoch: int) -> Batch:
        """The next batch, `share` events of each lane."""
        parts = [part for lane in lanes for part in lane.take(share)]
        events = np.concatenate([events for events, _ in parts])
        value, start = self._empty(len(events)), 0
        for some, blocks in parts:
            self._fill(value[start : start + len(some)], blocks, some)
            start += len(some)
        return self._batch(torch.from_numpy(value), events, epoch)

    def _load(self, events: NDArray[np.int64]) -> Blocks:
        """The blocks that hold the events, read; none where the split is in memory."""
        if self.cache is not None:
            return {}
        size, rest = self._block, (self.reads.channels,) if self._apart else ()
        spans = {int(k): slice(k * size, (k + 1) * size) for k in np.unique(events // size)}
        return {k: np.asarray(self.source[(span, *rest)]) for k, span in spans.items()}

    def _fill(self, out: NDArray, blocks: Blocks, events: NDArray[np.int64]) -> NDArray:
        """Write what is made of the events (event, C, ...) to `out` and return it."""
        if self.cache is not None:
            return np.take(self.cache, np.searchsorted(self.events, events), axis=0, out=out, mode="clip")
        step = max(1, PIECE // out[0].nbytes)
        for start in range(0, len(events), step):
            piece = out[start : start + step]
            some = events[start : start + step]
            self.reads.fill([blocks[k // self._block][k % self._block][self._selection] for k in some], piece)
        return out

    def _empty(self, count: int) -> NDArray:
        kind = "float64" if self.dtype == torch.float64 else "float32"
        return np.empty((count, *self.reads.shape), dtype=kind)

    @property
    def _block(self) -> int:
        """Events in a block."""
        if self.anew:
            return DRAWN
        chunk = self.dataset.layout.chunk
        if not self._apart:
            return BLOCK * chunk
        return chunk * int(np.clip(BLOCK_BYTES // (chunk * self._empty(1).nbytes), 1, BLOCK))

    @property
    def _apart(self) -> bool:
        """Whether only the channels that are taken are read."""
        array = self.dataset.known.arrays.get(self.reads.array)
        return self.anew or (array is not None and array.apart)

    @property
    def _selection(self) -> slice | list[int]:
        """The channels of what was read as an index; a slice, which makes no copy, where they are the first ones."""
        channels = self.reads.channels
        first = self._apart or channels == list(range(len(channels)))
        return slice(len(channels)) if first else channels

    def _lanes(self, epoch: int) -> list[NDArray[np.int64]]:
        length = len(self.events) // self.lanes
        if self.anew:
            return list(
                (self.events + epoch * len(self.events))[: length * self.lanes].reshape(self.lanes, -1)
            )
        rng = generator(self.seed, SHUFFLE, epoch)
        blocks = self.events // self._block
        position = rng.permutation(blocks.max() + 1)
        order = self.events[np.argsort(position[blocks], kind="stable")]
        lanes = [order[i * length : (i + 1) * length].copy() for i in range(self.lanes)]
        for lane in lanes:
            for group in self._groups(lane):
                rng.shuffle(lane[group])
        return lanes

    def _groups(self, lane: NDArray[np.int64]) -> list[slice]:
        """Where a lane's sequence goes from one group to the next."""
        size = GROUP * self._block
        return [slice(i, min(i + size, len(lane))) for i in range(0, len(lane), size)]


class _Lane:
    """A position in one lane's sequence of events; the group it is in and the next one are read by a pool."""

    def __init__(
        self,
        events: NDArray[np.int64],
        groups: list[slice],
        read: Callable[[NDArray[np.int64]], Blocks],
        pool: Executor,
        position: int,
    ) -> None:
        self.events, self.groups, self.position = events, groups, position
        self.submit = lambda k: pool.submit(read, events[groups[k]])
        self.group = position // groups[0].stop
        self.coming = [self.submit(k) for k in range(self.group, min(self.group + 2, len(groups)))]

    def take(self, count: int) -> Iterator[tuple[NDArray[np.int64], Blocks]]:
        """The next events with what holds them, in one part, or more where they straddle groups."""
        stop = self.position + count
        while self.position < stop:
            span = self.groups[self.group]
            part = slice(self.position, min(stop, span.stop))
            yield self.events[part], self.coming[0].result()
            self.position = part.stop
            if part.stop == span.stop:
                self._next_group()

    def _next_group(self) -> None:
        self.group += 1
        self.coming.pop(0)
        if self.group + 1 < len(self.groups):
            self.coming.append(self.submit(self.group + 1))


def build_loader(
    dataset: Dataset,
    split: str,
    settings: config.Loader,
    reads: Reads,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> Loader:
    """The loader of a split. Events whose strain is missing are left out.

    Raises `InputError` for a split that is empty or smaller than a global batch.
    """
    if split == "train" and settings.fresh:
        if reads.settled:
            raise InputError(f"loader.fresh = {settings.fresh}: {reads.settled}")
        return _fresh_loader(dataset, settings, reads, seed, dtype)
    events = dataset.indices(split)
    if "valid" in dataset:
        events = events[dataset["valid"][:][events, 0]]
    if reads.chosen is not None:
        events = events[reads.chosen[events]]
    events = events[: getattr(settings.subset, split)]
    if not len(events):
        what = "is empty" if reads.chosen is None else "has no glitch of known family and SNR"
        raise InputError(f"{dataset.path}: its {split} split {what}; see split.validation and split.test")
    if split == "train" and len(events) < settings.batch:
        raise InputError(f"loader.batch = {settings.batch}: more than the {len(events)} events to train on")
    source = dataset[reads.array]
    loader = Loader(dataset, events, reads, settings.batch, settings.lanes, seed, dtype, source)
    size = len(events) * loader._empty(1).nbytes
    if size <= settings.cache_gb * _GB:
        return replace(loader, cache=loader.read(events).numpy())
    if settings.cache_dir:
        return replace(loader, source=local_copy(dataset, Path(settings.cache_dir), reads.array))
    return loader


def _fresh_loader(
    dataset: Dataset, settings: config.Loader, reads: Reads, seed: int, dtype: torch.dtype
) -> Loader:
    """The loader of events that are drawn anew, numbered after those of the store."""
    if settings.fresh < settings.batch:
        raise InputError(f"loader.fresh = {settings.fresh}: less than loader.batch = {settings.batch}")
    among = dataset.recorded_channels if reads.array == "series" else dataset.channels
    source = fresh(dataset, reads.array, [among[i] for i in reads.channels])
    events = np.arange(len(dataset), len(dataset) + settings.fresh)
    return Loader(dataset, events, reads, settings.batch, settings.lanes, seed, dtype, source, anew=True)


def choose_channels(names: list[str], witnesses: list[str] | str) -> list[int]:
    """Indices of the strain and of the witnesses named (none: all). Raises `InputError` for an unknown one."""
    witnesses = config.named("loader.witnesses", witnesses)
    for name in witnesses:
        if name not in names[1:]:
            raise InputError(
                f"loader.witnesses = {name}: not in the store; there are: {', '.join(names[1:])}"
            )
    return [0, *(names.index(name) for name in witnesses or names[1:])]
