"""Transients at times of their own: what a second holds, whoever asks, and what an event makes of several."""

import numpy as np
import pytest
from helpers import detector_recipe

from glitchflow.config import Series
from glitchflow.signal.simulation.instrument import draw_instrument
from glitchflow.signal.simulation.timeline import add, draw_transients, make_happening

START, RATE = 1_400_000_000, 512
PARTS = [{"name": "PEM", "count": 4, "telling": 1, "hears": ["ringdown"], "bursts": 0.4, "rate": 2048}]
HARD = {"subsystems": PARTS, "rate": 0.05, "window": 4.0, "witnesses": ["SIM:ACC", "SIM:SUS", "SIM:ASC"]}


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    """A detector with four sensors whose subsystem has bursts of its own, and its instrument."""
    recipe, made = detector_recipe(tmp_path_factory.mktemp("hard"), background=1.0, **HARD)
    settings = made.simulate.detector
    return recipe, made, draw_instrument(settings, made.series, made.seed)[0]


def test_a_second_holds_the_same_whoever_asks(hard):
    _, made, instrument = hard
    settings = made.simulate.detector
    hour = draw_transients(settings, 3, START, START + 600)
    assert hour == sorted(hour, key=lambda one: one.gps)
    for second in (START, START + 17, START + 599):
        inside = [one for one in hour if second <= one.gps < second + 1]
        assert draw_transients(settings, 3, second, second + 1) == inside
    half = draw_transients(settings, 3, START + 0.5, START + 100.25)
    assert half == [one for one in hour if START + 0.5 <= one.gps < START + 100.25]
    assert draw_transients(settings, 4, START, START + 600) != hour
    first, again = (make_happening(instrument, hour[0]) for _ in range(2))
    np.testing.assert_array_equal(first.strain, again.strain)


def test_nothing_was_before_gps_0(hard):
    settings = hard[1].simulate.detector
    assert draw_transients(settings, 3, -8, 20) == draw_transients(settings, 3, 0, 20) != []


def test_numbers_are_poissons(hard):
    settings = hard[1].simulate.detector
    drawn = draw_transients(settings, 3, START, START + 4000)
    bursts = [one for one in drawn if one.subsystem == "PEM"]
    assert len(bursts) == pytest.approx(0.4 * 4000, abs=4 * np.sqrt(1600))
    assert len(drawn) - len(bursts) == pytest.approx(0.05 * 4000, abs=4 * np.sqrt(200))
    assert {one.family for one in bursts} == {"ringdown"}
    assert len({one.family for one in drawn}) == 7
    counts = np.bincount([one.second - START for one in bursts], minlength=4000)
    assert counts.var() == pytest.approx(0.4, rel=0.15)
    assert np.mean([one.offset for one in drawn]) == pytest.approx(0.5, abs=0.03)


def test_a_burst_of_one_witness_is_heard_by_it_alone(tmp_path):
    """A deaf one too, and no slow one; what else there is stays as it was."""
    keys = {
        "background": 1.0,
        "window": 4.0,
        "witnesses": ["SIM:ACC_X", "SIM:ACC_Y", "SIM:MIC", "SIM:SUS", "SIM:ASC"],
    }
    keys |= {"coupling": {"deaf": 0.5}, "families": {"bilinear": {"witnesses": ["SIM:ACC_X", "SIM:ASC"]}}}
    (_, before), (_, made) = (detector_recipe(tmp_path, bursts=rate, **keys) for rate in (0.0, 0.1))
    (_, told), (instrument, table) = (
        draw_instrument(one.simulate.detector, one.series, one.seed) for one in (before, made)
    )
    bursts = draw_transients(made.simulate.detector, 3, START, START + 300)
    assert {one.subsystem for one in bursts} == {"SIM:ACC_X", "SIM:ACC_Y", "SIM:MIC"} > set(told["deaf"])
    assert len(bursts) == pytest.approx(3 * 30, abs=4 * np.sqrt(90))
    assert not draw_transients(before.simulate.detector, 3, START, START + 300)
    for one in bursts[:20]:
        burst = make_happening(instrument, one)
        assert [made.simulate.detector.names[place - 1] for place in burst.heard] == [one.subsystem]
        assert burst.heard[1 + instrument.place(one.subsystem)].any() and not burst.strain.any()
    assert told["linear"].items() <= table["linear"].items()


def test_a_witness_that_is_not_made_changes_no_burst_of_those_that_are(tmp_path):
    keys = {"background": 1.0, "window": 4.0, "bursts": 0.3, "rate": 0.1}
    keys |= {"witnesses": ["SIM:ACC_X", "SIM:ACC_Y", "SIM:MIC", "SIM:SUS", "SIM:ASC"]}
    keys |= {"families": {"bilinear": {"witnesses": ["SIM:ACC_X", "SIM:ASC"]}}}
    every, some = (
        detector_recipe(tmp_path, only=only, **keys)[1].simulate.detector for only in ([], ["SIM:MIC"])
    )
    assert some.names == ["SIM:ACC_X", "SIM:MIC", "SIM:SUS", "SIM:ASC"]
    drawn = draw_transients(every, 3, START, START + 300)
    kept = [one for one in drawn if one.subsystem != "SIM:ACC_Y"]
    assert {one.subsystem for one in kept} == {"", "SIM:ACC_X", "SIM:MIC"}
    assert len(kept) < len(drawn)
    assert draw_transients(some, 3, START, START + 300) == kept


