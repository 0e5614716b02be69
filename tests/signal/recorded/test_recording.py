"""Windows cut from stretches: equal to a ramp that was written over many files, whatever they are read with."""

import itertools

import h5py
import numpy as np
import pytest
from gwpy.timeseries import TimeSeries, TimeSeriesDict
from scipy.signal import resample_poly

from glitchflow.config import Series, Source
from glitchflow.data.frames import write_gwf
from glitchflow.errors import InputError
from glitchflow.signal.recorded import recording as module
from glitchflow.signal.recorded import row
from glitchflow.signal.recorded.frames import coverage
from glitchflow.signal.recorded.recording import (
    cut,
    open_recording,
    read_channel,
    recorded_rates,
    stretch_of,
)
from glitchflow.signal.recorded.row import Row, grid_offset

START, RATE = 1381161600, 1024
SECONDS = 32


def ramp(start: float, seconds: float, rate: float) -> np.ndarray:
    """A sample is its own time in s after START: every read can be checked."""
    return start - START + np.arange(round(seconds * rate)) / rate


def write(directory, channels: dict[str, float], length: int, form="gwf", skip=()):
    """Ramps of the channels, by their rates in Hz, in files of `length` s."""
    directory.mkdir(exist_ok=True)
    suffix = {"gwf": "gwf", "hdf5": "h5"}[form]
    for start in range(START, START + SECONDS, length):
        if start in skip:
            continue
        series = TimeSeriesDict()
        for name, rate in channels.items():
            series[name] = TimeSeries(
                ramp(start, length, rate), t0=start, sample_rate=rate, name=name, channel=name
            )
        try:
            path = directory / f"H-H1_RAMP-{start}-{length}.{suffix}"
            write_gwf(series, path) if form == "gwf" else series.write(path, format=form)
        except ImportError as error:
            pytest.skip(f"no GWF backend is installed: {error}")
    return [Source(name=name, files=[str(directory / "H-*")]) for name in channels]


@pytest.mark.parametrize("form", ["gwf", "hdf5"])
@pytest.mark.parametrize("length", [1, 8])
def test_windows_across_seams_are_the_ramp(tmp_path, length, form):
    """At times between whole seconds, over as many files as it takes, up to the last sample."""
    sources = write(tmp_path / "a directory", {"H1:RAMP": RATE}, length, form)
    for rate, edge in ((RATE, 0), (256, 12)):
        times = np.append(
            np.random.default_rng(1).uniform(START, START + SECONDS - 4, 40), START + SECONDS - 4
        )
        starts = np.round(times * rate) / rate
        recording = open_recording(sources, Series(duration=4, sample_rate=rate), starts)
        for window, start in enumerate(starts):
            values, gaps = cut(recording, window)
            assert not gaps
            expected = ramp(start, 4, rate)
            inside = (expected > edge / rate) & (expected < SECONDS - edge / rate)  # the filter's ends
            np.testing.assert_allclose(values[0][inside], expected[inside], rtol=0, atol=1e-12)


def noise(directory, rates: dict[str, int], lengths=(8,)):
    """White noise with an offset: a file of each length in turn, the same samples whatever the files."""
    directory.mkdir(exist_ok=True)
    whole = {
        name: 1e3 + np.random.default_rng(rate).standard_normal(SECONDS * rate)
        for name, rate in rates.items()
    }
    start, k = 0, 0
    while start < SECONDS:
        length = min(lengths[k % len(lengths)], SECONDS - start)
        for name, rate in rates.items():
            series = TimeSeries(
                whole[name][start * rate : (start + length) * rate],
                t0=START + start,
                sample_rate=rate,
                name=name,
            )
            series.write(
                directory / f"H-H1_NOISE-{START + start}-{length}.h5", path=name, format="hdf5", append=True
            )
        start, k = start + length, k + 1
    return [Source(name=name, files=[str(directory / "*.h5")]) for name in rates]


def test_a_sample_depends_on_nothing_but_its_neighbourhood(tmp_path, monkeypatch):
    """The same bits alone and in company, in one stretch and in many, from files of any length, at any ratio."""
    rates = {"X1:FAST": 4096, "X1:ODD": 500, "X1:SLOW": 16, "X1:SAME": 512}
    series, starts = Series(duration=4, sample_rate=512), START + np.arange(3, 26, 0.625)
    one = noise(tmp_path / "a", rates)
    together = open_recording(one, series, starts)
    reference = [cut(together, i)[0] for i in range(len(starts))]
    assert len({stretch_of(together, i) for i in range(len(starts))}) == 1
    other = open_recording(noise(tmp_path / "b", rates, (3, 1, 7)), series, starts[::-1], lot=3)
    monkeypatch.setattr(module, "RAW", 2**16)  # a channel at a time, and no file kept
    for i in range(len(starts)):
        np.testing.assert_array_equal(cut(other, len(starts) - 1 - i)[0], reference[i])
    for c, source in enumerate(one):
        np.testing.assert_array_equal(read_channel(source, starts[5], 4, 512), reference[5][c])


