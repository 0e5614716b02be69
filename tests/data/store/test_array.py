"""Stores of many channels: who asks for some of them reads these alone, and damage to them is one line."""

import errno
import os

import numpy as np
import pytest
import xarray
from faults.remote import ANSWERS, proxied
from helpers import write_store
from zarr.storage import _local

from glitchflow.data import objects
from glitchflow.data.objects import Unread
from glitchflow.data.store import open_store
from glitchflow.data.store.array import Damaged
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
def test_a_store_that_refuses_is_not_damaged(values, bucket, apart, monkeypatch):
    """Or `generate --verify` would make its shards again."""
    channels = CHANNELS if apart else 4
    url = f"{bucket}/refuses/{channels}.zarr"
    with proxied() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        shown = {"qplot": values["qplot"][:, :channels], "gps": values["gps"]}
        write_store(url, shown, Layout(EVENTS, 4, 4), **ABOUT)
        dataset = open_store(url)
        dataset.events("qplot", np.array([1]), [2])
        proxy.now("403", 0)
        for read in (
            lambda: dataset.events("qplot", np.array([5]), [2]),
            lambda: dataset.events("qplot", np.array([1]), [2]),  # which was read, and compared, before
            lambda: dataset["gps"],
            lambda: find_damage(dataset),
            lambda: open_store(url),
        ):
            with pytest.raises(Unread, match=rf"^{url}: cannot be read: .*(403|Access ?Denied|permission)"):
                read()
        proxy.now("", 0)
        assert find_damage(open_store(url)) == ({}, [])


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("channels", [CHANNELS, 4])
def test_a_disk_that_refuses_is_not_damaged(values, tmp_path, monkeypatch, channels, number):
    path, said, get = tmp_path / "d.zarr", os.strerror(number), _local._get
    shown = {"qplot": values["qplot"][:, :channels], "gps": values["gps"]}
    write_store(path, shown, Layout(EVENTS, 4, 4), **ABOUT)
    dataset = open_store(path)
    dataset["qplot"][:4]

    def refuses(file, *more):
        if "zarr.json" not in str(file) or file.parent.name == "gps":
            raise OSError(number, said, str(file))
        return get(file, *more)

    monkeypatch.setattr(_local, "_get", refuses)
    for read in (
        lambda: dataset.events("qplot", np.array([5]), [2]),
        lambda: dataset["qplot"][:4],  # of which the checksum was compared
        lambda: dataset["qplot"][:8],
        lambda: dataset["gps"],
        lambda: find_damage(dataset),
    ):
        with pytest.raises(Unread, match=rf"^{path}: cannot be read: {said}$"):
            read()
    monkeypatch.setattr(_local, "_get", get)
    assert find_damage(open_store(path)) == ({}, [])


@pytest.mark.parametrize("keep", [slice(0), slice(3), slice(700, None)])
def test_an_object_that_is_cut_off_is_damaged_there_too(values, bucket, keep):
    """Of one that is empty, S3 hands out no part; nor of one what lies past its end."""
    url, name = f"{bucket}/cut/{keep.start}-{keep.stop}.zarr", "qplot/c/1/0/0/0"
    write_store(url, values, Layout(EVENTS, 4, 4), **ABOUT)
    objects.put(url, name, objects.get(url, name)[keep])
    with pytest.raises(Damaged, match=rf"^{url}: damaged: shard 1: qplot "):
        open_store(url).events("qplot", np.array([5]), [19])
    assert find_damage(open_store(url))[0].keys() == {1}


def test_what_lies_past_the_end_of_an_object_is_damage(values, bucket, monkeypatch):
    monkeypatch.setitem(ANSWERS, "416", ("InvalidRange", "The requested range is not satisfiable"))
    url = f"{bucket}/past/d.zarr"
    with proxied() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        write_store(url, values, Layout(EVENTS, 4, 4), **ABOUT)
        dataset = open_store(url)
        dataset["qplot"]
        proxy.now("416", 1)  # after the look whether it is there
        with pytest.raises(Damaged, match=rf"^{url}: damaged: shard 1: qplot cannot be read: .*416"):
            dataset.events("qplot", np.array([5]), [2])


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
