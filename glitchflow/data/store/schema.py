"""What is in a store: its arrays, how they are cut, its attributes, and the markers of its shards.

    zarr.json            the attributes: schema, layout, arrays, and what the store was made from
    qplot/ series/ ...   arrays with an event axis, an object a shard
    gps/ label/ ...      columns: a few numbers an event, in large chunks, written when the store is finished
    frequency/ asd/ ...  arrays without an event axis, written when it is created
    .done/00007.json     marker of a shard that is done; when the store is finished, folded into
    .done/all.json       the checksums of all shards and columns, which readers want, and
    .done/statistics/    what is added up of shards, in pages (pages.py), for who extends the store
    .notes/              what the driver has to remember, as the list of recorded events

Version 1, still read, has its columns cut like the shards, its series of all channels in float64, and never folds.

Shapes: E event, C channel.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError
from pydantic.dataclasses import dataclass

from glitchflow.data.objects import reason
from glitchflow.data.store.half import read_type
from glitchflow.errors import InputError, RunError

SCHEMA = 2
SPLITS = ("train", "validation", "test")
UNSPLIT = len(SPLITS)  # in place of a split: an event that can be used and is in none
SKIPPED = -1  # in place of a split: a recorded event that could not be used, all zeros
MARKERS, FOLDED, NOTES = ".done", ".done/all.json", ".notes"
STATISTICS = ".done/statistics.json"  # where earlier versions folded the whole markers
KEPT = ".done/transients.json"  # rows of that table while it is being written
COLUMN_EVENTS = (
    2**20
)  # events of a column's chunk: 10^6 events are one object a column, of 8 MiB at most an axis
COLUMN_MIB = 64  # and of one with a value for each of many channels
APART = 16  # channels beyond which each has chunks of its own: who needs 8 of 500 reads 8
_MIB = 2**20


@dataclass(frozen=True)
class Array:
    """One per-event array: the axes after `event`, its type, and whether it is a column."""

    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    column: bool = False

    @property
    def apart(self) -> bool:
        """Whether each channel has chunks of its own."""
        by_channel = not self.column and self.dimensions[:1] in (("channel",), ("recorded_channel",))
        return by_channel and self.shape[0] > APART

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """What of an event is in one chunk."""
        return (1, *self.shape[1:]) if self.apart else self.shape

    @property
    def event_bytes(self) -> int:
        """Bytes of one event, as it is kept."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def read_bytes(self) -> int:
        """Bytes of one event, as it is read."""
        return int(np.prod(self.shape, dtype=np.int64)) * read_type(self.dtype).itemsize


