"""The store: layout, what xarray and readers see, and one clear line for what is broken."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

from glitchflow.data.store import dataset as store
from glitchflow.data.store.dataset import Array, Layout, choose_layout
from glitchflow.errors import InputError, RunError


def arrays(channels=4, f=64, t=64, **more: Array) -> dict[str, Array]:
    return {
        "qplot": Array(("channel", "frequency", "time"), (channels, f, t), "float32"),
        "gps": Array((), (), "float64"),
        "label": Array((), (), "int8"),
        "split": Array((), (), "int8"),
        **more,
    }


WITNESSED = {"witnessed": Array(("frequency", "time"), (64, 64), "float32")}


def make(path: Path, events=20, complete=True, compression="none", **attributes) -> dict[str, np.ndarray]:
    """A small store with random content, and that content."""
    rng = np.random.default_rng(1)
    names = arrays(2, 3, 4)
    layout = choose_layout(events, names, 2, 64, fewest=5)
    coordinates = {
        "channel": np.array(["S", "W"], dtype=object),
        "frequency": np.geomspace(10, 90, 3),
        "time": np.linspace(-1, 1, 4),
    }
    kept = {"arrays": list(names), "channels": ["S", "W"], "labels": ["background", "blip"], **attributes}
    store.create(path, names, layout, coordinates, kept, compression)
    values = {
        "qplot": rng.exponential(size=(events, 2, 3, 4)).astype("float32"),
        "gps": rng.uniform(1e9, 2e9, events),
        "label": rng.integers(0, 2, events).astype("int8"),
        "split": rng.integers(0, 3, events).astype("int8"),
    }
    for k in range(layout.shards):
        if complete or k % 2:
            store.write_shard(path, k, {name: v[layout.span(k)] for name, v in values.items()}, {"n": k})
    if complete:
        store.finalise(path, {"normalisation": {"mean": [1.0, 2.0]}})
    return values


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


def test_arrays_share_the_shards_boundaries(tmp_path):
    make(tmp_path / "d.zarr")
    dataset = store.open_store(tmp_path / "d.zarr")
    assert dataset.layout == Layout(20, 4, 4)
    assert dataset["qplot"].shards == (4, 2, 3, 4)
    for name in ("gps", "label", "split"):
        assert dataset[name].shards is None
        assert dataset[name].chunks == (4,)


# -- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_xarray_opens_it_with_names_and_coordinates_and_no_warning(tmp_path, compression):
    values = make(tmp_path / "d.zarr", compression=compression)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xarray.open_zarr(tmp_path / "d.zarr")
    assert opened["qplot"].dims == ("event", "channel", "frequency", "time")
    assert list(opened.coords) == ["channel", "frequency", "time"]
    assert list(opened["channel"].values) == ["S", "W"]
    np.testing.assert_allclose(opened["frequency"], np.geomspace(10, 90, 3))
    np.testing.assert_array_equal(opened["qplot"].sel(channel="W"), values["qplot"][:, 1])
    np.testing.assert_array_equal(opened["gps"], values["gps"])
    assert opened.attrs["complete"] is True
    assert opened.attrs["schema"] == 1


def test_xarray_reads_a_generated_store(dataset_run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xarray.open_zarr(dataset_run.dataset)
    assert opened.sizes == {"event": 96, "channel": 4, "frequency": 16, "time": 16, "sample": 2048}
    assert list(opened["channel"].values) == ["SIM:STRAIN", "SIM:ACC", "SIM:SUS", "SIM:FRINGE"]
    assert opened["frequency"].values[[0, -1]] == pytest.approx([12, 90])
    assert opened["time"].values[0] == -1
    assert set(opened.data_vars) == {
        "qplot", "gps", "q", "label", "split", "snr", "witnessed", "series", "witnessed_series"
    }  # fmt: skip


def test_dataset(tmp_path):
    values = make(tmp_path / "d.zarr")
    dataset = store.open_store(tmp_path / "d.zarr")
    assert len(dataset) == 20
    assert dataset.channels == ["S", "W"]
    assert "qplot" in dataset
    assert "series" not in dataset
    indices = dataset.indices("test")
    np.testing.assert_array_equal(indices, np.flatnonzero(values["split"] == 2))
    blocks = list(dataset.blocks(indices, "qplot", "gps"))
    np.testing.assert_array_equal(np.concatenate([i for i, _ in blocks]), indices)
    np.testing.assert_array_equal(np.concatenate([v[0] for _, v in blocks]), values["qplot"][indices])
    np.testing.assert_array_equal(np.concatenate([v[1] for _, v in blocks]), values["gps"][indices])


# -- unfinished and damaged --------------------------------------------------------------------------------------


def test_an_unfinished_store_is_refused_with_how_to_finish_it(tmp_path):
    path = tmp_path / "d.zarr"
    make(path, complete=False)
    with pytest.raises(InputError) as error:
        store.open_store(path)
    assert str(error.value) == (
        f"{path}: incomplete, 3 of 5 shards missing; run the stage that makes it again to finish"
    )
    assert store.missing_shards(path) == [0, 2, 4]
    with pytest.raises(RunError, match="3 shards are missing, the first is 0"):
        store.finalise(path, {})
    with pytest.raises(RunError, match="shard 0 is not done"):
        store.marker(path, 0)
    assert store.marker(path, 1)["statistics"] == {"n": 1}
    assert not store.open_store(path, complete=False).attributes["complete"]


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize(
    "harm, reason",
    [
        (flip, "qplot (differs from its checksum|cannot be read: )"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:-7]),
            "qplot (differs from its checksum|cannot be read: )",
        ),
        (lambda file: file.write_bytes(b""), "qplot (differs from its checksum|cannot be read: )"),
        (Path.unlink, "qplot differs from its checksum"),
    ],
)
def test_a_damaged_shard_is_named(tmp_path, harm, reason, compression):
    path = tmp_path / "d.zarr"
    values = make(path, compression=compression)
    assert store.damaged_shards(path) == {}
    harm(path / "qplot" / "c" / "3" / "0" / "0" / "0")
    damage = store.damaged_shards(path)
    assert list(damage) == [3]
    import re

    assert re.match(reason, damage[3])
    store.write_shard(path, 3, {n: v[12:16] for n, v in values.items()}, {})
    assert store.damaged_shards(path) == {}


def test_a_missing_marker_is_a_missing_shard(tmp_path):
    make(tmp_path / "d.zarr")
    (tmp_path / "d.zarr" / ".done" / "00002.json").unlink()
    assert store.missing_shards(tmp_path / "d.zarr") == [2]
    assert store.damaged_shards(tmp_path / "d.zarr") == {2: "missing"}


def test_what_is_no_store(tmp_path):
    (tmp_path / "file").touch()
    zarr.create_group(tmp_path / "foreign.zarr")
    zarr.create_array(tmp_path / "array.zarr", shape=(3,), dtype="f4")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    for name, message in (
        ("nowhere.zarr", "no store there; make one with `glitchflow generate` or `ingest`"),
        ("file", "no store there"),
        ("array.zarr", "no store there"),
        ("broken.zarr", "no store there"),
        ("foreign.zarr", "schema None: this version reads schema 1"),
    ):
        with pytest.raises(InputError, match=f"{name}: {message}"):
            store.open_store(tmp_path / name)
    make(tmp_path / "later.zarr", schema=2)
    with pytest.raises(InputError, match=r"later.zarr: schema 2: this version reads schema 1"):
        store.open_store(tmp_path / "later.zarr")


# -- writing -----------------------------------------------------------------------------------------------------


def test_a_shard_of_the_wrong_shape_is_not_written(tmp_path):
    path = tmp_path / "d.zarr"
    values = make(path, complete=False)
    with pytest.raises(ValueError, match="qplot of shard 0 has shape"):
        store.write_shard(path, 0, {n: v[:3] for n, v in values.items()}, {})
    assert 0 in store.missing_shards(path)


def test_nothing_is_written_over_what_is_in_the_way(tmp_path):
    path = tmp_path / "d.zarr"
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    with pytest.raises(
        InputError, match=r"d.zarr: is in the way, and is not a store; choose another workdir"
    ):
        make(path)
    for foreign in (path, tmp_path / "foreign.zarr"):
        if foreign != path:
            zarr.create_group(foreign)
        with pytest.raises(InputError, match=f"{foreign.name}: "):
            store.remove(foreign)
        assert foreign.exists()
    assert [p.name for p in path.iterdir()] == ["thesis.txt"]


def test_a_store_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "d.zarr"
    monkeypatch.setattr(store, "_create_coordinates", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make(path)
    assert not store.exists(path)
    monkeypatch.undo()
    make(path)
    assert [p.name for p in tmp_path.iterdir()] == ["d.zarr"]


def test_a_file_system_that_refuses_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/d.zarr: cannot be created: Not a directory$"):
        make(tmp_path / "file" / "d.zarr")
    path = tmp_path / "d.zarr"
    values = make(path, complete=False)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zarr.storage._local._put", full)
    with pytest.raises(RunError, match=r"d.zarr: shard 0 cannot be written: No space left on device$"):
        store.write_shard(path, 0, {n: v[:4] for n, v in values.items()}, {})
    monkeypatch.undo()
    assert store.missing_shards(path) == [0, 2, 4]
    store.write_shard(path, 0, {n: v[:4] for n, v in values.items()}, {})
    np.testing.assert_array_equal(store.open_store(path, complete=False)["qplot"][:8], values["qplot"][:8])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only directory")
def test_a_read_only_directory_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match=r"d.zarr: cannot be created: Permission denied$"):
        make(tmp_path / "d.zarr")
