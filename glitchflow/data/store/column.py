"""Columns of a store while they are filled from the markers of its shards.

Shapes: E event.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.data import objects
from glitchflow.data.store.create import TRANSIENTS
from glitchflow.data.store.schema import digest
from glitchflow.errors import RunError


@dataclass
class Column:
    """Fills a column, by ascending shard: a chunk of it is in memory. What is there already stays.

    A chunk that is damaged is filled like one that is not there. Raises `RunError` where that leaves some of it empty;
    what the place says where it does not hand one out is passed on.
    """

    where: str  # of the store and the column, for what is told
    array: Any
    events: int
    length: int  # events of a chunk
    sums: list[str] = field(default_factory=list)  # the checksums of the chunks that are done
    value: NDArray | None = None  # of the chunk at work, once something was put into it
    lost: NDArray[np.bool_] | None = None  # which of it was damaged, and was not put since

    def put(self, events: slice, values: NDArray) -> None:
        """Put the values of a shard's events."""
        while len(self.sums) < events.start // self.length:
            self._next()
        begin = len(self.sums) * self.length
        if self.value is None:
            self.value, self.lost = self._there(slice(begin, min(begin + self.length, self.events)))
        self.value[events.start - begin : events.stop - begin] = values
        if self.lost is not None:
            self.lost[events.start - begin : events.stop - begin] = False

    def close(self) -> list[str]:
        """Return the checksum of each chunk, when all is put."""
        while len(self.sums) * self.length < self.events:
            self._next()
        return self.sums

    def _there(self, span: slice) -> tuple[NDArray, NDArray[np.bool_] | None]:
        """What a chunk holds, and what of it is lost."""
        try:
            return np.array(self.array[span]), None
        except Exception as error:  # Zarr and its codecs raise anything on bytes that are not theirs
            if objects.refused(error):
                raise
            count = span.stop - span.start
            return np.zeros((count, *self.array.shape[1:]), self.array.dtype), np.ones(count, bool)

    def _next(self) -> None:
        begin = len(self.sums) * self.length
        span = slice(begin, min(begin + self.length, self.events))
        value, lost = self._there(span) if self.value is None else (self.value, self.lost)
        if lost is not None and lost.any():
            raise RunError(f"{self.where} cannot be read; --verify makes its shards again")
        if self.value is not None:
            self.array[span] = value
        self.sums.append(digest(value))
        self.value = self.lost = None


def rows_of(transients: list[tuple[int, int, float, float, bool]]) -> list[NDArray]:
    """Turn rows of the table of transients into its columns."""
    return [np.array([row[i] for row in transients], dtype=kind) for i, (_, kind) in enumerate(TRANSIENTS)]
