"""What a stage shows while it runs."""

import sys
import threading

import pytest

from glitchflow import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_at_intervals_and_one_at_the_end(clock, capsys):
    with progress.track(10, "Q-plots", "events", every=5) as advance:
        for seconds, more in ((1, 2), (5, 2), (6, 2), (9.9, 2), (12.5, 2)):
            clock[0] = 100 + seconds
            advance(more)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        "Q-plots: 4/10 events, 0.5 events/s, 12 s left",
        "Q-plots: 10/10 events, 0.8 events/s, 0 s left",
    ]


def test_what_was_done_before_does_not_count_as_speed(clock, capsys):
    with progress.track(100, "x", "events", done=90, every=1) as advance:
        for seconds in (2, 4):
            clock[0] = 100 + seconds
            advance(2)
    assert capsys.readouterr().err.splitlines() == [
        "x: 92/100 events",
        "x: 94/100 events, 1.0 events/s, 6 s left",
    ]


def test_the_first_estimate_does_not_count_what_workers_take_to_start(clock, capsys):
    """A run of 65 s, 10 of them until its first part: 598 s left, it said."""
    with progress.track(960, "Q-plots", "events") as advance:
        for k in range(1, 61):
            clock[0] = 105 + k
            advance(16)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["Q-plots: 16/960 events", "Q-plots: 96/960 events, 16.0 events/s, 54 s left"]
    assert lines[-1] == "Q-plots: 960/960 events, 14.8 events/s, 0 s left"


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.track(4, "Q-plots", "events", done=1) as advance:
        assert advance(3) is None
    text = capsys.readouterr().err
    assert "\r" in text
    assert "Q-plots: 100%" in text
    assert "4/4" in text


def test_follow_shows_lines_of_others_as_they_come(tmp_path, capsys):
    path = tmp_path / "deep" / "worker.log"
    path.parent.mkdir()
    path.write_text("of an earlier run\n")
    with progress.follow(path, every=0.01):
        progress.log(path, "first")
        threading.Event().wait(0.1)
        assert capsys.readouterr().err == "first\n"
        progress.log(path, "last")
    assert capsys.readouterr().err == "last\n"


def test_follow_begins_a_log_and_ends_with_its_block(tmp_path, capsys):
    path = tmp_path / "new" / "worker.log"
    before = threading.active_count()
    with pytest.raises(KeyError), progress.follow(path, every=0.01):
        progress.log(path, "before the failure")
        raise KeyError
    assert capsys.readouterr().err == "before the failure\n"
    assert threading.active_count() == before


def test_nothing_is_said_where_that_is_asked(monkeypatch, capsys):
    monkeypatch.setenv(progress.QUIET, "1")
    with progress.track(2, "Q-plots", "events", every=0) as advance:
        advance(2)
    progress.say("a line")
    assert capsys.readouterr() == ("", "")


def test_a_variable_that_is_0_says_no(monkeypatch, capsys):
    monkeypatch.setenv(progress.QUIET, "0")
    progress.say("a line")
    assert capsys.readouterr().err == "a line\n"
