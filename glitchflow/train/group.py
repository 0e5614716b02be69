"""How Ray Train's workers become one process group: as Ray's own `TorchConfig`, but on one machine on loopback alone.

torch's store, in which workers find each other, has no token and listens on every address of rank 0's host. On a
cluster that is the network that SECURITY.md speaks of; a Ray of one machine is promised to be seen by nobody else.
"""

import os
import socket
from datetime import timedelta
from typing import Any

import ray
import torch.distributed
from ray.train._internal.utils import get_address_and_port
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend

LOOPBACK = "127.0.0.1"  # what the Ray of cluster.py takes for its node's address


class Group(TorchConfig):
    """What `TorchTrainer` takes as its `torch_config`. One worker is no group: it listens nowhere."""

    @property
    def backend_cls(self) -> type:
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:  # type: ignore[override]
        """Called by the controller as soon as the workers are there."""
        worker_group.execute(_set_torch_distributed_env_vars)
        size = len(worker_group)
        if size == 1:
            return
        gpus = worker_group.get_resources_per_worker().get("GPU", 0)
        address = worker_group.execute_single(0, get_address_and_port)
        given = (*address, size, "nccl" if gpus else "gloo", timedelta(seconds=backend_config.timeout_s))
        ray.get([worker_group.execute_single_async(rank, enter, rank, *given) for rank in range(size)])


def enter(rank: int, host: str, port: int, size: int, backend: str, timeout: timedelta) -> None:
    """Make this process the `rank`-th of `size` in torch's process group; rank 0 serves the store at host:port."""
    listening = None
    if host == LOOPBACK:
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, "lo")  # else they ask for the address of the host's name
        if rank == 0:  # torch itself would bind to every address
            listening = socket.create_server((host, port)).detach()
    store = torch.distributed.TCPStore(
        host, port, size, is_master=rank == 0, timeout=timeout, multi_tenant=True, master_listen_fd=listening
    )
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
