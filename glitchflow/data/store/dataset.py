"""A store that is open for reading: opened once, handed on, and checked as it is read.

A shard's bytes are compared with its marker's checksum the first time that a process reads from it; so are a column
and an array without an event axis. What is missing, cut off, flipped or of another shape is one line with the path,
never Zarr's fill value.

Shapes: E event, C channel, N sample.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from glitchflow.data import objects
from glitchflow.data.content import Content, read_content
from glitchflow.data.store.array import StoredArray, open_array
from glitchflow.data.store.notes import get_note
from glitchflow.data.store.schema import (
    FOLDED,
    MARKERS,
    SCHEMA,
    SPLITS,
    Array,
    Attributes,
    Folded,
    Layout,
    Marker,
    attributes_digest,
    kind_of,
    marker_name,
    validated,
)
from glitchflow.errors import InputError, RunError
from glitchflow.progress import say
from glitchflow.signal.derive import append_derived
from glitchflow.signal.streams import DERIVED, generator

HELD_BYTES = 64 * 2**20  # a column up to this is read once and kept: events ask for their time one by one


@dataclass(frozen=True, eq=False)
class Dataset:
    """A store, open for reading: its attributes, read and checked once, and its arrays by name."""

    path: str
    attributes: dict[str, Any]
    known: Attributes
    arrays: dict[str, StoredArray] = field(default_factory=dict, repr=False)  # those that were asked for
    markers: dict[int, Marker | None] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.attributes, self.known)

    def __len__(self) -> int:
        return self.layout.events

    @property
    def layout(self) -> Layout:
        """How many events there are, and how they are cut."""
        return self.known.layout

    @property
    def complete(self) -> bool:
        """Whether every shard was there when the store was opened."""
        return self.known.complete

    @cached_property
    def config(self) -> Content:
        """The sections that the store was made from."""
        return read_content(self.attributes, self.path)

    @property
    def channels(self) -> list[str]:
        """Names of the channels, the strain first."""
        return self.attributes["channels"]

    @property
    def labels(self) -> list[str]:
        """Names of the families; 0 is background."""
        return self.attributes["labels"]

    @property
    def source(self) -> str:
        """The stage that made it: simulate, ingest, infer."""
        return self.attributes["source"]

    @property
    def recorded(self) -> bool:
        """Whether the events are recorded, not simulated ones."""
        return self.attributes["recorded"]

    @property
    def couplings(self) -> dict[str, Any]:
        """The couplings of a synthetic dataset."""
        return self.attributes["couplings"]

    @property
    def normalisation(self) -> dict[str, list[Any]] | None:
        """Statistics of the train split, per channel; None where that is empty."""
        return self.attributes["normalisation"]

    @property
    def witnessed_labels(self) -> list[str]:
        """The families whose strain a witness explains."""
        return self.attributes["witnessed_labels"]

    @property
    def provenance(self) -> dict[str, Any]:
        """Where, when and with what it was made."""
        return self.attributes["provenance"]

    @property
    def names(self) -> list[str]:
        """Names of all arrays, as far as the store knows them: version 1 does not list those without an event axis."""
        return [*self.known.arrays, *self.known.fixed, *self.known.tables]

    def __contains__(self, name: str) -> bool:
        if self.known.version == SCHEMA:
            return name in self.names
        return objects.has(self.path, f"{name}/{objects.ROOT}")

    def __getitem__(self, name: str) -> StoredArray:
        """An array or coordinate. Raises `RunError` where its metadata are not what the store says of it."""
        if name not in self.arrays:
            self.arrays[name] = self._open(name)
        return self.arrays[name]

    def indices(self, split: str) -> NDArray[np.int64]:
        """Event indices of a split, ascending."""
        return np.flatnonzero(self["split"][:] == SPLITS.index(split))

    def blocks(
        self, indices: NDArray[np.int64], *names: str, channels: Sequence[int] | None = None
    ) -> Iterator[tuple[NDArray[np.int64], list[NDArray]]]:
        """The named arrays at ascending event indices, one shard at a time: (indices, [values, ...]).

        channels: places of those that are wanted, of arrays (event, channel, ...), in this order; None: all.
        """
        chosen = () if channels is None else (list(channels),)
        for k in np.unique(indices // self.layout.shard):
            inside = indices[indices // self.layout.shard == k]
            span = slice(int(inside[0]), int(inside[-1]) + 1)
            # of neighbours an index would make another copy
            some = slice(None) if (np.diff(inside) == 1).all() else inside - span.start
            yield inside, [self[name][(span, *chosen)][some] for name in names]

    def events(self, name: str, indices: NDArray[np.int64], channels: Sequence[int] | None = None) -> NDArray:
        """An array at ascending event indices; channels: see `blocks`."""
        found = [values for _, (values,) in self.blocks(np.asarray(indices), name, channels=channels)]
        if found:
            return found[0] if len(found) == 1 else np.concatenate(found)
        return self[name][:0] if channels is None else self[name][:0][:, list(channels)]

    @property
    def recorded_channels(self) -> list[str]:
        """The channels whose series are kept, the strain first: those that are not derived from others; version 1 kept
        all."""
        if self.known.version == 1:
            return self.channels
        derived = {item.name for item in self.config.derived}
        return [name for name in self.channels if name not in derived]

    def all_series(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Series (E, C, N) of all channels at ascending event indices; those of derived channels are made anew."""
        return self.derived(indices, self.events("series", indices).astype(np.float64, copy=False))

    def derived(self, indices: NDArray[np.int64], kept: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same, of series (E, recorded channel, N) as they are handed in."""
        if len(self.recorded_channels) == len(self.channels):
            return kept
        names, made = ["", *self.recorded_channels[1:]], self.config
        derived = [item for item in made.derived if item.name in self.channels]
        seed = self.attributes.get(
            "derived_seed", made.seed
        )  # of the store that the series are from, if another
        rate = made.series.sample_rate
        return np.stack(
            [
                append_derived(series, names, derived, rate, generator(seed, DERIVED, int(event)))
                for event, series in zip(indices, kept)
            ]
        )

    def note(self, name: str) -> Any:
        """What the driver noted under a name, or None. Raises `RunError` where it is damaged."""
        return get_note(self.path, name)

    @cached_property
    def skipped(self) -> dict[int, str]:
        """Why events could not be used, by index; earlier versions told it in the attributes."""
        noted = self.note("skipped")
        return dict(self.attributes.get("skipped", []) if noted is None else noted)

    # -- what is checked -----------------------------------------------------------------------------------------

    @cached_property
    def folded(self) -> Folded:
        """The markers that were folded when the store was finished. Raises `RunError` where a finished one has none."""
        if self.known.version != SCHEMA:
            return Folded()
        found = objects.read(self.path, FOLDED, Folded)
        if found is None and self.complete:
            raise RunError(f"{self.path}: damaged: {FOLDED} is missing, which holds the shards' checksums")
        return found or Folded()

    def marker(self, shard: int) -> Marker | None:
        """The checksums in a shard's marker, which readers want of it; None where it is not done."""
        if shard not in self.markers:
            found = self.folded.shards.get(shard)
            if found is None and not (self.complete and self.known.version == SCHEMA):
                whole = objects.read(self.path, marker_name(shard), Marker)
                found = whole and Marker(sha256=whole.sha256)  # of 500 channels the rest is 110 kB
            self.markers[shard] = found
        return self.markers[shard]

    def checksum(self, name: str, shard: int) -> str | None:
        """The SHA-256 of an array's bytes in a shard. Raises `RunError` where a finished store has none."""
        found = self.marker(shard)
        if found is None and self.complete:
            raise RunError(f"{self.path}: damaged: the marker of shard {shard} is missing")
        if found is not None and name not in found.sha256:
            raise RunError(f"{self.path}: damaged: the marker of shard {shard} has no checksum of {name}")
        return found.sha256[name] if found else None

    def _column_checksum(self, name: str, k: int) -> str | None:
        if not self.complete:
            return None
        sums = self.folded.columns.get(name, [])
        if k >= len(sums):
            raise RunError(f"{self.path}: damaged: {FOLDED} has no checksum of {name}")
        return sums[k]

    def _open(self, name: str) -> StoredArray:
        spec = self.known.arrays.get(name)
        if spec is None and name not in self.known.arrays and name not in self:
            raise KeyError(f"{self.path}: has no array {name}")
        array = self.raw(name, "r")
        self._same_shape(name, array, spec)
        expected: Callable[[int], str | None]
        size = array.shape[0] if array.ndim else 1
        if (spec is not None and spec.column) or name in self.known.tables:
            piece, expected = array.chunks[0], partial(self._column_checksum, name)
        elif name in self.known.arrays:
            piece, expected = self.layout.shard, partial(self.checksum, name)
        else:
            fixed = self.known.fixed.get(name)
            piece, expected = max(1, size), lambda k: fixed.sha256 if fixed else None
        column = spec.column if spec else name not in self.known.arrays or array.ndim == 1
        holds = self.complete and column and array.nbytes <= HELD_BYTES
        apart = bool(spec and spec.apart) and array.chunks[1] == 1  # older stores keep all channels together
        return StoredArray(self.path, name, array, piece, expected, holds, apart)

    def raw(self, name: str, mode: Any) -> zarr.Array:
        """The array itself, without checks on what is read. Raises `RunError` where there is none."""
        return open_array(self.path, name, mode)

    def _same_shape(self, name: str, array: zarr.Array, spec: Array | None) -> None:
        shape, kind = array.shape, kind_of(array.dtype)
        wanted, wanted_kind = shape, kind  # as they are to be; versions differ in what they tell
        if name in self.known.arrays:
            wanted = (len(self), *(shape[1:] if spec is None else spec.shape))
            wanted_kind = kind if spec is None else spec.dtype
        elif name in self.known.fixed:
            wanted, wanted_kind = self.known.fixed[name].shape, self.known.fixed[name].dtype
        elif name in self.known.tables:
            wanted_kind = self.known.tables[name]
        if shape != wanted:
            raise RunError(f"{self.path}/{name}: damaged: its shape is {shape}, not {wanted}")
        if kind != wanted_kind:
            raise RunError(f"{self.path}/{name}: damaged: its type is {kind}, not {wanted_kind}")


def root(path: objects.Location) -> dict[str, Any] | None:
    """The attributes in a place's zarr.json; None where it is no store that was created whole."""
    try:
        found = json.loads(objects.get(path, objects.ROOT) or b"null")
    except ValueError:
        return None
    attributes = found.get("attributes") if isinstance(found, dict) else None
    return attributes if isinstance(attributes, dict) and found.get("node_type") == "group" else None


def exists(path: objects.Location) -> bool:
    """Whether a store is there that was created whole."""
    return is_there(standing(path))


def is_there(path: objects.Location) -> bool:
    """The same of this very place."""
    if objects.is_url(path):
        objects.storage(path)  # a URL that cannot be used is not a store that is not there
    return "arrays" in (root(path) or {})


def standing(path: objects.Location) -> objects.Location:
    """Where a store is: at `path`, or beside it where a run was killed while the store's successor took its place."""
    if not is_there(path) and (root(new := successor(path)) or {}).get("complete"):
        say(f"{path}: a run was killed while it was replaced; {new}, its successor, is read")
        return new
    return path


def successor(path: objects.Location) -> objects.Location:
    """Where a store is written that is to take the place of one that is there."""
    return objects.beside(path, ".new")


def open_store(
    path: objects.Location, complete: bool = True, maker: str = "`glitchflow generate` or `ingest`"
) -> Dataset:
    """Open a store; maker: the command that makes one, for the message.

    Raises `InputError`: no store there, another schema, or (by default) not complete; `RunError` where its metadata are
    damaged.
    """
    attributes = root(path)
    if "arrays" not in (attributes or {}):
        path = standing(path)
        attributes = root(path)
    if attributes is None:
        if objects.has(path, objects.ROOT) and objects.has(path, FOLDED):
            raise RunError(f"{path}: damaged: its zarr.json is no group's metadata")
        raise InputError(f"{path}: no store there; make one with {maker}")
    known = validated(str(path), attributes)
    dataset = Dataset(str(path), attributes, known)
    sealed = known.version == SCHEMA or known.sha256  # version 1 has no checksum
    if known.complete and sealed and known.sha256 != attributes_digest(attributes):
        raise RunError(f"{path}: damaged: the attributes in its zarr.json differ from their checksum")
    if complete and not known.complete:
        left = len(missing_shards(dataset))
        raise InputError(
            f"{path}: incomplete, {left} of {known.layout.shards} shards missing;"
            " run the stage that makes it again to finish"
        )
    return dataset


def missing_shards(dataset: Dataset) -> list[int]:
    """Shards without a marker, ascending; the markers are listed once."""
    names = set(objects.names(dataset.path, MARKERS))
    there = dataset.folded.shards if FOLDED in names else {}
    shards = range(dataset.layout.shards)
    return [k for k in shards if marker_name(k) not in names and k not in there]
