"""The order of an epoch: what each lane's groups hold, found without the others."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from glitchflow.data.lane import Lane, Order

EVENTS = np.flatnonzero(np.random.default_rng(3).random(1000) < 0.3)  # some blocks have none


def lane_of(order: Order, lane: int) -> np.ndarray:
    return np.concatenate([order.group(lane, k) for k in range(-(-order.length // order.size))])


@pytest.mark.parametrize("block, lanes, size", [(8, 4, 32), (1, 3, 7), (2000, 2, 40), (5, 7, 5)])
def test_lanes_are_cut_from_whole_blocks_in_a_shuffled_order(block, lanes, size):
    order = Order.of(EVENTS, block, lanes, size, 1, 0)
    seen = np.concatenate([lane_of(order, lane) for lane in range(lanes)])
    assert len(seen) == lanes * (len(EVENTS) // lanes)
    assert len({*seen.tolist()}) == len(seen) and {*seen.tolist()} <= {*EVENTS.tolist()}
    cut = [order.group(0, k) for k in range(-(-order.length // size))]
    assert [len(part) for part in cut[:-1]] == [size] * (len(cut) - 1)
    assert not np.array_equal(cut[0], np.sort(cut[0])), "and is shuffled"


def test_a_block_is_in_one_lane_or_where_two_meet():
    order = Order.of(EVENTS, 8, 4, 32, 1, 0)
    found = [{*(lane_of(order, lane) // 8).tolist()} for lane in range(4)]
    for a in range(4):
        for b in range(a):
            assert len(found[a] & found[b]) <= (a - b == 1)


def test_epochs_seeds_and_lanes_have_random_numbers_of_their_own():
    same = Order.of(EVENTS, 8, 4, 32, 1, 0)
    np.testing.assert_array_equal(lane_of(Order.of(EVENTS, 8, 4, 32, 1, 0), 2), lane_of(same, 2))
    for other in ((2, 0), (1, 1)):
        assert np.mean(lane_of(Order.of(EVENTS, 8, 4, 32, *other), 2) == lane_of(same, 2)) < 0.1
    whole = Order.of(np.arange(64), 64, 2, 8, 1, 0)
    ranks = [np.argsort(whole.group(lane, k)) for lane in range(2) for k in range(4)]
    assert len({tuple(rank) for rank in ranks}) == 8


def test_another_order_is_another_version():
    """A training that stands in the middle of an epoch goes on by it."""
    order = Order.of(np.arange(12), 2, 2, 4, 1, 0)
    groups = [order.group(lane, k).tolist() for lane in range(2) for k in range(2)]
    assert (order.version, groups) == (2, [[1, 9, 0, 8], [4, 5], [10, 3, 2, 11], [6, 7]])


def test_a_lane_looks_at_the_groups_alone_that_it_reads(monkeypatch):
    order, asked = Order.of(EVENTS, 8, 2, 16, 1, 0), []
    group = Order.group

    def asks(self, *which):
        asked.append(which)
        return group(self, *which)

    monkeypatch.setattr(Order, "group", asks)
    with ThreadPoolExecutor(1) as pool:
        lane = Lane(order, 1, lambda _: {}, pool, position=20)
        taken = np.concatenate([part for part, _ in lane.take(20)])
    assert asked == [(1, 1), (1, 2), (1, 3)]
    monkeypatch.undo()
    np.testing.assert_array_equal(taken, lane_of(order, 1)[20:40])
