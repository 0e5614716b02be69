"""The table of seconds on a disk that is full."""

from pathlib import Path

import pytest

from glitchflow.analysis.clean.seconds import SECONDS, join, rows
from glitchflow.errors import RunError

FULL = Path("/dev/full")  # takes what is kept back, and refuses it when it is written


@pytest.fixture
def full(tmp_path):
    if not FULL.exists():
        pytest.skip("no /dev/full here")
    (tmp_path / SECONDS).symlink_to(FULL)
    return tmp_path


def test_what_is_refused_at_the_end_is_a_line(full):
    with pytest.raises(RunError) as failure, rows(full) as tell:
        tell([(1, 1, "0.1", "")])
    assert str(failure.value) == f"{full}/{SECONDS}: cannot be written: No space left on device"


def test_a_line_that_was_on_its_way_stays_one(full):
    with pytest.raises(RunError, match="cannot be written"), rows(full) as tell:
        tell([(1, 1, "0.1", "")])
        raise RunError("a frame: cannot be written: No space left on device")


def test_the_whole_table_is_refused_in_a_line(full):
    with pytest.raises(RunError, match=rf"^{full}/{SECONDS}: cannot be written: No space left on device$"):
        join([], full)
