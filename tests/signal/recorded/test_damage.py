"""Files as disks and detectors leave them: empty, cut, overlapping, lacking a channel, of another rate."""

import numpy as np
import pytest
from gwpy.timeseries import TimeSeries

from glitchflow.config import Series, Source
from glitchflow.errors import InputError
from glitchflow.signal.recorded import recording as module
from glitchflow.signal.recorded.frames import coverage
from glitchflow.signal.recorded.recording import cut, open_recording, read_channel, recorded_rates

START, RATE = 1381161600, 512


def write(directory, start, seconds, rate=RATE, name="H1:A", values=None):
    """A ramp, whose samples are their times in s after START."""
    directory.mkdir(exist_ok=True)
    path = directory / f"H-H1_RAMP-{START + start}-{seconds}.h5"
    values = start + np.arange(round(seconds * rate)) / rate if values is None else values
    TimeSeries(values, t0=START + start, sample_rate=rate, name=name).write(
        path, path=name, format="hdf5", append=True
    )
    return path


def windows(directory, starts, names=("H1:A",), rates=None):
    """Each window of 4 s: its samples and its gaps."""
    sources = [Source(name=name, files=[str(directory / "*")]) for name in names]
    series = Series(duration=4, sample_rate=RATE)
    recording = open_recording(sources, series, START + np.array(starts, float), rates=rates)
    return [cut(recording, i) for i in range(len(starts))]


def test_a_file_that_is_away_for_a_moment_is_read_once_more(tmp_path, monkeypatch):
    write(tmp_path / "x", 0, 8)
    read, asked = module.read_samples, []

    def away(path, form, channels, *span):
        asked.append(path)
        return (
            dict.fromkeys(channels, "Stale file handle")
            if len(asked) == 1
            else read(path, form, channels, *span)
        )

    monkeypatch.setattr(module, "read_samples", away)
    ((values, gaps),) = windows(tmp_path / "x", [2])
    assert not gaps
    np.testing.assert_array_equal(values[0], 2 + np.arange(4 * RATE) / RATE)
    assert len(asked) == 2


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, None])
def test_empty_and_cut_frames_cost_their_windows(tmp_path, content, monkeypatch):
    """And are read twice, whatever the number of windows that want them."""
    for start in (0, 8, 16):
        broken = write(tmp_path / "x", start, 8)
    broken = broken.with_name(f"H-H1_RAMP-{START + 8}-8.h5")
    broken.write_bytes(broken.read_bytes()[:600] if content is None else content)
    read, asked = module.read_samples, []

    def counted(path, *rest):
        asked.append(path)
        return read(path, *rest)

    monkeypatch.setattr(module, "read_samples", counted)
    found = windows(tmp_path / "x", [1, 6, 9, 10, 17])
    assert [bool(gaps) for _, gaps in found] == [False, True, True, True, False]
    assert found[1][1]["H1:A"].startswith(f"ingest.channels H1:A: {broken} cannot be read: ")
    assert asked.count(str(broken)) == 2


def test_a_frame_without_samples(tmp_path):
    write(tmp_path / "x", 0, 8)
    write(tmp_path / "x", 8, 8, values=np.zeros(0))
    found = windows(tmp_path / "x", [1, 9])
    assert [gaps for _, gaps in found] == [
        {},
        {"H1:A": "ingest.channels H1:A: not a number at GPS 1381161609.0000"},
    ]


def test_files_that_overlap(tmp_path):
    """As of two frame builders: what is no number in one is taken from the other, in any order."""
    whole = np.arange(8 * RATE) / RATE
    for start in (0, 4, 8):
        values = start + whole
        values[: RATE if start else 0] = np.nan
        write(tmp_path / "x", start, 8, values=values)
    assert coverage(Source(name="H1:A", files=[str(tmp_path / "x" / "*")])) == [(START, START + 16)]
    for starts in ([0, 2, 3.5, 7, 12], [12, 7, 3.5, 2, 0]):
        for start, (values, gaps) in zip(starts, windows(tmp_path / "x", starts)):
            assert not gaps
            np.testing.assert_array_equal(values[0], start + whole[: 4 * RATE])


