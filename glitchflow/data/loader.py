"""Batches of a store's events for any number of ranks.

The global batch never depends on the number of ranks. A split is shuffled into V lanes; every global batch of B
events takes B / V from each lane, and a rank of N serves V / N whole lanes. Validation visits each event once.

    1. shuffle the blocks (some neighbouring chunks) of the split by (seed, epoch) and cut the sequence into V lanes
    2. inside a lane, shuffle the events of some blocks, a group, at a time: a block is read once per epoch and lane
    3. a rank reads its lanes' groups ahead in threads, normalised, and hands out B / V events of each lane a step

Shapes: B batch, C channel, W witness, F frequency, T time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.config import InputError
from glitchflow.config.schema import Loader as Settings
from glitchflow.data.normalise import Normalisation
from glitchflow.data.store import Dataset
from glitchflow.signal.simulate import SHUFFLE, generator

BLOCK = 4  # neighbouring chunks that are read at once
GROUP = 4  # blocks that a lane shuffles together; it holds two groups in memory
PIECE = 16  # events normalised at once: what one pass wrote is still in the cache for the next
_GB = 1e9


@dataclass(frozen=True)
class Batch:
    inputs: torch.Tensor  # (B, W, F, T) normalised
    target: torch.Tensor  # (B, 1, F, T) normalised
    events: NDArray[np.int64]  # (B,) indices in the store


@dataclass(frozen=True)
class Loader:
    """One split of a store, normalised; what it hands out depends on (seed, epoch, step) and the rank alone."""

    dataset: Dataset
    events: NDArray[np.int64]  # ascending
    channels: list[int]  # the strain, then the witnesses chosen
    normalisation: Normalisation  # of these channels
    batch: int
    lanes: int
    seed: int
    dtype: torch.dtype
    cache: torch.Tensor | None  # (event, C, F, T): the whole split, where it fits in memory

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
        with ThreadPoolExecutor(2) as pool:
            readers = [
                _Lane(lane, self._groups(lane), self.read, pool, start * share)
                for lane in self._lanes(epoch)[mine]
            ]
            for _ in range(start, self.steps):
                yield self._join([part for reader in readers for part in reader.take(share)])

    def once(self, batch: int, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """Every event of the split exactly once over all ranks, in order of the store."""
        mine = self.events[rank::ranks]
        for start in range(0, len(mine), batch):
            events = mine[start : start + batch]
            yield self._join([(events, self.read(events))])

    def read(self, events: NDArray[np.int64]) -> torch.Tensor:
        """Normalised Q-plots (event, C, F, T) of any events of the split, in the order given."""
        if self.cache is not None:
            return self.cache[torch.from_numpy(np.searchsorted(self.events, events))]
        value = np.empty((len(events), *self._shape), dtype=self._numpy_type)
        size = BLOCK * self.dataset.layout.chunk
        for k in np.unique(events // size):
            rows = np.flatnonzero(events // size == k)
            block = np.asarray(self.dataset["qplot"][k * size : (k + 1) * size])
            for some in np.array_split(rows, -(-len(rows) // PIECE)):
                piece = block[events[some] - k * size][:, self._selection].astype(
                    self._numpy_type, copy=False
                )
                self.normalisation.apply_in_place(piece)
                value[some] = piece
        return torch.from_numpy(value)

    @property
    def _shape(self) -> tuple[int, ...]:
        return (len(self.channels), *self.dataset["qplot"].shape[2:])

    @property
    def _numpy_type(self) -> str:
        return "float64" if self.dtype == torch.float64 else "float32"

    @property
    def _selection(self) -> slice | list[int]:
        """The channels as an index; a slice, which reads no copy, where they are the first ones."""
        count = len(self.channels)
        return slice(count) if self.channels == list(range(count)) else self.channels

    def _lanes(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = generator(self.seed, SHUFFLE, epoch)
        blocks = self.events // (BLOCK * self.dataset.layout.chunk)
        position = rng.permutation(blocks.max() + 1)
        order = self.events[np.argsort(position[blocks], kind="stable")]
        length = len(order) // self.lanes
        lanes = [order[i * length : (i + 1) * length].copy() for i in range(self.lanes)]
        for lane in lanes:
            for group in self._groups(lane):
                rng.shuffle(lane[group])
        return lanes

    def _groups(self, lane: NDArray[np.int64]) -> list[slice]:
        """Where a lane's sequence goes from one group to the next."""
        size = GROUP * BLOCK * self.dataset.layout.chunk
        return [slice(i, min(i + size, len(lane))) for i in range(0, len(lane), size)]

    @staticmethod
    def _join(parts: list[tuple[NDArray[np.int64], torch.Tensor]]) -> Batch:
        values = torch.cat([value for _, value in parts])
        return Batch(values[:, 1:], values[:, :1], np.concatenate([events for events, _ in parts]))


class _Lane:
    """A position in one lane's sequence of events; the group it is in and the next one are read by a pool."""

    def __init__(
        self,
        events: NDArray[np.int64],
        groups: list[slice],
        read: Callable[[NDArray[np.int64]], torch.Tensor],
        pool: Executor,
        position: int,
    ) -> None:
        self.events, self.groups, self.position = events, groups, position
        self.submit = lambda k: pool.submit(read, events[groups[k]])
        self.group = position // groups[0].stop
        self.coming = [self.submit(k) for k in range(self.group, min(self.group + 2, len(groups)))]

    def take(self, count: int) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """The next events, in one part, or two where they straddle groups."""
        stop = self.position + count
        while self.position < stop:
            span = self.groups[self.group]
            part = slice(self.position, min(stop, span.stop))
            yield self.events[part], self.coming[0].result()[part.start - span.start : part.stop - span.start]
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
    settings: Settings,
    normalisation: Normalisation,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> Loader:
    """The loader of a split. `normalisation` is that of all channels of the store.

    Raises `InputError` for a split that is empty or smaller than a global batch, or an unknown witness.
    """
    events = dataset.indices(split)[: getattr(settings.subset, split)]
    if not len(events):
        raise InputError(f"{dataset.path}: its {split} split is empty; see split.validation and split.test")
    if split == "train" and len(events) < settings.batch:
        raise InputError(f"loader.batch = {settings.batch}: more than the {len(events)} events to train on")
    channels = choose_channels(dataset.channels, settings.witnesses)
    bare = Loader(
        dataset,
        events,
        channels,
        normalisation.channels(channels),
        settings.batch,
        settings.lanes,
        seed,
        dtype,
        None,
    )
    size = len(events) * int(np.prod(bare._shape)) * dtype.itemsize
    if size > settings.cache_gb * _GB:
        return bare
    return Loader(**{**vars(bare), "cache": bare.read(events)})


def choose_channels(names: list[str], witnesses: list[str]) -> list[int]:
    """Indices of the strain and of the witnesses named (none: all). Raises `InputError` for an unknown one."""
    for name in witnesses:
        if name not in names[1:]:
            raise InputError(
                f"loader.witnesses = {name}: not in the store; there are: {', '.join(names[1:])}"
            )
    return [0, *(names.index(name) for name in witnesses or names[1:])]
