"""The store: one Zarr v3 group per dataset, written shard by shard, opened by `xarray.open_zarr`.

Every array with an `event` axis has the same shards. A shard is written whole by one task and then marked done by
`.done/<shard>.json`, which holds the SHA-256 of each array's bytes and the shard's share of the statistics. A
store without `complete` in its attributes is unfinished and readers refuse it.

Shapes: E event, C channel, F frequency, T time, N sample.
"""

from __future__ import annotations

import hashlib
import typing
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.core.sync import sync

from glitchflow.config import Experiment, parse, upgrade
from glitchflow.data import objects
from glitchflow.data.objects import Location, is_url, open_group, writing
from glitchflow.data.objects import exists as exists
from glitchflow.errors import InputError, RunError

SCHEMA = 1
SPLITS = ("train", "validation", "test")
SKIPPED = -1  # in place of a split: a recorded event that could not be used, all zeros
MARKERS, NOTES = ".done", ".notes"
_MIB = 2**20


@dataclass(frozen=True)
class Array:
    """One array of a store: the axes after `event`, and its type."""

    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def event_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Layout:
    """Events per chunk and per shard, powers of two, so that a shard is a whole number of chunks."""

    events: int
    chunk: int
    shard: int

    @property
    def shards(self) -> int:
        return -(-self.events // self.shard)

    def span(self, shard: int) -> slice:
        return slice(shard * self.shard, min((shard + 1) * self.shard, self.events))


def choose_layout(
    events: int, arrays: Mapping[str, Array], chunk_mb: float, shard_mb: float, fewest: int = 16
) -> Layout:
    """Chunks of about `chunk_mb` of `qplot` and shards of about `shard_mb` over all arrays, at least `fewest`.

    It follows from the configuration alone, never from the cluster.
    """
    whole = sum(array.event_bytes for array in arrays.values())
    shard = _power_of_two(shard_mb * _MIB / whole)
    while shard > 1 and -(-events // shard) < fewest:
        shard //= 2
    return Layout(events, min(shard, _power_of_two(chunk_mb * _MIB / arrays["qplot"].event_bytes)), shard)


def _power_of_two(value: float) -> int:
    return 2 ** max(0, round(float(np.log2(value))))


# -- writing -----------------------------------------------------------------------------------------------------


def create(
    path: Location,
    arrays: Mapping[str, Array],
    layout: Layout,
    coordinates: Mapping[str, NDArray],
    attributes: Mapping[str, Any],
    compression: str = "none",
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write the metadata and coordinates of a new, empty store; the driver does it once, before any task.

    Raises `InputError` where something is in the way, `RunError` where the file system refuses.
    """
    if not is_url(path) and Path(path).exists():
        raise InputError(f"{path}: is in the way, and is not a store; choose another workdir")
    # a file system's store has its metadata or is not there; elsewhere the attributes, written last, say so
    partial = path if is_url(path) else Path(path).with_name(f"{Path(path).name}.partial")
    with writing(path, "cannot be created"):
        group = zarr.create_group(objects.storage(partial), zarr_format=3, overwrite=True)
        _create_arrays(group, arrays, layout, compression)
        _create_coordinates(group, coordinates)
        for name, value in (notes or {}).items():
            objects.put(group, f"{NOTES}/{name}.json", value)
        group.attrs.update({"schema": SCHEMA, "complete": False, "layout": vars(layout), **attributes})
        if partial is not path:
            Path(partial).rename(path)


def _create_arrays(group: zarr.Group, arrays: Mapping[str, Array], layout: Layout, compression: str) -> None:
    compressors = ZstdCodec(level=3) if compression == "zstd" else None
    for name, array in arrays.items():
        large = len(array.shape) > 1
        chunk = (layout.chunk if large else layout.shard, *array.shape)
        group.create_array(
            name,
            shape=(layout.events, *array.shape),
            dtype=array.dtype,
            chunks=chunk,
            shards=(layout.shard, *array.shape) if large else None,
            compressors=compressors,
            dimension_names=["event", *array.dimensions],
        )


def _create_coordinates(group: zarr.Group, coordinates: Mapping[str, NDArray]) -> None:
    for name, values in coordinates.items():
        text = values.dtype.kind in "OU"
        coordinate = group.create_array(
            name,
            shape=values.shape,
            dtype=str if text else values.dtype,
            compressors=None,
            dimension_names=[name],
        )
        coordinate[:] = values.astype(object) if text else values


def write_shard(
    path: Location,
    shard: int,
    values: Mapping[str, NDArray],
    statistics: dict[str, Any],
    skipped: Mapping[int, str] | None = None,
) -> None:
    """Write one whole shard of every per-event array, then its done-marker.

    `skipped`: why some of its events could not be used, by index.

    Raises `RunError` where the file system refuses (full, read-only).
    """
    group = open_group(path, "r+")
    layout = _layout(group)
    span = layout.span(shard)
    marker: dict[str, Any] = {
        "shard": shard,
        "statistics": statistics,
        "sha256": {},
        "skipped": dict(skipped or {}),
    }
    with writing(path, f"shard {shard} cannot be written"):
        for name in _event_arrays(group):
            # a shard of zeros is a file like any other
            array: Any = group[name].with_config({"write_empty_chunks": True})  # type: ignore[union-attr]
            value = np.ascontiguousarray(values[name], dtype=array.dtype)
            if value.shape != (span.stop - span.start, *array.shape[1:]):
                raise ValueError(
                    f"{name} of shard {shard} has shape {value.shape}, not {array.shape[1:]} an event"
                )
            _replace(array, shard, span, value)
            marker["sha256"][name] = _sha256(value)
        objects.put(group, _marker(shard), marker)


def _replace(array: Any, shard: int, span: slice, value: NDArray) -> None:
    try:
        array[span] = value
    except ValueError:  # Zarr reads a shard before it replaces it, and this one is damaged
        key = array.metadata.encode_chunk_key((shard, *[0] * (array.ndim - 1)))
        sync((array.store_path / key).delete())
        array[span] = value


def finalise(path: Location, attributes: Mapping[str, Any]) -> None:
    """Mark a store complete, with attributes known only now. All shards must be done."""
    group = open_group(path, "r+")
    left = missing_shards(path)
    if left:
        raise RunError(f"{path}: {len(left)} shards are missing, the first is {left[0]}")
    with writing(path, "cannot be finished"), warnings.catch_warnings():
        group.attrs.update({**attributes, "complete": True})
        warnings.simplefilter("ignore")  # consolidated metadata is not yet part of Zarr's specification
        zarr.consolidate_metadata(group.store)


def grow(path: Location, events: int, attributes: Mapping[str, Any]) -> None:
    """Make room for more events, up to `events`; the last shard, if it was not full, is to be made again.

    Done again after an interruption it comes to the same: the attributes change last.
    """
    group = open_group(path, "r+")
    layout = _layout(group)
    with writing(path, "cannot be extended"):
        group.attrs.update({"complete": False})
        if layout.events % layout.shard:
            objects.delete(group, _marker(layout.shards - 1))
        for name in _event_arrays(group):
            array: Any = group[name]
            array.resize((events, *array.shape[1:]))
        group.attrs.update({**attributes, "layout": vars(layout) | {"events": events}})


def remove(path: Location) -> None:
    """Delete a store that the user asked to overwrite. Refuses what is not a store of ours."""
    if "schema" not in open_group(path, "r").attrs:
        raise InputError(f"{path}: is not a store of GlitchFlow's, so --overwrite leaves it alone")
    objects.wipe(path)


# -- markers -----------------------------------------------------------------------------------------------------


def missing_shards(path: Location) -> list[int]:
    """Shards without a done-marker, ascending."""
    group = open_group(path, "r")
    layout = _layout(group)
    return [k for k in range(layout.shards) if not sync((group.store_path / _marker(k)).exists())]


def marker(path: Location, shard: int) -> dict[str, Any]:
    """A shard's done-marker. Raises `RunError` where there is none."""
    group = open_group(path, "r")
    value = objects.get(group, _marker(shard))
    if value is None:
        raise RunError(f"{path}: shard {shard} is not done")
    return value


def note(path: Location, name: str) -> Any:
    """What the driver noted under a name when it created the store, or None."""
    return objects.get(open_group(path, "r"), f"{NOTES}/{name}.json")


def forget(path: Location, shards: typing.Iterable[int]) -> None:
    """Take back the done-markers of shards, so that they are made again."""
    group = open_group(path, "r+")
    with writing(path, "cannot be written"):
        for k in shards:
            objects.delete(group, _marker(k))


def clear_partials(path: Location) -> None:
    """Delete the temporary files that killed writers left behind; only for who holds the lease."""
    if not is_url(path):
        for left in Path(path).rglob("*.partial"):
            left.unlink(missing_ok=True)


def damaged_shards(path: Location) -> dict[int, str]:
    """Shards whose bytes do not match their done-marker, or that cannot be read, with the reason."""
    group = open_group(path, "r")
    layout = _layout(group)
    missing = set(missing_shards(path))
    damage = dict.fromkeys(missing, "missing")
    for k in set(range(layout.shards)) - missing:
        for name, expected in marker(path, k)["sha256"].items():
            try:
                value = np.ascontiguousarray(group[name][layout.span(k)])  # type: ignore[index]
            except (OSError, ValueError, RuntimeError) as error:
                damage[k] = f"{name} cannot be read: {error}"
                break
            if _sha256(value) != expected:
                damage[k] = f"{name} differs from its checksum"
                break
    return dict(sorted(damage.items()))


def _marker(shard: int) -> str:
    return f"{MARKERS}/{shard:05d}.json"


def foreign_objects(path: Location) -> list[str]:
    """Objects inside the per-event arrays, or among the markers, that no shard of this store has."""
    group = open_group(path, "r")
    layout = _layout(group)
    expected = {_marker(k) for k in range(layout.shards)}
    for name in _event_arrays(group):
        metadata: Any = group[name].metadata
        rest = [0] * (len(metadata.shape) - 1)
        expected |= {f"{name}/{metadata.encode_chunk_key((k, *rest))}" for k in range(layout.shards)}
        expected.add(f"{name}/zarr.json")
    found = {key for name in (*_event_arrays(group), MARKERS) for key in objects.names(group, f"{name}/")}
    return sorted(found - expected)


# -- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dataset:
    """A complete store, open for reading."""

    path: str
    group: zarr.Group
    attributes: dict[str, Any]
    layout: Layout

    def __len__(self) -> int:
        return self.layout.events

    @property
    def channels(self) -> list[str]:
        return self.attributes["channels"]

    @property
    def labels(self) -> list[str]:
        return self.attributes["labels"]

    def __contains__(self, name: str) -> bool:
        return name in self.group

    def __getitem__(self, name: str) -> zarr.Array:
        """An array or coordinate: slice it to read, as `dataset["qplot"][:128]`."""
        return self.group[name]  # type: ignore[return-value]

    @cached_property
    def config(self) -> Experiment:
        """The configuration that the store was made with."""
        return parse(upgrade(self.attributes["config"]), self.path)

    @property
    def source(self) -> str:
        """The stage that wrote the store."""
        return self.attributes["source"]

    @property
    def recorded(self) -> bool:
        """Whether the events are recorded ones, not simulated."""
        return self.attributes["recorded"]

    @property
    def normalisation(self) -> dict[str, list[Any]] | None:
        """Statistics of the train split, per channel; None where that split is empty."""
        return self.attributes["normalisation"]

    @property
    def witnessed_labels(self) -> list[str]:
        """The families whose strain a witness explains; none in recorded data."""
        return self.attributes["witnessed_labels"]

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, host and date of whoever made the store."""
        return self.attributes["provenance"]

    def events(self, name: str, indices: NDArray[np.int64]) -> NDArray:
        """An array at ascending event indices."""
        return np.concatenate([values for _, (values,) in self.blocks(indices, name)])

    def indices(self, split: str) -> NDArray[np.int64]:
        """Event indices of a split, ascending."""
        return np.flatnonzero(np.asarray(self["split"][:]) == SPLITS.index(split))

    def blocks(
        self, indices: NDArray[np.int64], *names: str
    ) -> Iterator[tuple[NDArray[np.int64], list[NDArray]]]:
        """The named arrays at ascending event indices, one shard at a time: (indices, [values, ...])."""
        for k in np.unique(indices // self.layout.shard):
            inside = indices[indices // self.layout.shard == k]
            span = slice(int(inside[0]), int(inside[-1]) + 1)
            yield inside, [np.asarray(self[name][span])[inside - span.start] for name in names]


def open_store(path: Location, complete: bool = True) -> Dataset:
    """Open a store. Raises `InputError`: no store there, another schema, or (by default) not complete."""
    group = open_group(path, "r")
    attributes = group.attrs.asdict()
    if attributes.get("schema") != SCHEMA:
        raise InputError(f"{path}: schema {attributes.get('schema')}: this version reads schema {SCHEMA}")
    layout = _layout(group)
    if complete and not attributes["complete"]:
        left = len(missing_shards(path))
        raise InputError(
            f"{path}: incomplete, {left} of {layout.shards} shards missing; run the stage that makes it again to finish"
        )
    return Dataset(str(path), group, attributes, layout)


def _layout(group: zarr.Group) -> Layout:
    return Layout(**typing.cast(dict[str, int], group.attrs["layout"]))


def _sha256(value: NDArray) -> str:
    return hashlib.sha256(value.data).hexdigest()


def _event_arrays(group: zarr.Group) -> list[str]:
    """Names of the arrays with an event axis, as listed at creation."""
    return list(group.attrs["arrays"])  # type: ignore[arg-type]
