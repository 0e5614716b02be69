"""Columns of a store while they are filled from the markers of its shards.

Shapes: E event.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.data.store.create import TRANSIENTS
from glitchflow.data.store.schema import digest


@dataclass
class Column:
    """Fills a column, by ascending shard: a chunk of it is in memory. What is there already stays."""

    array: Any
    events: int
    length: int  # events of a chunk
    sums: list[str] = field(default_factory=list)  # the checksums of the chunks that are done
    value: NDArray | None = None  # of the chunk at work, once something was put into it

    def put(self, events: slice, values: NDArray) -> None:
        """Put the values of a shard's events."""
        while len(self.sums) < events.start // self.length:
            self._next()
        begin = len(self.sums) * self.length
        if self.value is None:
            self.value = np.array(self.array[begin : begin + self.length])
        self.value[events.start - begin : events.stop - begin] = values

    def close(self) -> list[str]:
        """Return the checksum of each chunk, when all is put."""
        while len(self.sums) * self.length < self.events:
            self._next()
        return self.sums

    def _next(self) -> None:
        begin = len(self.sums) * self.length
        span = slice(begin, min(begin + self.length, self.events))
        if self.value is not None:
            self.array[span] = self.value
        self.sums.append(digest(self.array[span] if self.value is None else self.value))
        self.value = None


def rows_of(transients: list[tuple[int, int, float, float, bool]]) -> list[NDArray]:
    """Turn rows of the table of transients into its columns."""
    return [np.array([row[i] for row in transients], dtype=kind) for i, (_, kind) in enumerate(TRANSIENTS)]
