"""Another twin beside the one that is asked: it takes over, comes back, is refused; each second comes out once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fronts import FRONT
from helpers import needs_gwf
from posts import START, out, put, run, write_twin

from glitchflow.config import Ingest, Online
from glitchflow.online import shadow, sink, twins
from glitchflow.online.monitor import Monitor
from glitchflow.online.shadow import Understudy
from glitchflow.online.sink import Outbox
from glitchflow.online.source import Inbox
from glitchflow.online.twins import Twin, open_twin
from glitchflow.online.watch import Post, of_twin
from glitchflow.train import checkpoint

needs_gwf()

SEEN = 8  # s after which a twin in the shadow is warm


def opens(name: str) -> Twin:
    return open_twin(checkpoint.find(Path(name), name), Online(), Ingest())


@pytest.fixture
def post(frames, tmp_path):
    """post(next): a watch whose understudy looks into a run's directory."""
    write_twin(tmp_path / "run")

    def made(source: str = "", better: float | None = None) -> Post:
        directory = tmp_path / "online"
        directory.mkdir(exist_ok=True)
        copy = twins.copy_of(directory, sink.asked(directory))
        twin = opens(str(copy if copy.exists() else tmp_path / "run"))
        twin = replace(twin, line=replace(twin.line, state="STATE"))
        inbox = Inbox(frames, {name: name for name in (*FRONT.channels, "STATE")}, 10)
        under = Understudy(directory, twin, _with_state, source, better)
        outbox = of_twin(Outbox(directory, "S", "gwf", 0, {}), twin)
        return Post(twin.line, inbox, outbox, 3600, Monitor("S"), under)

    return made


def _with_state(name: str) -> Twin:
    twin = opens(name)
    return replace(twin, line=replace(twin.line, state="STATE"))


def come(frames: Path, first: int, last: int) -> None:
    for k in range(first, last):
        put(frames, START + k)


def numbers(post: Post) -> list[int]:
    """The twin of each second, which there is once."""
    found = out(post)
    assert list(found) == [START + k for k in range(len(found))]
    return [int(one["S_TWIN"][0]) for one in found.values()]


def test_the_next_one_runs_beside_and_takes_over_when_it_is_told_to(post, frames, tmp_path, capsys):
    other = opens(str(write_twin(tmp_path / "next", seed=2)))
    one = post(str(tmp_path / "next"))
    come(frames, 0, SEEN + 2)
    run(one)
    assert set(numbers(one)) == {one.outbox.twin}, "nobody told it to"
    (tmp_path / "online" / shadow.OVER).touch()
    come(frames, SEEN + 2, SEEN + 6)
    again = post(str(tmp_path / "next"))  # whose shadow begins anew, and has to be warm first
    run(again)
    come(frames, SEEN + 6, 2 * SEEN + 8)
    run(again)
    found = numbers(again)
    assert found == sorted(found, key=lambda number: number == other.number)
    assert found[-1] == other.number and found[0] == one.outbox.twin
    assert not (tmp_path / "online" / shadow.OVER).exists()
    told = capsys.readouterr().err
    assert f"twin {other.number} runs in the shadow of twin {one.outbox.twin}" in told
    first = START + found.index(other.number)
    assert (
        f"GPS {first}: twin {other.number} is asked from here on, in place of twin {one.outbox.twin}" in told
    )
    rows = (tmp_path / "online" / "twins.csv").read_text().splitlines()
    assert rows[0] == "twin,sha256,checkpoint,from" and [row.rpartition(",")[2] for row in rows[1:]] == [
        str(START),
        str(first),
    ]


def test_what_comes_out_after_it_took_over_is_what_it_makes_by_itself(post, frames, tmp_path):
    write_twin(tmp_path / "next", seed=2)
    one = post(str(tmp_path / "next"))
    come(frames, 0, SEEN)
    run(one)
    (tmp_path / "online" / shadow.OVER).touch()
    come(frames, SEEN, 2 * SEEN)
    run(one)
    alone = post()
    twin = _with_state(str(tmp_path / "next"))
    directory = tmp_path / "alone"
    directory.mkdir()
    inbox = Inbox(frames, dict(alone.inbox.channels), 10)
    alone = Post(
        twin.line, inbox, of_twin(replace(alone.outbox, directory=directory), twin), 3600, Monitor("S")
    )
    run(alone)
    found, wanted = out(one), out(alone)
    for gps in (START + 2 * SEEN - 3, START + 2 * SEEN - 2):
        np.testing.assert_array_equal(found[gps]["S_CLEAN"], wanted[gps]["S_CLEAN"])
        assert found[gps]["S_TWIN"][0] == wanted[gps]["S_TWIN"][0] == twin.number


def test_the_one_before_is_taken_back_and_the_other_is_not_tried_again(post, frames, tmp_path, capsys):
    write_twin(tmp_path / "next", seed=2)
    one = post(str(tmp_path / "next"), better=0.0)
    (tmp_path / "online" / shadow.OVER).touch()
    come(frames, 0, 2 * SEEN)
    run(one)
    after = post(str(tmp_path / "next"))  # killed and begun again: the one that took over goes on
    assert after.outbox.twin != one.outbox.twin
    (tmp_path / "online" / shadow.BACK).touch()
    come(frames, 2 * SEEN, 4 * SEEN)
    run(after)
    found = numbers(after)
    assert found[0] == found[-1] == one.outbox.twin and after.outbox.twin in found
    assert after.understudy.next is None and after.understudy.refused
    assert capsys.readouterr().err.count("runs in the shadow") == 2


def test_one_that_does_not_fit_is_refused_once(post, frames, tmp_path, capsys):
    other = replace(FRONT, channels=["S", "FAST", "OTHER"])
    path = write_twin(tmp_path / "next", seed=3, front=other)
    one = post(str(tmp_path / "next"))
    for now in (0.0, 60.0, 120.0):
        shadow.look(one.understudy, now)
    assert one.understudy.next is None
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"online.next: {path}: is for S by OTHER, which this watch does not read; twin {one.outbox.twin} goes on"
    ]


def test_what_is_asked_for_in_vain_is_said(post, tmp_path, capsys):
    one = post(str(tmp_path / "nowhere"))
    (tmp_path / "online" / shadow.BACK).touch()
    (tmp_path / "online" / shadow.OVER).touch()
    shadow.look(one.understudy, 0.0)
    told = capsys.readouterr().err
    number = one.outbox.twin
    assert f"{shadow.BACK}: no twin was asked before twin {number}\n" in told
    assert f"{shadow.OVER}: no other twin runs in the shadow of twin {number}\n" in told
    assert f"online.next: {tmp_path}/nowhere: no checkpoint there; twin {number} goes on\n" in told
    assert not list((tmp_path / "online").glob("take_*"))


def test_one_that_leaves_less_for_ten_minutes_takes_over_by_itself(post, tmp_path):
    write_twin(tmp_path / "next", seed=2)
    under = post(str(tmp_path / "next"), better=0.02).understudy
    shadow.look(under, 0.0)
    under.seen, under.memory = 1000, object()
    under.minutes = [(0.95, 1.0)] * (shadow.TRIAL - 1)
    assert not shadow.due(under), "nine minutes"
    under.minutes.append((0.95, 1.0))
    assert shadow.due(under)
    under.minutes = [(0.99, 1.0)] * shadow.TRIAL
    assert not shadow.due(under)
    under.better = None
    under.minutes = [(0.5, 1.0)] * shadow.TRIAL
    assert not shadow.due(under), "by hand"
