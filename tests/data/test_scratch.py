"""Arrays that memory need not hold."""

import mmap

import numpy as np

from glitchflow.data import scratch as module
from glitchflow.data.scratch import scratch


def test_a_small_array_is_in_memory_and_a_large_one_in_a_file_that_nobody_sees(monkeypatch, tmp_path):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "ROOM", 79)
    small, large = scratch((3, 3)), scratch((5, 2), np.uint8)
    assert small.base is None
    assert large.base is None
    large = scratch((5, 2))
    assert isinstance(large.base.base, mmap.mmap)
    assert list(tmp_path.iterdir()) == []
    row = large[3]
    row[:] = 7
    del large
    assert row.tolist() == [7, 7], "a part of it keeps it"
    assert scratch((0, 4)).shape == (0, 4)
