"""Witnesses that leave what a twin was trained on: said once, counted, and said once more when they are back."""

from dataclasses import replace

import numpy as np
import pytest
from fronts import FRONT, First
from helpers import needs_gwf
from posts import START, put, run

from glitchflow.data.normalise import QUANTILES
from glitchflow.online import drift
from glitchflow.online.drift import WINDOWS, Drift, look, trusted
from glitchflow.online.line import Line
from glitchflow.twin import coherent
from glitchflow.twin.kind import Trained
from glitchflow.twin.step import begin, stepper

QUANTILE_ROWS = [[0.0] * len(QUANTILES), [0.6 + 0.3 * q for q in QUANTILES], [0.1 + q for q in QUANTILES]]


@pytest.fixture
def line() -> Line:
    """A twin that knows its fast witness at levels of 0.6 to 0.9, its slow one at 0.1 to 1.1."""
    steps = stepper(Trained(coherent.KIND, First(), FRONT.channels, FRONT), 0.25, 0.25, "online")
    return Line(steps, range=trusted(FRONT, QUANTILE_ROWS))


def told(line: Line, seen: Drift, gains: list[float], missing: bool = False) -> list[str]:
    """What is said of windows in which the fast witness has these gains; the slow one swings by 0.3."""
    found = []
    for gain in gains:
        end = seen.end + line.steps.reach
        rng = np.random.default_rng(end)
        recent = rng.standard_normal((3, line.steps.reach))
        recent[1] *= gain / 4  # FRONT's filter of it is a gain of 4
        recent[2] = 0.3 * np.sqrt(2) * np.sin(2 * np.pi * np.arange(line.steps.reach) / 512)
        if missing:
            recent[1, 3] = np.nan
        state = replace(begin(line.steps, end), recent=recent)
        found += look(seen, line, state)
    return found


def test_the_range_is_that_of_nearly_all_train_events_and_a_little_more():
    low, high = trusted(FRONT, QUANTILE_ROWS)
    assert low[1] == pytest.approx(0.9 * 0.6, rel=1e-3) and high[1] == pytest.approx(1.1 * 0.9, rel=1e-3)
    assert trusted(FRONT, None) is None
    assert trusted(FRONT, QUANTILE_ROWS[:2]) is None, "of other channels"


def test_a_witness_that_leaves_is_said_once_and_once_more_when_it_is_back(line):
    seen = Drift(line)
    assert told(line, seen, [1.0] * WINDOWS) == [] and seen.outside == {}
    assert told(line, seen, [4.0] * (WINDOWS // 2)) == [], "half a minute is a burst"
    (words,) = told(line, seen, [4.0] * WINDOWS)
    assert words.startswith("FAST: left what the twin was trained on: level ")
    assert words.endswith(", trained on 0.54 to 0.99")
    assert set(seen.outside) == {"FAST"} and seen.outside["FAST"].level == pytest.approx(4 * 0.74, rel=0.1)
    assert told(line, seen, [1.0] * (WINDOWS - 1)) == [], "not a whole minute"
    assert told(line, seen, [1.0]) == ["FAST: is again as the twin was trained on it"]
    assert seen.outside == {}


def test_of_a_witness_that_is_not_there_nothing_is_said(line):
    seen = Drift(line)
    assert told(line, seen, [4.0] * 2 * WINDOWS, missing=True) == []


def test_another_twin_is_asked_anew(line):
    seen = Drift(line)
    assert told(line, seen, [4.0] * WINDOWS)
    other = replace(line, range=None)
    assert told(other, seen, [4.0] * WINDOWS) == [] and seen.outside == {} and seen.line is other


def test_windows_do_not_share_samples(line):
    seen = Drift(line)
    state = begin(line.steps, line.steps.reach)
    state = replace(state, recent=np.ones_like(state.recent))
    look(seen, line, state)
    look(seen, line, replace(state, end=state.end + line.steps.block))
    assert len(seen.levels) == 1


def test_while_it_watches_it_is_said_counted_and_on_the_page(post, frames, capsys, monkeypatch):
    needs_gwf()
    monkeypatch.setattr(drift, "WINDOWS", 1)
    one = post()
    one = replace(one, line=replace(one.line, range=trusted(FRONT, [[0.0] * len(QUANTILES)] * 3)))
    for k in range(12):
        put(frames, START + k)
    run(one)
    said = [line for line in capsys.readouterr().err.splitlines() if "FAST: left" in line]
    assert len(said) == 1 and said[0].startswith("GPS ")
    registry = one.monitor.registry
    assert registry.get_sample_value("glitchflow_drifted_total", {"witness": "FAST"}) >= 5
    assert "FAST: level " in one.monitor.page().decode()