def test_an_offset_stays_an_offset(tmp_path):
    """Whatever the ratio: scipy's own filter leaves a ripple of a thousandth of it."""
    sources = write(tmp_path / "x", {"H1:RAMP": 500}, 8, "hdf5")
    for source in sources:
        found = read_channel(source, START + 8, 8, 512)
        np.testing.assert_allclose(found, ramp(START + 8, 8, 512), rtol=0, atol=1e-5)


def test_every_file_is_opened_once(tmp_path, monkeypatch):
    """For all of its channels, though stretches reach into the files of their neighbours."""
    rates = {"X1:S": 1024, **{f"X1:W{i}": 256 for i in range(5)}}
    sources = noise(tmp_path / "n", rates, (4,))
    opened: list[tuple[str, int]] = []
    read = module.read_samples

    def counted(path, form, channels, *span):
        opened.append((path, len(channels)))
        return read(path, form, channels, *span)

    monkeypatch.setattr(module, "read_samples", counted)
    monkeypatch.setattr(module, "STRETCH", 8 * 6 * 512 * 6)  # 6 s of 6 channels
    starts = START + np.arange(0, SECONDS - 4 + 1e-9, 1.0)
    recording = open_recording(sources, Series(duration=4, sample_rate=512), starts)
    for window in range(len(starts)):
        assert not cut(recording, window)[1]
    assert len({stretch_of(recording, i) for i in range(len(starts))}) > 4
    assert [count for _, count in opened] == [6] * 8
    assert len({path for path, _ in opened}) == 8


@pytest.mark.parametrize("sliding", [True, False])
def test_tasks_share_files_at_seams_alone(tmp_path, monkeypatch, sliding):
    """By windows that slide, and by a list: a task opens each of its files once, for 16 channels; the driver one."""
    rates = {"X1:S": 512, **{f"X1:W{i}": (256, 64)[i % 2] for i in range(15)}}
    sources, opened = noise(tmp_path / "n", rates, (2,)), []
    read = module.read_samples

    def counted(path, form, channels, *span):
        opened.append((path, len(channels)))
        return read(path, form, channels, *span)

    monkeypatch.setattr(module, "read_samples", counted)
    times = np.random.default_rng(2).uniform(0, SECONDS - 2, 40)
    starts = START + (
        np.arange(0, SECONDS - 2 + 1e-9, 0.75) if sliding else np.round(np.sort(times) * 512) / 512
    )
    series, lot = Series(duration=2, sample_rate=512), 8 if sliding else 14  # some 6 and 10 s
    rates = recorded_rates(open_recording(sources, series, starts))  # the driver's, which tells its tasks
    tasks = []
    for first in range(0, len(starts), lot):
        opened.clear()
        recording = open_recording(sources, series, starts, lot, rates)  # what a task's process has
        for window in range(first, min(first + lot, len(starts))):
            assert not cut(recording, window)[1]
        paths = [path for path, _ in opened]
        assert len(set(paths)) == len(paths)
        assert {count for _, count in opened} == {16}
        reach = np.array([starts[first], starts[min(first + lot, len(starts)) - 1] + 2]) - START
        # a filter reaches 16 samples of 8 Hz, 2 s, beyond either end
        needed = 1 + np.floor((reach[1] + 2) / 2) - np.floor((reach[0] - 2) / 2)
        assert len(paths) <= needed
        tasks.append(set(paths))
    for before, after in itertools.pairwise(tasks):
        assert len(before & after) <= 4
    for i, j in itertools.combinations(range(len(tasks)), 2):
        assert j == i + 1 or not tasks[i] & tasks[j]


def test_a_task_opens_no_file_that_its_windows_do_not_reach(tmp_path, monkeypatch):
    """A stretch is as wide as the files that windows lie in, but not so wide that a filter reaches into the next."""
    sources, opened = noise(tmp_path / "n", {"X1:S": 512, "X1:W": 64}, (8,)), []
    read = module.read_samples
    monkeypatch.setattr(module, "read_samples", lambda *given: opened.append(given[0]) or read(*given))
    starts, lot = START + np.arange(0, SECONDS - 2 + 1e-9, 0.75), 4
    for first in range(0, len(starts), lot):
        opened.clear()
        mine = range(first, min(first + lot, len(starts)))
        recording = open_recording(
            sources, Series(duration=2, sample_rate=512), starts, lot, {"X1:S": 512.0, "X1:W": 64.0}
        )
        for window in mine:
            assert not cut(recording, window)[1]
        # a filter reaches 16 samples of 8 Hz, 2 s, beyond either end
        low, high = np.floor(starts[mine[0]] - 2), np.ceil(starts[mine[-1]] + 2 + 2)
        begins = range(START, START + SECONDS, 8)
        assert len(opened) == sum(low < begin + 8 and begin < high for begin in begins)


