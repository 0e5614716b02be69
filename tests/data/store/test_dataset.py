"""Reading a store: what xarray and readers see, few reads to open it, and one clear line for what is broken."""

import json
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from helpers import damage_of, forget_shards, write_store

from glitchflow.data import objects
from glitchflow.data.store import dataset as store
from glitchflow.data.store.schema import Layout
from glitchflow.data.store.verify import find_damage, foreign_objects
from glitchflow.errors import InputError, RunError

EVENTS = 20
ABOUT = {"channels": ["S", "W"], "labels": ["background", "blip"]}


def content(events=EVENTS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "qplot": rng.exponential(size=(events, 2, 3, 4)).astype("float32"),
        "witnessed": rng.exponential(size=(events, 3, 4)).astype("float32"),
        "gps": rng.uniform(1e9, 2e9, events),
        "label": rng.integers(0, 2, events).astype("int16"),
        "split": rng.integers(0, 3, events).astype("int8"),
        "q": rng.uniform(size=(events, 2)).astype("float32"),
    }


def make(path: Path, **attributes) -> dict[str, np.ndarray]:
    """A small store with random content in 5 shards, and that content."""
    values = content()
    fixed = {
        "channel": (("channel",), np.array(["S", "W"], dtype=object)),
        "frequency": (("frequency",), np.geomspace(10, 90, 3)),
        "time": (("time",), np.linspace(-1, 1, 4)),
    }
    write_store(path, values, Layout(EVENTS, 2, 4), fixed, **(ABOUT | attributes))
    return values


@pytest.fixture
def path(tmp_path) -> Path:
    make(tmp_path / "d.zarr")
    return tmp_path / "d.zarr"


# -- reading -----------------------------------------------------------------------------------------------------


