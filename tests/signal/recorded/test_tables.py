"""Trigger tables as users have them: what their columns mean, whose rows they are, what they are called."""

import gzip
from pathlib import Path

import gwpy.testing
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
    with pytest.raises(InputError, match=r"^ingest.times.where = \['snr >'\]: "):
        read(tmp_path / "a.csv", SPY + ROWS.format("H1", 3), where=["snr >"])
