"""What is made ahead comes in order, a few at a time, and fails where it is asked for."""

import threading
from functools import partial

import numpy as np
import pytest
import torch

from glitchflow.data.batch import AHEAD, Batch, ahead, early

CPU = torch.device("cpu")


def batch(number: int, made: list[int]) -> Batch:
    made.append(number)
    if number == 7:
        raise OSError("the disk is gone")
    return Batch(torch.full((1, 1), number), torch.zeros(1, 1), np.array([number]))


def test_batches_come_in_order_and_few_are_made_ahead():
    made, asked = [], []

    def makes():
        for number in range(6):
            asked.append(number)
            yield partial(batch, number, made)

    for number, found in enumerate(ahead(makes(), CPU)):
        assert found.events.tolist() == [number] and found.inputs.item() == number
        assert len(asked) == min(6, number + 1 + AHEAD)
    assert made == list(range(6))


def test_the_next_one_is_made_while_this_one_is_worked_on():
    began = [threading.Event() for _ in range(4)]
    for number, _ in enumerate(early((event.set for event in began[:3]), 1)):
        if number < 2:
            assert began[number + 1].wait(20), number
    assert not began[3].is_set()


def test_of_nothing_there_is_nothing():
    assert not list(ahead([], CPU))


def test_what_cannot_be_made_is_told_where_it_is_asked_for():
    found = ahead((partial(batch, number, []) for number in range(5, 9)), CPU)
    assert [next(found).events[0], next(found).events[0]] == [5, 6]
    with pytest.raises(OSError, match=r"^the disk is gone$"):
        next(found)


def test_one_that_is_left_early_leaves_no_thread():
    before, made = threading.active_count(), []
    found = ahead((partial(batch, 1, made) for _ in range(100)), CPU)
    next(found)
    found.close()
    assert threading.active_count() == before
    assert len(made) <= 1 + AHEAD