def test_xarray_opens_it_with_names_and_coordinates_and_no_warning(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xarray.open_zarr(path)
    assert opened["qplot"].dims == ("event", "channel", "frequency", "time")
    assert list(opened.coords) == ["channel", "frequency", "time"]
    assert list(opened["channel"].values) == ["S", "W"]
    np.testing.assert_allclose(opened["frequency"], np.geomspace(10, 90, 3))
    np.testing.assert_array_equal(opened["qplot"].sel(channel="W"), content()["qplot"][:, 1])
    np.testing.assert_array_equal(opened["gps"], content()["gps"])
    assert opened.attrs["complete"] is True
    assert opened.attrs["schema"] == 2


def test_xarray_reads_a_generated_store(dataset_run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xarray.open_zarr(dataset_run.dataset)
    sizes = {"event": 96, "channel": 4, "frequency": 16, "time": 16, "sample": 2048, "recorded_channel": 3}
    assert opened.sizes == sizes | {"transient": 79, "asd_frequency": 257}
    assert list(opened["channel"].values) == ["SIM:STRAIN", "SIM:ACC", "SIM:SUS", "SIM:FRINGE"]
    assert list(opened["recorded_channel"].values) == ["SIM:STRAIN", "SIM:ACC", "SIM:SUS"]
    assert opened["frequency"].values[[0, -1]] == pytest.approx([12, 90])
    assert opened["asd_frequency"].values[[0, -1]] == pytest.approx([0, 128])
    assert opened["time"].values[0] == -1
    assert set(opened.data_vars) == {
        "qplot", "gps", "q", "label", "split", "snr", "valid", "loudness", "witnessed", "series",
        "witnessed_series", "rows", "asd", *(f"transient_{n}" for n in ("event", "family", "gps", "snr", "witnessed")),
    }  # fmt: skip


def test_units_and_a_copy_in_netcdf(dataset_run, tmp_path):
    """As docs/python.md has it: netCDF knows no nested attributes."""
    opened = xarray.open_zarr(dataset_run.dataset)
    assert {name: opened[name].units for name in opened.variables if "units" in opened[name].attrs} == {
        "gps": "s", "frequency": "Hz", "time": "s", "asd_frequency": "Hz", "transient_gps": "s",
    }  # fmt: skip
    opened.attrs = {name: json.dumps(value) for name, value in opened.attrs.items()}
    opened.to_netcdf(tmp_path / "dataset.nc")
    with xarray.open_dataset(tmp_path / "dataset.nc") as copy:
        np.testing.assert_array_equal(copy["qplot"], opened["qplot"])
        np.testing.assert_array_equal(copy["valid"], opened["valid"])
        assert list(copy["channel"].values.astype(str)) == list(opened["channel"].values)
        assert json.loads(copy.attrs["config"])["seed"] == 3
        assert copy["frequency"].units == "Hz"


def test_every_way_of_slicing(path):
    values, dataset = content(), store.open_store(path)
    for key in (
        *(slice(None), slice(5, 9), slice(3, 17), slice(7, 7), slice(-3, None), slice(None, None, 3), 7, -1),
        *((3, 1), (slice(2, 11), 0), (slice(None), [1, 0], slice(0, 2)), (7, slice(None), 1)),
    ):
        np.testing.assert_array_equal(dataset["qplot"][key], values["qplot"][key], err_msg=str(key))
    for key in (slice(None), 7, -2, slice(3, 9)):
        np.testing.assert_array_equal(dataset["gps"][key], values["gps"][key])
    np.testing.assert_array_equal(np.asarray(dataset["q"]), values["q"])
    with pytest.raises(IndexError):
        dataset["qplot"][20]
    assert (dataset["qplot"].shape, dataset["qplot"].dtype, len(dataset["qplot"])) == (
        (20, 2, 3, 4),
        "f4",
        20,
    )
    assert dataset["qplot"].chunks == (2, 2, 3, 4)
    assert dataset["qplot"].shards == (4, 2, 3, 4)
    with pytest.raises(KeyError, match="has no array nothing"):
        dataset["nothing"]


def test_dataset(path):
    values, dataset = content(), store.open_store(path)
    assert len(dataset) == 20
    assert dataset.channels == ["S", "W"]
    assert "qplot" in dataset
    assert "time" in dataset
    assert "series" not in dataset
    indices = dataset.indices("test")
    np.testing.assert_array_equal(indices, np.flatnonzero(values["split"] == 2))
    blocks = list(dataset.blocks(indices, "qplot", "gps"))
    np.testing.assert_array_equal(np.concatenate([i for i, _ in blocks]), indices)
    np.testing.assert_array_equal(np.concatenate([v[0] for _, v in blocks]), values["qplot"][indices])
    np.testing.assert_array_equal(dataset.events("gps", indices), values["gps"][indices])
    assert len(dataset.events("qplot", np.array([], np.int64))) == 0
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301  made here
    np.testing.assert_array_equal(again["qplot"][:], values["qplot"])


def test_what_is_read_may_be_changed(path):
    dataset = store.open_store(path)
    dataset["gps"][:][:] = 0
    dataset["gps"][2:5][:] = 0
    np.testing.assert_array_equal(dataset["gps"][:], content()["gps"])


def test_series_of_derived_channels_are_made_anew(dataset_run):
    """To what the recipe gives, bit for bit where the recorded ones are kept in double precision."""
    from glitchflow.data.content import content_of
    from glitchflow.data.shard_events import make_factory
    from glitchflow.data.view import read_series

    dataset, events = store.open_store(dataset_run.dataset), np.array([3, 4, 70])
    assert dataset["series"].shape == (96, 3, 2048)
    found = dataset.all_series(events)
    recipe = make_factory(content_of(dataset_run, "simulate")).recipe
    wanted = np.stack([recipe.event(i).series for i in events.tolist()])
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(
        read_series(dataset, events, ["SIM:FRINGE", "SIM:STRAIN"]), found[:, [3, 0]]
    )
    np.testing.assert_array_equal(read_series(dataset, events, ["SIM:SUS"]), found[:, [2]])


def test_opening_a_large_store_costs_a_handful_of_reads(path, monkeypatch):
    """However many shards: one object for the attributes, one for all checksums, and two for an array's first use."""
    opened, read = [], []
    get, store_get = objects.get, zarr.storage.LocalStore.get

    async def counted(self, key, *rest, **more):
        read.append(key)
        return await store_get(self, key, *rest, **more)

    monkeypatch.setattr(objects, "get", lambda where, name: (opened.append(name), get(where, name))[1])
    monkeypatch.setattr(zarr.storage.LocalStore, "get", counted)
    dataset = store.open_store(path)
    dataset.indices("train")
    dataset["gps"][:]
    assert opened == ["zarr.json", ".done/all.json"]
    assert sorted(key for key in read if key.endswith("zarr.json")) == ["gps/zarr.json", "split/zarr.json"]
    assert len(read) == 4
    read.clear()
    dataset["gps"][3], dataset["gps"][7:9]
    assert not read, "columns are kept"


# -- unfinished and damaged --------------------------------------------------------------------------------------


def test_an_unfinished_store_is_refused_with_how_to_finish_it(path):
    forget_shards(path, 0, 2, 4)
    with pytest.raises(InputError) as error:
        store.open_store(path)
    assert str(error.value) == (
        f"{path}: incomplete, 3 of 5 shards missing; run the stage that makes it again to finish"
    )
    dataset = store.open_store(path, complete=False)
    assert store.missing_shards(dataset) == [0, 2, 4]
    assert dataset.marker(0) is None
    assert dataset.marker(1).sha256.keys() == {"qplot", "witnessed"}
    assert not dataset.complete
    np.testing.assert_array_equal(dataset["qplot"][4:8], content()["qplot"][4:8])


def flip(file: Path) -> None:
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 3] ^= 1
    file.write_bytes(changed)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def empty(file: Path) -> None:
    file.write_bytes(b"")


HARMS = [flip, truncate, empty, Path.unlink]


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize(
    "name, file, read",
    [
        ("qplot", "qplot/c/3/0/0/0", lambda d: d["qplot"][12]),
        ("witnessed", "witnessed/c/3/0/0", lambda d: d["witnessed"][:]),
        ("split", "split/c/0", lambda d: d.indices("train")),
        ("q", "q/c/0/0", lambda d: d["q"][3]),
        ("frequency", "frequency/c/0", lambda d: d["frequency"][:]),
    ],
)
def test_a_damaged_array_is_one_line_at_its_first_use(path, name, file, read, harm):
    dataset = store.open_store(path)
    harm(path / file)
    shard = "shard 3: " if "/3/" in file else ""
    with pytest.raises(RunError) as error:
        read(dataset)
    assert re.fullmatch(
        rf"{path}: damaged: {shard}{name} (differs from its checksum|is missing|cannot be read: .*)",
        str(error.value),
    )
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)  # noqa: S301  as through Ray
    damaged, rest = find_damage(store.open_store(path))
    assert list(damaged) == ([3] if shard else [] if name == "frequency" else [0, 1, 2, 3, 4])
    assert bool(rest) == (name == "frequency")