def test_a_file_that_cannot_be_read_costs_its_windows(tmp_path):
    sources = write(tmp_path / "x", {"H1:A": RATE, "H1:B": RATE}, 8, "hdf5")
    broken = tmp_path / "x" / f"H-H1_RAMP-{START + 8}-8.h5"
    broken.write_bytes(broken.read_bytes()[:300])
    starts = START + np.array([1.0, 6.5, 13.0, 16.0])
    recording = open_recording(sources, Series(duration=4, sample_rate=RATE), starts)
    found = [cut(recording, i)[1] for i in range(4)]
    assert [sorted(gaps) for gaps in found] == [[], ["H1:A", "H1:B"], ["H1:A", "H1:B"], []]
    assert found[1]["H1:A"].startswith(f"ingest.channels H1:A: {broken} cannot be read: ")
    assert recorded_rates(recording) == {"H1:A": RATE, "H1:B": RATE}


def test_a_channel_that_is_in_no_file_is_refused_at_the_start(tmp_path):
    sources = write(tmp_path / "x", {"H1:A": RATE}, 8, "hdf5")
    wrong = Source(name="H1:NO", files=sources[0].files)
    recording = open_recording([*sources, wrong], Series(duration=4, sample_rate=RATE), [START])
    with pytest.raises(InputError) as error:
        recorded_rates(recording)
    path = tmp_path / "x" / f"H-H1_RAMP-{START}-8.h5"
    assert str(error.value) == (
        f"ingest.channels H1:NO: {path} cannot be read: no dataset H1:NO; there are: H1:A"
    )


def test_a_hole_and_a_file_shorter_than_its_name(tmp_path):
    (source,) = write(tmp_path / "x", {"H1:A": RATE}, 8, "hdf5", skip=[START + 8])
    assert coverage(source) == [(START, START + 8), (START + 16, START + SECONDS)]
    (tmp_path / "x" / f"H-H1_RAMP-{START + 24}-8.h5").rename(tmp_path / "x" / f"H-H1_RAMP-{START + 24}-16.h5")
    recording = open_recording(
        [source], Series(duration=4, sample_rate=RATE), [START + 2, START + 6, START + 30]
    )
    assert not cut(recording, 0)[1]
    assert cut(recording, 1)[1] == {
        "H1:A": "ingest.channels H1:A: its files cover GPS 1381161600.000-1381161608.000,"
        " 1381161616.000-1381161640.000, not 1381161606.000-1381161610.000"
    }
    assert cut(recording, 2)[1] == {"H1:A": "ingest.channels H1:A: not a number at GPS 1381161632.0000"}


def test_a_window_that_ends_where_nan_begins_is_whole(tmp_path):
    """Resampled too: the samples beside what is no number are held, as at the end of a file."""
    values = np.ones(SECONDS * RATE)
    values[20 * RATE : 24 * RATE] = np.nan
    values[10 * RATE + 7] = np.nan
    TimeSeries(values, t0=START, sample_rate=RATE, name="H1:A").write(
        tmp_path / "a.h5", path="H1:A", format="hdf5"
    )
    source = Source(name="H1:A", files=[str(tmp_path / "a.h5")])
    for rate in (RATE, 256):
        for start in (16, 24):
            np.testing.assert_allclose(read_channel(source, START + start, 4, rate), 1)
        for start in (8, 16.5, 20, 23.5):
            with pytest.raises(InputError, match="not a number at GPS"):
                read_channel(source, START + start, 4, rate)


def test_what_is_beyond_a_gap_changes_nothing(tmp_path):
    """A window before a gap is the same whether the other side of the gap was read with it or not."""
    values = np.random.default_rng(1).standard_normal(SECONDS * 16)
    values[10 * 16 : 20 * 16] = np.nan
    TimeSeries(values, t0=START, sample_rate=16, name="H1:A").write(
        tmp_path / "a.h5", path="H1:A", format="hdf5"
    )
    source = Source(name="H1:A", files=[str(tmp_path / "a.h5")])
    series, starts = Series(duration=4, sample_rate=512), [START + 6.0, START + 20.0]
    together = cut(open_recording([source], series, starts), 0)[0]
    (tmp_path / "a.h5").unlink()
    TimeSeries(values[: 12 * 16], t0=START, sample_rate=16, name="H1:A").write(
        tmp_path / "a.h5", path="H1:A", format="hdf5"
    )
    np.testing.assert_array_equal(together, cut(open_recording([source], series, starts[:1]), 0)[0])


