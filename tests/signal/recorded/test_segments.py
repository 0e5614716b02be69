"""Science-mode time from lists, files and state channels, and the windows that it leaves."""

import h5py
import numpy as np
import pytest
from gwpy.segments import DataQualityFlag, SegmentList
from gwpy.timeseries import TimeSeries
from helpers import small
from igwn_segments import segment

from glitchflow.config import Ingest, parse
from glitchflow.errors import InputError
from glitchflow.signal.recorded import segments
from glitchflow.signal.recorded.segments import usable_time
from glitchflow.signal.recorded.triggers import find_triggers

START, RATE = 1000, 512
SCIENCE = [(1004.0, 1020.0), (1024.0, 1040.0)]


@pytest.fixture
def files(tmp_path):
    """Two files of 32 s: strain, and its state at 16 Hz, whose bit 0 is set in SCIENCE and bit 2 from 1030 on."""
    for start in (1000, 1032):
        path = tmp_path / f"X-X1_STATE-{start}-32.h5"
        strain = np.random.default_rng(start).standard_normal(32 * RATE)
        TimeSeries(strain, t0=start, sample_rate=RATE, name="X1:S").write(path, path="X1:S", format="hdf5")
        time = start + np.arange(32 * 16) / 16
        state = sum(((time >= a) & (time < b)).astype("u4") for a, b in SCIENCE) + 4 * (time >= 1030).astype(
            "u4"
        )
        TimeSeries(state, t0=start, sample_rate=16, name="X1:STATE").write(
            path, path="X1:STATE", format="hdf5", append=True
        )
    return str(tmp_path / "*.h5")


def experiment(tmp_path, files, **ingest):
    return small(
        tmp_path / "run", derived=[], series={"duration": 8, "sample_rate": RATE},
        ingest={"channels": [{"name": "X1:S", "files": [files]}], **ingest},
    )  # fmt: skip


def usable(tmp_path, files, **ingest):
    return [tuple(s) for s in usable_time(experiment(tmp_path, files, **ingest).ingest)]


def test_a_list_a_file_or_a_state_channel(tmp_path, files):
    flag = DataQualityFlag("X1:SCIENCE:1", active=SCIENCE, known=[(1000, 1064)])
    flag.write(tmp_path / "flag.json", format="json")
    flag.write(tmp_path / "flag.hdf5", format="hdf5")
    SegmentList([*map(tuple, SCIENCE)]).write(tmp_path / "list.txt", format="segwizard")
    for given in (
        SCIENCE[::-1], str(tmp_path / "flag.json"), str(tmp_path / "flag.hdf5"), str(tmp_path / "list.txt"),
        {"channel": "X1:STATE"},
    ):  # fmt: skip
        assert usable(tmp_path, files, segments=given) == SCIENCE
    lists = ["1004 1020\n1024 1040\n", "# start stop\n0 1004 1020 16\n1 1024 1040 16\n"]
    for name in ("a.txt", "b.dat", "c.seg", "comma, and space"):
        for text in lists:
            (tmp_path / name).write_text(text)
            assert usable(tmp_path, files, segments=str(tmp_path / name)) == SCIENCE
    both = {"channel": "X1:STATE", "bits": [0, 2]}
    assert usable(tmp_path, files, segments=both) == [(1030, 1040)]
    assert usable(tmp_path, files, segments=SCIENCE, leave_out=both) == [(1004, 1020), (1024, 1030)]
    assert segment(0, 2e9) in usable_time(experiment(tmp_path, files).ingest)


def test_a_state_channel_is_read_in_lots_of_files(tmp_path, files, monkeypatch):
    """Each file in one of them; what shares them out is handed in, so that the driver of a month opens none."""
    monkeypatch.setattr(segments, "FILES", 1)
    made, lots = experiment(tmp_path, files, segments={"channel": "X1:STATE"}), []

    def over(work, some):
        lots.extend(some)
        return [work(lot) for lot in some]

    assert [tuple(s) for s in usable_time(made.ingest, over)] == SCIENCE
    assert lots == [[str(tmp_path / f"X-X1_STATE-{start}-32.h5")] for start in (1000, 1032)]


def test_a_hole_in_a_state_has_no_bit(tmp_path):
    state = np.ones(32 * 16)
    state[16 * 8 : 16 * 10] = np.nan
    for name, values in (("X1:S", np.zeros(32 * RATE)), ("X1:STATE", state)):
        rate = len(values) // 32
        TimeSeries(values, t0=1000, sample_rate=rate, name=name).write(
            tmp_path / "X-X1_STATE-1000-32.h5", path=name, format="hdf5", append=True
        )
    found = usable(tmp_path, str(tmp_path / "*.h5"), segments={"channel": "X1:STATE"})
    assert found == [(1000, 1008), (1010, 1032)]


