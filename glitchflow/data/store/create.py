"""What a new store is to be, and the writing of its metadata.

A store is there when its zarr.json says what arrays it has, which is written last.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from glitchflow.data import objects
from glitchflow.data.store.dataset import Dataset, open_store, root
from glitchflow.data.store.half import HALF
from glitchflow.data.store.notes import put_note
from glitchflow.data.store.schema import COLUMN_EVENTS, SCHEMA, Array, Layout, fixed_of
from glitchflow.errors import InputError

# the table of transients: a row each, along an axis of its own
TRANSIENTS = (
    ("transient_event", "int64"),
    ("transient_family", "int16"),
    ("transient_gps", "float64"),
    ("transient_snr", "float32"),
    ("transient_witnessed", "bool"),
)


# of arrays that have the same in every store; not `seconds`, of which xarray would make time differences
UNITS = {
    "gps": "s",
    "frequency": "Hz",
    "time": "s",
    "frequency0": "Hz",
    "time0": "s",
    "asd_frequency": "Hz",
    "transient_gps": "s",
}

Fixed = dict[str, tuple[tuple[str, ...], NDArray]]  # by name: the names of the axes, and the values


@dataclass(frozen=True)
class Design:
    """What a new store is to be.

    fixed: its arrays without an event axis, with the names of their axes; a name alone is a coordinate.
    transients: whether it has a table of them. notes: what the driver will want to know again, JSON.
    """

    arrays: Mapping[str, Array]
    layout: Layout
    attributes: Mapping[str, Any]
    fixed: Fixed = field(default_factory=dict)
    compression: str = "none"
    transients: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


def create(path: objects.Location, design: Design) -> Dataset:
    """Write the metadata and the fixed arrays of a new, empty store; its driver does it once, before any task.

    Raises `InputError` where something is in the way, `RunError` where the file system refuses.
    """
    refuse_foreign(path)
    with objects.writing(path, "cannot be created"):
        objects.wipe(path)  # what a killed driver left
        objects.put(path, objects.ROOT, objects.BEGUN)  # not a store before it says what arrays it has
        for name, array in design.arrays.items():
            _create_array(path, name, array, design.layout, design.compression)
        for name, (axes, values) in design.fixed.items():
            _create_fixed(path, name, axes, values)
        for name, kind in TRANSIENTS if design.transients else ():
            # compressed, since Zarr fills up a chunk of which a few rows are used
            # -1, an event that cannot be, tells a row that is not written yet
            more = {"fill_value": -1 if kind == "int64" else 0, "compressors": ZstdCodec(level=3)}
            _new_array(path, name, (0,), kind, (COLUMN_EVENTS,), ["transient"], **more)
        for name, value in design.notes.items():
            put_note(path, name, value)
        attributes = {
            "schema": SCHEMA,
            "complete": False,
            "layout": asdict(design.layout),
            **design.attributes,
            "arrays": {name: asdict(array) for name, array in design.arrays.items()},
            "fixed": {name: asdict(fixed_of(values)) for name, (_, values) in design.fixed.items()},
            "tables": dict(TRANSIENTS) if design.transients else {},
        }
        put_root(path, attributes)
    return open_store(path, complete=False)


def refuse_foreign(path: objects.Location) -> None:
    """Raise `InputError` where something lies that is no store of ours."""
    if "schema" in (root(path) or {}):
        return
    file = not objects.is_url(path) and Path(path).exists() and not Path(path).is_dir()
    if file or objects.names(path):
        raise InputError(
            f"{path}: is in the way, and is not a store of GlitchFlow's, which alone --overwrite replaces;"
            " choose another workdir"
        )


def put_root(path: objects.Location, attributes: Mapping[str, Any]) -> None:
    group = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    objects.put(path, objects.ROOT, json.dumps(group).encode())


def _create_array(path: objects.Location, name: str, array: Array, layout: Layout, compression: str) -> None:
    shard = None if array.column else (layout.shard, *array.shape)
    chunk = (layout.column(array) if array.column else layout.chunk, *array.chunk_shape)
    codecs: list[Any] = [ZstdCodec(level=3)] if compression == "zstd" else []
    if array.apart:  # of a part of a shard, nothing but the chunks' own checksums is compared
        codecs.append(Crc32cCodec())
    _new_array(
        path,
        name,
        (layout.events, *array.shape),
        array.dtype,
        chunk,
        ["event", *array.dimensions],
        shards=shard,
        compressors=codecs or None,
    )


def _create_fixed(path: objects.Location, name: str, axes: tuple[str, ...], values: NDArray) -> None:
    text = values.dtype.kind in "OUT"
    array = _new_array(path, name, values.shape, str if text else values.dtype, values.shape, list(axes))
    array[:] = values.astype(object) if text else values


def _new_array(
    path: objects.Location,
    name: str,
    shape: tuple[int, ...],
    kind: Any,
    chunks: tuple[int, ...],
    axes: list[str],
    **more: Any,
) -> Any:
    return zarr.create_array(
        objects.storage(path),
        name=name,
        shape=shape,
        dtype=kind,
        chunks=chunks,
        dimension_names=axes,
        attributes=_about(name, kind),
        config={"write_empty_chunks": True},  # a shard of zeros is an object like any other
        **{"compressors": None, **more},
    )


def _about(name: str, kind: Any) -> dict[str, Any]:
    """What who reads an array by other means has to know of it."""
    about = {"units": UNITS.get(name), "keeps": "sign(x) log(1 + |x|)" if kind == HALF else None}
    return {what: told for what, told in about.items() if told}