def test_a_shard_in_another_ones_place_is_found(path):
    (path / "qplot/c/1/0/0/0").write_bytes((path / "qplot/c/2/0/0/0").read_bytes())
    dataset = store.open_store(path)
    np.testing.assert_array_equal(dataset["qplot"][8:12], content()["qplot"][8:12])
    with pytest.raises(RunError, match="damaged: shard 1: qplot differs from its checksum"):
        dataset["qplot"][:]
    assert damage_of(path) == {1: "qplot differs from its checksum"}


def test_bytes_are_checked_once(path):
    dataset = store.open_store(path)
    dataset["qplot"][:]
    flip(path / "qplot/c/3/0/0/0")
    dataset["qplot"][:12]
    assert dataset["qplot"].seen == {0, 1, 2, 3, 4}


def edit(file: Path, change) -> None:
    tree = json.loads(file.read_text())
    change(tree)
    file.write_text(json.dumps(tree))


@pytest.mark.parametrize(
    "name, change, message",
    [
        (
            "qplot",
            lambda t: t.update(shape=[20, 2, 3, 3]),
            r"its shape is \(20, 2, 3, 3\), not \(20, 2, 3, 4\)",
        ),
        (
            "qplot",
            lambda t: t.update(shape=[24, 2, 3, 4]),
            r"its shape is \(24, 2, 3, 4\), not \(20, 2, 3, 4\)",
        ),
        ("split", lambda t: t.update(data_type="uint8"), "its type is uint8, not int8"),
        ("frequency", lambda t: t.update(data_type="int64"), "its type is int64, not float64"),
        ("frequency", lambda t: t.update(shape=[2]), r"its shape is \(2,\), not \(3,\)"),
        ("qplot", lambda t: t.update(data_type="spaghetti"), "no array there: "),
        ("qplot", lambda t: t.update(node_type="group"), "no array there: "),
        ("split", lambda t: t.pop("chunk_grid"), "no array there: "),
    ],
)
def test_edited_metadata_of_an_array(path, name, change, message):
    edit(path / name / "zarr.json", change)
    with pytest.raises(RunError, match=f"^{path}/{name}: damaged: {message}"):
        store.open_store(path)[name]
    assert find_damage(store.open_store(path))[1]


