"""Cleaning along the time line: recorded files of any length, at any rate, with and without gaps."""

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from fronts import FRONT, First
from gwpy.timeseries import TimeSeries, TimeSeriesDict
from igwn_segments import segment, segmentlist

from glitchflow.analysis.clean import tasks as shared
from glitchflow.analysis.clean.files import Stretch, write
from glitchflow.analysis.clean.line import clean_line, open_line
from glitchflow.analysis.clean.series import Twin, _at_rate
from glitchflow.analysis.clean.tasks import Tasks, share
from glitchflow.analysis.twin import open_twin
from glitchflow.config import Cluster, Source
from glitchflow.errors import InputError
from glitchflow.model import build
from glitchflow.signal.recorded.samples import Samples, read_samples
from glitchflow.twin import coherent, guard
from glitchflow.twin.kind import Trained
from glitchflow.twin.step import Stepper, stepper

START, LENGTH = 1_000_000_000, 64  # GPS s, s
RATES = {"S": 1024.0, "FAST": 512.0, "SLOW": 64.0}
NAMES = ("S_CLEAN", "S_NOISE")
ALONE = Tasks(Cluster(), lambda: None, memory=2**20, channels=1)  # in this process


def values_of(name: str) -> np.ndarray:
    """What a channel shows of the same process at any rate: tones within the band, louder in the strain, so that nobody
    can tell whether an estimate is in it."""
    time = np.arange(round(LENGTH * RATES[name])) / RATES[name]
    if name == "SLOW":
        return 0.25 + 0.1 * np.sin(2 * np.pi * 0.5 * time)
    tones = sum(np.sin(2 * np.pi * f * time + f) * (1 + 0.5 * np.sin(0.3 * time)) for f in (31.3, 47.7, 71.1))
    return 10 * tones + 5 * np.sin(2 * np.pi * 5 * time) if name == "S" else tones


def record(directory: Path, cuts, change=lambda name, values: values, dtype="float32") -> dict[str, Source]:
    """Files of all channels, from one of `cuts` (s after START) to the next."""
    for begin, end in pairwise(cuts):
        path = directory / f"S-ALL-{int(START + begin)}-{int(np.ceil(end) - np.floor(begin))}.hdf5"
        with h5py.File(path, "w") as file:
            for name, rate in RATES.items():
                part = slice(round(begin * rate), round(end * rate))
                data = file.create_dataset(name, data=change(name, values_of(name))[part].astype(dtype))
                data.attrs.update(x0=START + begin, dx=1 / rate, unit="m")
    return {name: Source(name=name, files=[f"{directory}/*.hdf5"]) for name in RATES}


@pytest.fixture
def steps() -> Stepper:
    """A twin whose estimate is no part of the strain: it may make it louder."""
    steps = stepper(Trained(coherent.KIND, First(), FRONT.channels, FRONT), 2, 1, "clean")
    return replace(steps, louder=np.inf)


