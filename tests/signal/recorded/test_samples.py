"""Channels of GWF files, read by LALFrame once, against gwpy's reader; what it refuses gwpy is asked for."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gwpy.timeseries import TimeSeries, TimeSeriesDict

from glitchflow.signal.recorded import samples as module
from glitchflow.signal.recorded.samples import Samples, read_samples

lalframe = pytest.importorskip("lalframe")
START = 1381161600
LAL = "gwf.lalframe"  # where gwframe is there too, it is what reads GWF
KINDS = {
    "H1:A": (1024, "float64"),
    "H1:B": (256, "float32"),
    "H1:STATE": (16, "uint32"),
    "H1:N": (64, "int16"),
}


@pytest.fixture
def path(tmp_path):
    rng, made = np.random.default_rng(0), TimeSeriesDict()
    for name, (rate, kind) in KINDS.items():
        values = (100 * rng.standard_normal(rate * 8)).astype(kind)
        made[name] = TimeSeries(values, t0=START, sample_rate=rate, name=name, channel=name, unit="m")
    where = tmp_path / "a directory"
    where.mkdir()
    made.write(where / f"H-H1_X-{START}-8.gwf", format="gwf")
    return str(where / f"H-H1_X-{START}-8.gwf")


@pytest.mark.parametrize("span", [(), (START + 2.25, START + 5.5), (START, START + 3.5)])
def test_samples_are_gwpys(path, span, monkeypatch):
    """Of every type, over whole seconds; without asking gwpy."""
    monkeypatch.setattr(module, "_types", {})
    wanted = module._read_gwpy(path, "gwf", list(KINDS), *(span or (-np.inf, np.inf)))
    monkeypatch.delattr(module, "_read_gwpy")
    for _ in range(2):  # with the types unknown, and known
        found = read_samples(path, LAL, list(KINDS), *span)
        for name, (rate, kind) in KINDS.items():
            one, other = found[name], wanted[name]
            assert (one.start, one.rate, one.unit) == (other.start, rate, other.unit)
            assert one.values.dtype == kind
            np.testing.assert_array_equal(one.values, other.values)


def test_a_type_that_changes_and_a_channel_that_is_not_there(path, monkeypatch):
    monkeypatch.setattr(module, "_types", {"H1:B": 11})  # LALFrame's number of float64
    found = read_samples(path, LAL, ["H1:B", "H1:NONE"])
    assert len(found["H1:B"].values) == 2048
    assert found["H1:NONE"] == "channel 'H1:NONE' not found"


def test_each_channel_is_decoded_once_when_its_type_is_known(path, monkeypatch):
    read_samples(path, LAL, ["H1:A"])
    monkeypatch.setattr(lalframe, "FrFileQueryChanType", None)
    assert len(read_samples(path, LAL, ["H1:A"])["H1:A"].values) == 8192


def test_a_hole_between_frames_is_no_number(tmp_path):
    """And frames that overlap, or change their rate, are said not to follow each other."""
    one = Samples(START, 16.0, np.arange(16, dtype="i4"))
    found = module._joined([one, replace(one, start=START + 3)], START + 0.5, START + 3.5)
    np.testing.assert_array_equal(found.values, [*range(8, 16), *[np.nan] * 32, *range(8)])
    assert found.start == START + 0.5
    for after in (
        replace(one, start=START + 0.5),
        replace(one, start=START + 1.03),
        replace(one, start=START + 1, rate=8.0),
    ):
        with pytest.raises(
            RuntimeError, match=r"^the frame of GPS 13811616\d\d\.\d+ does not follow the one before it$"
        ):
            module._joined([one, after], -np.inf, np.inf)


@pytest.mark.skipif("GLITCHFLOW_TEST_DATA" not in os.environ, reason="GLITCHFLOW_TEST_DATA is not set")
def test_a_file_of_gwoscs():
    path = str(Path(os.environ["GLITCHFLOW_TEST_DATA"], "H-H1_LOSC_4_V2-1126259446-32.gwf"))
    found = read_samples(path, "", ["H1:LOSC-STRAIN"])["H1:LOSC-STRAIN"]
    wanted = TimeSeries.read(path, "H1:LOSC-STRAIN", format="gwf")
    assert (found.start, found.rate, found.unit) == (1126259446, 4096, str(wanted.unit))
    np.testing.assert_array_equal(found.values, wanted.value)


@pytest.mark.ci
def test_a_task_of_ingest_imports_no_gwpy(tmp_path):
    """It takes as long as half of all else that a worker imports: with matplotlib and astropy, for nothing."""
    pytest.importorskip("lalframe")
    path = tmp_path / "X-X1_A-1000-4.gwf"
    TimeSeries(np.arange(64.0), t0=1000, sample_rate=16, name="X1:A", channel="X1:A").write(
        path, format="gwf"
    )
    code = (
        "import sys, glitchflow.data.shard_events\n"
        "from glitchflow.config import Source\n"
        "from glitchflow.signal.recorded.frames import pieces, read_file\n"
        "source = Source(name='X1:A', files=sys.argv[1:])\n"
        "print(pieces(source)[0].stop, read_file(source, sys.argv[1]).values.sum())\n"
        "print([name for name in ('gwpy', 'astropy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1004.0 2016.0", "[]"]
