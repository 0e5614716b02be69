"""The workers of a run: how a network is shared out over them."""

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from ranks import buffer_of

from glitchflow.train.workers import distributed


@pytest.fixture
def group():
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_a_network_is_shared_out_without_a_warning_and_a_collective_for_its_buffers():
    network = torch.nn.Linear(3, 2)
    network.register_buffer("constant", torch.ones(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shared = distributed(network, torch.device("cpu"))
    assert not shared.broadcast_buffers
    shared(torch.ones(1, 3)).sum().backward()
    assert torch.equal(network.bias.grad, torch.ones(2))


@pytest.mark.ci
def test_what_rank_0_found_is_everyones(tmp_path):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert [*pool.map(buffer_of, (0, 1), [tmp_path / "ranks"] * 2, timeout=200)] == [0.0, 0.0]


@pytest.mark.gpu
def test_a_network_on_a_gpu_is_shared_out_by_nccl(gpu):
    torch.distributed.init_process_group("nccl", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        network = torch.nn.Linear(3, 2).to(gpu)
        shared = distributed(network, torch.device("cuda", 0))
        shared(torch.ones(1, 3, device=gpu)).sum().backward()
        assert torch.equal(network.bias.grad.cpu(), torch.ones(2))
    finally:
        torch.distributed.destroy_process_group()
