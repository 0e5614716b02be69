"""A column that is filled chunk by chunk, beside what an array would hold."""

import errno

import numpy as np
import pytest

from glitchflow.data.store.column import Column, rows_of
from glitchflow.data.store.schema import digest
from glitchflow.errors import RunError


def test_shards_of_any_length_fill_chunks_and_leave_what_is_there():
    array, wanted = np.arange(10, dtype=np.int32), np.arange(10, dtype=np.int32)
    column = Column("s.zarr: damaged: gps", array, 10, 4)
    for events, value in ((slice(0, 3), 100), (slice(3, 4), 200), (slice(9, 10), 300)):  # nothing in 4 to 8
        column.put(events, np.full(events.stop - events.start, value, np.int32))
        wanted[events] = value
    assert column.close() == [digest(wanted[i : i + 4]) for i in (0, 4, 8)]
    np.testing.assert_array_equal(array, wanted)


class Broken:
    """An array of which a chunk cannot be read until it is written."""

    def __init__(self, values, broken, error=None):
        self.values, self.broken = values, broken
        self.error = error or ValueError("cannot reshape array of size 6 into shape (4,)")
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, key):
        if key == self.broken:
            raise self.error
        return self.values[key]

    def __setitem__(self, key, values):
        self.values[key], self.broken = values, None


def test_a_chunk_that_is_damaged_is_filled_whole_or_not_at_all():
    array = Broken(np.zeros(10, dtype=np.int32), slice(0, 4))
    column = Column("s.zarr: damaged: gps", array, 10, 4)
    column.put(slice(0, 3), np.array([5, 6, 7], np.int32))
    with pytest.raises(RunError) as error:
        column.close()
    assert str(error.value) == "s.zarr: damaged: gps cannot be read; --verify makes its shards again"
    assert not array.values.any(), "nothing is written"
    column = Column("s.zarr: damaged: gps", array, 10, 4)
    column.put(slice(0, 3), np.array([5, 6, 7], np.int32))
    column.put(slice(3, 4), np.array([8], np.int32))
    column.close()
    assert array.values.tolist() == [5, 6, 7, 8, 0, 0, 0, 0, 0, 0]


def test_a_chunk_that_is_damaged_and_of_which_nothing_is_new_is_told():
    column = Column("s.zarr: damaged: gps", Broken(np.zeros(10, dtype=np.int32), slice(4, 8)), 10, 4)
    with pytest.raises(
        RunError, match=r"^s.zarr: damaged: gps cannot be read; --verify makes its shards again$"
    ):
        column.put(slice(8, 10), np.array([5, 6], np.int32))


def test_a_chunk_that_the_disk_does_not_hand_out_is_not_filled():
    array = Broken(np.zeros(10, dtype=np.int32), slice(0, 4), OSError(errno.EIO, "Input/output error"))
    column = Column("s.zarr: damaged: gps", array, 10, 4)
    with pytest.raises(OSError, match="Input/output error"):
        column.put(slice(0, 4), np.array([5, 6, 7, 8], np.int32))
    assert not array.values.any()


def test_a_table_without_rows_has_all_its_columns():
    assert [len(column) for column in rows_of([])] == [0] * 5
    assert [column[0] for column in rows_of([(7, 1, 1.5, 12.0, True)])] == [7, 1, 1.5, 12.0, True]
