"""Trigger tables as users have them: what their columns mean, whose rows they are, what they are called."""

import gzip
from pathlib import Path

import gwpy.testing
import h5py
import numpy as np
import pytest

from glitchflow.config.recorded import Times
from glitchflow.errors import InputError
from glitchflow.signal.recorded.tables import read_table

SPY = "event_time,ifo,peak_time,peak_time_ns,snr,ml_label\n"
ROWS = "1238166024.156250,{},1238166024,156250000,{},Blip\n1238166050.5,L1,1238166050,500000000,20,Tomte\n"
OMICRON = Path(gwpy.testing.__file__).parent / "data" / "H1-LDAS_STRAIN-968654552-10.xml.gz"


def read(path, text, detector="H1", **keys):
    if isinstance(text, str):
        text = text.encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return read_table(Times(file=str(path), **keys), detector)


def test_nanoseconds_beside_whole_seconds(tmp_path, capsys):
    text = "ifo,peak_time,peak_time_ns,snr,label\nL1,1173197715,312500000,7.0,Blip\n"
    assert read(tmp_path / "a.csv", text, "L1") == [(1173197715.3125, "Blip", 7.0)]
    text = "end_time,end_time_ns\n1173197715,3\n"
    assert read(tmp_path / "b.csv", text, time="end_time")[0][0] == pytest.approx(
        1173197715.000000003, abs=1e-9
    )
    assert not capsys.readouterr().err


def test_the_exact_column_is_taken_and_whole_seconds_are_said(tmp_path, capsys):
    text = "peak_time,time,snr\n1238166024,1238166024.15625,12\n"
    assert read(tmp_path / "a.csv", text) == [(1238166024.15625, "", 12.0)]
    assert not capsys.readouterr().err
    assert read(tmp_path / "b.csv", "peak_time\n1238166024\n")[0][0] == 1238166024
    assert capsys.readouterr().err == f"{tmp_path}/b.csv: its times, peak_time, are whole seconds\n"


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz", "a.tsv"])
def test_rows_of_another_detector_are_left_out(tmp_path, capsys, name):
    text = (SPY + ROWS.format("H1", "12")).replace(",", "\t" if "tsv" in name else ",")
    assert read(tmp_path / name, text) == [(1238166024.15625, "Blip", 12.0)]
    assert capsys.readouterr().err == (
        f"{tmp_path}/{name}: 1 of 2 rows are of another detector than H1, and left out\n"
    )
    assert len(read(tmp_path / name, text, "")) == 2


def test_an_empty_cell_is_no_family_and_no_snr(tmp_path):
    found = read(tmp_path / "a.csv", "time,snr,label\n1238166024.15625,,Blip\n1238166120.75,9,\n")
    assert [label for _, label, _ in found] == ["Blip", ""]
    np.testing.assert_equal([snr for _, _, snr in found], [np.nan, 9])


def test_a_file_of_seven_tables():
    """The usual ones are tried by themselves: Omicron's 2,052 triggers."""
    found = read_table(Times(file=str(OMICRON)), "H1")
    assert len(found) == 2052
    assert read_table(Times(file=str(OMICRON), table="sngl_burst"), "H1") == found
    gps = np.array([row[0] for row in found])
    assert 968654552 <= gps.min() < gps.max() <= 968654562
    assert (gps % 1).any()
    with pytest.raises(InputError, match=r"^ingest.times.file = .*xml.gz: cannot be read: "):
        read_table(Times(file=str(OMICRON), table="nosuch"), "H1")


def test_one_line_for_what_is_no_table_of_gps_times(tmp_path):
    utc = "UTC,ifo,ml_label,snr\n2019-04-02 15:00:06.156,H1,Blip,12\n"
    with pytest.raises(
        InputError, match=r"no column of GPS times; name it in ingest.times.time, there are: UTC, ifo"
    ):
        read(tmp_path / "utc.csv", utc)
    with pytest.raises(InputError) as error:
        read(tmp_path / "utc.csv", utc, time="UTC")
    assert str(error.value) == (
        f"ingest.times.time = UTC: 2019-04-02 15:00:06.156 in {tmp_path}/utc.csv is no GPS time; gwpy.time.to_gps makes"
        " one of UTC"
    )
    with pytest.raises(
        InputError, match=r"cannot be read; name gwpy's word for its format in ingest.times.format: "
    ) as error:
        read(tmp_path / "table.strange", "1 2 3")
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("snr >", "cannot parse filter definition from 'snr >'"),
        ("snr >> 8", "no column '>>'; there are: event_time, ifo, peak_time, peak_time_ns, snr, ml_label"),
        ("rho > 8", "no column 'rho'; there are: event_time, ifo, peak_time, peak_time_ns, snr, ml_label"),
    ],
)
def test_a_condition_that_is_none(tmp_path, condition, reason):
    with pytest.raises(InputError) as error:
        read(tmp_path / "a.csv", SPY + ROWS.format("H1", 3), where=[condition])
    assert str(error.value) == f"ingest.times.where = {condition}: {tmp_path}/a.csv: {reason}"