def test_a_channel_under_two_names(tmp_path):
    (source,) = noise(tmp_path / "a", {"X1:A": 512})
    sources = [source, Source(name="X1:B", channel="X1:A", files=source.files)]
    values, gaps = cut(open_recording(sources, Series(duration=4, sample_rate=512), [START + 6]), 0)
    assert not gaps
    np.testing.assert_array_equal(values[0], values[1])


def test_samples_beside_the_grid(tmp_path, capsys):
    """A file that begins between samples: the nearest are taken, and how much later they are is said once."""
    late = START + 0.25 / RATE
    TimeSeries(np.arange(8.0 * RATE), t0=late, sample_rate=RATE, name="H1:A").write(
        tmp_path / "a.h5", path="H1:A", format="hdf5"
    )
    row._say_offset.cache_clear()
    for _ in range(2):
        found = read_channel(Source(name="H1:A", files=[str(tmp_path / "a.h5")]), START + 2, 4, RATE)
        np.testing.assert_array_equal(found, 2 * RATE + np.arange(4.0 * RATE))
    assert capsys.readouterr().err == (
        f"H1:A: begins between samples of its rate; the nearest are taken, and what it recorded was {250 / RATE:.3g} ms"
        " later\n"
    )
    assert grid_offset(late, RATE) == pytest.approx(0.25 / RATE, rel=0.02)
    assert grid_offset(START + 3.5, RATE) == 0


@pytest.mark.parametrize(
    "gaps", [[(0, 3)], [(95, 100)], [(10, 11), (40, 45), (50, 56)], [(0, 99)], [(1, 100)]]
)
def test_a_gap_is_filled_from_both_sides_before_the_filter(gaps):
    values = np.arange(100.0)
    for begin, end in gaps:
        values[begin:end] = np.nan
    there = np.flatnonzero(np.isfinite(values))
    nearest = there[np.abs(np.arange(100)[:, None] - there).argmin(axis=1)]  # of two, the earlier
    row = Row(0, 100.0, values)
    row.resampled(0, 50, 50.0)
    np.testing.assert_array_equal(row.values, nearest)


def test_resampled_to_a_lower_rate_as_scipy_does_it(tmp_path):
    """What events had before, read by themselves with two seconds to either side."""
    (source,) = noise(tmp_path / "x", {"X1:A": 4096})
    values = 1e3 + np.random.default_rng(4096).standard_normal(SECONDS * 4096)
    expected = resample_poly(values[6 * 4096 : 18 * 4096], 1, 8, padtype="line")[2 * 512 : -2 * 512]
    np.testing.assert_allclose(read_channel(source, START + 8, 8, 512), expected, rtol=1e-13)


def test_pycbcs_hdf5(tmp_path):
    with h5py.File(tmp_path / "H-H1_PYCBC.hdf", "w") as file:
        dataset = file.create_dataset("H1:PYCBC", data=ramp(START, 16, RATE))
        dataset.attrs["start_time"], dataset.attrs["delta_t"] = float(START), 1 / RATE
    source = Source(name="H1:PYCBC", files=[str(tmp_path / "*.hdf")])
    np.testing.assert_array_equal(read_channel(source, START + 3.5, 4, RATE), ramp(START + 3.5, 4, RATE))


@pytest.mark.parametrize(
    ("rate", "values", "message"),
    [
        (
            16,
            np.exp(1j * np.arange(256)),
            "x.h5 cannot be read: its samples are complex, which no series here is",
        ),
        (1, np.arange(16.0), "was recorded at 1 Hz, a trend, of which there are no Q-plots; leave it out"),
        (
            1 / 8,
            np.arange(2.0),
            "was recorded at 0.125 Hz, a trend, of which there are no Q-plots; leave it out",
        ),
    ],
)
def test_channels_that_are_no_series(tmp_path, rate, values, message):
    TimeSeries(values, t0=START, sample_rate=rate, name="H1:A").write(
        tmp_path / "x.h5", path="H1:A", format="hdf5"
    )
    source = Source(name="H1:A", files=[str(tmp_path / "x.h5")])
    with pytest.raises(InputError, match=f"^ingest.channels H1:A: .*{message}"):
        recorded_rates(open_recording([source], Series(duration=4, sample_rate=RATE), [START]))


def test_nothing_in_a_file_is_unpickled(tmp_path):
    """gwpy does: an attribute `channel` that is no text."""
    mark = tmp_path / "mark"
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("H1:A", data=np.zeros(16 * RATE))
        dataset.attrs["x0"], dataset.attrs["dx"] = float(START), 1 / RATE
        dataset.attrs["channel"] = np.void(f"cposix\nsystem\n(S'touch {mark}'\ntR.".encode())
    read_channel(Source(name="H1:A", files=[str(tmp_path / "x.h5")]), START, 4, RATE)
    assert not mark.exists()
