"""Batches of a store's events for any number of ranks.

A split is shuffled into V lanes; every global batch of B events takes B / V from each lane, whatever the number N of
ranks. A rank serves V / N whole lanes, some one more where N does not divide V. Validation visits each event once.

    1. shuffle the blocks (some neighbouring chunks) of the split by (seed, epoch) and cut the sequence into V lanes
    2. inside a lane, shuffle the events of some blocks, a group, when its turn comes, by (seed, epoch, lane, group): a
       block is read once per epoch and lane
    3. a rank reads its lanes' groups ahead in threads; another one makes the coming batches of them, B / V events of
       each lane a step (batch.py), copied once; a CPU normalises them while they are in its cache, a GPU once they are
       there

A split that fits is kept in the memory of the device, else of the host, once for all its ranks (together.py): batches
are then taken from there.

With `loader.fresh` the events of an epoch are other ones each time, which the recipe draws (fresh.py) where others are
read; they are independent as they come, so that lanes are cut from the sequence of their numbers.

Which array that is, what is made of it, and what of that a batch sees, the kind of twin says (`Reads`).

Shapes: B batch, C channel (what is learned first), W witness, S channel that the loss sees, "..." one channel's part of
an event.
"""

import math
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
from glitchflow.data.batch import Batch, ahead
from glitchflow.data.fresh import fresh
from glitchflow.data.lane import Blocks, Drawn, Lane, Order
from glitchflow.data.localcopy import local_copy
from glitchflow.data.normalise import Normalisation
from glitchflow.data.store import Dataset
from glitchflow.data.store.array import StoredArray
from glitchflow.data.together import Ranks, together
from glitchflow.errors import InputError

# The order of events follows from BLOCK and GROUP: another value is another training.
BLOCK = 4  # neighbouring chunks that are read at once: 8 MB of a store as configured, which hides a disk's latency
BLOCK_BYTES = 8 * 2**20  # of a block at most where channels have chunks of their own, or one chunk of each
GROUP = 4  # blocks that a lane shuffles together; it holds two groups in memory, 64 MB a lane as configured
DRAWN = 4  # events drawn anew at once, where no chunks say how many
READERS = 2  # threads that read groups, at least: one decodes while the other waits for the disk
PIECE = 2**20  # bytes normalised at once: what one pass wrote is still in the processor's cache for the next
KEPT = 2**27  # bytes of a split read at once, where it is to be kept in memory
FREE = 3  # a split is kept where it takes at most one in so many bytes of a GPU's free memory, unless a key says more
CPU = torch.device("cpu")
_GB = 1e9