def cleaned(tmp_path, steps, spans, cuts=(0, 16, 32, 48, 64), name="a", names=NAMES, tasks=ALONE, **recorded):
    """The cleaned strain and the estimate over all files, and the rows of seconds.csv."""
    files, out = tmp_path / f"{name}_recorded", tmp_path / f"{name}_clean"
    files.mkdir()
    out.mkdir()
    sources = record(files, cuts, **recorded)
    line = open_line(steps, list(sources.values()), spans)
    live = clean_line(line, sources["S"], names, "", out, tasks)
    found = {}
    for path in sorted(out.glob("*.hdf5")):
        for channel, one in read_samples(str(path), "", names).items():
            found.setdefault(channel, []).append(one.values)
    with (out / "seconds.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {channel: np.concatenate(parts) for channel, parts in found.items()}, rows, live


def whole(start=0, stop=LENGTH) -> segmentlist:
    return segmentlist([segment(START + start, START + stop)])


def test_what_the_twin_says_is_subtracted_at_the_files_own_rate(tmp_path, steps):
    found, _, live = cleaned(tmp_path, steps, whole())
    strain, rate = values_of("S").astype("float32"), RATES["S"]
    assert found["S_CLEAN"].dtype == found["S_NOISE"].dtype == np.float32, "as it was recorded"
    inside = slice(round(16 * rate), round(48 * rate))
    # First says that the white strain shows what the white witness does: filters undo and do 1 / (2 - z + z^2 / 2)
    fast = torch.from_numpy(values_of("FAST")[::2].copy())[None]
    white = FRONT.limit(4.0 * fast)
    wanted = torch.from_numpy(FRONT.undo(white.numpy()))[0].numpy()
    middle = slice(16 * 256, 48 * 256)
    estimate = found["S_NOISE"][::4]
    assert np.abs(estimate[middle] - wanted[middle]).max() < 0.01 * np.abs(wanted[middle]).max()
    removed = strain.astype(float) - found["S_CLEAN"]
    assert removed[inside].std() > 0.05 * strain.std()
    assert live == whole(2, 62), "blocks whose crop the files hold"


def test_nothing_outside_of_the_spans_changes(tmp_path, steps):
    found, rows, live = cleaned(tmp_path, steps, whole(20, 27.5) | whole(40, 44))
    rate = RATES["S"]
    strain = values_of("S").astype("float32")[16 * 1024 : 48 * 1024]  # of files that spans reach into
    time = 16 + np.arange(len(strain)) / rate
    outside = ~(((time >= 20) & (time < 27.5)) | ((time >= 40) & (time < 44)))
    np.testing.assert_array_equal(found["S_CLEAN"][outside], strain[outside])
    assert not found["S_NOISE"][outside].any()
    changed = time[np.flatnonzero(found["S_CLEAN"] != strain)]
    assert changed.min() < 20.1 and changed.max() > 43.9, "all of the spans"
    assert live == whole(20, 27.5) | whole(40, 44)
    assert [int(row["gps"]) - START for row in rows if row["why"] == ""] == [*range(20, 28), *range(40, 44)]
    assert [int(row["gps"]) - START for row in rows if row["cleaned"] == "1"] == [
        *range(20, 27),
        *range(40, 44),
    ]
    assert {row["removed_rms"] for row in rows if row["why"] == "not chosen"} == {"0"}


def test_it_does_not_matter_how_the_time_is_cut_into_files_or_spans(tmp_path, steps):
    a, *_ = cleaned(tmp_path, steps, whole(10, 60))
    b, *_ = cleaned(tmp_path, steps, whole(30, 60), cuts=(0, 7, 29, 31, 64), name="b")
    later = slice(-round(33 * RATES["S"]), -round(4 * RATES["S"]))
    np.testing.assert_array_equal(a["S_CLEAN"][later], b["S_CLEAN"][later])
    np.testing.assert_array_equal(a["S_NOISE"][later], b["S_NOISE"][later])


@pytest.mark.parametrize(("louder", "memory"), [(np.inf, 60.0), (0.02, 10.0)])
def test_it_does_not_matter_how_it_is_shared_out(tmp_path, steps, ray_session, monkeypatch, louder, memory):
    """Bit by bit, also where bands are passed through for what was made louder in the minute before, and with gaps."""

    def spoil(name, values):
        values = values.copy()
        if name == "S":
            values[round(13.2 * RATES[name]) : round(13.6 * RATES[name])] = 0  # no lock
        if name == "FAST":
            values[round(45.2 * RATES[name])] = np.nan
        if louder < np.inf and name != "SLOW":  # loud now and then, and the witness's sign is wrong
            time = np.arange(len(values)) / RATES[name]
            values *= np.clip(3 * np.sin(2 * np.pi * time) - 1, 0.01, 1) * (-1 if name == "FAST" else 1)
        return values

    if memory < guard.MEMORY:  # which processes of Ray would not know
        monkeypatch.setattr(guard, "MEMORY", memory)
        monkeypatch.setattr(
            shared, "run_tasks", lambda job, parts, *_: {part: job.make(part) for part in parts}
        )
    cuts, steps = (0, 8, 16, 24, 24.5, 24.75, 32, 40, 48, 56, 64), replace(steps, louder=louder)
    recorded = {"spans": whole(3, 27.5) | whole(33, 60), "cuts": cuts, "change": spoil}
    one, rows, live = cleaned(tmp_path, steps, **recorded)
    assert any("louder" in row["why"] for row in rows) == (louder < np.inf)
    monkeypatch.setattr(shared, "SHORTEST", 8.0)
    monkeypatch.setattr(shared, "HERE", 0.0)
    found, others, again = cleaned(tmp_path, steps, name="b", **recorded)
    for name in NAMES:
        np.testing.assert_array_equal(found[name], one[name])
    assert (others, again) == (rows, live)
    assert sorted(path.name for path in (tmp_path / "b_clean").iterdir()) == sorted(
        path.name for path in (tmp_path / "a_clean").iterdir()
    )


def test_a_task_that_died_and_was_tried_again_leaves_nothing_twice(tmp_path, steps, monkeypatch):
    def twice(job, parts, *_):
        for part in parts:
            job.make(part)
        return {part: job.make(part) for part in parts}

    monkeypatch.setattr(shared, "SHORTEST", 8.0)
    wanted, rows, _ = cleaned(tmp_path, steps, whole())
    monkeypatch.setattr(shared, "run_tasks", twice)
    found, again, _ = cleaned(tmp_path, steps, whole(), name="b")
    np.testing.assert_array_equal(found["S_CLEAN"], wanted["S_CLEAN"])
    assert again == rows
    assert sorted(path.name for path in (tmp_path / "b_clean").iterdir()) == [
        *(f"S-S_CLEAN-{START + begin}-16.hdf5" for begin in (0, 16, 32, 48)),
        "seconds.csv",
    ]


def test_files_that_begin_in_one_second_stay_together(monkeypatch):
    monkeypatch.setattr(shared, "SHORTEST", 2.0)
    spans = [(0.0, 2.0), (2.0, 4.0), (4.0, 6.25), (6.25, 6.5), (6.5, 8.0), (8.0, 9.0)]
    assert share(spans) == [range(0, 1), range(1, 2), range(2, 3), range(3, 6)]
    monkeypatch.setattr(shared, "SHORTEST", 0.2)
    assert share(spans) == [range(0, 1), range(1, 2), range(2, 3), range(3, 5), range(5, 6)]
    monkeypatch.setattr(shared, "SHORTEST", 2.2)
    assert share(spans) == [range(0, 2), range(2, 3), range(3, 6)]
    assert share([]) == []
    monkeypatch.undo()
    assert [len(lot) for lot in share([(4096.0 * k, 4096.0 * (k + 1)) for k in range(4)])] == [1, 1, 1, 1]
    month = [(64.0 * k, 64.0 * (k + 1)) for k in range(30 * 1350)]
    assert {len(lot) for lot in share(month)[:-1]} == {57}, "an hour"


def test_what_groups_of_witnesses_put_into_the_estimate_adds_up_to_it(tmp_path):
    """Of a witness and its product with another, as if these were of two groups; what is said of all keeps its bits."""
    network = build("coherent", FRONT.seen, (1024,), templates=FRONT.templates, rate=FRONT.rate, width=8)
    for number, parameter in enumerate(network.parameters()):
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(number))
    trained = Trained(coherent.KIND, network.eval(), FRONT.channels, FRONT)
    steps = replace(stepper(trained, 2, 1, "clean"), louder=np.inf)
    recorded = {"spans": whole(5, 40), "dtype": "float64"}
    plain, *_ = cleaned(tmp_path, steps, **recorded)
    names, split = (*NAMES, "S_NOISE_FAST", "S_NOISE_OTHER"), replace(steps, groups=torch.eye(2))
    found, *_ = cleaned(tmp_path, split, name="b", names=names, **recorded)
    for channel in NAMES:
        np.testing.assert_array_equal(found[channel], plain[channel])
    parts = [found[name] for name in names[2:]]
    size = found["S_NOISE"].std()
    assert np.abs(sum(parts) - found["S_NOISE"]).max() < 1e-5 * size
    assert all(part.std() > 0.01 * size for part in parts)
    outside = np.arange(len(parts[0])) / RATES["S"] < 5
    assert all(part.dtype == np.float64 and not part[outside].any() for part in parts)


