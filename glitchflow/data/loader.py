"""Batches of a store's events for any number of ranks.

The global batch never depends on the number of ranks. A split is shuffled into V lanes; every global batch of B
events takes B / V from each lane, and a rank of N serves V / N whole lanes. Validation visits each event once.

    1. shuffle the chunks of the split by (seed, epoch) and cut the sequence into V lanes of equal length
    2. inside a lane, shuffle the events of GROUP chunks at a time: each chunk is read once per epoch and lane
    3. a rank reads its lanes' next group, normalises, and hands out B / V events of each lane a step

Shapes: B batch, C channel, W witness, F frequency, T time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.config import InputError
from glitchflow.config.schema import Loader as Settings
from glitchflow.data.normalise import Normalisation
from glitchflow.data.store import Dataset
from glitchflow.signal.simulate import SHUFFLE, generator

GROUP = 16  # chunks that a lane holds in memory and shuffles together
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
        readers = [_Lane(lane, self._groups(lane), self.read) for lane in self._lanes(epoch)[mine]]
        share = self.batch // self.lanes
        for reader in readers:
            reader.skip(start * share)
        steps = (self._join([reader.take(share) for reader in readers]) for _ in range(start, self.steps))
        return steps if self.cache is not None else _ahead(steps)

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
        order = np.argsort(events, kind="stable")
        value = torch.empty((len(events), *self._shape), dtype=self.dtype)
        chunk = self.dataset.layout.chunk
        for k in np.unique(events // chunk):
            rows = order[events[order] // chunk == k]
            block = np.asarray(self.dataset["qplot"][k * chunk : (k + 1) * chunk])
            value[rows] = self._normalise(block[events[rows] - k * chunk])
        return value

    @property
    def _shape(self) -> tuple[int, ...]:
        return (len(self.channels), *self.dataset["qplot"].shape[2:])

    def _normalise(self, energy: NDArray[np.float32]) -> torch.Tensor:
        return self.normalisation.apply(torch.from_numpy(energy[:, self.channels]).to(self.dtype))

    def _lanes(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = generator(self.seed, SHUFFLE, epoch)
        chunks = self.events // self.dataset.layout.chunk
        position = np.empty(chunks.max() + 1, dtype=np.int64)
        position[rng.permutation(position.size)] = np.arange(position.size)
        order = self.events[np.argsort(position[chunks], kind="stable")]
        length = len(order) // self.lanes
        lanes = [order[i * length : (i + 1) * length].copy() for i in range(self.lanes)]
        for lane in lanes:
            for group in self._groups(lane):
                rng.shuffle(lane[group])
        return lanes

    def _groups(self, lane: NDArray[np.int64]) -> list[slice]:
        """Where a lane's sequence goes from one group of GROUP chunks to the next."""
        size = GROUP * self.dataset.layout.chunk
        return [slice(i, min(i + size, len(lane))) for i in range(0, len(lane), size)]

    @staticmethod
    def _join(parts: list[tuple[NDArray[np.int64], torch.Tensor]]) -> Batch:
        values = torch.cat([value for _, value in parts])
        return Batch(values[:, 1:], values[:, :1], np.concatenate([events for events, _ in parts]))


class _Lane:
    """A position in one lane's sequence of events, with the group of events that is in memory."""

    def __init__(
        self,
        events: NDArray[np.int64],
        groups: list[slice],
        read: Callable[[NDArray[np.int64]], torch.Tensor],
    ) -> None:
        self.events, self.groups, self.read = events, groups, read
        self.position, self.group, self.values = 0, -1, torch.empty(0)

    def skip(self, count: int) -> None:
        self.position += count

    def take(self, count: int) -> tuple[NDArray[np.int64], torch.Tensor]:
        stop, parts = self.position + count, []
        events = self.events[self.position : stop]
        while self.position < stop:
            group = self.position // (self.groups[0].stop)
            if group != self.group:
                self.group, self.values = group, self.read(self.events[self.groups[group]])
            first = self.groups[group].start
            until = min(stop, self.groups[group].stop)
            parts.append(self.values[self.position - first : until - first])
            self.position = until
        return events, torch.cat(parts)


def _ahead(steps: Iterator[Batch]) -> Iterator[Batch]:
    """Read the next batch in a thread while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, steps, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, steps, None)
            yield batch


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
    cache = torch.cat([bare._normalise(value) for _, (value,) in dataset.blocks(events, "qplot")])
    return Loader(**{**vars(bare), "cache": cache})


def choose_channels(names: list[str], witnesses: list[str]) -> list[int]:
    """Indices of the strain and of the witnesses named (none: all). Raises `InputError` for an unknown one."""
    for name in witnesses:
        if name not in names[1:]:
            raise InputError(
                f"loader.witnesses = {name}: not in the store; there are: {', '.join(names[1:])}"
            )
    return [0, *(names.index(name) for name in witnesses or names[1:])]
