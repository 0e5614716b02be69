"""An array of a store, whose bytes are checked the first time that a process reads them.

What is missing, cut off, flipped or another shard's is one line with the path, never Zarr's fill value. Where each
channel has chunks of its own, only those that are asked for are read, and compared with the checksums (CRC32C) that
Zarr keeps of each.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from glitchflow.data import objects
from glitchflow.data.store.half import read_type, unpacked
from glitchflow.data.store.schema import digest
from glitchflow.errors import RunError

AT_ONCE = 2**22  # bytes that Zarr is asked for at once, of some channels


class Damaged(RunError):
    """What is in a store is not what was written; `what`, without the path and the shard."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}{what}")
        self.where, self.what = where, what

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.where, self.what)  # it comes back from Ray's tasks


@dataclass(eq=False)
class StoredArray:
    """An array of a store; slice it to read, as `dataset["qplot"][:128]`. The first index is an event or a slice; the
    second may be a list of channels."""

    path: str  # of the store
    name: str
    array: zarr.Array
    piece: int  # entries along the first axis that share a checksum
    expected: Callable[[int], str | None]  # the checksum of a piece; None where it has none yet
    holds: bool = False  # whether what was read once is kept
    apart: bool = False  # whether each channel has chunks of its own
    seen: set[int] = field(default_factory=set)  # pieces that were compared whole
    held: NDArray | None = None

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: read_type(self.array.dtype))
    nbytes = property(lambda self: self.array.size * self.dtype.itemsize)
    chunks = property(lambda self: self.array.chunks)
    shards = property(lambda self: self.array.shards)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def spans(self) -> list[slice]:
        """The entries of each piece: whoever goes over them holds one at a time."""
        return [slice(i, min(i + self.piece, len(self))) for i in range(0, len(self), self.piece)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Any) -> NDArray:
        """Raises `RunError` where what is there is not what was written."""
        return unpacked(self.kept(key))

    def kept(self, key: Any) -> NDArray:
        """The same as the store keeps it: what checksums are of, and copies on other disks."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        if self.holds:
            if self.held is None:
                self.held = self._read(slice(0, len(self)), [])
            return self.held[(first, *rest)].copy() if rest or isinstance(first, slice) else self.held[first]
        if isinstance(first, slice):
            start, stop, step = first.indices(len(self))
            return self._read(slice(start, max(start, stop)), rest)[::step]
        place = range(len(self))[first]
        return self._read(slice(place, place + 1), rest)[0]

    def verify(self, k: int) -> NDArray:
        """A whole piece as it is kept, compared with its checksum. Raises `RunError`."""
        span = slice(k * self.piece, min((k + 1) * self.piece, len(self)))
        try:
            value = np.ascontiguousarray(self.array[span])
        except Exception as error:  # noqa: BLE001  Zarr and its codecs raise anything on bytes that are not theirs
            raise self._failed(k, error) from None
        expected = self.expected(k)
        if expected is not None and digest(value) != expected:
            what = "differs from its checksum" if self._there(k) else "is missing"
            raise Damaged(self._where(k), f"{self.name} {what}")
        self.seen.add(k)
        return value

    def _some(self, k: int, inside: slice, channels: Sequence[int]) -> NDArray:
        """Some channels of a part of a piece, a few neighbours at once: of a list of them, Zarr would make index arrays
        that take twenty times the memory, and of what it is asked for it holds three copies."""
        if not self._there(k):
            raise Damaged(self._where(k), f"{self.name} is missing")
        shape = (inside.stop - inside.start, len(channels), *self.shape[2:])
        step = max(1, AT_ONCE * len(channels) // (math.prod(shape) * self.array.dtype.itemsize))
        cuts = np.flatnonzero(np.diff(channels) != 1) + 1
        try:
            if not len(cuts) and step >= len(channels):
                return np.asarray(self.array[inside, channels[0] : channels[-1] + 1])
            found = np.empty(shape, self.array.dtype)
            for run in np.split(np.arange(len(channels)), cuts):
                for some in (run[i : i + step] for i in range(0, len(run), step)):
                    first, last = channels[some[0]], channels[some[-1]]
                    found[:, some[0] : some[-1] + 1] = self.array[inside, first : last + 1]
            return found
        except Exception as error:  # noqa: BLE001  as above
            raise self._failed(k, error) from None

    def _failed(self, k: int, error: Exception) -> RunError:
        if objects.refused(error) and self._size(k) != 0:  # of nothing some object stores can give no part
            return objects.unread(self.path, error)
        return Damaged(self._where(k), f"{self.name} cannot be read: {objects.reason(error)}")

    def _there(self, k: int) -> bool:
        return self._size(k) is not None

    def _size(self, k: int) -> int | None:
        key = self.array.metadata.encode_chunk_key((k, *[0] * (self.array.ndim - 1)))
        return objects.size(self.path, f"{self.name}/{key}")

    def _where(self, k: int) -> str:
        return f"{self.path}: damaged: shard {k}: " if self.piece < len(self) else f"{self.path}: damaged: "

    def _read(self, span: slice, rest: list[Any]) -> NDArray:
        """What a span holds; pieces that were not read before are read and checked whole."""
        pieces = (
            range(span.start // self.piece, -(-span.stop // self.piece)) if span.stop > span.start else ()
        )
        few = self.apart and bool(rest) and isinstance(rest[0], list) and len(rest[0]) < self.shape[1]
        if not pieces or (not few and all(k in self.seen for k in pieces)):
            with objects.reading(self.path):
                return np.asarray(self.array[span])[(slice(None), *rest)]
        parts = []
        for k in pieces:
            low = k * self.piece
            inside = slice(max(span.start, low), min(span.stop, low + self.piece))
            if few:
                parts.append(self._some(k, inside, rest[0]))
            elif k in self.seen:
                with objects.reading(self.path):
                    parts.append(np.asarray(self.array[inside])[(slice(None), *rest)])
            else:
                parts.append(self.verify(k)[(slice(inside.start - low, inside.stop - low), *rest)])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def open_array(path: str, name: str, mode: Any) -> zarr.Array:
    """An array of a store, without checks on what is read. Raises `RunError` where there is none, `Unread` where the
    place cannot be read."""
    try:
        return zarr.open_array(objects.storage(path), path=name, mode=mode, zarr_format=3)
    except Exception as error:  # noqa: BLE001  Zarr raises anything on metadata that were edited
        if objects.refused(error):
            raise objects.unread(path, error) from None
        raise RunError(f"{path}/{name}: damaged: no array there: {objects.reason(error)}") from None