def test_gaps_are_told_second_by_second(tmp_path, steps):
    def spoil(name, values):
        values = values.copy()
        if name == "FAST":
            values[round(20.2 * RATES[name])] = np.nan
        if name == "S":
            values[round(40.2 * RATES[name]) : round(42.6 * RATES[name])] = 0  # no lock
        return values

    found, rows, live = cleaned(tmp_path, steps, whole(), change=spoil)
    why = {int(row["gps"]) - START: row["why"] for row in rows}
    assert {second for second, words in why.items() if words == "without FAST"} == {*range(18, 24)}
    assert {s for s, words in why.items() if words == "a gap in the strain"} == {0, 1, *range(38, 44), 62, 63}
    np.testing.assert_array_equal(found["S_CLEAN"][(41 * 1024) : (42 * 1024)], 0)
    assert live == whole(2, 38) | whole(44, 62)


def test_files_of_less_than_a_second_are_numbered_and_may_begin_anywhere(tmp_path, steps):
    cuts = (0, 10.25, 10.5, 10.75, 40.3125, LENGTH)
    found, *_ = cleaned(tmp_path, steps, whole(), cuts=(0, 16, 32, 48, 64))
    other, out = tmp_path / "odd", tmp_path / "out"
    other.mkdir()
    out.mkdir()
    for begin, end in pairwise(cuts):
        inner = other / str(begin)
        inner.mkdir()
        record(inner, (begin, end))
    sources = {name: Source(name=name, files=[f"{other}/*/*.hdf5"]) for name in RATES}
    clean_line(open_line(steps, list(sources.values()), whole()), sources["S"], NAMES, "", out, ALONE)
    assert sorted(path.name for path in out.glob("*.hdf5")) == [
        "S-S_CLEAN-1000000000-11.hdf5",
        "S-S_CLEAN-1000000010-1.hdf5",
        "S-S_CLEAN-1000000010-31.hdf5",
        "S-S_CLEAN-1000000040-24.hdf5",
        "S-S_CLEAN_2-1000000010-1.hdf5",
    ]
    parts = [read_samples(str(path), "", NAMES)["S_CLEAN"] for path in out.glob("*.hdf5")]
    parts.sort(key=lambda one: one.start)
    np.testing.assert_array_equal(np.concatenate([one.values for one in parts]), found["S_CLEAN"])


