"""The order in which an epoch visits the events of a split, and one lane of it, read ahead.

What is in a lane follows from how many events each block has, and a group is shuffled by random numbers of its own when
its turn comes: of 10^8 events a rank looks at those alone that it is about to read.

Shapes: E event of the split, K block, C channel, "..." one channel's part of an event.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from glitchflow.signal.streams import SHUFFLE, generator

Blocks = dict[int, NDArray]  # a block's number -> the array (event, C, ...) of all its events


@dataclass(frozen=True)
class Order:
    """The shuffled blocks of a split in an epoch: the sequence of their events is cut into lanes, and these into
    groups."""

    events: NDArray[np.int64]  # (E,) ascending
    first: NDArray[np.int64]  # (K,) places in `events` of the first one of each block
    begins: NDArray[np.int64]  # (K + 1,) how many events come before each
    length: int  # events of a lane
    size: int  # of a group; a lane's last one may be short
    seed: int
    epoch: int
    version: ClassVar[int] = 2  # another one wherever the same numbers give another order

    @staticmethod
    def of(events: NDArray[np.int64], block: int, lanes: int, size: int, seed: int, epoch: int) -> "Order":
        """The order of an epoch. block: how many events have a place in one."""
        edges = np.searchsorted(events, block * np.arange(events[-1] // block + 2))
        blocks = generator(seed, SHUFFLE, epoch).permutation(len(edges) - 1)
        begins = np.concatenate([[0], np.cumsum(np.diff(edges)[blocks])])
        return Order(events, edges[blocks], begins, len(events) // lanes, size, seed, epoch)

    def group(self, lane: int, k: int) -> NDArray[np.int64]:
        """The events of a lane's group."""
        start = lane * self.length + k * self.size
        stop = min(start + self.size, (lane + 1) * self.length)
        low, high = np.searchsorted(self.begins, start, "right") - 1, np.searchsorted(self.begins, stop)
        shifts = self.first[low:high] - self.begins[low:high]
        edges = np.clip(self.begins[low : high + 1], start, stop)
        parts = [self.events[a + by : b + by] for a, b, by in zip(edges, edges[1:], shifts)]
        found = np.concatenate(parts)
        generator(self.seed, SHUFFLE, self.epoch, lane, k).shuffle(found)
        return found


@dataclass(frozen=True)
class Drawn:
    """Events that are independent as they come: lanes and groups are cut from them, nothing is shuffled."""

    events: NDArray[np.int64]
    length: int
    size: int
    version: ClassVar[int] = 1

    def group(self, lane: int, k: int) -> NDArray[np.int64]:
        """The events of a lane's group."""
        whole = self.events[lane * self.length : (lane + 1) * self.length]
        return whole[k * self.size : (k + 1) * self.size]


class Lane:
    """A position in one lane of an order; the group it is in and the next one are read by a pool."""

    def __init__(
        self,
        order: Order | Drawn,
        lane: int,
        read: Callable[[NDArray[np.int64]], Blocks],
        pool: Executor,
        position: int,
    ) -> None:
        self.order, self.position, self.read, self.pool = order, position, read, pool
        self.of = partial(order.group, lane)
        self.groups = -(-order.length // order.size)
        self.group = position // order.size
        self.coming = [self.submit(k) for k in range(self.group, min(self.group + 2, self.groups))]

    def submit(self, k: int) -> tuple[NDArray[np.int64], Future[Blocks]]:
        """A group's events, and what is to hold them."""
        events = self.of(k)
        return events, self.pool.submit(self.read, events)

    def take(self, count: int) -> Iterator[tuple[NDArray[np.int64], Blocks]]:
        """The next events with what holds them, in one part, or more where they straddle groups."""
        stop = self.position + count
        while self.position < stop:
            (events, blocks), begin = self.coming[0], self.group * self.order.size
            part = events[self.position - begin : stop - begin]
            yield part, blocks.result()
            self.position += len(part)
            if self.position == begin + len(events):
                self._next_group()

    def _next_group(self) -> None:
        self.group += 1
        self.coming.pop(0)
        if self.group + 1 < self.groups:
            self.coming.append(self.submit(self.group + 1))