def test_a_channel_missing_in_some_files(tmp_path):
    """It costs the windows there, of that channel alone."""
    for start in (0, 8, 16):
        write(tmp_path / "x", start, 8)
        if start != 8:
            write(tmp_path / "x", start, 8, name="H1:B")
    found = windows(tmp_path / "x", [1, 6, 9, 17], ("H1:A", "H1:B"))
    assert [sorted(gaps) for _, gaps in found] == [[], ["H1:B"], ["H1:B"], []]
    assert found[2][1]["H1:B"] == (
        f"ingest.channels H1:B: {tmp_path}/x/H-H1_RAMP-{START + 8}-8.h5 cannot be read: no dataset H1:B;"
        " there are: H1:A"
    )


@pytest.mark.parametrize("starts", [[1, 6, 9, 17], [9, 17, 1, 6]])
def test_a_rate_that_changes(tmp_path, starts):
    """One rate is the channel's, and files of another cost their windows, whichever window is read first."""
    for start in (0, 8, 16):
        write(tmp_path / "x", start, 8, 2 * RATE if start == 8 else RATE)
    source = Source(name="H1:A", files=[str(tmp_path / "x" / "*")])
    series = Series(duration=4, sample_rate=RATE)
    rates = recorded_rates(open_recording([source], series, [START + 1.0]))
    found = dict(zip(starts, windows(tmp_path / "x", starts, rates=rates)))
    assert [bool(found[start][1]) for start in (1, 6, 9, 17)] == [False, True, True, False]
    assert found[9][1]["H1:A"] == (
        f"ingest.channels H1:A: {tmp_path}/x/H-H1_RAMP-{START + 8}-8.h5 is sampled at 1024 Hz, other files at 512 Hz"
    )


def test_a_file_whose_name_tells_nothing_and_that_cannot_be_read(tmp_path, capsys):
    write(tmp_path / "x", 0, 8).rename(tmp_path / "x" / "good.h5")
    (tmp_path / "x" / "bad.h5").write_bytes(b"nothing")
    ((values, gaps),) = windows(tmp_path / "x", [2])
    assert not gaps
    assert values[0][0] == 2
    said = capsys.readouterr().err
    assert said.startswith(f"ingest.channels H1:A: {tmp_path}/x/bad.h5 cannot be read: ")
    assert said.endswith("; it is left out\n")
    (tmp_path / "x" / "good.h5").unlink()
    with pytest.raises(InputError, match=r"^ingest.channels H1:A: .*bad.h5 cannot be read: "):
        windows(tmp_path / "x", [2])


@pytest.mark.parametrize("rate", [100, 1000, 10000])
@pytest.mark.parametrize("recorded", [16, 512, 12.5])
def test_no_channel_is_shifted_against_another(tmp_path, rate, recorded):
    """At rates that are no powers of two, at times between a witness's samples: by less than 1e-4 of its sample."""
    path = write(tmp_path / "x", 0, 32, recorded)
    source, times = Source(name="H1:A", files=[str(path)]), np.random.default_rng(3).uniform(4, 23, 4)
    for start in np.round(times * rate) / rate:
        found = read_channel(source, START + start, 4, rate)
        late = found - (start + np.arange(4 * rate) / rate)
        assert abs(np.median(late)) < 1e-4 / recorded


def test_a_rate_with_samples_beside_whole_seconds(tmp_path):
    """Of 12.5 Hz every other second has none: one that is read from there was shifted by half a sample."""
    path = write(tmp_path / "x", 0, 32, 12.5)
    source = Source(name="H1:A", files=[str(path)])
    for start in (5.04, 6, 7.04, 8.08):
        found = read_channel(source, START + start, 4, 12.5)
        np.testing.assert_allclose(found, start + np.arange(50) / 12.5, rtol=0, atol=1e-9)
