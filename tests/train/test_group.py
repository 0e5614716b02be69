"""Two processes that find each other as Ray Train's workers do: what they add up, and who else could listen."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
from helpers import add_up

from glitchflow.site.probe import free_port
from glitchflow.train.group import LOOPBACK


@pytest.mark.ci
def test_a_group_on_one_machine_listens_on_loopback_alone():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        port = free_port(LOOPBACK)
        sums = [pool.submit(add_up, rank, LOOPBACK, port) for rank in range(2)]
        assert [each.result() for each in sums] == [3.0 * 2**19] * 2


@pytest.mark.gpu
def test_nccl_on_one_machine_listens_on_loopback_alone():
    """A group of one: a GPU belongs to one worker, and there may be one GPU."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(add_up, 0, LOOPBACK, free_port(LOOPBACK), 1, "nccl").result() == 1.0
