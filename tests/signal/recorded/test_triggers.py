"""Where event times come from, and recordings with holes."""

import h5py
import numpy as np
import pytest
from gwpy.table import EventTable
from gwpy.timeseries import TimeSeries
from helpers import forget_shards, small

from glitchflow.analysis.inspect import inspect
from glitchflow.config import Source, parse
from glitchflow.data import store
from glitchflow.data.generate import ingest
from glitchflow.data.view import axes
from glitchflow.errors import InputError, RunError
from glitchflow.signal.recorded import triggers
from glitchflow.signal.recorded.frames import coverage, find_files
from glitchflow.signal.recorded.recording import Gap, read_channel

START, RATE = 1000, 512


def write(path, start, values, name):
    TimeSeries(values, t0=start, sample_rate=RATE, name=name, channel=name).write(
        path, path=name, format="hdf5"
    )


@pytest.fixture
def recording(tmp_path):
    """Files of 16 s from GPS 1000 to 1064 and from 1080 to 1112: a hole; NaN at 1090 in the witness."""
    rng = np.random.default_rng(0)
    for start in (1000, 1016, 1032, 1048, 1080, 1096):
        for channel in ("S1:A", "W1:B"):
            values = rng.standard_normal(16 * RATE)
            if channel == "W1:B" and start == 1080:
                values[10 * RATE] = np.nan
            name = f"{channel[0]}-{channel[:2]}_TEST-{start}-16.h5"
            write(tmp_path / name, start, values, channel)

    def source(channel):
        return Source(name=channel, files=[str(tmp_path / f"{channel[0]}-*.h5")])

    return [source("S1:A"), source("W1:B")]


def experiment(tmp_path, sources, **settings):
    return small(
        tmp_path / "run",
        derived=[],
        series={"duration": 8, "sample_rate": RATE},
        split={"block": 16.0},
        ingest={"channels": [s.model_dump() for s in sources], **settings},
    )


def find_triggers(made):
    return triggers.find_triggers(made.ingest, made.series.duration, made.qplot.span, made.seed)


# -- files -------------------------------------------------------------------------------------------------------


def test_coverage_is_joined(recording):
    assert coverage(recording[0]) == [(1000, 1064), (1080, 1112)]


def test_a_window_over_several_files_is_gapless(recording):
    parts = [TimeSeries.read(p, "S1:A").value for p in find_files(recording[0].files, "files")[:3]]
    found = read_channel(recording[0], 1010, 30, RATE)
    np.testing.assert_array_equal(found, np.concatenate(parts)[10 * RATE : 40 * RATE])
    with pytest.raises(
        Gap, match=r"S1:A: its files cover GPS 1000.000-1064.000, 1080.000-1112.000, not 1060.000-"
    ):
        read_channel(recording[0], 1060, 25, RATE)


def test_directories_and_cache_lists(recording, tmp_path):
    found = find_files(recording[0].files, "files")
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in found:
        (folder / path.split("/")[-1]).symlink_to(path)
    assert len(find_files([str(folder)], "files")) == 6
    lal = "".join(f"S S1_TEST {p.split('-')[-2]} 16 file://localhost{p}\n" for p in found)
    for name, text in {
        "x.lcf": lal,
        "x.cache": lal.replace("localhost", ""),
        "x.ffl": "".join(f"{p} {p.split('-')[-2]} 16 0 0\n" for p in found),
    }.items():
        (tmp_path / name).write_text(text)
        assert find_files([str(tmp_path / name)], "files") == found
    (tmp_path / "x.lcf").write_bytes(b"\xff\x00")
    with pytest.raises(InputError, match=r"^files = .*x.lcf: not a cache or ffl list: "):
        find_files([str(tmp_path / "x.lcf")], "files")


# -- times -------------------------------------------------------------------------------------------------------


def test_gravity_spys_table(recorded_data, recording, tmp_path):
    path = recorded_data / "gravityspy_O3a_H1_170rows.csv"
    recording = [recording[0].model_copy(update={"name": "H1:A"}), recording[1]]
    found = find_triggers(experiment(tmp_path, recording, times={"file": str(path)}))
    table = EventTable.read(path, format="ascii.csv")
    table.sort("GPStime")  # neighbours are read together
    assert [t.gps for t in found] == list(table["GPStime"])
    assert [t.label for t in found] == list(table["label"])
    assert [t.snr for t in found] == list(table["snr"])
    some = find_triggers(
        experiment(tmp_path, recording, times={"file": str(path), "where": ["snr > 20", "peakFreq < 100"]})
    )
    assert len(some) == ((table["snr"] > 20) & (table["peakFreq"] < 100)).sum()