@dataclass(frozen=True)
class Reads:
    """What a loader reads of each event, and how it becomes what a network sees."""

    array: str  # of the store: (event, channel, ...)
    channels: list[int]  # that are read of it: the strain, then the witnesses chosen
    fill: Callable[
        [Sequence[NDArray], NDArray], None
    ]  # writes what is made of these, an event each, (event, C, ...)
    shape: tuple[int, ...]  # of one event then: (C, ...)
    normalisation: Normalisation | None = None  # of that, which the loader applies; None: none is left to do
    targets: int = 1  # S: the first ones of C
    # what a batch sees of that (None: all), given its events and the epoch, None in validation; of each event alone
    view: Callable[[torch.Tensor, NDArray[np.int64], int | None], torch.Tensor] | None = None
    chosen: NDArray[np.bool_] | None = (
        None  # (event of the store,), those that there is something to learn of; None: all
    )
    # further arrays of the store, (event, ...): what an event has in each is one more channel that `fill` is given
    beside: Sequence[str] = ()
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
    device: torch.device = CPU  # where batches are wanted
    cache: torch.Tensor | None = (
        None  # (event, C, ...): the whole split, as `_read` gives it, where it fits in memory
    )
    sharers: int = 1  # ranks that have that memory together

    @property
    def steps(self) -> int:
        """Global batches in an epoch; up to B + V - 2 events, other ones each epoch, are left out."""
        return len(self.events) // self.lanes // (self.batch // self.lanes)

    def epoch(self, epoch: int, rank: int = 0, ranks: int = 1, start: int = 0) -> Iterator[Batch]:
        """The shuffled batches of one rank from step `start` on: B / V events of each of its lanes."""
        if ranks > self.lanes:
            raise InputError(f"train.workers = {ranks}: must be at most loader.lanes = {self.lanes}")
        mine = range(rank * self.lanes // ranks, (rank + 1) * self.lanes // ranks)
        with ThreadPoolExecutor(max(READERS, torch.get_num_threads())) as readers:
            yield from ahead(self._makes(mine, epoch, start, readers), self.device)

    def once(self, batch: int, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """Every event of the split exactly once over all ranks, in order of the store."""
        mine = self.events[rank::ranks]
        parts = (mine[start : start + batch] for start in range(0, len(mine), batch))
        yield from ahead((partial(self.batch_of, events) for events in parts), self.device)

    def batch_of(self, events: NDArray[np.int64], epoch: int | None = None) -> Batch:
        """Some events of the split, in the order given, as they are seen in an epoch, or (None) in validation."""
        return self._batch(self._read(events), events, epoch)

    def read(self, events: NDArray[np.int64]) -> torch.Tensor:
        """What is made (event, C, ...) of any events of the split, in the order given, on the device."""
        return self._there(self._read(events))

    def _read(self, events: NDArray[np.int64]) -> torch.Tensor:
        """The same where it is kept; on the host it is not normalised yet if it is to go to a GPU."""
        if self.cache is not None:
            places = torch.from_numpy(np.searchsorted(self.events, events)).to(self.cache.device)
            found = None if self.cache.is_cuda else self._empty(len(events))
            return torch.index_select(self.cache, 0, places, out=found)
        value, blocks = self._empty(len(events)), events // self._block
        for k in np.unique(blocks):
            rows = np.flatnonzero(blocks == k)
            part = np.empty((len(rows), *value.shape[1:]), value.numpy().dtype)
            value.numpy()[rows] = self._fill(part, self._load(events[rows]), events[rows])
        return value

    @property
    def bytes(self) -> int:
        """Of the whole split, as it is kept in memory."""
        return len(self.events) * math.prod(self.reads.shape) * self._kind.itemsize

    @property
    def place(self) -> str:
        """Where batches come from, in words."""
        if self.cache is not None:
            shared = f" that {self.sharers} workers share" * (self.sharers > 1)
            return f"in {'GPU ' * self.cache.is_cuda}memory, {self.bytes / _GB:.2g} GB{shared}"
        if self.anew:
            return "drawn anew"
        return f"read from {'the store' if isinstance(self.source, StoredArray) else 'a copy on this node'}"

    def kept(self, place: torch.device | None, ranks: Ranks | None) -> "Loader":
        """The same with its split in the memory of its device, or of the host, whose ranks each read a part of it.

        All ranks come here: None is the place of one that keeps nothing.
        """
        count = len(self.events)
        with together(self.bytes if place and place.type == "cpu" else 0, ranks) as had:
            if place is None:
                return self
            memory = had.memory if place.type == "cpu" else had.memory.new_empty(self.bytes, device=place)
            kept = memory.view(self._kind).view(count, *self.reads.shape)
            read = self.read if place == self.device else self._read
            step, end = max(1, KEPT * count // self.bytes), count * (had.part + 1) // had.parts
            for start in range(count * had.part // had.parts, end, step):
                some = slice(start, min(start + step, end))
                kept[some] = read(self.events[some])
        return replace(self, cache=kept, sharers=had.parts)

    def _makes(self, mine: range, epoch: int, start: int, readers: Executor) -> Iterator[Callable[[], Batch]]:
        """Yield the calls that make the batches of an epoch, as many events of each lane."""
        share, order = self.batch // self.lanes, self.order(epoch)
        read = self._load if self.cache is None else lambda _: {}
        lanes = [Lane(order, lane, read, readers, start * share) for lane in mine]
        for _ in range(start, self.steps):
            yield partial(self._make, lanes, share, epoch)

    def _make(self, lanes: list[Lane], share: int, epoch: int) -> Batch:
        """The next batch of what lanes have read."""
        parts = [part for lane in lanes for part in lane.take(share)]
        events = np.concatenate([events for events, _ in parts])
        if self.cache is not None:
            return self.batch_of(events, epoch)
        value, start = self._empty(len(events)), 0
        for some, blocks in parts:
            self._fill(value.numpy()[start : start + len(some)], blocks, some)
            start += len(some)
        return self._batch(value, events, epoch)

    def _batch(self, value: torch.Tensor, events: NDArray[np.int64], epoch: int | None) -> Batch:
        value = self._there(value)
        if self.reads.view:
            value = self.reads.view(value, events, epoch)
        return Batch(value[:, 1:], value[:, : self.reads.targets], events)

    def _there(self, value: torch.Tensor) -> torch.Tensor:
        """What was read as the network's device sees it."""
        if value.device.type == self.device.type:
            return value
        value = value.to(self.device, non_blocking=True)
        return self.reads.normalisation.apply(value) if self.reads.normalisation else value

    def _load(self, events: NDArray[np.int64]) -> Blocks:
        """The blocks that hold the events, read."""
        size, rest = self._block, (self.reads.channels,) if self._apart else ()
        spans = {int(k): slice(k * size, (k + 1) * size) for k in np.unique(events // size)}
        found = {k: np.asarray(self.source[(span, *rest)]) for k, span in spans.items()}
        for name in self.reads.beside:
            more = self.dataset[name]
            found = {
                k: np.concatenate([one, np.asarray(more[spans[k]])[:, None]], axis=1)
                for k, one in found.items()
            }
        return found

    def _fill(self, out: NDArray, blocks: Blocks, events: NDArray[np.int64]) -> NDArray:
        """Write what is made of the events (event, C, ...) to `out` and return it."""
        step = max(1, PIECE // out[0].nbytes)
        for start in range(0, len(events), step):
            piece = out[start : start + step]
            some = events[start : start + step]
            self.reads.fill([blocks[k // self._block][k % self._block][self._selection] for k in some], piece)
            if self.reads.normalisation and self.device.type == "cpu":
                self.reads.normalisation.apply_in_place(piece)
        return out

    def _empty(self, count: int) -> torch.Tensor:
        """Host memory for so many events: of a GPU's in a kind that copies need not wait for, which is used again."""
        pinned = self.device.type == "cuda"
        return torch.empty((count, *self.reads.shape), dtype=self._kind, pin_memory=pinned)

    @property
    def _kind(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def _block(self) -> int:
        """Events in a block."""
        if self.anew:
            return DRAWN
        chunk = self.dataset.layout.chunk
        if not self._apart:
            return BLOCK * chunk
        return chunk * int(np.clip(BLOCK_BYTES // (chunk * self.bytes // len(self.events)), 1, BLOCK))

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
        if beside := len(self.reads.beside):
            return [*(range(len(channels)) if first else channels), *range(-beside, 0)]
        return slice(len(channels)) if first else channels

    @property
    def version(self) -> int:
        """Which order an epoch has: a place in one is none in another."""
        return (Drawn if self.anew else Order).version

    def order(self, epoch: int) -> Order | Drawn:
        """In which order an epoch visits the events."""
        size, count = GROUP * self._block, len(self.events)
        if self.anew:
            return Drawn(self.events + epoch * count, count // self.lanes, size)
        return Order.of(self.events, self._block, self.lanes, size, self.seed, epoch)


def build_loader(
    dataset: Dataset,
    split: str,
    settings: config.Loader,
    reads: Reads,
    seed: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device = CPU,
    ranks: Ranks | None = None,
) -> Loader:
    """The loader of a split, for a network on a device, one of several ranks'. Events whose strain is missing are left
    out.

    Raises `InputError` for a split that is empty or smaller than a global batch.
    """
    if split == "train" and settings.fresh:
        if reads.settled:
            raise InputError(f"loader.fresh = {settings.fresh}: {reads.settled}")
        return replace(_fresh_loader(dataset, settings, reads, seed, dtype), device=device)
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
    lanes = settings.lanes_among(1)
    loader = Loader(dataset, events, reads, settings.batch, lanes, seed, dtype, source, device=device)
    fits = (device, room(settings, device)), (CPU, settings.cache_gb * _GB)
    loader = loader.kept(next((place for place, free in fits if loader.bytes <= free), None), ranks)
    if loader.cache is None and settings.cache_dir:
        return replace(loader, source=local_copy(dataset, Path(settings.cache_dir), reads.array))
    return loader


def room(settings: config.Loader, device: torch.device) -> float:
    """The bytes of a GPU's memory that a split may be kept in; -1 for a CPU."""
    if device.type != "cuda":
        return -1
    if settings.cache_gpu_gb is not None:
        return settings.cache_gpu_gb * _GB
    free, _ = torch.cuda.mem_get_info(device)
    return free / FREE


def _fresh_loader(
    dataset: Dataset, settings: config.Loader, reads: Reads, seed: int, dtype: torch.dtype
) -> Loader:
    """The loader of events that are drawn anew, numbered after those of the store."""
    if settings.fresh < settings.batch:
        raise InputError(f"loader.fresh = {settings.fresh}: less than loader.batch = {settings.batch}")
    among = dataset.recorded_channels if reads.array == "series" else dataset.channels
    source = fresh(dataset, reads.array, [among[i] for i in reads.channels])
    events = np.arange(len(dataset), len(dataset) + settings.fresh)
    lanes = settings.lanes_among(1)
    return Loader(dataset, events, reads, settings.batch, lanes, seed, dtype, source, anew=True)


def choose_channels(names: list[str], witnesses: list[str] | str) -> list[int]:
    """Indices of the strain and of the witnesses named (none: all). Raises `InputError` for an unknown one."""
    witnesses = config.named("loader.witnesses", witnesses)
    for name in witnesses:
        if name not in names[1:]:
            raise InputError(
                f"loader.witnesses = {name}: not in the store; there are: {', '.join(names[1:])}"
            )
    return [0, *(names.index(name) for name in witnesses or names[1:])]
