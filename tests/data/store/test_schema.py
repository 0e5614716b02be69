"""What is in a store: how it is cut, and attributes and markers that are not what they should be."""

import json

import numpy as np
import pytest

from glitchflow.data.objects import parse
from glitchflow.data.store.schema import (
    Array,
    Folded,
    Layout,
    Marker,
    choose_layout,
    encode,
    validated,
)
from glitchflow.errors import InputError, RunError


def arrays(channels=4, f=64, t=64, **more: Array) -> dict[str, Array]:
    return {
        "qplot": Array(("channel", "frequency", "time"), (channels, f, t), "float32"),
        "gps": Array((), (), "float64", column=True),
        "label": Array((), (), "int16", column=True),
        "split": Array((), (), "int8", column=True),
        **more,
    }


WITNESSED = {"witnessed": Array(("frequency", "time"), (64, 64), "float32")}


# -- layout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, WITNESSED])
def test_the_layout_that_design_promises(more):
    layout = choose_layout(100_000, arrays(**more), 2, 64)
    assert layout == Layout(events=100_000, chunk=32, shard=1024)
    assert layout.shards == 98
    assert layout.span(97) == slice(99328, 100_000)


@pytest.mark.parametrize("events", [1, 5, 16, 17, 96, 1000, 2500, 20_000])
@pytest.mark.parametrize("shape", [(4, 64, 64), (2, 16, 16), (8, 256, 256), (30, 512, 1024)])
def test_sizes(events, shape):
    names = arrays(*shape)
    layout = choose_layout(events, names, 2, 64)
    event = sum(array.event_bytes for array in names.values()) / 2**20
    assert layout.shard % layout.chunk == 0
    assert layout.shards >= min(events, 16)
    assert layout.shard == 1 or layout.shard * event <= 64 * 1.5
    assert layout.chunk == 1 or layout.chunk * event <= 2 * 1.5
    spans = [layout.span(k) for k in range(layout.shards)]
    assert [i for span in spans for i in range(span.start, span.stop)] == list(range(events))


def test_columns_are_a_few_large_chunks_of_whole_shards():
    million = Layout(1_000_000, 32, 1024)
    assert million.column(Array((), (), "float64", column=True)) >= 1_000_000
    many = Array(("channel",), (500,), "float64", column=True)
    assert million.column(many) * many.event_bytes <= 64 * 2**20
    assert million.column(many) % million.shard == 0
    assert Layout(20, 4, 4).column(Array((), (), "int8", column=True)) == 20
    assert Layout(21, 4, 4).column(Array((), (), "int8", column=True)) == 24


# -- attributes --------------------------------------------------------------------------------------------------

MADE = {
    "schema": 2,
    "complete": True,
    "layout": {"events": 20, "chunk": 4, "shard": 4},
    "arrays": {"qplot": {"dimensions": ["channel"], "shape": [2], "dtype": "float32"}},
    "source": "simulate",
    "recorded": False,
    "config": {},
    "seed": 1,
    "channels": ["S", "W"],
    "labels": ["background"],
    "witnessed_labels": [],
    "couplings": {},
    "provenance": {},
    "normalisation": {"mean": [1.0, 2.0]},
}


def test_attributes_that_are_right():
    known = validated("d.zarr", json.loads(json.dumps(MADE)))
    assert known.layout == Layout(20, 4, 4)
    assert known.arrays == {"qplot": Array(("channel",), (2,), "float32")}
    assert validated("d.zarr", MADE | {"normalisation": None}).complete
    first = validated("d.zarr", MADE | {"schema": 1, "arrays": ["qplot", "gps"]})
    assert first.arrays == {"qplot": None, "gps": None}
    assert validated("p.zarr", {k: MADE[k] for k in ("schema", "complete", "layout", "arrays")})


@pytest.mark.parametrize(
    "change, message",
    [
        *(({name: ...}, f"{name}: Field required") for name in MADE if name not in ("schema", "source")),
        (
            {"layout": {"events": 20, "chunk": 4, "shard": 6}},
            "layout: a shard of 6 events is no whole number of",
        ),
        ({"layout": {"events": 0, "chunk": 4, "shard": 4}}, "layout.events: Input should be greater than 0"),
        ({"channels": []}, "channels: List should have at least 1 item"),
        ({"channels": "S"}, "channels: Input should be a valid list"),
        ({"arrays": ["qplot"]}, "arrays: must say dimensions, shape and dtype of each"),
        ({"normalisation": {"mean": [1.0]}}, "normalisation.mean: has 1 values for 2 channels"),
        ({"normalisation": {"max": [1.0, "x"]}}, "normalisation.max: holds what is no finite number"),
        ({"normalisation": {"max": [[1.0, 2.0], [1.0]]}}, "normalisation.max: holds what is no finite"),
        (
            {"normalisation": {"max": [1.0, float("nan")]}},
            "normalisation.max: holds what is no finite number",
        ),
    ],
)
def test_attributes_that_are_damaged(change, message):
    raw = {name: value for name, value in (MADE | change).items() if value is not ...}
    with pytest.raises(RunError, match=f"^d.zarr: damaged: its zarr.json: {message}"):
        validated("d.zarr", raw)


def test_what_is_no_store_of_ours():
    for raw in ({}, None, [1]):
        with pytest.raises(InputError, match=r"^d.zarr: schema None: this version reads schemas 1 and 2$"):
            validated("d.zarr", raw)
    with pytest.raises(InputError, match=r"^d.zarr: schema 3: this version reads schemas 1 and 2$"):
        validated("d.zarr", MADE | {"schema": 3})


# -- markers -----------------------------------------------------------------------------------------------------


def test_a_markers_columns_keep_their_bytes():
    spec = Array(("channel",), (2,), "float32", column=True)
    value = np.array([[1.5, np.nan], [-0.0, np.inf], [1e-40, 3]], dtype="float32")
    marker = Marker(sha256={"qplot": "00"}, columns={"q": encode(value)}, skipped={3: "no data"})
    again = parse("d.zarr", ".done/00000.json", marker.model_dump_json().encode(), Marker)
    assert again.column("q", spec).tobytes() == value.tobytes()
    assert again == marker


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"sha256": 3}'])
def test_a_marker_that_is_none(content):
    with pytest.raises(RunError, match=r"^d.zarr: damaged: .done/00007.json: "):
        parse("d.zarr", ".done/00007.json", content, Marker)
    if content != b"{}":
        with pytest.raises(RunError, match=r"^d.zarr: damaged: .done/all.json: "):
            parse("d.zarr", ".done/all.json", content.replace(b"sha256", b"shards"), Folded)