def test_an_hdf5_table_and_named_columns(recording, tmp_path):
    path = tmp_path / "triggers.h5"
    table = EventTable({"peak": [1010.5, 1020.25], "kind": ["Blip", "Whistle"], "rho": [9.0, 12.0]})
    table.write(path, path="triggers", format="hdf5")
    times = {"file": str(path), "time": "peak", "label": "kind", "snr": "rho"}
    found = find_triggers(experiment(tmp_path, recording, times=times))
    assert [(t.gps, t.label, t.snr) for t in found] == [(1010.5, "Blip", 9.0), (1020.25, "Whistle", 12.0)]
    with pytest.raises(
        InputError, match=r"no column of GPS times; name it in ingest.times.time, there are: "
    ):
        find_triggers(experiment(tmp_path, recording, times={"file": str(path)}))
    with pytest.raises(InputError, match=r"ingest.times.label = no: not a column of "):
        find_triggers(experiment(tmp_path, recording, times=times | {"label": "no"}))
    with pytest.raises(InputError, match=r"ingest.times.file = .*nothing.csv: no such file"):
        find_triggers(experiment(tmp_path, recording, times={"file": "nothing.csv"}))


def test_sliding_over_a_stretch(recording, tmp_path):
    """Windows of 2 s side by side: the first begins at the start, the last ends at the end."""
    found = [
        t.gps for t in find_triggers(experiment(tmp_path, recording, times={"start": 1010, "end": 1020}))
    ]
    assert found == [1011, 1013, 1015, 1017, 1019]
    times = {"start": 1010, "end": 1020, "stride": 1.5}
    assert [t.gps for t in find_triggers(experiment(tmp_path, recording, times=times))][-1] <= 1019


def test_quiet_times(recording, tmp_path):
    made = experiment(tmp_path, recording, times=[1030.0, 1090.0], background=20, quiet=10.0)
    found = find_triggers(made)
    quiet = np.array([t.gps for t in found if t.label == "background"])
    assert len(found) == 22
    assert len(quiet) == 20
    assert np.abs(quiet[:, None] - [1030.0, 1090.0]).min() >= 10
    covered = (quiet >= 1004) & (quiet <= 1060) | (quiet >= 1084) & (quiet <= 1108)
    assert covered.all()
    assert [t.gps for t in find_triggers(made)] == [t.gps for t in found]
    with pytest.raises(InputError, match=r"ingest.background = 5: only 0 times 500 s away from every event"):
        find_triggers(experiment(tmp_path, recording, times=[1030.0], background=5, quiet=500.0))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (
            {"gps": [1.0], "file": "x.csv"},
            "ingest.times: give a list, or a file, or a start and an end, not several; on the command line"
            " ingest.times=[...] or ingest.times={...} takes the place of all that the file says",
        ),
        ({"start": 3.0}, "ingest.times: a stretch takes both start and end"),
        ({"begin": 3.0}, "ingest.times.begin: unknown key"),
    ],
)
def test_times_that_contradict_each_other(times, message):
    with pytest.raises(InputError) as error:
        parse({"ingest": {"times": times}})
    assert message in str(error.value)


# -- into a store ------------------------------------------------------------------------------------------------


@pytest.mark.ci
@pytest.mark.usefixtures("ray_session")
def test_events_that_cannot_be_used_are_reported_and_in_no_split(recording, tmp_path, capsys):
    gps = [1010.0, 1030.0, 1062.0, 1070.0, 1088.0, 1105.0]
    made = experiment(tmp_path, recording, times=gps, labels=["a", "b", "a", "b", "a", "b"])
    dataset = store.open_store(ingest(made))
    split = np.asarray(dataset["split"][:])
    assert (split == store.SKIPPED).tolist() == [False, False, True, True, False, False]
    np.testing.assert_allclose(dataset["gps"][:], gps)
    assert not np.asarray(dataset["qplot"][:])[split == store.SKIPPED].any()
    reasons = dataset.skipped
    assert "skipped" not in dataset.attributes, "each reader reads those, and 10^6 events have many"
    assert "its files cover GPS 1000.000-1064.000" in reasons[2]
    assert list(reasons) == [2, 3]
    assert dataset["valid"][:, 0].tolist() == [True, True, False, False, True, True]
    assert dataset["valid"][:, 1].tolist() == [True, True, False, False, False, True]
    assert dataset["qplot"][4, 0].any()
    assert not dataset["qplot"][4, 1].any(), "a witness without data costs the witness"
    said = capsys.readouterr().err
    assert "2 of 6 events could not be used" in said
    assert "W1:B has no data in 1 of 4 events, where its image is 0" in said
    assert "skipped   2 events" in inspect(dataset.path)[0]


@pytest.mark.usefixtures("ray_session")
def test_the_list_is_the_one_found_when_the_store_was_begun(recording, tmp_path):
    """A table that grows while a store is being made does not move the events that are there."""
    table = tmp_path / "t.csv"
    table.write_text("time,label,snr\n1010,a,5\n1020,b,6\n1030,a,7\n")
    made = experiment(tmp_path, recording, times={"file": str(table)})
    path = ingest(made)
    before = np.asarray(store.open_store(path)["qplot"][:])
    table.write_text("time,label,snr\n1005,a,5\n1010,a,5\n")
    forget_shards(path, 1)
    ingest(made)
    dataset = store.open_store(path)
    np.testing.assert_array_equal(dataset["qplot"][:], before)
    np.testing.assert_array_equal(dataset["snr"][:], [5, 6, 7])


