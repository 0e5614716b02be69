"""Files by the names that users give them: whatever characters are in a directory's name, it is what it says."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from gwpy.timeseries import TimeSeries, TimeSeriesDict

from glitchflow.config import Source, Times
from glitchflow.data.frames import write_gwf
from glitchflow.errors import InputError
from glitchflow.signal.recorded.frames import coverage, find_files
from glitchflow.signal.recorded.recording import read_channel
from glitchflow.signal.recorded.samples import read_samples
from glitchflow.signal.recorded.tables import read_table

START, RATE = 1381161600, 256
ODD = [
    "with a space",
    "brackets [1]",
    "per%20cent",
    "hash#tag",
    "comma,semi;colon",
    'quote\'s "two"',
    "ünï çödé",
    "equal=and&amp",
    "star*question?",
    "colon:here",
    "new-1-2-3-4",
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A ramp of 8 s in a GWF and an HDF5 file."""
    where = tmp_path_factory.mktemp("written")
    series = TimeSeries(
        np.arange(8 * RATE) / RATE, t0=START, sample_rate=RATE, name="H1:RAMP", channel="H1:RAMP"
    )
    series.write(where / f"H-H1_RAMP-{START}-8.h5", path="H1:RAMP", format="hdf5")
    try:
        write_gwf(TimeSeriesDict({"H1:RAMP": series}), where / f"H-H1_RAMP-{START}-8.gwf")
    except ImportError as error:
        pytest.skip(f"no GWF backend is installed: {error}")
    return where


@pytest.mark.parametrize("odd", ODD)
def test_odd_names(written, tmp_path, odd):
    where = Path(shutil.copytree(written, tmp_path / odd))
    (where / "t.csv").write_text("time,snr\n1000.5,8\n")
    assert read_table(Times(file=str(where / "t.csv")), "") == [(1000.5, "", 8.0)]
    for name in ("*.gwf", "*.h5", f"H-H1_RAMP-{START}-8.gwf", f"H-H1_RAMP-{START}-8.h5"):
        source = Source(name="H1:RAMP", files=[str(where / name)])
        found = read_channel(source, START + 1.5, 4, RATE)
        np.testing.assert_array_equal(found, 1.5 + np.arange(4 * RATE) / RATE)


def test_caches_of_odd_names(written, tmp_path):
    """In LAL's a space is %20; a pattern may name caches, directories, and a file in a directory by a pattern."""
    where = Path(shutil.copytree(written, tmp_path / "with a space"))
    path = str(where / f"H-H1_RAMP-{START}-8.gwf")
    (tmp_path / "x.lcf").write_text(f"H H1_RAMP {START} 8 file://localhost{path.replace(' ', '%20')}\n")
    assert find_files([str(tmp_path / "x.lcf")], "files") == (path,)
    assert find_files([str(tmp_path / "with*" / "*.gwf")], "files") == (path,)
    with pytest.raises(InputError) as error:
        find_files([str(tmp_path / "no[1]" / "*.gwf")], "ingest.channels X: files")
    assert str(error.value) == f"ingest.channels X: files = {tmp_path}/no[1]/*.gwf: no such file"


def test_urls_are_refused_by_name(written, tmp_path):
    """What is far away would be opened again by each task; file:// is here."""
    path = str(written / f"H-H1_RAMP-{START}-8.gwf")
    assert (
        find_files([f"file://{path}"], "files") == find_files([f"file://localhost{path}"], "files") == (path,)
    )
    far = f"https://example.org/H-H1_RAMP-{START}-8.gwf"
    (tmp_path / "x.lcf").write_text(f"H H1_RAMP {START} 8 {far}\n")
    for given, shown in ((far, far), (str(tmp_path / "x.lcf"), f"{tmp_path}/x.lcf: {far}")):
        with pytest.raises(InputError) as error:
            find_files([given], "ingest.channels X: files")
        expected = (
            f"ingest.channels X: files = {shown}: is a URL; copy the files here first, and name the copies"
        )
        assert str(error.value) == expected


def test_several_frame_types_in_one_cache(tmp_path):
    """As sites list them: a channel is taken from those files that have it."""
    lines = []
    for kind, name in (("H1_HOFT", "H1:STRAIN"), ("H1_R", "H1:WITNESS")):
        for start in (START, START + 8):
            path = tmp_path / f"H-{kind}-{start}-8.h5"
            values = start - START + np.arange(8 * RATE) / RATE
            TimeSeries(values, t0=start, sample_rate=RATE, name=name).write(path, path=name, format="hdf5")
            lines.append(f"H {kind} {start} 8 file://localhost{path}\n")
    (tmp_path / "all.lcf").write_text("".join(lines))
    for name in ("H1:STRAIN", "H1:WITNESS"):
        source = Source(name=name, files=[str(tmp_path / "all.lcf")])
        assert coverage(source) == [(START, START + 16)]
        np.testing.assert_array_equal(
            read_channel(source, START + 6, 4, RATE), 6 + np.arange(4 * RATE) / RATE
        )


def test_a_cache_with_an_entry_that_is_none_is_one_line(tmp_path):
    """LAL's readers raise errors of their own."""
    path = tmp_path / "a.lcf"
    path.write_text("H H1_A 1000000000 < file://localhost/a/H-A-1000000000-4.gwf\n")
    with pytest.raises(InputError) as error:
        find_files([str(path)], "ingest.times.file")
    assert str(error.value).startswith(f"ingest.times.file = {path}: not a cache or ffl list: ")
    assert "\n" not in str(error.value)


def test_a_frame_file_is_checked_whatever_it_is_called(tmp_path):
    """LALFrame ends the process at some that are cut."""
    whole, cut = tmp_path / "a.gwf", tmp_path / "frame"
    write_gwf(
        TimeSeriesDict({"H1:A": TimeSeries(np.ones(4 * RATE), t0=START, sample_rate=RATE, name="H1:A")}),
        whole,
    )
    cut.write_bytes(whole.read_bytes())
    assert not isinstance(read_samples(str(cut), "", ["H1:A"])["H1:A"], str)
    cut.write_bytes(whole.read_bytes()[:200])
    assert read_samples(str(cut), "", ["H1:A"]) == {"H1:A": "is not all of a frame file"}
