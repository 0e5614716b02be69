"""What a task holds, and what is refused for it, before anything is made."""

import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from helpers import write_store

from glitchflow.config import Experiment
from glitchflow.data import memory
from glitchflow.data.content import content_of
from glitchflow.data.generate import generate, ingest
from glitchflow.data.memory import Memory, Shape, channels_at_least, making, refuse_oversize
from glitchflow.data.store import Array, Layout, array
from glitchflow.data.store.array import AT_ONCE
from glitchflow.errors import InputError
from glitchflow.site.plan import plan

MIB = 2**20
ARRAYS = {
    "qplot": Array(("channel", "frequency", "time"), (20, 64, 64), "float32"),
    "series": Array(("recorded_channel", "sample"), (18, 8192), "float32"),
    "gps": Array((), (), "float64", column=True),
}


def shape_of(arrays) -> Shape:
    settings = {"derived": [{"name": n, "function": "scatter", "channels": ["SIM:SUS"]} for n in "AB"]}
    return Shape.of(content_of(Experiment(**settings), "simulate"), arrays, Layout(1000, 4, 16))


def test_a_sum_that_one_can_read():
    found = Memory({"Python and libraries": 400 * MIB, "the shard": 1234 * MIB, "next to nothing": 10})
    assert found.total == 1634 * MIB + 10
    assert str(found) == "1,634 MiB = Python and libraries 400 + the shard 1,234"


def test_the_parts_of_a_task_that_makes_a_shard():
    parts = making(shape_of(ARRAYS)).parts
    images, series = 16 * 20 * 64 * 64 * 4, 16 * 18 * 8192 * 4
    assert parts["the shard"] == images + series + 16 * 8
    assert parts["series at work"] == 2 * 16 * 20 * 8192 * 8
    assert "its encoding" not in parts  # which begins when all is made, and takes less
    assert parts["the recording"] == 0
    assert making(shape_of(ARRAYS), recorded=True).parts["the recording"] == 3 * 16 * 20 * 8192 * 8
    long = Shape.of(content_of(Experiment(series={"duration": 64}), "ingest"), ARRAYS, Layout(1000, 4, 16))
    assert making(long, recorded=True).parts["the recording"] == 192 * MIB
    on_gpu = making(shape_of(ARRAYS), gpu=True).parts
    assert on_gpu["Q-transform"] == 0 and on_gpu["series at work"] == parts["series at work"]
    large = ARRAYS | {"series": Array(("recorded_channel", "sample"), (18, 131072), "float32")}
    assert making(shape_of(large)).parts["its encoding"] == 2 * 16 * series


def test_channels_that_are_apart_are_read_alone():
    shape = shape_of(ARRAYS)
    assert shape.apart
    assert shape.kept_samples == 8192
    assert shape.read("qplot", 2) == (1 + 3) * 16 * 2 * 64 * 64 * 4
    assert shape.read("series", 10) == 16 * 10 * 8192 * 4 + 3 * AT_ONCE
    assert shape.read("series", 20) == 3 * 16 * 18 * 8192 * 4  # derived ones have none; compared whole
    few = shape_of({"qplot": Array(("channel", "frequency", "time"), (4, 64, 64), "float32")})
    assert few.read("qplot", 2) == 3 * 16 * 4 * 64 * 64 * 4


@pytest.mark.parametrize("at_once", [2**19, AT_ONCE])
@pytest.mark.parametrize("kind, least", [("float16", 1.5), ("float32", 1.0)])
@pytest.mark.parametrize("count, channels", [(20, range(20)), (20, range(5)), (20, [0, 7, 19]), (4, [0, 2])])
def test_a_read_takes_no_more_than_is_projected(tmp_path, monkeypatch, count, channels, kind, least, at_once):
    monkeypatch.setattr(array, "AT_ONCE", at_once)
    monkeypatch.setattr(memory, "AT_ONCE", at_once)
    energy = np.random.default_rng(1).exponential(size=(32, count, 64, 64)).astype(kind)
    about = {"channels": [f"C{k}" for k in range(count)], "labels": []}
    stored = write_store(tmp_path / "d.zarr", {"qplot": energy}, Layout(32, 4, 32), **about)
    shape = replace(shape_of(stored.known.arrays), shard=32, apart=count > 16)
    stored["qplot"][:1, list(channels)]  # what is imported, and looked up, once
    tracemalloc.start()
    held = stored.events("qplot", np.arange(32), list(channels))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert least * held.nbytes < most <= 1.15 * shape.read("qplot", len(channels))


def test_a_file_of_witnesses_is_not_counted_by_the_letters_of_its_name():
    channels = [{"name": f"H1:{c}", "files": ["x.gwf"]} for c in "ABC"]
    ingest = {"channels": channels, "witnesses": "a/file/that/is/not/there/yet.txt"}
    content = content_of(Experiment(ingest=ingest), "ingest")
    assert channels_at_least(content) == 3


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"times": {"start": 0, "end": 1e15}}, "ingest.times.end = 1e+15: a list of 5e+14 windows"),
        ({"times": [1e9], "background": 10**12}, "ingest.background = 1e+12: what the driver keeps of them"),
    ],
)
def test_events_that_no_list_holds_are_refused_at_once(settings, message, tmp_path):
    channels = [{"name": "H1:A", "files": ["nowhere.gwf"]}]
    made = Experiment(workdir=str(tmp_path / "run"), ingest={"channels": channels, **settings})
    wanted = rf"^{re.escape(message)} would take [\d,]+ GiB, and this machine has \d+ GiB$"
    for stage in (ingest, plan):
        with pytest.raises(InputError, match=wanted):
            stage(made)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"simulate": {"events": 10**12}}, "simulate.events = 1e+12: what the driver keeps of them"),
        ({"qplot": {"shape": [10**6, 10**6]}}, "qplot.shape = [1000000, 1000000]: an event's images"),
        ({"series": {"duration": 1e9}}, "series.duration = 1e+09: an event's series"),
    ],
)
def test_what_no_machine_can_make_is_refused_at_once(settings, message, tmp_path):
    experiment = Experiment(workdir=str(tmp_path / "run"), **settings)
    wanted = rf"^{re.escape(message)} would take [\d,]+ GiB, and this machine has \d+ GiB$"
    for stage in (generate, plan):
        with pytest.raises(InputError, match=wanted):
            stage(experiment)
    if "simulate" not in settings:
        with pytest.raises(InputError, match=wanted):
            refuse_oversize(content_of(experiment, "ingest"))
    assert not (tmp_path / "run").exists()