@pytest.mark.usefixtures("ray_session")
def test_none_that_can_be_used(recording, tmp_path):
    made = experiment(tmp_path, recording, times=[1070.0, 1072.0])
    with pytest.raises(
        RunError, match=r"none of its 2 events could be used: ingest.channels S1:A: its files cover"
    ):
        ingest(made)


@pytest.fixture
def ready(tmp_path):
    """Q-plots as itwinai's Virgo use case publishes them, of 70 events."""
    energy = np.random.default_rng(0).exponential(size=(70, 4, 16, 12)).astype("f4")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["virgo_dataset"] = energy
        file["virgo_dataset"].attrs["seed"] = np.int64(42)
        file["mine"] = energy[:40]
        file.attrs["made by"] = "somebody"

    def made(**changes):
        ingest = {"qplots_from": str(tmp_path / "v.h5"), **changes.pop("ingest", {})}
        return small(tmp_path / "run", derived=[], ingest=ingest, **{"qplot": {"shape": [12, 16]}, **changes})

    return energy, made


def test_ready_qplots_of_the_virgo_use_case(ready, tmp_path, capsys):
    energy, made = ready
    dataset = store.open_store(ingest(made()))
    assert capsys.readouterr().err.startswith(
        f"{tmp_path}/v.h5: does not tell the axes of its images; they are taken to be those of qplot.frange and"
        " qplot.span\n"
    )
    assert dataset.channels == ["STRAIN", "AUX_1", "AUX_2", "AUX_3"]
    np.testing.assert_array_equal(dataset["qplot"][:], energy.transpose(0, 1, 3, 2))
    assert {len(set(part.tolist())) for part in np.split(np.asarray(dataset["split"][:]), [32, 64])} == {1}
    assert dataset.attributes["normalisation"] is None or dataset.attributes["normalisation"]["mean"][0] > 0
    assert dataset.attributes["qplots_attributes"] == {"seed": 42, "made by": "somebody"}
    assert "  axes      not known: " in inspect(dataset.path)[0]


def test_ready_crops_about_the_loudest_pixel(ready, capsys):
    """As the published set is: where the crops were is not known, how large their pixels are is."""
    energy, made = ready
    qplot = {"shape": [12, 16], "window": "loudest", "tres": 0.016, "fres": 0.5}
    dataset = store.open_store(ingest(made(qplot=qplot, ingest={"qplots_dataset": "mine"})))
    assert "taken to be counted from 0 by qplot.fres, qplot.tres\n" in capsys.readouterr().err
    np.testing.assert_array_equal(dataset["qplot"][:], energy[:40].transpose(0, 1, 3, 2))
    frequency, time = axes(dataset, 3)
    np.testing.assert_allclose(frequency, 0.5 * np.arange(12))
    np.testing.assert_allclose(time, 0.016 * (np.arange(16) - 8))


def test_what_is_no_file_of_ready_qplots(ready, tmp_path):
    _, made = ready
    with pytest.raises(InputError, match=r"virgo_dataset is of shape \(70, 4, 16, 12\), not \(event, ch"):
        ingest(made(qplot={"shape": [16, 16]}))
    with pytest.raises(InputError) as error:
        ingest(made(ingest={"qplots_dataset": "no"}))
    assert str(error.value).startswith(
        f"ingest.qplots_from = {tmp_path}/v.h5: no HDF5 file with a dataset ingest.qplots_dataset = no: "
    )
    assert not (tmp_path / "run" / "dataset.zarr").exists()


def test_more_families_than_a_byte_tells_apart(recording, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("time,kind\n" + "".join(f"{1010 + i / 8},id{i:04d}\n" for i in range(200)))
    made = experiment(tmp_path, recording, times={"file": str(table), "label": "kind"})
    dataset = store.open_store(ingest(made))
    assert [dataset.labels[i] for i in dataset["label"][:]] == [f"id{i:04d}" for i in range(200)]


def test_more_families_than_a_store_takes(recording, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("time,kind\n" + "".join(f"{1010 + i / 2000},id{i}\n" for i in range(32768)))
    made = experiment(tmp_path, recording, times={"file": str(table), "label": "kind"})
    with pytest.raises(InputError) as error:
        ingest(made)
    assert str(error.value) == (
        "ingest.times.label = kind: 32768 families, of which a store takes 32767; name a column of families"
    )


def test_no_witness_is_said_at_once(recording, tmp_path, capsys):
    ingest(experiment(tmp_path, recording[:1], times=[1010.0]))
    assert (
        "S1:A has no witness beside it in ingest.channels: only a generative twin (model.name=flow) can be trained on"
        " that\n"
    ) in capsys.readouterr().err
