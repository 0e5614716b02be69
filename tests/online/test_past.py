"""What is remembered for the page: minutes, how late it was, the last glitches."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fronts import FRONT, First

from glitchflow.online import past
from glitchflow.online.hours import Log, entered
from glitchflow.online.line import CLEANED, NOTHING, SCIENCE, Cleaned, Line, Memory, start
from glitchflow.online.past import SHOWN, WAITED, Past, late, note, states, white
from glitchflow.online.source import Second
from glitchflow.signal.recorded.samples import Samples
from glitchflow.twin import coherent, guard
from glitchflow.twin.kind import Trained
from glitchflow.twin.step import Stepper, stepper

START, RATE = 1_000_000_020, 512  # GPS s, of a minute's begin; Hz


@pytest.fixture
def steps() -> Stepper:
    return stepper(Trained(coherent.KIND, First(), FRONT.channels, FRONT), 0.25, 0.25, "online")


def second(gps: int, state: int = SCIENCE | CLEANED, loud: bool = False, passed=()) -> Cleaned:
    """A second of noise, in which a glitch may be in its middle."""
    recorded = np.random.default_rng(gps).standard_normal(RATE)
    found = np.zeros(16)
    if loud:
        found[8] = 9.0
    p = np.full(16, np.nan)
    return Cleaned(
        gps, recorded, 0.5 * recorded, recorded, np.full(16, state, np.uint32), found, p, (), tuple(passed)
    )


def memory(steps: Stepper, before: float, after: float) -> Memory:
    """What a minute of white noise leaves, whose variance is so much before and after."""
    strain = Samples(START, RATE, np.zeros(RATE))
    blank = start(Line(steps), Second(START, {"S": strain}, {}))
    rng, limits, heard = np.random.default_rng(1), guard.edges(FRONT.band), []
    for _ in range(240):
        one = rng.standard_normal(64)
        heard.append(
            guard.powers(np.sqrt(before) * one, (np.sqrt(before) - np.sqrt(after)) * one, FRONT.rate, limits)
        )
    return replace(blank, state=replace(blank.state, heard=np.array(heard)))


def noted(steps: Stepper, seconds: list[Cleaned], found: Memory) -> tuple[Past, list]:
    kept, log, over = Past(), Log(), []
    for one in seconds:
        log = entered(log, [one])
        over.append(note(kept, steps, found, log, [one]))
    return kept, over


def test_a_minute_has_the_rms_before_and_after(steps):
    kept, over = noted(steps, [second(START + k) for k in range(60)], memory(steps, 4.0, 1.0))
    assert over[:59] == [None] * 59 and kept.minutes == (over[59],)
    assert over[59].end == START + 60
    assert over[59].recorded == pytest.approx(2.0, rel=0.05)
    assert over[59].cleaned == pytest.approx(1.0, rel=0.05)


def test_a_band_that_was_passed_came_out_as_it_was_recorded(steps):
    limits = guard.edges(FRONT.band).tolist()
    every = list(pairwise(limits))
    seconds = [second(START + k, passed=every) for k in range(60)]
    (minute,) = noted(steps, seconds, memory(steps, 4.0, 1.0))[0].minutes
    assert minute.cleaned == minute.recorded == pytest.approx(2.0, rel=0.05)


def test_of_a_minute_without_strain_nothing_is_known(steps):
    seconds = [second(START + k, NOTHING) for k in range(60)]
    (minute,) = noted(steps, seconds, memory(steps, 4.0, 1.0))[0].minutes
    assert np.isnan(minute.recorded) and np.isnan(minute.cleaned)


def test_an_hour_is_remembered_and_no_more(steps):
    kept, _ = noted(steps, [second(START + k) for k in range(61 * 60)], memory(steps, 1.0, 1.0))
    assert len(kept.minutes) == 60 and kept.minutes[-1].end == START + 3660
    for k in range(4000):
        late(kept, START + k, 0.5, 1.0)
    assert len(kept.late) == 3600 and kept.late[-1].gps == START + 3999


def test_the_last_glitches_are_kept_with_two_seconds_on_either_side(steps):
    loud = {10, *range(20, 20 + 6 * SHOWN, 6)}
    seconds = [second(START + k, loud=k in loud) for k in range(80)]
    kept, _ = noted(steps, seconds, memory(steps, 1.0, 1.0))
    assert [one.veto.start - START - 0.5 for one in kept.glitches] == sorted(loud)[-SHOWN:]
    for one in kept.glitches:
        middle = int(one.veto.peak)
        assert [each.gps for each in one.seconds] == list(range(middle - 2, middle + 3))
    recorded, cleaned = white(kept.glitches[0], FRONT)
    assert recorded.shape == (5 * 256,)
    np.testing.assert_allclose(cleaned, 0.5 * recorded, atol=1e-12)


def test_of_a_glitch_that_goes_on_for_long_there_is_no_picture(steps):
    """Its peak is over before it is known to be one."""
    levels = [0.0] * 5 + [9.0] + [5.0] * (WAITED + 4) + [0.0] * 5
    seconds = [replace(second(START + k), loud=np.full(16, loud)) for k, loud in enumerate(levels)]
    kept, _ = noted(steps, seconds, memory(steps, 1.0, 1.0))
    (veto,) = past.vetoes(kept.log)
    assert veto.stop - veto.start > WAITED and kept.glitches == ()


def test_states_begin_where_they_are_asked_for(steps):
    seconds = [second(START + k, NOTHING if k == 5 else SCIENCE | CLEANED) for k in range(10)]
    kept, _ = noted(steps, seconds, memory(steps, 1.0, 1.0))
    assert states(kept.log, ["CLEANED", "NOTHING", "PASSED"], START + 2.5) == {
        "CLEANED": [(START + 2.5, START + 5), (START + 6, START + 10)],
        "NOTHING": [(START + 5, START + 6)],
        "PASSED": [],
    }