def test_gwoscs_bits_by_name(tmp_path):
    """In GWOSC's layout: no data in seconds 4 to 6, CAT3 off in 8 to 10, an injection in 12 to 13."""
    path = tmp_path / "H-H1_GWOSC_4KHZ_R1-1000-16.hdf5"
    good, injected = np.full(16, 127, "u4"), np.full(16, 31, "u4")
    good[4:6], good[8:10], injected[12] = 0, 127 - 8, 30
    names = ["DATA", "CBC_CAT1", "CBC_CAT2", "CBC_CAT3"]
    with h5py.File(path, "w") as file:
        file["strain/Strain"] = np.zeros(16 * 8)
        file["strain/Strain"].attrs.update({"Xstart": 1000, "Xspacing": 1 / 8})
        for where, bits in (("simple/DQmask", good), ("injections/Injmask", injected)):
            file[f"quality/{where}"] = bits
            file[f"quality/{where}"].attrs.update({"Xstart": 1000, "Xspacing": 1.0})
        file["quality/simple/DQShortnames"] = np.array(names, "S20")
    for form in ("", "hdf5.gwosc"):
        source = {"name": "H1:STRAIN", "files": [str(path)], "channel": "strain/Strain", "format": form}

        def found(channel, *bits, source=source):
            wanted = {"channel": channel, "bits": bits}
            made = small(tmp_path / "run", derived=[], ingest={"channels": [source], "segments": wanted})
            return [tuple(s) for s in usable_time(made.ingest)]

        assert found("quality/simple/DQmask", "DATA") == [(1000, 1004), (1006, 1016)]
        assert found("quality/simple/DQmask", "DATA", "CBC_CAT3") == [
            (1000, 1004),
            (1006, 1008),
            (1010, 1016),
        ]
        assert found("quality/injections/Injmask", 0) == [(1000, 1012), (1013, 1016)]
        with pytest.raises(InputError) as error:
            found("quality/simple/DQmask", "CAT9")
        assert str(error.value) == (
            f"ingest.segments.bits = CAT9: quality/simple/DQmask of {path} has no bit of that name; there are:"
            " DATA, CBC_CAT1, CBC_CAT2, CBC_CAT3"
        )


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("H-H1_LOSC_4_V2-1126259446-32.hdf5", "quality/simple/DQmask"),
        ("H-H1_LOSC_4_V2-1126259446-32.gwf", "H1:LOSC-DQMASK"),
    ],
)
def test_bits_of_recorded_data(tmp_path, recorded_data, name, channel):
    source = {"name": "H1:STRAIN", "files": [str(recorded_data / name)]}
    made = small(
        tmp_path / "run",
        derived=[],
        ingest={"channels": [source], "segments": {"channel": channel, "bits": ["CBC_CAT3"]}},
    )
    assert [tuple(s) for s in usable_time(made.ingest)] == [(1126259446, 1126259478)]


def test_windows_outside_are_not_made(tmp_path, files, capsys):
    made = experiment(
        tmp_path, files, times={"start": 1000, "end": 1064}, segments=SCIENCE, background=9, quiet=0.0
    )
    found = find_triggers(made.ingest, 8, 2, made.seed)
    sliding = [t.gps for t in found if t.label == "recorded"]
    assert sliding == [1009, 1011, 1013, 1015, 1029, 1031, 1033, 1035]
    quiet = [t.gps for t in found if t.label == "background"]
    assert len(quiet) == 9
    assert all(any(a <= gps - 4 and gps + 4 <= b for a, b in SCIENCE) for gps in quiet)
    assert (
        capsys.readouterr().err.strip()
        == "24 of 32 events reach out of ingest.segments, or into ingest.leave_out, and are not made"
    )
    nowhere = experiment(tmp_path, files, times=[1002.0, 1022.0], segments=SCIENCE)
    with pytest.raises(InputError) as error:
        find_triggers(nowhere.ingest, 8, 2, 1)
    assert str(error.value) == (
        "ingest.segments, without ingest.leave_out: holds the series of none of the 2 events of ingest.times"
    )


def test_what_gives_no_segments(tmp_path, files):
    (tmp_path / "text.xml").write_text("hello")
    with pytest.raises(InputError, match=r"^ingest.segments = .*text.xml: no segments can be read: "):
        usable(tmp_path, files, segments=str(tmp_path / "text.xml"))
    (tmp_path / "list.txt").write_text("hello")
    with pytest.raises(InputError) as error:
        usable(tmp_path, files, segments=str(tmp_path / "list.txt"))
    assert str(error.value) == (
        f"ingest.segments = {tmp_path}/list.txt: no segments can be read: unable to parse segment from line 'hello'"
    )
    with pytest.raises(InputError) as error:
        usable(tmp_path, files, leave_out={"channel": "X1:NO"})
    assert str(error.value) == (
        f"ingest.leave_out.channel = X1:NO: {files}: no dataset X1:NO; there are: X1:S, X1:STATE"
    )
    with pytest.raises(InputError, match=r"X1:S: .*its values are float64, not integers"):
        usable(tmp_path, files, segments={"channel": "X1:S"})
    with pytest.raises(
        InputError, match=r"ingest.segments: give a list, or a file, or a channel, not several"
    ):
        parse({"ingest": {"segments": {"file": "a", "channel": "b"}}})


@pytest.mark.parametrize("time", ["101e99900000005", "1e400"])
def test_a_list_with_what_is_no_time_is_refused(tmp_path, time):
    path = tmp_path / "list.txt"
    path.write_text(f"0 {time} 1000000005 5\n")
    with pytest.raises(InputError) as error:
        usable_time(Ingest(segments=str(path)))
    assert str(error.value) == f"ingest.segments = {path}: no segments can be read: {time}: no GPS time"


def test_a_damaged_file_whose_bits_are_named_is_one_line(tmp_path):
    path = tmp_path / "H-H1_A-1000000000-4.h5"
    with h5py.File(path, "w") as file:
        file["quality/simple/DQmask"] = np.ones(4, int)
    path.write_bytes(path.read_bytes()[:-500])
    state = {"channel": "quality/simple/DQmask", "bits": ["DATA"]}
    ingest = Ingest.model_validate({"channels": [{"name": "H1:A", "files": [str(path)]}], "segments": state})
    with pytest.raises(InputError, match=rf"^ingest.segments.bits: {path} cannot be read: .*truncated file"):
        usable_time(ingest)
