"""Seconds in, cleaned seconds out: what `clean` makes of the same samples, whatever is missing in between."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from fronts import FRONT, First
from igwn_segments import segment, segmentlist

from glitchflow.analysis.clean.line import clean_line, open_line
from glitchflow.analysis.clean.tasks import Tasks
from glitchflow.config import Cluster, Source
from glitchflow.online.line import CLEANED, NOTHING, PASSED, SCIENCE, Line, advance, start
from glitchflow.online.source import Second
from glitchflow.score.chance import Chance
from glitchflow.signal.recorded.samples import Samples, read_samples
from glitchflow.twin import coherent
from glitchflow.twin.kind import Trained
from glitchflow.twin.step import stepper

START, LENGTH = 1_000_000_000, 24  # GPS s, s
RATES = {"S": 1024, "FAST": 512, "SLOW": 64, "STATE": 16}


def made(gps: int, dtype: str = "float64") -> dict[str, Samples]:
    """One second of all channels: noise, loud in the strain, so that nobody can tell whether an estimate is in it; a
    slow motion, a state."""
    found = {}
    for name, rate in RATES.items():
        rng, time = np.random.default_rng([gps, rate]), gps - START + np.arange(rate) / rate
        values = rng.standard_normal(rate) * (10 if name == "S" else 1)
        if name == "SLOW":
            values = 0.25 + 0.1 * np.sin(2 * np.pi * 0.5 * time) + 0.001 * values
        found[name] = Samples(gps, rate, values.astype(dtype))
    found["STATE"] = Samples(gps, 16.0, np.ones(16, np.uint32))
    return found


def seconds(change=lambda gps, found: found) -> list[Second]:
    return [Second(gps, change(gps - START, made(gps)), {}) for gps in range(START, START + LENGTH)]


@pytest.fixture
def line() -> Line:
    """A twin whose estimate is no part of the strain: it may make it louder."""
    steps = stepper(Trained(coherent.KIND, First(), FRONT.channels, FRONT), 0.25, 0.25, "online")
    return Line(replace(steps, louder=np.inf))


def run(line, given):
    memory, found = start(line, given[0]), []
    for second in given:
        memory, cleaned = advance(line, memory, second)
        found += cleaned
    assert [one.gps for one in found] == list(range(START, START + len(found)))
    return found, memory


def cleaned_offline(tmp_path, line, given, spans) -> dict[str, np.ndarray]:
    """What `clean` makes of the same seconds in one file."""
    path, out = tmp_path / f"S-ALL-{START}-{LENGTH}.hdf5", tmp_path / "out"
    out.mkdir()
    with h5py.File(path, "w") as file:
        for name, rate in RATES.items():
            gap = Samples(0, rate, np.full(rate, np.nan))
            values = np.concatenate([second.found.get(name, gap).values for second in given])
            file.create_dataset(name, data=values).attrs.update(x0=START, dx=1 / rate)
    sources = [Source(name=name, files=[str(path)]) for name in FRONT.channels]
    alone = Tasks(Cluster(), lambda: None, memory=0, channels=len(sources))
    clean_line(open_line(line.steps, sources, spans), sources[0], ("CLEAN", "NOISE"), "hdf5", out, alone)
    found = read_samples(str(next(out.glob("*.hdf5"))), "", ["CLEAN", "NOISE"])
    return {name: one.values for name, one in found.items()}


def test_it_is_what_clean_makes_of_the_same_samples(tmp_path, line):
    given = seconds()
    found, _ = run(line, given)
    assert len(found) == LENGTH - 1, "a second comes out when the next one is there"
    wanted = cleaned_offline(tmp_path, line, given, segmentlist([segment(START, START + LENGTH)]))
    inside = slice(0, (LENGTH - 2) * 1024)  # there `clean` knows of the end, and treatment with it
    clean, noise = (np.concatenate([getattr(one, name) for one in found]) for name in ("clean", "noise"))
    strain = np.concatenate([second.found["S"].values for second in given])
    assert np.abs(noise).max() > 0.5
    np.testing.assert_allclose(clean[inside], wanted["CLEAN"][inside], atol=1e-6 * strain.std(), rtol=0)
    np.testing.assert_allclose(noise[inside], wanted["NOISE"][inside], atol=1e-6 * strain.std(), rtol=0)
    assert found[0].state.tolist() == [SCIENCE | PASSED] * 8 + [SCIENCE | CLEANED] * 8, (
        "the whitening needs a past"
    )
    assert all(set(one.state.tolist()) == {SCIENCE | CLEANED} for one in found[1:])


def test_a_gap_in_the_strain_is_passed_through_as_by_clean(tmp_path, line):
    def gap(k, found):
        if k == 9:
            found["S"].values[512:600] = np.nan
        return {name: one for name, one in found.items() if k != 12}

    given = seconds(gap)
    found, _ = run(line, given)
    wanted = cleaned_offline(tmp_path, line, given, segmentlist([segment(START, START + LENGTH)]))
    clean = np.concatenate([one.clean for one in found])
    strain = np.concatenate([s.found["S"].values if "S" in s.found else np.full(1024, np.nan) for s in given])
    inside = slice(0, (LENGTH - 2) * 1024)
    assert np.isnan(clean).sum() == 88 + 1024, "what is missing is not made up"
    np.testing.assert_array_equal(np.isnan(clean), np.isnan(strain[: len(clean)]))
    # before a gap the resampling filter is given what follows it, which is not known yet
    differ = np.flatnonzero(np.abs(clean[inside] - wanted["CLEAN"][inside]) > 1e-6 * np.nanstd(strain))
    near = [(9.5 - 0.6, 9.5), (12 - 0.6, 12)]
    assert all(any(a <= place / 1024 < b for a, b in near) for place in differ)
    assert found[12].state.tolist() == [SCIENCE | NOTHING] * 16
    assert found[9].state[7:11].tolist() == [SCIENCE | PASSED] + [SCIENCE | NOTHING] * 2 + [SCIENCE | PASSED]
    assert set(found[15].state.tolist()) == {SCIENCE | CLEANED}


def test_where_the_strain_is_missing_there_is_an_estimate_of_witnesses(line):
    lost = range(9, 14)
    given = seconds(lambda k, found: {n: v for n, v in found.items() if n != "S" or k not in lost})
    found, _ = run(line, given)
    whole, _ = run(line, seconds())
    for k in lost:
        assert np.isnan(found[k].clean).all() and set(found[k].state.tolist()) == {SCIENCE | NOTHING}
        np.testing.assert_allclose(found[k].noise[128:], whole[k].noise[128:], atol=1e-9)
        assert found[k].loud.min() > 0 and np.isnan(found[k].p).all()


def test_how_loud_it_is_and_how_probable_comes_with_each_sixteenth(line):
    found, memory = run(replace(line, chance=Chance([0.0, 4.0], [0.0, 1.0])), seconds())
    second = found[6]
    white = np.concatenate([one.white for one in memory.said if one.start >= memory.written * 256])
    assert white.std() == pytest.approx(np.sqrt(np.square(second.loud).sum() / 256), rel=0.5)
    np.testing.assert_allclose(second.p, np.minimum(second.loud / 4, 1))


def test_a_missing_witness_costs_the_witness(line):
    found, _ = run(line, seconds(lambda k, found: {n: v for n, v in found.items() if n != "FAST" or k != 9}))
    assert set(found[9].state.tolist()) == {SCIENCE | CLEANED}
    assert "FAST" in found[9].silent and found[20].silent == ()
    assert not found[9].noise[256:].any() and found[20].noise.any()


def test_a_channel_at_another_rate_is_missing(line):
    def change(k, found):
        if k == 9:
            found["FAST"] = Samples(START + k, 256.0, np.ones(256))
        return found

    found, _ = run(line, seconds(change))
    assert "FAST" in found[9].silent


def test_a_channel_that_changes_its_rate_for_good_comes_back(line):
    def change(k, found):
        if k >= 9:
            found["FAST"] = Samples(START + k, 1024.0, np.random.default_rng(k).standard_normal(1024))
        return found

    found, memory = run(line, seconds(change))
    assert "FAST" in found[9].silent and found[20].silent == () and found[20].noise.any()
    assert memory.rates["FAST"] == 1024


def test_a_burst_that_witnesses_alone_hear_is_told_of_its_second(line):
    def quiet(k, found):
        found["S"].values[:] *= 0.088
        found["FAST"].values[:] *= 1e-3
        if k == 12:
            found["FAST"].values[256:280] += (
                10 * np.hanning(24) * np.sin(2 * np.pi * 40 * np.arange(24) / 512)
            )
        return found

    found, _ = run(line, seconds(quiet))
    assert [one.gps - START for one in found if one.alone] == [12]
    assert np.abs(found[12].noise).max() > 1
    assert np.abs(found[12].clean - found[12].recorded).max() < 0.1


def test_a_state_of_floats_says_when_it_is_science_mode_too(line):
    def change(k, found):
        found["STATE"] = Samples(START + k, 16.0, np.where(np.arange(16) < 8, 5.0, np.nan))
        return found

    found, _ = run(replace(line, state="STATE", bits=4), seconds(change)[:4])
    assert [bool(state & SCIENCE) for state in found[1].state] == [True] * 8 + [False] * 8


def test_nothing_is_removed_outside_of_science_mode(line):
    def change(k, found):
        found["STATE"].values[:] = 0 if 8 <= k < 12 else 5
        return found

    given = seconds(change)
    found, _ = run(replace(line, state="STATE", bits=4), given)
    for k in range(8, 12):
        np.testing.assert_array_equal(found[k].clean, given[k].found["S"].values)
        assert set(found[k].state.tolist()) == {PASSED}
    edge = (found[7].clean - given[7].found["S"].values)[-128:]
    assert np.abs(edge[-4:]).max() < 0.01 * np.abs(edge).max(), "it fades out before"
    assert set(found[13].state.tolist()) == {SCIENCE | CLEANED}


def test_strain_comes_out_in_its_own_type(line):
    given = [Second(gps, made(gps, "float32"), {}) for gps in range(START, START + 4)]
    found, _ = run(line, given)
    assert found[0].clean.dtype == found[0].noise.dtype == np.float32


def test_what_is_remembered_does_not_grow(line):
    _, memory = run(line, seconds())
    assert len(memory.recent) <= 4 and len(memory.said) <= 8
