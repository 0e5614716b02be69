"""The store: one Zarr v3 group per dataset, written shard by shard, opened by `xarray.open_zarr`.

Every array with an `event` axis has the same shards. A shard is written whole by one task and then marked done by
`.done/<shard>.json`, which holds the SHA-256 of each array's bytes and the shard's share of the statistics. A
store without `complete` in its attributes is unfinished and readers refuse it.

Shapes: E event, C channel, F frequency, T time, N sample.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import typing
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.sync import sync

from glitchflow.config import InputError, RunError

SCHEMA = 1
SPLITS = ("train", "validation", "test")
MARKERS = ".done"
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
    path: str | Path,
    arrays: Mapping[str, Array],
    layout: Layout,
    coordinates: Mapping[str, NDArray],
    attributes: Mapping[str, Any],
    compression: str = "none",
) -> None:
    """Write the metadata and coordinates of a new, empty store; the driver does it once, before any task.

    Raises `InputError` where something is in the way, `RunError` where the file system refuses.
    """
    path = Path(path)
    partial = path.with_name(
        f"{path.name}.partial"
    )  # renamed when whole: a store has its metadata or is not there
    if path.exists():
        raise InputError(f"{path}: is in the way, and is not a store; choose another workdir")
    with _writing(path, "cannot be created"):
        shutil.rmtree(partial, ignore_errors=True)
        group = zarr.create_group(
            str(partial),
            zarr_format=3,
            attributes={"schema": SCHEMA, "complete": False, "layout": vars(layout), **attributes},
        )
        _create_arrays(group, arrays, layout, compression)
        _create_coordinates(group, coordinates)
        partial.rename(path)


@contextlib.contextmanager
def _writing(path: str | Path, what: str) -> Iterator[None]:
    """One line where the file system refuses: full, read-only, not a directory."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: {what}: {error.strerror or error}") from None


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
            config={"write_empty_chunks": True},  # a shard of zeros is a file like any other
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
    path: str | Path, shard: int, values: Mapping[str, NDArray], statistics: dict[str, Any]
) -> None:
    """Write one whole shard of every per-event array, then its done-marker.

    Raises `RunError` where the file system refuses (full, read-only).
    """
    group = _open_group(path, "r+")
    layout = _layout(group)
    span = layout.span(shard)
    marker: dict[str, Any] = {"shard": shard, "statistics": statistics, "sha256": {}}
    with _writing(path, f"shard {shard} cannot be written"):
        for name in _event_arrays(group):
            array: Any = group[name]
            value = np.ascontiguousarray(values[name], dtype=array.dtype)
            if value.shape != (span.stop - span.start, *array.shape[1:]):
                raise ValueError(
                    f"{name} of shard {shard} has shape {value.shape}, not {array.shape[1:]} an event"
                )
            _replace(array, shard, span, value)
            marker["sha256"][name] = _sha256(value)
        _put(group, _marker(shard), json.dumps(marker).encode())


def _replace(array: Any, shard: int, span: slice, value: NDArray) -> None:
    try:
        array[span] = value
    except ValueError:  # Zarr reads a shard before it replaces it, and this one is damaged
        key = array.metadata.encode_chunk_key((shard, *[0] * (array.ndim - 1)))
        sync((array.store_path / key).delete())
        array[span] = value


def finalise(path: str | Path, attributes: Mapping[str, Any]) -> None:
    """Mark a store complete, with attributes known only now. All shards must be done."""
    group = _open_group(path, "r+")
    left = missing_shards(path)
    if left:
        raise RunError(f"{path}: {len(left)} shards are missing, the first is {left[0]}")
    with _writing(path, "cannot be finished"), warnings.catch_warnings():
        group.attrs.update({**attributes, "complete": True})
        warnings.simplefilter("ignore")  # consolidated metadata is not yet part of Zarr's specification
        zarr.consolidate_metadata(group.store)


def remove(path: str | Path) -> None:
    """Delete a store that the user asked to overwrite. Refuses what is not a store of ours."""
    if "schema" not in _open_group(path, "r").attrs:
        raise InputError(f"{path}: is not a store of GlitchFlow's, so --overwrite leaves it alone")
    with _writing(path, "cannot be removed"):
        shutil.rmtree(path)


# -- markers -----------------------------------------------------------------------------------------------------


def missing_shards(path: str | Path) -> list[int]:
    """Shards without a done-marker, ascending."""
    group = _open_group(path, "r")
    layout = _layout(group)
    return [k for k in range(layout.shards) if not sync((group.store_path / _marker(k)).exists())]


def marker(path: str | Path, shard: int) -> dict[str, Any]:
    """A shard's done-marker. Raises `RunError` where there is none."""
    group = _open_group(path, "r")
    value = sync((group.store_path / _marker(shard)).get(default_buffer_prototype()))
    if value is None:
        raise RunError(f"{path}: shard {shard} is not done")
    return json.loads(value.to_bytes())


def damaged_shards(path: str | Path) -> dict[int, str]:
    """Shards whose bytes do not match their done-marker, or that cannot be read, with the reason."""
    group = _open_group(path, "r")
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


def _put(group: zarr.Group, name: str, value: bytes) -> None:
    sync((group.store_path / name).set(cpu.Buffer.from_bytes(value)))


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


def open_store(path: str | Path, complete: bool = True) -> Dataset:
    """Open a store. Raises `InputError`: no store there, another schema, or (by default) not complete."""
    group = _open_group(path, "r")
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


def exists(path: str | Path) -> bool:
    return (Path(path) / "zarr.json").exists()


def _open_group(path: str | Path, mode: Any) -> zarr.Group:
    try:
        return zarr.open_group(str(path), mode=mode)
    except (FileNotFoundError, NotADirectoryError, KeyError, ValueError):
        raise InputError(f"{path}: no store there; make one with `glitchflow generate` or `ingest`") from None


def _layout(group: zarr.Group) -> Layout:
    return Layout(**typing.cast(dict[str, int], group.attrs["layout"]))


def _sha256(value: NDArray) -> str:
    return hashlib.sha256(value.data).hexdigest()


def _event_arrays(group: zarr.Group) -> list[str]:
    """Names of the arrays with an event axis, as listed at creation."""
    return list(group.attrs["arrays"])  # type: ignore[arg-type]
