"""Two processes that find each other as Ray Train's workers do: what they add up, and who else could listen."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta

import torch
from helpers import beyond_loopback, listeners

from glitchflow.site.probe import free_port
from glitchflow.train.group import LOOPBACK, enter


def add_up(rank: int, port: int) -> float:
    enter(rank, LOOPBACK, port, 2, "gloo", timedelta(seconds=120))
    try:
        with listeners() as found:
            value = torch.tensor([float(rank + 1)])
            for _ in range(20):
                torch.distributed.all_reduce(value)
                torch.distributed.barrier()
        assert found, "gloo listens"
        assert beyond_loopback(found) == []
        return value.item()
    finally:
        torch.distributed.destroy_process_group()


def test_a_group_on_one_machine_listens_on_loopback_alone():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        port = free_port(LOOPBACK)
        sums = [pool.submit(add_up, rank, port) for rank in range(2)]
        assert [each.result() for each in sums] == [3.0 * 2**19] * 2