@pytest.mark.parametrize("harm", [truncate, empty, Path.unlink])
def test_metadata_of_an_array_that_are_gone(path, harm):
    harm(path / "split" / "zarr.json")
    with pytest.raises(RunError, match=f"^{path}/split: damaged: no array there: "):
        store.open_store(path).indices("train")


@pytest.mark.parametrize("harm", [truncate, empty, Path.unlink])
def test_checksums_that_are_gone(path, harm):
    harm(path / ".done" / "all.json")
    with pytest.raises(RunError, match=rf"^{path}: damaged: .done/all.json"):
        store.open_store(path)["qplot"][0]


def test_checksums_that_do_not_cover_everything(path):
    edit(path / ".done" / "all.json", lambda t: t["shards"].pop("3"))
    with pytest.raises(RunError, match=r"d.zarr: damaged: the marker of shard 3 is missing$"):
        store.open_store(path)["qplot"][12]
    edit(path / ".done" / "all.json", lambda t: t["shards"]["2"]["sha256"].pop("qplot"))
    with pytest.raises(RunError, match=r"d.zarr: damaged: the marker of shard 2 has no checksum of qplot$"):
        store.open_store(path)["qplot"][8]
    edit(path / ".done" / "all.json", lambda t: t["columns"].pop("gps"))
    with pytest.raises(RunError, match=r"d.zarr: damaged: .done/all.json has no checksum of gps$"):
        store.open_store(path)["gps"][0]


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.update(normalisation={"mean": [1.0, 3.0]}),
        lambda a: a["channels"].reverse(),
        lambda a: a["arrays"].pop("q"),
        lambda a: a.pop("fixed"),
        lambda a: a.update(config={}),
        lambda a: a.update(source=[]),
        lambda a: a.pop("sha256"),
        lambda a: a.update(sha257=a.pop("sha256")),
        lambda a: a.update(schema=1),
    ],
)
def test_edited_attributes(path, change):
    edit(path / "zarr.json", lambda t: change(t["attributes"]))
    with pytest.raises(
        RunError, match=r"d.zarr: damaged: the attributes in its zarr.json differ from their checksum$"
    ):
        store.open_store(path)


def test_a_zarr_json_that_is_no_metadata(path):
    truncate(path / "zarr.json")
    with pytest.raises(RunError, match=r"d.zarr: damaged: its zarr.json is no group's metadata$"):
        store.open_store(path)


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
        ("foreign.zarr", "schema None: this version reads schemas 1 and 2"),
    ):
        with pytest.raises(InputError, match=f"{name}: {message}"):
            store.open_store(tmp_path / name)


def test_foreign_objects_are_named(path):
    (path / "qplot" / "c" / "9" / "0" / "0").mkdir(parents=True)
    (path / "qplot" / "c" / "9" / "0" / "0" / "0").touch()
    (path / ".done" / "00007.json").touch()
    assert foreign_objects(store.open_store(path)) == [".done/00007.json", "qplot/c/9/0/0/0"]