@dataclass(frozen=True)
class Layout:
    """Events per chunk and per shard, powers of two, so that a shard is a whole number of chunks."""

    events: PositiveInt
    chunk: PositiveInt
    shard: PositiveInt

    @property
    def shards(self) -> int:
        """How many shards there are; the last one may be short."""
        return -(-self.events // self.shard)

    def span(self, shard: int) -> slice:
        """The events of a shard."""
        return slice(shard * self.shard, min((shard + 1) * self.shard, self.events))

    def column(self, array: Array) -> int:
        """Events of a chunk of a column: whole shards, up to a MiB or so of events."""
        most = min(COLUMN_EVENTS, COLUMN_MIB * _MIB // max(1, array.event_bytes))
        return self.shard * max(1, min(most // self.shard, self.shards))


def choose_layout(
    events: int, arrays: Mapping[str, Array], chunk_mb: float, shard_mb: float, fewest: int = 16
) -> Layout:
    """Chunks of about `chunk_mb` of `qplot`, of one channel's where there are many, and shards of about `shard_mb` over
    all arrays, at least `fewest`.

    It follows from the configuration alone, never from the cluster.
    """
    whole, images = sum(array.event_bytes for array in arrays.values()), arrays["qplot"]
    shard = _power_of_two(shard_mb * _MIB / whole)
    while shard > 1 and -(-events // shard) < fewest:
        shard //= 2
    one = images.event_bytes // (images.shape[0] if images.apart else 1)
    return Layout(events, min(shard, _power_of_two(chunk_mb * _MIB / one)), shard)


def _power_of_two(value: float) -> int:
    return 2 ** max(0, round(float(np.log2(value))))


@dataclass(frozen=True)
class Fixed:
    """An array without an event axis, as it was written; `dtype` is `text` for names."""

    shape: tuple[int, ...]
    dtype: str
    sha256: str


def fixed_of(value: NDArray) -> Fixed:
    """What a store says of an array without an event axis."""
    return Fixed(value.shape, kind_of(value.dtype), digest(value))


def kind_of(dtype: Any) -> str:
    """The name of a type; the many that texts come in have one."""
    return "text" if dtype.kind in "OUT" else str(dtype)


# -- attributes --------------------------------------------------------------------------------------------------


def _named(value: Any) -> Any:
    """Version 1 lists the names of its arrays alone."""
    return dict.fromkeys(value) if isinstance(value, list) else value


class Attributes(BaseModel):
    """What every store says of itself in its zarr.json."""

    model_config = ConfigDict(extra="allow", frozen=True)
    added_up: ClassVar[bool] = False  # whether statistics are added up of its shards' shares, which are kept
    version: Literal[1, 2] = Field(alias="schema")
    complete: bool
    layout: Layout
    sha256: str = ""  # of all this, once it is complete; version 1 has none
    arrays: Annotated[dict[str, Array | None], BeforeValidator(_named)] = Field(min_length=1)
    fixed: dict[str, Fixed] = {}  # the arrays without an event axis
    tables: dict[str, str] = {}  # types of the arrays along an axis of their own, written when it is finished


class _Made(Attributes):
    """What a dataset says besides."""

    added_up = True
    source: Literal["simulate", "ingest"]
    recorded: bool
    config: dict[str, Any]
    seed: int
    channels: list[str] = Field(min_length=1)
    labels: list[str] = Field(min_length=1)
    witnessed_labels: list[str]
    couplings: dict[str, Any]
    provenance: dict[str, Any]


class _Finished(_Made):
    normalisation: dict[str, list[Any]] | None


class _Predicted(Attributes):
    source: Literal["infer"]
    checkpoints: dict[str, Any]


_MODELS: dict[str | None, type[Attributes]] = {"simulate": _Made, "ingest": _Made, "infer": _Predicted}


def validated(path: str, raw: Any) -> Attributes:
    """The attributes of a store, checked. Raises `InputError` for what is no store of a version that is read,
    `RunError` for a store whose attributes are damaged."""
    if not isinstance(raw, dict) or "schema" not in raw:
        raise InputError(f"{path}: schema None: this version reads schemas 1 and {SCHEMA}")
    if raw["schema"] not in (1, SCHEMA):
        raise InputError(f"{path}: schema {raw['schema']}: this version reads schemas 1 and {SCHEMA}")
    source = raw.get("source")
    model = _MODELS.get(source, Attributes) if isinstance(source, str) else Attributes
    try:
        found = (_Finished if model is _Made and raw.get("complete") else model).model_validate(raw)
    except ValidationError as error:
        raise RunError(f"{path}: damaged: its zarr.json: {reason(error)}") from None
    problem = _contradiction(found, raw)
    if problem:
        raise RunError(f"{path}: damaged: its zarr.json: {problem}")
    return found


def _contradiction(found: Attributes, raw: dict[str, Any]) -> str:
    """What in the attributes cannot be, in words; empty where nothing is wrong."""
    layout, channels = found.layout, raw.get("channels", [])
    if layout.shard % layout.chunk:
        return f"layout: a shard of {layout.shard} events is no whole number of chunks of {layout.chunk}"
    if found.version == SCHEMA and None in found.arrays.values():
        return "arrays: must say dimensions, shape and dtype of each"
    for name, values in (raw.get("normalisation") or {}).items():
        if len(values) != len(channels):
            return f"normalisation.{name}: has {len(values)} values for {len(channels)} channels"
        if not _finite(values):
            return f"normalisation.{name}: holds what is no finite number"
    return ""


def _finite(values: Any) -> bool:
    try:
        return bool(np.isfinite(np.asarray(values, dtype=np.float64)).all())
    except (TypeError, ValueError):  # words, or lists of several lengths
        return False


def attributes_digest(attributes: Mapping[str, Any]) -> str:
    """SHA-256 of a finished store's attributes, but for itself: they hold numbers that networks are fed with."""
    told = {name: value for name, value in attributes.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


# -- markers -----------------------------------------------------------------------------------------------------


class Share(BaseModel):
    """What is added up of a shard: its share of the statistics, and why events could not be used, by index."""

    model_config = ConfigDict(frozen=True)
    statistics: dict[str, Any] = {}
    skipped: dict[int, str] = {}


class Marker(Share):
    """That a shard is done: the SHA-256 of its bytes in each array, what is added up of it, and its columns.

    columns: base64 of the bytes of each; transients: rows of (event, family, GPS s, SNR, witnessed). Both are empty
    once the marker is folded, and so is what is added up.
    """

    sha256: dict[str, str]
    columns: dict[str, str] = {}
    transients: list[tuple[int, int, float, float, bool]] = []

    def column(self, name: str, array: Array) -> NDArray:
        """A column of the shard's events."""
        flat = np.frombuffer(base64.b64decode(self.columns[name]), dtype=array.dtype)
        return flat.reshape(-1, *array.shape)


class Folded(BaseModel):
    """The markers of all shards of a finished store, and the SHA-256 of each chunk of its columns and of its tables."""

    model_config = ConfigDict(frozen=True)
    shards: dict[int, Marker] = {}
    columns: dict[str, list[str]] = {}


def marker_name(shard: int) -> str:
    """Where a shard's marker is."""
    return f"{MARKERS}/{shard:05d}.json"


def encode(value: NDArray) -> str:
    """The bytes of a column, for a marker."""
    return base64.b64encode(np.ascontiguousarray(value).data).decode()


def digest(value: NDArray) -> str:
    """SHA-256 of an array's bytes, in hexadecimal; of a list of names, of their JSON."""
    if value.dtype.kind in "OUT":
        return hashlib.sha256(json.dumps([str(item) for item in value]).encode()).hexdigest()
    return hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
