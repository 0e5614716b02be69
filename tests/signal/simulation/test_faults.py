"""Faults at known places: what they do to samples, where the truth says they are, and what an event makes of them."""

import numpy as np
import pytest
from helpers import detector_recipe

from glitchflow.signal.simulation.faults import KINDS, PASSING, Fault, draw_faults, spoil

START, RATE = 1_400_000_000, 512


def settings_of(tmp_path, **faults):
    return detector_recipe(tmp_path, background=1.0, faults=faults)[1].simulate.detector


def test_any_span_holds_the_same(tmp_path):
    settings = settings_of(tmp_path, rate=20, unlocked=2)
    hour = draw_faults(settings, 3, START, START + 3600)
    for begin, end in ((100, 116), (1000, 1001.5), (3584, 3600)):
        span = (START + begin, START + end)
        inside = [one for one in hour if one.start < span[1] and one.end > span[0]]
        assert draw_faults(settings, 3, *span) == inside
    passing = [one for one in hour if one.kind in PASSING]
    assert len(passing) == pytest.approx(3 * 20, abs=4 * np.sqrt(60))
    assert {one.kind for one in passing} == set(PASSING)
    assert all(0.1 <= one.end - one.start <= 8 for one in passing)
    lost = [one for one in hour if one.kind == "unlocked"]
    assert lost and {one.channel for one in lost} == {"SIM:STRAIN"}
    assert all(120 <= one.end - one.start <= 1200 for one in lost)


def test_a_witness_that_is_not_made_changes_no_fault_of_those_that_are(tmp_path):
    keys = {"background": 1.0, "faults": {"rate": 30, "dead": ["SIM:AUX_6"], "unlocked": 1}}
    keys |= {"subsystems": [{"name": "AUX", "count": 6, "rate": 128}]}
    every, some = (
        detector_recipe(tmp_path, only=only, **keys)[1].simulate.detector for only in ([], ["SIM:AUX_5"])
    )
    drawn = draw_faults(every, 3, START, START + 3600)
    kept = [one for one in drawn if one.channel in ["SIM:STRAIN", *some.names]]
    assert {"SIM:AUX_5", "SIM:ACC"} < {one.channel for one in kept}
    assert len(kept) < len(drawn)
    assert draw_faults(some, 3, START, START + 3600) == kept


def test_nothing_was_before_gps_0(tmp_path):
    settings = settings_of(tmp_path, rate=60, unlocked=60)
    found = draw_faults(settings, 3, -8, 1280)
    assert found == draw_faults(settings, 3, 0, 1280)
    lost = [one.start for one in found if one.kind == "unlocked"]
    assert len(set(lost)) == len(lost) == 20, "one in each period"


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_fault_does(kind):
    rng = np.random.default_rng(0)
    values = 3 + rng.standard_normal((2, 1000))
    before = values.copy()
    spoil(values, ["a", "b"], [Fault("b", kind, 100.5, 101.0)], 100.0, 500.0)
    np.testing.assert_array_equal(values[0], before[0])
    np.testing.assert_array_equal(values[1, :250], before[1, :250])
    np.testing.assert_array_equal(values[1, 500:], before[1, 500:])
    inside = values[1, 250:500]
    if kind == "nan":
        assert np.isnan(inside).all()
    elif kind == "saturation":
        assert inside.max() == pytest.approx(before[1, 250:500].std())
    else:
        assert np.ptp(inside) == 0
        assert inside[0] == (before[1, 250] if kind == "stuck" else 0)


def test_an_event_with_nan_or_a_dead_channel_loses_that_channel_and_what_is_derived_from_it(tmp_path):
    recipe, made = detector_recipe(tmp_path, background=1.0, faults={"rate": 60, "dead": ["SIM:SUS"]})
    settings, events = made.simulate.detector, [recipe.event(i) for i in range(12)]
    assert recipe.channels[1:] == ["SIM:ACC", "SIM:SUS", "SIM:ASC", "SIM:FRINGE", "SIM:PRODUCT"]
    lost = 0
    for event in events:
        drawn = draw_faults(settings, made.seed, event.gps - 8, event.gps + 8)
        nan = {one.channel for one in drawn if one.kind == "nan"}
        valid = dict(zip(recipe.channels, event.valid))
        assert not valid["SIM:SUS"] and not valid["SIM:FRINGE"] and valid["SIM:STRAIN"]
        assert [valid["SIM:ACC"], valid["SIM:ASC"]] == ["SIM:ACC" not in nan, "SIM:ASC" not in nan]
        assert valid["SIM:PRODUCT"] == (not nan & {"SIM:ACC", "SIM:ASC"})
        assert np.isfinite(event.series).all()
        lost += bool(nan)
    assert 0 < lost < 12


def test_without_lock_there_is_no_event(tmp_path):
    recipe, made = detector_recipe(tmp_path, faults={"unlocked": 3})
    skipped = [recipe.event(i) for i in range(60) if recipe.event(i).skipped]
    assert 3 < len(skipped) < 50
    for event in skipped:
        lost = draw_faults(made.simulate.detector, made.seed, event.gps - 8, event.gps + 8)
        assert event.skipped == f"SIM:STRAIN: not locked at GPS {lost[0].start:.4f}"
        assert not event.series.any() and not event.witnessed.any() and not event.transients
