"""The loop over directories: each second once, through kills at any place, whatever comes, or does not."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import needs_gwf
from posts import START, Patience, hours, out, put, recorded, run, same

from glitchflow.data import lease
from glitchflow.errors import RunError
from glitchflow.online import sink
from glitchflow.online.line import CLEANED, NOTHING, SCIENCE
from glitchflow.online.watch import follow

needs_gwf()


class Killed(BaseException):
    """What nobody catches."""


def test_each_second_of_input_comes_out_once(post, frames):
    one = post()
    for k in range(6):
        put(frames, START + k)
    run(one)
    assert list(out(one)) == [START + k for k in range(5)]
    put(frames, START + 6)
    run(post())
    found = out(one)
    assert list(found) == [START + k for k in range(6)]
    last = found[START + 5]
    assert last["S_CLEAN"].dtype == np.float64 and last["S_CLEAN"].shape == (512,)
    assert not np.array_equal(last["S_CLEAN"], recorded(START + 5)["S"])
    assert last["S_STATE"].tolist() == [SCIENCE | CLEANED] * 16
    assert last["S_TWIN"].tolist() == [7] * 16


@pytest.mark.ci
def test_killed_at_any_place_it_makes_each_second_once_of_the_same_samples(post, frames, monkeypatch):
    for k in range(4):
        put(frames, START + k)
    undisturbed = post("undisturbed")
    run(undisturbed)
    wanted, places, calls = out(undisturbed), 0, 0
    sync, replace = os.fsync, Path.replace

    def at(place: int, function):
        """`function`, but that a kill comes before it (even) or after it (odd) at one place."""

        def called(*arguments):
            nonlocal calls
            calls += 1
            if 2 * calls == place:
                raise Killed
            done = function(*arguments)
            if 2 * calls + 1 == place:
                raise Killed
            return done

        return called

    for place in range(2, 400):
        name, calls = f"killed_{place}", 0
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", at(place, sync))
            patch.setattr(Path, "replace", at(place, replace))
            try:
                run(post(name))
            except Killed:
                places += 1
            else:
                break
        assert set(out(post(name))) <= set(wanted), "only whole frames have names"
        run(post(name))
        same(out(post(name)), wanted)
        assert hours(post(name)) == hours(undisturbed)
        left = {path.name for path in post(name).outbox.directory.iterdir() if path.suffix != ".gwf"}
        assert left == {"state", "hours"}
    assert places >= 2 * 8 * len(wanted), "before and after each of the calls for a second"


@pytest.mark.ci
def test_killed_within_each_second_it_goes_on_with_the_same_samples(post, frames, monkeypatch):
    """Every place within a commit, with a commit in between that goes well."""
    for k in range(30):
        put(frames, START + k)
    undisturbed = post("undisturbed")
    run(undisturbed)
    commit, kills = sink.commit, 0
    sync = os.fsync

    def now_and_then(outbox, memory, log, seconds):
        nonlocal kills
        count, after = 0, memory.written % 5

        def counted(opened):
            nonlocal count
            sync(opened)
            count += 1
            if count == after:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", counted if kills < memory.written - START else sync)
            try:
                return commit(outbox, memory, log, seconds)
            except Killed:
                kills = memory.written - START
                raise

    one = post("killed")
    monkeypatch.setattr(sink, "commit", now_and_then)
    deaths = 0
    while True:
        try:
            run(post("killed"))
        except Killed:
            deaths += 1
            continue
        break
    assert deaths > 15
    same(out(one), out(undisturbed))
    assert hours(one) == hours(undisturbed)


def test_a_missing_second_is_waited_for_and_marked(post, frames):
    one = post()
    for k in range(12):
        if k != 6:
            put(frames, START + k)
    run(one, looks=5)
    assert list(out(one)) == [START + k for k in range(5)], "5 s of its clock: less than `wait`"
    put(frames, START + 6)
    run(post())
    same(out(one), out(_whole(post, frames)))
    (frames / f"S-S_ALL-{START + 6}-1.gwf").unlink()
    other = post("without")
    run(other, looks=15)
    found = out(other)
    assert list(found) == [START + k for k in range(11)]
    assert (
        np.isnan(found[START + 6]["S_CLEAN"]).all() and found[START + 6]["S_STATE"].tolist() == [NOTHING] * 16
    )
    assert np.isfinite(found[START + 7]["S_CLEAN"]).all()
    assert found[START + 9]["S_STATE"].tolist() == [SCIENCE | CLEANED] * 16


def _whole(post, frames):
    one = post("whole")
    run(one)
    return one


def test_what_is_marked_is_so_for_gwpy(post, frames):
    pytest.importorskip("lalframe")  # by which gwpy reads GWF
    from gwpy.timeseries import StateVector

    for k in range(12):
        if k != 6:
            put(frames, START + k)
    one = post()
    run(one, looks=15)
    files = sorted(str(path) for path in one.outbox.directory.glob("*.gwf"))
    state = StateVector.read(files, "S_STATE", bits=["science", "cleaned", "passed", "nothing"])
    flags = {name: [(float(a) - START, float(b) - START) for a, b in flag.active] for name, flag in
             state.to_dqflags().items()}  # fmt: skip
    assert flags["science"] == [(0, 6), (7, 11)], "nothing is known of a second that did not come"
    assert flags["nothing"] == [(6, 7)]
    assert flags["cleaned"] == [(0.5, 5.75), (7.5, 11)]
    assert flags["passed"] == [(0, 0.5), (5.75, 6), (7, 7.5)]


def test_files_out_of_order_and_twice_change_nothing(post, frames):
    for k in (2, 0, 1, 4, 3, 5, 6):
        put(frames, START + k)
    wanted = out(_whole(post, frames))
    one = post("order")
    hidden = frames.parent / "hidden"
    frames.rename(hidden)
    frames.mkdir()
    for k in (0, 2, 1, 1, 4, 3, 6, 5):
        path = hidden / f"S-S_ALL-{START + k}-1.gwf"
        (frames / path.name).write_bytes(path.read_bytes())
        run(post("order"), looks=1)
    (frames / f"S-S_COPY-{START + 4}-1.gwf").write_bytes(path.read_bytes())
    run(post("order"))
    same(out(one), wanted)


@pytest.mark.parametrize("damaging", [lambda b: b[: len(b) // 3], lambda b: b[:900] + b"\x01" + b[901:]])
def test_a_damaged_frame_stops_nothing_after_it(post, frames, damaging):
    for k in range(8):
        path = put(frames, START + k)
        if k == 4:
            path.write_bytes(damaging(path.read_bytes()))
    one = post()
    run(one, looks=15)
    found = out(one)
    assert list(found) == [START + k for k in range(7)]
    assert found[START + 4]["S_STATE"].tolist() == [NOTHING] * 16
    assert found[START + 6]["S_STATE"].tolist() == [SCIENCE | CLEANED] * 16


def test_a_missing_witness_costs_the_witness(post, frames, capsys):
    for k in range(6):
        put(frames, START + k, [name for name in recorded(START) if name != "FAST" or k < 2])
    one = post()
    run(one)
    assert out(one)[START + 4]["S_STATE"].tolist() == [SCIENCE | CLEANED] * 16
    assert "GPS 1000000002: without FAST (no file has it)" in capsys.readouterr().err


def test_a_channel_that_no_file_has_is_named_once_with_what_there_is(post, frames, capsys):
    for k in range(4):
        put(frames, START + k)
    one = post()
    one = replace(one, inbox=replace(one.inbox, channels={**one.inbox.channels, "FAST": "FASTER"}))
    run(one, looks=12)
    said = f"ingest.channels: no file in {frames} has FASTER (near: FAST); they hold FAST, S, SLOW, STATE"
    assert capsys.readouterr().err.splitlines().count(said) == 1
    assert list(out(one)) == [START + k for k in range(3)]


def test_files_of_other_channels_are_told_from_those_that_are_meant(post, frames, capsys):
    for k in range(4):
        put(frames, START + k, ["SLOW"])
    one = post()
    wanted = {name: f"K1:{name}{k}" for k, name in enumerate(one.inbox.channels)}
    run(replace(one, inbox=replace(one.inbox, channels=wanted)), looks=12)
    said = capsys.readouterr().err
    assert (
        f"ingest.channels, ingest.segments.channel: no file in {frames} has K1:FAST1, K1:S0, K1:SLOW2 (near: SLOW),"
        " K1:STATE3; they hold SLOW\n"
    ) in said


def test_a_disk_that_refuses_is_waited_for_and_nothing_is_lost(post, frames, monkeypatch, capsys):
    for k in range(6):
        put(frames, START + k)
    wanted = out(_whole(post, frames))
    commit, tries = sink.commit, 0

    def refuses(outbox, memory, log, seconds):
        nonlocal tries
        tries += 1
        if tries in (3, 4):
            raise RunError("x: cannot be written: No space left on device")
        return commit(outbox, memory, log, seconds)

    monkeypatch.setattr(sink, "commit", refuses)
    one = post()
    run(one, looks=6)
    same(out(one), wanted)
    told = [line for line in capsys.readouterr().err.splitlines() if "writ" in line]
    assert told == [
        "x: cannot be written: No space left on device; waiting for it",
        f"{one.outbox.directory}: can be written again",
    ]


def test_a_lease_that_a_full_disk_silenced_is_waited_for_and_one_that_is_another_s_ends_it(post, frames):
    for k in range(6):
        put(frames, START + k)
    tries = iter([RunError("x: cannot be written: No space left on device")] * 3)

    def mine():
        if (error := next(tries, None)) is not None:
            raise error

    stop, one = Patience(8), post()
    follow(one, stop, mine, clock=lambda: stop.now)
    assert list(out(one)) == [START + k for k in range(5)]

    def taken():
        raise lease.Held("x: another run has taken it over")

    put(frames, START + 6)
    stop = Patience(8)
    with pytest.raises(lease.Held):
        follow(post(), stop, taken, clock=lambda: stop.now)


@pytest.fixture
def small_disk(tmp_path):
    """A directory on a file system of 2 MB."""
    directory = tmp_path / "small"
    directory.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(directory)]
    if not shutil.which("mount") or subprocess.run(line, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here: no small disk to fill")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_is_waited_for_and_nothing_is_lost(post, frames, small_disk, capsys):
    for k in range(10):
        put(frames, START + k)
    wanted = out(_whole(post, frames))
    one, filler = post("small"), small_disk / "filler"
    room = 2**21 - 3 * len(next(frames.iterdir()).read_bytes())

    class Freed(Patience):
        """Somebody makes room after a while."""

        def wait(self, timeout: float) -> bool:
            if self.now == 4:
                filler.unlink()
            return super().wait(timeout)

    filler.write_bytes(bytes(room))
    stop = Freed(8)
    follow(one, stop, clock=lambda: stop.now)
    same(out(one), wanted)
    told = capsys.readouterr().err
    assert "; waiting for it\n" in told and f"{small_disk}: can be written again\n" in told
    assert sorted(path.name for path in small_disk.iterdir() if path.suffix != ".gwf") == ["hours", "state"]


def test_a_long_gap_is_left_out_and_old_frames_are_deleted(post, frames):
    for k in (0, 1, 2, 3, 500, 501, 502):
        put(frames, START + k)
    one = post(keep=30)
    run(one)
    assert list(out(one)) == [START + k for k in (0, 1, 2, 500, 501)]
    assert (START + 560) % 60 == 0, "when it is looked at"
    for k in range(503, 562):
        put(frames, START + k)
    run(post(keep=30))
    assert list(out(one)) == [START + k for k in range(530, 561)]


def test_another_twin_begins_anew_and_repeats_nothing(post, frames):
    for k in range(5):
        put(frames, START + k)
    run(post())
    for k in range(5, 10):
        put(frames, START + k)
    run(post(twin=8))
    found = out(post())
    assert list(found) == [START + k for k in range(9)]
    assert [int(found[START + k]["S_TWIN"][0]) for k in range(9)] == [7] * 4 + [8] * 5


def test_a_damaged_state_is_said(post, frames):
    for k in range(4):
        put(frames, START + k)
    run(post())
    path = post().outbox.directory / "state"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(
        RunError, match="state: cannot be read: differs from its checksum; delete it to begin anew"
    ):
        run(post())
