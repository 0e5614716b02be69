"""Several detectors, each with a `watch` of its own; and a disk that a `watch` does not fill."""

import threading
from dataclasses import replace

import pytest
from helpers import needs_gwf
from posts import RATES, START, hours, out, put, recorded, run, same

from glitchflow.data import lease
from glitchflow.data.frames import write_frame
from glitchflow.errors import RunError
from glitchflow.online import twins
from glitchflow.online.source import Inbox

needs_gwf()


def put_other(directory, gps: int) -> None:
    """One second of another detector, which saw what the first one saw a hundred seconds later."""
    made = {f"T_{name}": values for name, values in recorded(gps + 100).items()}
    write_frame(directory / f"T-T_ALL-{gps}-1.gwf", gps, 1, made, "gwf", "x.format")


def test_two_detectors_in_one_directory_do_not_meet(post, frames, tmp_path):
    for k in range(8):
        put(frames, START + k)
    alone = post("alone")
    run(alone)
    for k in range(8):
        put_other(frames, START + k)
    one, other = post("one"), post("other")
    other = replace(other, inbox=Inbox(frames, {name: f"T_{name}" for name in RATES}, 10))
    others = [threading.Thread(target=run, args=(each,)) for each in (one, other)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    same(out(one), out(alone))
    assert hours(one) == hours(alone)
    beyond = tmp_path / "beyond"
    beyond.mkdir()
    for k in range(8):
        put(beyond, START + 100 + k)
    third = post("third")
    run(replace(third, inbox=Inbox(beyond, {name: name for name in RATES}, 10)))
    found, wanted = out(other), out(third)
    assert list(found) == [gps - 100 for gps in wanted]
    for gps in found:
        assert found[gps]["S_STATE"].tolist() == wanted[gps + 100]["S_STATE"].tolist()


def test_a_second_watch_on_the_same_workdir_is_refused(post):
    directory = post().outbox.directory
    with (
        lease.hold(directory),
        pytest.raises(RunError, match="another run is writing it"),
        lease.hold(directory),
    ):
        pass


def test_what_is_kept_is_bounded(post, frames):
    """Frames and what is kept by the hour, over days in which an hour has a minute."""
    count, keep = 0, 7200
    for hour in range(0, 8):
        for k in range(58, 62):
            put(frames, START + 3600 * hour + k)
        one = post(keep=keep)
        run(one)
        count = max(count, len(out(one)))
    last = max(out(one))
    assert count <= 3 * 4
    for path in (*one.outbox.directory.glob("S-*"), *(one.outbox.directory / "hours").iterdir()):
        start, length = map(int, path.stem.rsplit("-", 2)[1:])
        assert start + length > last - keep - 60, path


def test_of_twins_that_took_over_the_last_ones_are_kept(tmp_path):
    for k in range(20):
        digest = f"{k:064x}"[::-1]
        twins.copy_of(tmp_path, digest).mkdir(parents=True)
        with (tmp_path / twins.TABLE).open("a") as file:
            file.write("twin,sha256,checkpoint,from\n" * (not k) + f"{k},{digest},x,{k}\n")
    twins.tidy(tmp_path)
    left = {path.name for path in (tmp_path / twins.COPIES).iterdir()}
    assert left == {f"{k:064x}"[::-1][:16] for k in range(20 - twins.COPIED, 20)}
