"""Frames that appear once more: when, as what, and damaged how."""

import time

import numpy as np
import pytest
from helpers import needs_gwf, run_here
from posts import RATES, START, out, put, recorded, run

from glitchflow.errors import InputError
from glitchflow.online.line import CLEANED, NOTHING
from glitchflow.online.replay import FAULTS, GPS_EPOCH, LEAP, Delivery, Replay, deliver, plan, replay
from glitchflow.signal.recorded.checksum import damage
from glitchflow.signal.recorded.frames import Piece
from glitchflow.signal.recorded.samples import read_samples

needs_gwf()

PIECES = [Piece(f"/x/S-S_ALL-{START + k}-1.gwf", START + k, START + k + 1) for k in range(200)]


class Clock:
    """Time that passes only while somebody waits for it."""

    def __init__(self) -> None:
        self.now = 0.0

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float) -> bool:
        self.now += timeout
        return False


@pytest.fixture
def files(tmp_path):
    directory = tmp_path / "recorded"
    directory.mkdir()
    for k in range(40):
        put(directory, START + k)
    return directory


def faulty(name: str, every: int = 10, seed: int = 1) -> list[Delivery]:
    return plan(PIECES, Replay(None, faults=(name,), every=every, seed=seed))


@pytest.mark.parametrize("speed, wanted", [(1.0, 40.0), (8.0, 5.0), (0.0, 0.0)])
def test_files_come_at_their_own_pace(files, tmp_path, speed, wanted):
    clock, settings = Clock(), Replay(tmp_path / "into", speed)
    settings.into.mkdir()
    pieces = [Piece(str(files / one.path.split("/")[-1]), one.start, one.stop) for one in PIECES[:40]]
    assert deliver(plan(pieces, settings), settings, clock, lambda: clock.now) == 40
    assert clock.now == pytest.approx(wanted)
    for path in files.iterdir():
        assert (settings.into / path.name).read_bytes() == path.read_bytes()


def test_faults_follow_from_the_seed():
    for name in FAULTS:
        assert faulty(name) == faulty(name)
        assert faulty(name) != faulty(name, seed=2)


def test_each_fault_is_what_it_is_called():
    clean = plan(PIECES, Replay(None))
    assert 5 < 200 - len(faulty("drop")) < 40
    late = [one for one in faulty("delay") if one.fault]
    assert all(1 <= one.due - (one.start + 1 - START) <= 30 for one in late) and 5 < len(late) < 40
    twice = [one for one in faulty("double") if one.copy]
    assert len(faulty("double")) == 200 + len(twice) and 5 < len(twice) < 40
    order = [one.start for one in faulty("reorder")]
    assert sorted(order) == [one.start for one in clean] != order
    stalled = [one for one in faulty("stall") if one.fault]
    assert {one.due for one in stalled} == {stalled[0].start + 1 - START + 3600}
    assert stalled[-1].start == START + 199


def test_cut_and_restamped_they_hold_the_same_samples(files, tmp_path):
    replay(files, Replay(tmp_path / "into", speed=0, now=True))
    begin = min(int(path.name.split("-")[2]) for path in (tmp_path / "into").iterdir())
    assert abs(begin - (time.time() - GPS_EPOCH + LEAP)) < 600
    found = read_samples(str(tmp_path / "into" / f"S-S_ALL-{begin + 3}-1.gwf"), "", list(RATES))
    for name, values in recorded(START + 3).items():
        assert found[name].start == begin + 3
        np.testing.assert_array_equal(found[name].values, values)


def test_what_is_damaged(files, tmp_path):
    for name in ("truncate", "flip", "nan", "missing"):
        into = tmp_path / name
        replay(files, Replay(into, speed=0, faults=(name,), every=4))
        bad = [
            path for path in sorted(into.iterdir()) if path.read_bytes() != (files / path.name).read_bytes()
        ]
        assert 3 < len(bad) < 25
        if name in ("truncate", "flip"):
            assert all(damage(path) for path in bad)
            continue
        found = read_samples(str(bad[0]), "", list(RATES))
        if name == "nan":
            assert np.isnan(found["FAST"].values).sum() == 128
        else:
            assert isinstance(found["SLOW"], str) and not isinstance(found["S"], str)


@pytest.mark.ci
@pytest.mark.parametrize("name", list(FAULTS))
def test_a_watch_goes_through_each_fault(files, post, frames, name):
    """Every second comes out once, cleaned or marked."""
    replay(files, Replay(frames, speed=0, faults=(name,), every=8))
    one = post()
    run(one, looks=15)
    found = out(one)
    begin = min(int(path.name.split("-")[2]) for path in frames.iterdir())
    assert list(found) == list(range(begin, max(found) + 1)) and len(found) >= 35
    lost = [gps for gps, made in found.items() if (made["S_STATE"] & NOTHING).any()]
    assert bool(lost) == (name in ("drop", "truncate", "flip", "nan"))
    assert sum((made["S_STATE"] & CLEANED).all() for made in found.values()) > 10


def test_the_command(files, tmp_path):
    done = run_here(
        "replay", files, tmp_path / "into", "--speed", 0, "--fault", "drop", "--fault", "flip", "--every", 5
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("replay: ") and f"files into {tmp_path}/into; flip " in done.stdout
    done = run_here("replay", files, tmp_path / "into", "--fault", "fire")
    assert done.returncode == 2
    assert done.stderr == f"glitchflow: --fault fire: not one of {', '.join(FAULTS)}\n"
    done = run_here("replay", tmp_path / "nowhere", tmp_path / "into")
    assert done.stderr == f"glitchflow: {tmp_path}/nowhere: no frame files there\n"
    with pytest.raises(InputError, match=r"--cut 2: .* is of 1 s"):
        replay(files, Replay(tmp_path / "into", cut=2))


def test_frames_are_not_replaced_by_copies_of_themselves(files):
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    with pytest.raises(InputError, match=r"is where the frames are; name another directory$"):
        replay(files, Replay(files, 0.0, faults=("truncate",), every=1))
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_what_is_damaged_stays_so_in_a_stall():
    both = plan(PIECES, Replay(None, faults=("flip", "stall"), every=10, seed=1))
    assert sum(one.fault == "flip" for one in both) == sum(bool(one.fault) for one in faulty("flip"))
    assert any(one.fault == "stall" for one in both)