def test_what_leaves_no_row_says_how_many_there_were(tmp_path):
    text = SPY + ROWS.format("H1", 3)
    for detector, where, told in (
        (
            "H1",
            ["snr > 8"],
            "2 rows, 1 of another detector than H1; ingest.times.where = snr > 8: leaves none",
        ),
        ("V1", [], "2 rows, 2 of another detector than V1; none"),
    ):
        with pytest.raises(InputError) as error:
            read(tmp_path / "a.csv", text, detector, where=where)
        assert str(error.value) == f"ingest.times.file = {tmp_path}/a.csv: {told} of the others"
    with pytest.raises(InputError) as error:
        read(tmp_path / "a.csv", SPY)
    assert str(error.value) == f"ingest.times.file = {tmp_path}/a.csv: no rows"


def test_what_is_no_number(tmp_path):
    with pytest.raises(InputError) as error:
        read(tmp_path / "a.csv", "time,snr\n1000.5,loud\n")
    assert str(error.value) == f"ingest.times.snr = snr: loud in {tmp_path}/a.csv is no number"
    with pytest.raises(InputError) as error:
        read(tmp_path / "a.csv", "time,snr\n1000.5,1\nnan,2\n")
    assert str(error.value) == (f"ingest.times.time = time: row 2 of {tmp_path}/a.csv is nan, no GPS time")


@pytest.mark.parametrize(
    ("name", "between"), [("a.csv", ","), ("a.csv.gz", ","), ("a.tsv", "\t"), ("a.txt", " ")]
)
def test_a_text_that_is_damaged_or_names_a_column_twice(tmp_path, name, between):
    """Readers take NUL for the end of a cell, and the first of two columns for the only one."""
    rows = [["time", "snr", "time_1"], ["1238166024.5", "12", "5"]]
    text = "".join(between.join(row) + "\n" for row in rows)
    assert read(tmp_path / name, text) == [(1238166024.5, "", 12.0)]
    for broken, reason in (
        (text.replace("4.5", "4.\x005"), "has NUL bytes in line 2, which are no text"),
        (text + "\0" * 30, "has NUL bytes in line 3, which are no text"),
        (
            text.replace("time_1", "time"),
            "has the column time more than once; give each a name of its own",
        ),
    ):
        with pytest.raises(InputError) as error:
            read(tmp_path / name, broken)
        assert str(error.value) == f"ingest.times.file = {tmp_path}/{name}: {reason}"


def omicron(path, time, snr, frequency):
    """An HDF5 file as Omicron writes them each minute: segments and triggers, a compound dataset each."""
    columns = ("time", "tstart", "tend", "frequency", "fstart", "fend", "q", "snr", "amplitude", "phase")
    triggers = np.zeros(len(time), [(name, "f8") for name in columns])
    triggers["time"], triggers["snr"], triggers["frequency"], triggers["q"] = time, snr, frequency, 11.3
    with h5py.File(path, "w") as file:
        file["segments"] = np.array([(1000.0, 1060.0)], [("start", "f8"), ("end", "f8")])
        file["triggers"] = triggers


def test_omicrons_files_of_a_minute(tmp_path, capsys):
    """By a pattern, a list or a cache; of the tiles of one glitch the loudest, chosen by any of their columns."""
    omicron(
        tmp_path / "X1-S_OMICRON-1000-60.h5",
        [1010.5, 1010.55, 1010.6, 1030.0],
        [8, 20, 9, 6],
        [30, 40, 90, 50],
    )
    omicron(tmp_path / "X1-S_OMICRON-1060-60.h5", [1070.25, 1071.0], [7, 12], [35, 300])
    paths = [str(path) for path in sorted(tmp_path.glob("*.h5"))]
    (tmp_path / "all.ffl").write_text("".join(f"{p} {p.split('-')[-2]} 60 0 0\n" for p in paths))
    every = read_table(Times(file=f"{tmp_path}/*OMICRON*.h5"), "X1")
    assert [row[0] for row in every] == [1010.5, 1010.55, 1010.6, 1030.0, 1070.25, 1071.0]
    assert [row[1:] for row in every] == [("", snr) for snr in (8, 20, 9, 6, 7, 12)]
    assert read_table(Times(file=paths), "X1") == every
    assert read_table(Times(file=str(tmp_path / "all.ffl"), table="triggers"), "X1") == every
    assert not capsys.readouterr().err
    loudest = read_table(
        Times(file=paths, cluster=0.1, where=["frequency < 100", "q > 5", "snr > 6.5"]), "X1"
    )
    assert loudest == [(1010.55, "", 20.0), (1070.25, "", 7.0)]
    assert capsys.readouterr().err == (
        f"2 files, {paths[0]} the first: 4 rows are 2 times 0.1 s apart, of which the loudest are taken\n"
    )


def test_what_cannot_be_clustered(tmp_path):
    with pytest.raises(InputError) as error:
        read(tmp_path / "a.csv", "time\n1000.5\n", cluster=0.1)
    assert str(error.value) == (
        f"ingest.times.cluster = 0.1: takes the loudest, and no row of {tmp_path}/a.csv has an SNR; name its column in"
        " ingest.times.snr"
    )


@pytest.mark.parametrize("text", ["# time snr\n1000.5 8\n", "time\tsnr\n1000.5\t8\n", "time,snr\n1000.5,8\n"])
def test_texts_with_any_separator(tmp_path, text):
    assert read(tmp_path / "triggers.txt", text) == [(1000.5, "", 8.0)]
