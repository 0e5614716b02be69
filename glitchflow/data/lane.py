"""One lane of a shuffled split, read ahead.

Shapes: C channel, "..." one channel's part of an event.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

Blocks = dict[int, NDArray]  # a block's number -> the array (event, C, ...) of all its events


class Lane:
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
