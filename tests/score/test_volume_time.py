"""Sensitive volume times time, treated over untreated, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from glitchflow.score.statistics import Bootstrap
from glitchflow.score.volume_time import Search, volume_time

INTERVAL = Bootstrap(0, 200)
DISTANCE = np.array([1.0, 2.0, 3.0, 4.0])
# the tenth loudest background event is at 5: signals at 9, 8 and 6 are found
BEFORE = Search(np.array([9.0, 8.0, 6.0, 4.0]), np.concatenate([np.arange(5.0, 15.0), np.zeros(90)]), 100.0)


def test_no_treatment_is_one():
    interval = volume_time(DISTANCE, BEFORE, BEFORE, INTERVAL)
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)


def test_vetoes_cost_time():
    assert volume_time(DISTANCE, replace(BEFORE, live=90.0), BEFORE, INTERVAL).value == pytest.approx(0.9)


def test_fewer_glitches_and_fewer_signals():
    quieter = replace(BEFORE, background=BEFORE.background - 2)  # now at 3: the farthest one is found too
    assert volume_time(DISTANCE, quieter, BEFORE, INTERVAL).value == pytest.approx(100 / 36)
    harmed = replace(BEFORE, injections=BEFORE.injections - [0, 0, 1.5, 0])
    assert volume_time(DISTANCE, harmed, BEFORE, INTERVAL).value == pytest.approx(9 / 36)
    gone = replace(BEFORE, injections=np.array([9.0, 8.0, np.nan, 4.0]))
    assert volume_time(DISTANCE, gone, BEFORE, INTERVAL).value == pytest.approx(9 / 36)


def test_a_signal_as_loud_as_the_tenth_is_not_above_it():
    assert BEFORE.found.tolist() == [True, True, True, False]
    assert replace(BEFORE, injections=np.array([5.0, 5.1, 6.0, 4.0])).found.tolist() == [
        False,
        True,
        True,
        False,
    ]


def test_no_value():
    few = replace(BEFORE, background=np.arange(9.0))
    none = Search(np.zeros(4), BEFORE.background, 100.0)
    empty = Search(np.zeros(0), BEFORE.background, 100.0)
    for distance, treated, untreated in [
        (DISTANCE, few, BEFORE),
        (DISTANCE, BEFORE, few),
        (DISTANCE, BEFORE, none),
        (np.zeros(0), empty, empty),
    ]:
        assert np.isnan(volume_time(distance, treated, untreated, INTERVAL).value)


def test_other_injections_are_refused():
    with pytest.raises(ValueError, match="the same injections: 3 distances, 4 and 4 statistics"):
        volume_time(DISTANCE[:3], BEFORE, BEFORE, INTERVAL)
