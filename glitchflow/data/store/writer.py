"""How a store is made: by one driver, who holds its lease, and tasks that write a whole shard each.

    with Writer.begin(path, design, agrees, overwrite) as writer:   lease; create, or go on with what is there
        ... write_shard(writer.dataset, k, ...) for k in writer.missing(), in tasks
        writer.collect()                                            markers -> columns, tables, one folded marker, pages
        writer.complete(attributes)                                 complete; what it replaces goes now

What is to be overwritten stays until its successor, written beside it as NAME.new, is complete. Stopped at any point,
the same command goes on with the shards that have no marker.

Shapes: E event.
"""

import contextlib
import itertools
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from glitchflow.data import lease, objects
from glitchflow.data.store.column import Column, rows_of
from glitchflow.data.store.create import TRANSIENTS, Design, create, put_root, refuse_foreign
from glitchflow.data.store.dataset import Dataset, is_there, missing_shards, open_store, root, successor
from glitchflow.data.store.half import packed
from glitchflow.data.store.notes import put_note
from glitchflow.data.store.pages import (
    all_shares,
    fill_page,
    forget_notes,
    into_pages,
    page_of,
    pages_from_notes,
)
from glitchflow.data.store.schema import (
    FOLDED,
    MARKERS,
    SCHEMA,
    Array,
    Folded,
    Layout,
    Marker,
    Share,
    attributes_digest,
    digest,
    encode,
    marker_name,
)
from glitchflow.data.store.transients import forget, kept
from glitchflow.errors import InputError, RunError

CHANGING = "changing"  # attribute: the column that is being replaced


def write_shard(
    dataset: Dataset,
    shard: int,
    values: Mapping[str, NDArray],
    statistics: Mapping[str, Any] | None = None,
    skipped: Mapping[int, str] | None = None,
    transients: Iterable[tuple[int, int, float, float, bool]] = (),
) -> None:
    """Write one whole shard of every per-event array, then its marker, which holds the columns.

    skipped: why some of its events could not be used, by index. transients: rows of the table.
    Raises `RunError` where the file system refuses (full, read-only).
    """
    span, found = dataset.layout.span(shard), {}
    for name, array in dataset.known.arrays.items():
        assert array is not None
        value = found[name] = packed(values[name], array.dtype)
        if value.shape != (span.stop - span.start, *array.shape):
            raise ValueError(f"{name} of shard {shard} has shape {value.shape}, not {array.shape} an event")
    columns = {name for name, array in dataset.known.arrays.items() if array and array.column}
    with objects.writing(dataset.path, f"shard {shard} cannot be written"):
        for name in found.keys() - columns:
            _write(dataset, name, shard, span, found[name])
        marker = Marker(
            sha256={name: digest(found[name]) for name in found if name not in columns},
            statistics=dict(statistics or {}),
            skipped=dict(skipped or {}),
            columns={name: encode(found[name]) for name in found if name in columns},
            transients=list(transients),
        )
        objects.put(dataset.path, marker_name(shard), marker.model_dump_json().encode())


