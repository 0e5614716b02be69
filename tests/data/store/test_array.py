"""Stores of many channels: who asks for some of them reads these alone, and damage to them is one line."""

import numpy as np
import pytest
import xarray
from faults.remote import proxied
from helpers import write_store

from glitchflow.data.objects import Unread
from glitchflow.data.store import open_store
from glitchflow.data.store.schema import Array, Layout, choose_layout
from glitchflow.data.store.verify import find_damage
from glitchflow.errors import RunError

CHANNELS, EVENTS = 20, 12
ABOUT = {"channels": [f"C{i}" for i in range(CHANNELS)], "labels": ["background"]}


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(1)
    return {
        "qplot": rng.exponential(size=(EVENTS, CHANNELS, 4, 8)).astype("float32"),
        "gps": np.arange(EVENTS, dtype="float64"),
    }


@pytest.fixture
def path(values, tmp_path):
    write_store(tmp_path / "d.zarr", values, Layout(EVENTS, 4, 4), **ABOUT)
    return tmp_path / "d.zarr"


def wreck(path, values, event, channels):
    """Overwrite an event's images of some channels, wherever in the shard's object they lie."""
    file = path / f"qplot/c/{event // 4}/0/0/0"
    content = file.read_bytes()
    for channel in channels:
        image = values["qplot"][event, channel].tobytes()
        assert content.count(image) == 1
        content = content.replace(image, bytes(len(image)))
    file.write_bytes(content)


def test_each_channel_has_chunks_of_its_own_beyond_sixteen(values, path):
    dataset = open_store(path)
    assert dataset["qplot"].chunks == (4, 1, 4, 8)
    assert dataset["qplot"].shards == (4, CHANNELS, 4, 8)
    np.testing.assert_array_equal(xarray.open_zarr(path)["qplot"], values["qplot"])
    few = write_store(path.with_name("few.zarr"), {"qplot": values["qplot"][:, :16]}, Layout(EVENTS, 4, 4))
    assert few["qplot"].chunks == (4, 16, 4, 8)


def test_some_channels_are_those_of_all(values, path):
    events, channels = np.array([1, 2, 5, 11]), [17, 0, 3]
    wanted = values["qplot"][events][:, channels]
    np.testing.assert_array_equal(open_store(path).events("qplot", events, channels), wanted)
    few = write_store(path.with_name("few.zarr"), {"qplot": values["qplot"][:, :16]}, Layout(EVENTS, 4, 4))
    np.testing.assert_array_equal(few.events("qplot", events, [9, 0]), values["qplot"][events][:, [9, 0]])
    assert open_store(path).events("qplot", events[:0], channels).shape == (0, 3, 4, 8)
    dataset = open_store(path)
    np.testing.assert_array_equal(dataset["qplot"][5, 3], values["qplot"][5, 3])
    np.testing.assert_array_equal(dataset["qplot"][4:9, [2, 3, 4, 9]], values["qplot"][4:9, [2, 3, 4, 9]])
    assert dataset["qplot"][3:3, [2, 3]].shape == (0, 2, 4, 8)


def test_others_are_not_read(values, path):
    wreck(path, values, 5, set(range(CHANNELS)) - {2, 7})
    found = open_store(path).events("qplot", np.arange(EVENTS), [7, 2])
    np.testing.assert_array_equal(found, values["qplot"][:, [7, 2]])
    assert find_damage(open_store(path))[0].keys() == {1}


def test_damage_to_those_that_are_asked_for_is_one_line(values, path):
    wreck(path, values, 5, [7])
    dataset = open_store(path)
    with pytest.raises(RunError, match=rf"^{path}: damaged: shard 1: qplot cannot be read: .*\n?.*checksum"):
        dataset.events("qplot", np.array([5]), [7])
    (path / "qplot/c/2/0/0/0").unlink()
    with pytest.raises(RunError, match=rf"^{path}: damaged: shard 2: qplot is missing$"):
        dataset.events("qplot", np.array([9]), [7])


@pytest.mark.parametrize("apart", [True, False])
def test_a_store_that_refuses_is_not_damaged(values, bucket, apart):
    """Or `generate --verify` would make its shards again."""
    channels = CHANNELS if apart else 4
    url = f"{bucket}/refuses/{channels}.zarr"
    with proxied() as proxy:
        shown = {"qplot": values["qplot"][:, :channels], "gps": values["gps"]}
        write_store(url, shown, Layout(EVENTS, 4, 4), **ABOUT)
        dataset = open_store(url)
        dataset.events("qplot", np.array([1]), [2])
        proxy.now("403", 0)
        for read in (
            lambda: dataset.events("qplot", np.array([5]), [2]),
            lambda: dataset["gps"],
            lambda: find_damage(dataset),
            lambda: open_store(url),
        ):
            with pytest.raises(Unread, match=rf"^{url}: cannot be read: .*(403|Access ?Denied|permission)"):
                read()
        proxy.now("", 0)
        assert find_damage(open_store(url)) == ({}, [])


def test_an_older_store_keeps_channels_together_and_is_checked_whole(values, path, monkeypatch):
    with monkeypatch.context() as then:
        then.setattr(Array, "apart", False)
        write_store(path.with_name("old.zarr"), values, Layout(EVENTS, 4, 4), **ABOUT)
    old = path.with_name("old.zarr")
    found = open_store(old)
    assert found["qplot"].chunks == (4, CHANNELS, 4, 8)
    assert not found["qplot"].apart
    np.testing.assert_array_equal(found.events("qplot", np.array([5]), [7]), values["qplot"][5:6, 7:8])
    wreck(old, values, 5, [7])
    with pytest.raises(RunError, match=r"damaged: shard 1: qplot differs from its checksum$"):
        open_store(old).events("qplot", np.array([5]), [7])


def test_a_layout_of_many_channels():
    """Of 500 images of 16 KiB, a chunk holds one channel of all events of a shard; of 6 images it holds all of them."""
    images = {n: Array(("channel", "frequency", "time"), (n, 64, 64), "float32") for n in (6, 500)}
    assert choose_layout(10_000, {"qplot": images[500]}, 2, 64) == Layout(10_000, 8, 8)
    assert choose_layout(100_000, {"qplot": images[6]}, 2, 64) == Layout(100_000, 16, 512)