@pytest.mark.parametrize("form", ["gwf", "hdf5"])
def test_two_files_in_one_second_and_one_between_seconds(tmp_path, form):
    for gps in (1000000000.0, 1000000000.5, 1000000001.25):
        values = np.full(512, gps)
        write(
            {"X:S_CLEAN": values, "X:S_NOISE": -values},
            Stretch(gps, 1024.0, values, "m", False),
            tmp_path,
            form,
        )
    found = sorted(tmp_path.iterdir())
    assert len(found) == 3
    for path in found:
        read = read_samples(str(path), "", ["X:S_CLEAN", "X:S_NOISE"])
        one = read["X:S_CLEAN"]
        assert not isinstance(one, str), one
        assert one.start == one.values[0] and len(one.values) == 512 and one.unit == "m"
        assert (read["X:S_NOISE"].values == -one.values).all()


# -- from Python ---------------------------------------------------------------------------------------------------


def given(**changes) -> TimeSeriesDict:
    """The channels of the files as gwpy's series."""
    series = {name: changes.get(name, values_of(name)) for name in RATES}
    return TimeSeriesDict(
        {
            name: TimeSeries(values, t0=START, sample_rate=RATES[name], unit="m")
            for name, values in series.items()
        }
    )


def test_from_python_comes_what_files_give(tmp_path, steps):
    found, _, _ = cleaned(tmp_path, steps, whole(), dtype="float64")
    twin = Twin(replace(steps, lot=8))
    assert (twin.strain, twin.witnesses) == ("S", ["FAST", "SLOW"])
    recorded = given()
    clean = twin.clean(recorded["S"], recorded)
    np.testing.assert_array_equal(clean.value, found["S_CLEAN"])
    assert (clean.name, str(clean.unit), clean.t0.value, clean.sample_rate.value) == (
        "S_CLEAN",
        "m",
        START,
        1024,
    )
    estimate = twin.estimate({name: recorded[name] for name in twin.witnesses})
    assert (estimate.name, estimate.t0.value, estimate.sample_rate.value) == ("S_NOISE", START, 256)
    middle = slice(8 * 256, 56 * 256)
    np.testing.assert_allclose(estimate.value[middle], found["S_NOISE"][::4][middle], atol=1e-3)