@dataclass
class Writer:
    """A store that is being made by who holds its lease."""

    dataset: Dataset  # as it stands; where it is written, which with --overwrite is beside `path`
    path: objects.Location  # where it will be
    check: Callable[[], None]  # raises where the lease was lost

    @staticmethod
    @contextlib.contextmanager
    def begin(
        path: objects.Location,
        design: Callable[[], Design],
        agrees: Callable[[Dataset], None],
        overwrite: bool = False,
    ) -> "Iterator[Writer]":
        """Hold the lease of a store and go on with what is there, or create it.

        design: made where a store is created. agrees: raises `InputError` where what is there was made from something
        else. With `overwrite` nothing of that is asked of the store at `path`, which stays until the writer completes.
        Raises `Held` where another driver is at it.
        """
        with lease.hold(path) as check:
            new = successor(path)
            if not is_there(path) and (root(new) or {}).get("complete"):
                refuse_foreign(path)
                objects.replace(new, path)  # killed while it took the old one's place
            if overwrite:
                refuse_foreign(path)
            target = new if overwrite and is_there(path) else path
            dataset = _there(target, agrees, replaceable=target is new) or create(target, design())
            objects.clear_partials(target)
            forget_notes(target)
            if target is new and dataset.complete:  # killed before it took the old one's place
                objects.replace(new, path)
                dataset = open_store(path)
            yield Writer(dataset, path, check)

    @property
    def layout(self) -> Layout:
        """How the store is cut."""
        return self.dataset.layout

    @property
    def arrays(self) -> dict[str, Array]:
        """The per-event arrays."""
        return {name: array for name, array in self.dataset.known.arrays.items() if array is not None}

    def missing(self) -> list[int]:
        """Shards without a marker, ascending."""
        return missing_shards(self.dataset)

    def forget(self, shards: Iterable[int]) -> None:
        """Take back the markers of shards, so that they are made again."""
        gone = set(shards)
        if not gone:
            return
        self.refuse_earlier()
        self.check()
        with objects.writing(self.path, "cannot be written"):
            into_pages(self.dataset)
            left = {k: marker for k, marker in self.dataset.folded.shards.items() if k not in gone}
            self._begin_again({})
            self._fold(left, self.dataset.folded.columns)
            for k in gone:
                objects.delete(self.dataset.path, marker_name(k))
        self._reopen()

    def grow(self, events: int, attributes: Mapping[str, Any]) -> None:
        """Make room for more events, up to `events`; the last shard, if it was not full, is to be made again.

        Done again after an interruption it comes to the same: the attributes change last.
        """
        self.check()
        self.refuse_earlier()
        if self.layout.events % self.layout.shard:
            self.forget([self.layout.shards - 1])
        with objects.writing(self.path, "cannot be extended"):
            for name, array in self.arrays.items():
                self.dataset.raw(name, "r+").resize((events, *array.shape))
            self._begin_again({**attributes, "layout": asdict(self.layout) | {"events": events}})
        self._reopen()

    def collect(self) -> None:
        """Fold the markers: the columns go into their arrays, what is added up of shards into pages. Raises `RunError`
        where shards are missing."""
        left = self.missing()
        if left:
            raise RunError(f"{self.path}: {len(left)} shards are missing, the first is {left[0]}")
        self.check()
        with objects.writing(self.path, "cannot be finished"):
            into_pages(self.dataset)
            columns = {name: self._column(name) for name, array in self.arrays.items() if array.column}
            markers, fresh = dict(self.dataset.folded.shards), []
            rows = [rows_of([])]
            for number, some in itertools.groupby(self._fresh(), lambda one: page_of(one[0])):
                page: dict[int, Share] = {}
                for k, marker in some:
                    for name, column in columns.items():
                        column.put(self.layout.span(k), marker.column(name, self.arrays[name]))
                    rows.append(rows_of(marker.transients))
                    page[k] = Share(statistics=marker.statistics, skipped=marker.skipped)
                    markers[k] = Marker(sha256=marker.sha256)
                    fresh.append(k)
                if self.dataset.known.added_up:
                    fill_page(self.dataset, number, page)
            sums = {name: column.close() for name, column in columns.items()}
            if self.dataset.known.tables:
                sums |= self._write_transients(fresh, [np.concatenate(some) for some in zip(*rows)])
            self._fold(dict(sorted(markers.items())), sums)
            forget(self.dataset)

    def shares(self) -> Iterator[Share]:
        """What is added up of each shard, ascending, once they are collected; a page of them is in memory."""
        return all_shares(self.dataset)

    def note(self, name: str, value: Any) -> None:
        """Note something under a name, JSON, before the store is complete: what may be long has no place in the
        attributes, which every reader reads."""
        self.check()
        with objects.writing(self.path, "cannot be finished"):
            put_note(self.dataset.path, name, value)

    def complete(self, attributes: Mapping[str, Any] | None = None) -> None:
        """Mark the store complete, with attributes known only now, and put it where it is to be."""
        self.check()
        where = self.dataset.path
        with objects.writing(self.path, "cannot be finished"):
            known = self.dataset.attributes | dict(attributes or {}) | {"complete": True}
            known.pop(CHANGING, None)
            known = json.loads(json.dumps(known))  # as a reader finds them
            known["sha256"] = attributes_digest(known)
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # consolidated metadata is not yet part of Zarr's specification
                zarr.consolidate_metadata(objects.storage(where))
            group = objects.read(where, objects.ROOT, dict)
            objects.put(where, objects.ROOT, json.dumps(group | {"attributes": known}).encode())
            gone = {*map(marker_name, range(self.layout.shards))} & {*objects.names(where, MARKERS)}
            objects.delete_all(where, sorted(gone))
            if str(self.path) != str(where):
                objects.replace(where, self.path)
        self.dataset = open_store(self.path)

    def replace_column(self, name: str, values: NDArray) -> None:
        """Put other values (E,) into a column of a finished store, and each shard's statistics that follow from them,
        as its task noted them; it is to be completed then. Done again after an interruption it comes to the same."""
        self.check()
        self.refuse_earlier()
        with objects.writing(self.path, "cannot be written"):
            folded = self.dataset.folded
            self._begin_again({CHANGING: name})  # nobody reads half of it
            array = self.dataset.raw(name, "r+")
            length = array.chunks[0]
            array.with_config({"write_empty_chunks": True})[:] = values
            sums = [digest(values[i : i + length]) for i in range(0, len(values), length)]
            pages_from_notes(self.dataset)
            self._fold(folded.shards, {**folded.columns, name: sums})

    # -- its parts -----------------------------------------------------------------------------------------------

    def _fresh(self) -> Iterator[tuple[int, Marker]]:
        """The markers that are not folded yet, by ascending shard, a few in memory at a time: of 500 channels one is
        110 kB, and all of 10^6 events are 14 GB."""
        where = self.dataset.path
        names = {*objects.names(where, MARKERS)}
        shards = [k for k in range(self.layout.shards) if marker_name(k) in names]
        yield from zip(shards, objects.read_each(where, map(marker_name, shards), Marker))

    def _column(self, name: str) -> Column:
        array: Any = self.dataset.raw(name, "r+").with_config({"write_empty_chunks": True})
        return Column(f"{self.path}: damaged: {name}", array, self.layout.events, array.chunks[0])

    def _write_transients(self, fresh: list[int], new: list[NDArray]) -> dict[str, list[str]]:
        """The table of transients, by event; rows of shards that were made again replace those that were there."""
        arrays = {name: self.dataset.raw(name, "r+") for name, _ in TRANSIENTS}
        joined = [np.concatenate([a, b]) for a, b in zip(kept(self.dataset, fresh), new)]
        order = np.argsort(joined[0], kind="stable")
        sums = {}
        for (name, array), values in zip(arrays.items(), joined):
            array.resize((len(order),))
            array[:] = values[order]
            sums[name] = [digest(values[order])]
        return sums

    def _fold(self, shards: Mapping[int, Marker], columns: dict[str, list[str]]) -> None:
        """Write what readers want of the markers by itself: each of 10^4 tasks reads that."""
        sums = {k: Marker(sha256=marker.sha256) for k, marker in shards.items()}
        folded = Folded(shards=sums, columns=columns).model_dump_json(exclude_defaults=True)
        objects.put(self.dataset.path, FOLDED, folded.encode())

    def _begin_again(self, attributes: Mapping[str, Any]) -> None:
        """Not complete any more: a reader is told so while shards are made."""
        put_root(self.dataset.path, self.dataset.attributes | {"complete": False, **attributes})

    def refuse_earlier(self) -> None:
        """Raises `InputError` for a store of a version that is read and not written."""
        if self.dataset.known.version != SCHEMA:
            raise _earlier(self.path)

    def _reopen(self) -> None:
        self.dataset = open_store(self.dataset.path, complete=False)


# -- parts -------------------------------------------------------------------------------------------------------


def _there(target: objects.Location, agrees: Callable[[Dataset], None], replaceable: bool) -> Dataset | None:
    """What is at a location to go on with; None where there is nothing, or what may be replaced."""
    if not is_there(target):
        return None
    try:
        dataset = open_store(target, complete=False)
        if dataset.known.version != SCHEMA and not dataset.complete:
            raise _earlier(target)
        agrees(dataset)
    except (InputError, RunError):
        if replaceable:
            return None
        raise
    return dataset


def _earlier(path: objects.Location) -> InputError:
    return InputError(
        f"{path}: was written by an earlier version (schema 1), which this one reads and does not write to;"
        " choose another workdir or --overwrite it"
    )


def _write(dataset: Dataset, name: str, shard: int, span: slice, value: NDArray) -> None:
    array: Any = dataset.raw(name, "r+").with_config({"write_empty_chunks": True})
    try:
        array[span] = value
    except ValueError:  # Zarr reads a short shard before it replaces it, and this one is damaged
        key = array.metadata.encode_chunk_key((shard, *[0] * (array.ndim - 1)))
        objects.delete(dataset.path, f"{name}/{key}")
        array[span] = value
