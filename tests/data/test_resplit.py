"""Splits assigned anew: as if the store had been made so, without the files it was made from."""

import shutil

import numpy as np
import pytest
from gwpy.timeseries import TimeSeries
from helpers import small

from glitchflow.analysis.opened import origin_of as origin
from glitchflow.data import objects
from glitchflow.data.generate import ingest
from glitchflow.data.identity import identity
from glitchflow.data.resplit import resplit
from glitchflow.data.store import CHANGING, SPLITS, Writer, find_damage, open_store, pages, writer
from glitchflow.errors import InputError

START, RATE, SECONDS = 1000, 256, 128


TIMES = [START + 6.0 + 5 * i for i in range(23)] + [START + 500.0]


def experiment(tmp_path, name="run", times=TIMES, **changes):
    channels = [{"name": c, "files": [str(tmp_path / "files" / f"{c[0]}.h5")]} for c in ("S1:A", "W1:B")]
    return small(
        tmp_path / name, derived=[], series={"duration": 8, "sample_rate": RATE},
        ingest={"channels": channels, "times": times}, **changes,
    )  # fmt: skip


@pytest.fixture
def files(tmp_path):
    (tmp_path / "files").mkdir()
    for seed, name in enumerate(("S1:A", "W1:B")):
        values = np.random.default_rng(seed).standard_normal(SECONDS * RATE)
        TimeSeries(values, t0=START, sample_rate=RATE, name=name).write(
            tmp_path / "files" / f"{name[0]}.h5", path=name, format="hdf5"
        )


@pytest.fixture
def made(tmp_path, files, ray_session):
    one = experiment(tmp_path)
    ingest(one)
    return one


def shares_of(path):
    """The bytes of what is added up of the shards."""
    return {p.name: p.read_bytes() for p in (path / ".done" / "statistics").iterdir()}


def test_as_if_the_store_had_been_made_so(made, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "PAGE", 2)
    groups = [
        [START, START + 40, "test"],
        [START + 45, START + 70, "validation"],
        [START + 75, START + 128, "train"],
    ]
    other = experiment(tmp_path, "other", split={"groups": groups})
    expected = open_store(ingest(other))
    shutil.rmtree(tmp_path / "files")
    shutil.rmtree(made.dataset / ".done" / "statistics")  # of which nothing is wanted
    before = open_store(made.dataset)
    wanted = experiment(tmp_path, split={"groups": groups})

    def stopped(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writer.Writer, "complete", stopped)
        with pytest.raises(KeyboardInterrupt):
            resplit(wanted)
    assert CHANGING in open_store(made.dataset, complete=False).attributes
    for settings in (made, wanted):
        with pytest.raises(
            InputError, match=r"its splits are being assigned anew; finish that with ingest --split"
        ):
            ingest(settings)
    read, get = [], objects.get
    monkeypatch.setattr(objects, "get", lambda *a: read.append(a[1]) or get(*a))
    dataset = open_store(resplit(wanted))
    noted = [name for name in read if name.startswith(pages.NOTED)]
    assert len(noted) == len({*noted}) == dataset.layout.shards
    assert find_damage(dataset) == ({}, [])
    assert shares_of(made.dataset) == shares_of(other.dataset)
    assert CHANGING not in dataset.attributes
    for name in ("split", "gps", "qplot", "valid", "loudness"):
        np.testing.assert_array_equal(dataset[name][:], expected[name][:])
    assert dataset.attributes["normalisation"] == expected.attributes["normalisation"]
    assert dataset.attributes["normalisation"] != before.attributes["normalisation"]
    assert dataset.attributes["config"] == expected.attributes["config"]
    assert dataset["split"][-1] == -1, "what could not be used is in none"
    assert set(dataset["split"][:-1].tolist()) == {0, 1, 2, len(SPLITS)}
    assert origin(before, {"identity": identity(before), "path": before.path}) is before
    with pytest.raises(
        InputError, match=r"run/dataset.zarr: its splits were assigned anew since the network was"
    ):
        origin(dataset, {"identity": identity(before), "path": before.path})
    assert origin(dataset, {"identity": identity(dataset), "path": before.path}) is dataset
    ingest(wanted)  # there is nothing left to do, and nothing is undone
    np.testing.assert_array_equal(open_store(made.dataset)["split"][:], expected["split"][:])


def test_what_a_killed_run_noted_goes_with_the_next(made, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "replace_column", killed)
        with pytest.raises(KeyboardInterrupt):
            resplit(made)
    assert len(objects.names(made.dataset, pages.NOTED)) == open_store(made.dataset).layout.shards
    ingest(made)
    assert not objects.names(made.dataset, pages.NOTED)


@pytest.mark.usefixtures("files")
def test_a_split_that_lost_all_of_its_events_is_said_and_filled(tmp_path, capsys):
    """The last seven of 20 lie beyond the files, the five of the test among them."""
    beyond = [START + 500.0 + 9 * i for i in range(7)]
    one = experiment(tmp_path, "beyond", [START + 6.0 + 9 * i for i in range(13)] + beyond)
    before = open_store(ingest(one))["split"][:].tolist()
    assert [before.count(i) for i in range(-1, 3)] == [7, 11, 2, 0]
    assert (
        f"{one.dataset}: no event that can be used is in the split test; `glitchflow ingest --split` shares out those"
        " that can be\n" in capsys.readouterr().err
    )
    after = open_store(resplit(one))["split"][:].tolist()
    assert after == [0] * 7 + [1] * 3 + [2] * 3 + [-1] * 7


def test_what_cannot_be_split_anew(made, tmp_path):
    with pytest.raises(
        InputError, match=r"run/dataset.zarr: was made with other settings than split .*seed = 3 there"
    ):
        resplit(experiment(tmp_path, seed=4))
    with pytest.raises(InputError, match=r"none/dataset.zarr: is not there; ingest it first"):
        resplit(experiment(tmp_path, "none"))
    with Writer.begin(made.dataset, lambda: pytest.fail("is there"), lambda _: None) as opened:
        opened.forget([0])
    with pytest.raises(InputError, match=r"run/dataset.zarr: is not finished; ingest it first"):
        resplit(made)
