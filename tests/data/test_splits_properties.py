"""What holds for any events: quotas, the guard band, and that their order in a list changes nothing."""

import itertools

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from glitchflow.config import Split
from glitchflow.data.splits import by_blocks, by_time, guarded, quotas
from glitchflow.data.store import SPLITS, UNSPLIT

SHARES = st.tuples(st.integers(0, 60), st.integers(0, 39)).map(
    lambda part: Split(validation=part[0] / 100, test=part[1] / 100)
)
TIMES = st.lists(st.integers(0, 4000), min_size=1, max_size=60).map(lambda t: np.array(t) / 8 + 1e9)


def shuffled(data, count) -> np.ndarray:
    return np.array(data.draw(st.permutations(range(count))))


@given(SHARES, st.integers(0, 5000))
def test_quotas_add_up_and_are_the_shares(split, count):
    found, shares = quotas(split, count), (1 - split.validation - split.test, split.validation, split.test)
    wanted = [share > 1e-9 for share in shares]
    assert sum(found) == count and min(found) >= 0
    if count >= sum(wanted):
        assert [number > 0 for number in found] == wanted
    if min(share * count for share, some in zip(shares, wanted) if some) >= 1:
        assert all(abs(number - share * count) < 1 + 1e-6 for number, share in zip(found, shares))


@given(SHARES, TIMES, st.integers(0, 400).map(lambda eighths: eighths / 8), st.data())
def test_by_time_splits_follow_each_other_with_a_guard_band(split, times, guard, data):
    found = by_time(split, guard, times)
    order = shuffled(data, len(times))
    assume(len(set(times.tolist())) == len(times))  # of two at once the first in the list comes first
    np.testing.assert_array_equal(by_time(split, guard, times[order]), found[order])
    spans = [times[found == k] for k in range(len(SPLITS)) if (found == k).any()]
    for before, after in itertools.pairwise(spans):
        assert after.min() - before.max() > guard - 1e-5
    assert (found != UNSPLIT).any()


@given(SHARES, st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(0, 2**32 - 1), st.data())
def test_blocks_are_whole_wherever_their_events_stand(split, keys, seed, data):
    keys = np.array(keys)
    found = by_blocks(split, seed, keys)
    assert all(len(set(found[keys == key].tolist())) == 1 for key in keys)
    order = shuffled(data, len(keys))
    np.testing.assert_array_equal(by_blocks(split, seed, keys[order]), found[order])
    there = sum(number > 0 for number in quotas(split, len(keys)))
    assert len(set(found.tolist())) == min(there, len(set(keys.tolist())))


@given(TIMES, st.data(), st.integers(1, 200).map(lambda eighths: eighths / 8))
def test_no_event_comes_within_the_guard_of_one_of_another_split(times, data, guard):
    assume(len(set(times.tolist())) == len(times))
    splits = np.array(
        data.draw(st.lists(st.integers(0, 2), min_size=len(times), max_size=len(times))), np.int8
    )
    found = guarded(splits, guard, times)
    kept = found != UNSPLIT
    np.testing.assert_array_equal(found[kept], splits[kept])
    apart = np.abs(times[:, None] - times[None])[np.ix_(kept, kept)]
    other = splits[kept][:, None] != splits[kept][None]
    assert not (apart[other] < guard - 1e-5).any()