def test_from_python_a_gap_stays_and_short_witnesses_are_silent_where_they_end(steps):
    twin, broken = Twin(steps), values_of("S")
    broken[30 * 1024 : 31 * 1024] = np.nan
    recorded = given(S=broken, FAST=values_of("FAST")[: 40 * 512], SLOW=values_of("SLOW")[: 40 * 64])
    clean = twin.clean(recorded["S"], recorded).value
    same = (clean == broken) | np.isnan(broken)
    assert same[29 * 1024 : 31 * 1024].all() and np.isnan(clean[30 * 1024 : 31 * 1024]).all()
    assert not same[16 * 1024 : 24 * 1024].any(), "before"
    late = slice(46 * 1024, None)  # templates of a witness that stands still are 1e-5 of ones that move
    np.testing.assert_allclose(
        clean[late], broken[late], atol=1e-3, err_msg="on the word of silent witnesses"
    )


def test_a_target_of_a_sample_a_second_is_cleaned_too():
    """Lengths are those of its band: one sample is no run of one value."""
    front = replace(FRONT, rate=1.0, slower=256.0, band=(20 / 256, 90 / 256), span=512.0)
    steps = stepper(Trained(coherent.KIND, First(), front.channels, front), 512, 256, "clean")
    rng, start = np.random.default_rng(0), 512 * 2_000_000
    recorded = TimeSeriesDict(
        (
            name,
            TimeSeries(rng.standard_normal(64 * 256) * (10 if name == "S" else 1), t0=start, sample_rate=1),
        )
        for name in front.channels
    )
    found = Twin(replace(steps, louder=np.inf)).clean(recorded["S"], recorded)
    removed = recorded["S"].value - found.value
    middle = slice(16 * 256, 48 * 256)
    assert np.sqrt(np.mean(removed[middle] ** 2)) > 0.1
    recorded["S"].value[20 * 256 : 21 * 256] = 0  # as of no lock: nothing is taken out there
    stuck = Twin(replace(steps, louder=np.inf)).clean(recorded["S"], recorded)
    assert not stuck.value[20 * 256 : 21 * 256].any()


def test_from_python_mistakes_are_one_line(steps, tmp_path):
    twin, recorded = Twin(steps), given()
    with pytest.raises(InputError, match=r"^no series of SLOW: the twin listens to FAST, SLOW$"):
        twin.estimate({"FAST": recorded["FAST"]})
    late = recorded["SLOW"].copy()
    late.t0 = START + 100
    with pytest.raises(InputError, match=r"^there is no time that all witnesses cover$"):
        twin.estimate({"FAST": recorded["FAST"], "SLOW": late})
    with pytest.raises(InputError, match=r"no checkpoint there$"):
        open_twin(tmp_path / "nothing")


@pytest.mark.parametrize("rate", [8.0, 100.0, 0.5])
def test_from_python_a_slow_witness_is_the_same_wherever_it_is_cut(rate):
    one = Samples(START, rate, np.random.default_rng(0).standard_normal(round(400 * rate)))
    common = 4 * rate
    whole = _at_rate(one, round(START * common), round((START + 400) * common), common)
    first, last = round((START + 200) * common), round((START + 206) * common)
    part = _at_rate(one, first, last, common)
    np.testing.assert_allclose(part, whole[first - round(START * common) :][: last - first], atol=1e-12)


def test_a_burst_that_witnesses_alone_hear_is_said_of_its_second(tmp_path, steps):
    """A strain of noise, and witnesses that are silent but for a burst."""
    rng = np.random.default_rng(1)
    noise = 0.4 * rng.standard_normal(round(LENGTH * RATES["S"]))

    def change(name, values):
        time = np.arange(len(values)) / RATES[name] - 30.4
        burst = 5 * np.exp(-((time / 0.03) ** 2)) * np.sin(2 * np.pi * 40 * time)
        hears = {"S": noise, "FAST": burst + 1e-3 * rng.standard_normal(len(values))}
        return hears.get(name, values)

    found, rows, _ = cleaned(tmp_path, steps, whole(), change=change)
    told = [int(row["gps"]) - START for row in rows if row["why"] == "witnesses alone heard a burst"]
    assert told == [30, 31]  # the block of them
    assert np.abs(found["S_NOISE"]).max() > 1
    np.testing.assert_allclose(found["S_CLEAN"], noise, rtol=0, atol=0.02)
