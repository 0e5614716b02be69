"""Science-mode time of any segments, and the events in it, held against one second after the other."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from glitchflow.config import Ingest
from glitchflow.errors import InputError
from glitchflow.signal.recorded.segments import usable_time
from glitchflow.signal.recorded.triggers import Trigger, _inside

SECONDS = 60
LISTS = st.lists(
    st.tuples(st.integers(0, SECONDS - 1), st.integers(1, 20)).map(lambda one: (one[0], one[0] + one[1])),
    max_size=6,
)


def second_by_second(segments) -> np.ndarray:
    """Whether each second is in one of them."""
    found = np.zeros(SECONDS + 20, bool)
    for start, stop in segments:
        found[start:stop] = True
    return found


def usable(segments, left_out):
    return usable_time(Ingest(segments=segments, leave_out=left_out)), (
        second_by_second(segments or [(0, SECONDS + 20)]) & ~second_by_second(left_out)
    )


@given(LISTS, LISTS)
def test_time_is_usable_where_a_segment_is_and_none_that_is_left_out(segments, left_out):
    found, expected = usable(segments, left_out)
    middles = [second + 0.5 in found for second in range(SECONDS + 20)]
    np.testing.assert_array_equal(middles, expected)
    edges = [(float(a), float(b)) for a, b in found]
    assert all(a < b for a, b in edges)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(edges))  # apart, and ascending


@given(LISTS, LISTS, st.integers(1, 4), st.lists(st.integers(5, SECONDS), min_size=1, max_size=20))
def test_events_are_kept_whose_whole_series_is_usable(segments, left_out, half, times):
    found, expected = usable(segments, left_out)
    triggers = [Trigger(float(gps), "", 0.0) for gps in times]
    wanted = [t for t in triggers if expected[int(t.gps) - half : int(t.gps) + half].all()]
    try:
        assert _inside(triggers, found, half) == wanted
    except InputError:
        assert not wanted
