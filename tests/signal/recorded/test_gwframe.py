"""GWF files through gwframe: the samples that LALFrame has, and a reason where gwframe would say nothing."""

import numpy as np
import pytest
from gwpy.timeseries import TimeSeries, TimeSeriesDict

from glitchflow.data.frames import write_gwf
from glitchflow.signal.recorded.samples import Samples, read_samples

gwframe = pytest.importorskip("gwframe")
START = 1381161600
KINDS = {
    "H1:A": (1024, "float64"),
    "H1:B": (256, "float32"),
    "H1:STATE": (16, "uint32"),
    "H1:N": (500, "int16"),
    "H1:M": (64, "int32"),
}


def series(start=START, seconds=8, kinds=KINDS):
    rng, made = np.random.default_rng(start), TimeSeriesDict()
    for name, (rate, kind) in kinds.items():
        values = np.abs(100 * rng.standard_normal(rate * seconds)).astype(kind)
        made[name] = TimeSeries(values, t0=start, sample_rate=rate, name=name, channel=name, unit="m")
    return made


MANY = {f"H1:{name[3:]}_{k}": kind for k in range(21) for name, kind in KINDS.items()}  # 105


@pytest.mark.parametrize("written", ["gwframe", "lalframe"])
@pytest.mark.parametrize("read", ["gwf", "gwf.lalframe"])
@pytest.mark.parametrize(
    ("span", "kinds"),
    [((), KINDS), ((START + 2.25, START + 5.5), KINDS), ((START - 5, START + 3.5), KINDS), ((), MANY)],
)
def test_what_one_writes_the_other_reads(tmp_path, written, read, span, kinds):
    """Values, types, rates, starts and units, over whole seconds; of few channels and of a hundred."""
    made, path = series(kinds=kinds), tmp_path / f"H-H1_X-{START}-8.gwf"
    if "lalframe" in (written, read.removeprefix("gwf.")):
        pytest.importorskip("lalframe")
    write_gwf(made, path) if written == "gwframe" else made.write(path, format="gwf.lalframe")
    low, high = (max(START, np.floor(span[0])), np.ceil(span[1])) if span else (START, START + 8)
    found = read_samples(str(path), read, list(kinds), *span)
    assert list(found) == list(kinds)
    for name, one in found.items():
        rate, kind = kinds[name]
        wanted = made[name].value[round((low - START) * rate) : round((high - START) * rate)]
        assert (one.start, one.rate, one.values.dtype, one.unit) == (low, rate, kind, "m")
        np.testing.assert_array_equal(one.values, wanted)


def test_several_frames_in_one_file(tmp_path):
    """All of them are read, and a hole between them is no number."""
    path = tmp_path / f"H-H1_X-{START}-12.gwf"
    with gwframe.FrameWriter(path) as file:
        for start in (START, START + 4, START + 10):
            one = series(start, 2 if start > START + 4 else 4)["H1:B"]
            file.write({"H1:B": one.value}, start=float(start), sample_rate=256.0, name="H1")
    found = read_samples(str(path), "", ["H1:B"])["H1:B"]
    assert found.span == (START, START + 12)
    np.testing.assert_array_equal(found.values[: 4 * 256], series(START, 4)["H1:B"].value)
    np.testing.assert_array_equal(found.values[4 * 256 : 8 * 256], series(START + 4, 4)["H1:B"].value)
    assert np.isnan(found.values[8 * 256 : 10 * 256]).all()
    np.testing.assert_array_equal(found.values[10 * 256 :], series(START + 10, 2)["H1:B"].value)
    late = read_samples(str(path), "", ["H1:B"], START + 11.5, START + 20)["H1:B"]
    assert late.span == (START + 11, START + 12)


def test_a_channel_that_is_not_there_costs_itself(tmp_path):
    path = tmp_path / f"H-H1_X-{START}-8.gwf"
    write_gwf(series(), path)
    found = read_samples(str(path), "", ["H1:A", "H1:NONE"])
    assert isinstance(found["H1:A"], Samples)
    assert "H1:NONE" in found["H1:NONE"]
    outside = read_samples(str(path), "", ["H1:A"], START + 20, START + 24)["H1:A"]
    assert outside == f"{path} has nothing of GPS {START + 20:g} to {START + 24:g}"


def test_damaged_files_have_a_reason(tmp_path):
    """Cut anywhere, or a byte of its table of contents changed: never an error that gets away, never other samples."""
    path, made = tmp_path / f"H-H1_X-{START}-8.gwf", series()
    write_gwf(made, path)
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    for place in [0, 10, 40, *rng.integers(40, len(whole), 12)]:
        path.write_bytes(whole[:place])
        found = read_samples(str(path), "", ["H1:A"])["H1:A"]
        assert isinstance(found, str) and found, place
    for place in rng.integers(len(whole) - 400, len(whole), 12):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        found = read_samples(str(path), "", ["H1:A"])["H1:A"]
        assert isinstance(found, str) or np.array_equal(found.values, made["H1:A"].value)


def test_complex_channels_are_refused(tmp_path):
    gwframe.write(
        tmp_path / "x.gwf", {"H1:C": np.ones(64, "c8")}, start=float(START), sample_rate=16.0, name="H1"
    )
    found = read_samples(str(tmp_path / "x.gwf"), "", ["H1:C"])["H1:C"]
    assert found == "its samples are complex, which no series here is"