def test_a_burst_is_heard_by_its_whole_subsystem_and_never_by_the_strain(hard):
    _, made, instrument = hard
    drawn = draw_transients(made.simulate.detector, 3, START, START + 60)
    burst = next(one for one in drawn if one.subsystem)
    made = make_happening(instrument, burst)
    assert (made.snr, made.witnessed) == (0.0, False)
    assert not made.strain.any()
    assert sorted(made.heard) == [4, 5, 6, 7], "after the strain and three named witnesses"
    assert all(series.any() for series in made.heard.values())


def test_what_reaches_the_strain_has_the_snr_that_was_drawn(hard):
    _, made, instrument = hard
    for one in draw_transients(made.simulate.detector, 3, START, START + 200):
        if not one.subsystem and one.family != "scattered_light":
            found = make_happening(instrument, one)
            assert found.snr == pytest.approx(one.snr, rel=1e-9)
            assert np.linalg.norm(found.white) == pytest.approx(one.snr, rel=1e-9)


def test_events_and_a_piece_of_the_time_line_hold_the_same(hard):
    """What an event's strain has besides noise is what is drawn for its seconds, each transient at its place."""
    recipe, made, instrument = hard
    index = next(i for i in range(100) if recipe.event(i).transients)
    event = recipe.event(index)
    first = round((event.gps - 8) * RATE)
    wanted = np.zeros(16 * RATE)
    for one in draw_transients(made.simulate.detector, 3, event.gps - 16, event.gps + 16):
        found = make_happening(instrument, one)
        add(wanted, first, found.strain, found.start)
    np.testing.assert_array_equal(event.transient, wanted)
    for row in event.transients:
        assert abs(row.gps - event.gps) <= 8
        near = np.abs(np.arange(wanted.size) / RATE - 8 - (row.gps - event.gps)) < 1.5
        assert np.abs(wanted[near]).max() > 0


def test_the_loudest_in_the_window_names_the_event(tmp_path):
    """Several stand in most series at this rate; one that the window does not show leaves the event background."""
    recipe, _ = detector_recipe(tmp_path, background=1.0, **HARD | {"rate": 0.5})
    shown = 0
    for index in range(12):
        event = recipe.event(index)
        assert len(event.transients) > 1
        near = [row for row in event.transients if abs(row.gps - event.gps) < 2]
        if event.label:
            named = [row for row in event.transients if (row.label, row.snr) == (event.label, event.snr)]
            assert len(named) == 1
            assert abs(named[0].gps - event.gps) < 6
            shown += 1
        else:
            assert not any(row.snr > 30 and abs(row.gps - event.gps) < 1.5 for row in near)
    assert shown > 6


def test_samples_are_added_where_they_meet():
    for first, wanted in (
        (-2, [3, 4, 0, 0]),
        (1, [0, 1, 2, 3]),
        (3, [0, 0, 0, 1]),
        (9, [0] * 4),
        (-9, [0] * 4),
    ):
        values = np.zeros(4)
        add(values, 100, np.arange(1.0, 5.0), 100 + first)
        np.testing.assert_array_equal(values, wanted)


def test_a_sensor_knows_nothing_beyond_half_its_rate(tmp_path):
    """Neither its noise nor what it hears; and the store is told which rows are empty."""
    slow = [PARTS[0] | {"rate": 128, "bursts": 2.0}, {"name": "VAC", "count": 1, "rate": 16}]
    recipe, _ = detector_recipe(tmp_path, background=1.0, **HARD | {"subsystems": slow})
    assert recipe.attributes["rates"] == {f"SIM:PEM_{i}": 128 for i in (1, 2, 3, 4)} | {"SIM:VAC_1": 16}
    frequency = np.fft.rfftfreq(16 * RATE, 1 / RATE)
    place = recipe.channels.index("SIM:PEM_1")
    power = sum(np.abs(np.fft.rfft(recipe.event(i).series * np.hanning(16 * RATE))) ** 2 for i in range(3))
    for row, rate in ((place, 128), (place + 4, 16)):
        assert power[row, frequency > rate / 2].sum() < 1e-6 * power[row].sum()
        assert (
            power[row, (frequency > 0.3 * rate) & (frequency < 0.4 * rate)].min() > 1e-4 * power[row].mean()
        )


def test_series_of_another_length_hold_the_same_happenings(hard):
    settings = hard[1].simulate.detector
    short = draw_instrument(settings, Series(duration=8, sample_rate=RATE), 3)[0]
    one = next(one for one in draw_transients(settings, 3, START, START + 60) if one.family == "ringdown")
    long, brief = make_happening(hard[2], one), make_happening(short, one)
    inside = long.strain[4 * RATE : 12 * RATE]
    assert brief.start == long.start + 4 * RATE
    np.testing.assert_allclose(brief.strain, inside, atol=1e-2 * np.abs(inside).max())
