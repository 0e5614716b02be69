"""TensorBoard reads what was told, and nothing that cannot be written makes a training wait."""

import resource
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from glitchflow.train.board import Board
from glitchflow.train.tracking import Tracker


def read(directory):
    found = EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


def test_curves_and_pictures(tmp_path):
    board = Board(tmp_path / "board")
    for step in range(3):
        board.number("epoch/loss", 0.5**step, step)
    board.picture("samples", np.full((4, 6, 3), 200, np.uint8), 2)
    board.close()
    found = read(tmp_path / "board")
    assert [(e.step, e.value) for e in found.Scalars("epoch/loss")] == [(0, 1), (1, 0.5), (2, 0.25)]
    (picture,) = found.Images("samples")
    assert (picture.step, picture.height, picture.width) == (2, 4, 6)


@pytest.mark.parametrize("later", [0, 60, -3600, -1e10])
def test_a_resumed_run_takes_back_what_comes_again(tmp_path, monkeypatch, later):
    """Within the same second too, and by a clock that was set back."""
    monkeypatch.setattr(time, "time", lambda: 1.8e9)
    for first, steps in ((None, range(6)), (4, range(4, 8))):
        board = Board(tmp_path / "board", first)
        for step in steps:
            board.number("epoch/loss", step, step)
        board.close()
        monkeypatch.setattr(time, "time", lambda: 1.8e9 + later)
    assert [e.step for e in read(tmp_path / "board").Scalars("epoch/loss")] == list(range(8))


@pytest.mark.timeout(60)
def test_a_clock_set_to_before_1970_stops_no_training(tmp_path, monkeypatch):
    tracker = Tracker(tmp_path, 0, 0)
    tracker.write("step", 1, {"loss": 1.0})
    time.sleep(0.1)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 1e10)
    for step in range(2, 50):
        tracker.write("step", step, {"loss": 1 / step})
    tracker.close()
    assert [e.step for e in read(tmp_path / "tensorboard").Scalars("step/loss")] == list(range(1, 50))


@pytest.mark.timeout(60)
def test_what_cannot_be_written_is_told_to_who_tells_it(tmp_path):
    """As on a disk that is full."""
    tracker, (soft, hard) = Tracker(tmp_path, 0, 0), resource.getrlimit(resource.RLIMIT_FSIZE)
    tracker.path = tmp_path / "none" / "metrics.jsonl"
    tracker.path.parent.mkdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            for step in range(1000):
                tracker.path.unlink(missing_ok=True)
                tracker.write("step", step, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
