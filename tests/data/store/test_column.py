"""A column that is filled chunk by chunk, beside what an array would hold."""

import numpy as np

from glitchflow.data.store.column import Column, rows_of
from glitchflow.data.store.schema import digest


def test_shards_of_any_length_fill_chunks_and_leave_what_is_there():
    array, wanted = np.arange(10, dtype=np.int32), np.arange(10, dtype=np.int32)
    column = Column(array, 10, 4)
    for events, value in ((slice(0, 3), 100), (slice(3, 4), 200), (slice(9, 10), 300)):  # nothing in 4 to 8
        column.put(events, np.full(events.stop - events.start, value, np.int32))
        wanted[events] = value
    assert column.close() == [digest(wanted[i : i + 4]) for i in (0, 4, 8)]
    np.testing.assert_array_equal(array, wanted)


def test_a_table_without_rows_has_all_its_columns():
    assert [len(column) for column in rows_of([])] == [0] * 5
    assert [column[0] for column in rows_of([(7, 1, 1.5, 12.0, True)])] == [7, 1, 1.5, 12.0, True]
