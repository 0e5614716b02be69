"""The workers of a run as one of them sees them: its place, its device, and how it talks to the others."""

import contextlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

Numbers = TypeVar("Numbers")  # a flat dataclass of numbers


@dataclass(frozen=True)
class World:
    """The default is a single process on the CPU."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model  # DistributedDataParallel where size > 1
    add: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor  # sum over the workers
    report: Callable[[dict[str, Any]], None] = lambda metrics: None
    say: Callable[[str], None] = lambda text: None  # to those who follow the run
    # asked on rank 0 alone: whether the run is to end at a checkpoint
    stop: Callable[[], bool] = lambda: False

    def gather(self, mine: Numbers) -> list[Numbers]:
        """What every worker says, in rank order: one collective, one look at the device."""
        return [type(mine)(*row) for row in self.share(astuple(mine))]  # type: ignore[call-overload]

    def share(self, values: Sequence[float]) -> list[list[float]]:
        """The numbers of every worker, in rank order."""
        table = torch.zeros((self.size, len(values)), dtype=torch.float64)
        table[max(0, self.rank)] = torch.tensor(values, dtype=torch.float64)
        return self.add(table.to(self.device)).tolist()

    @property
    def where(self) -> str:
        """The device, in words."""
        cuda = self.device.type == "cuda"
        return f"{self.device} ({torch.cuda.get_device_name(self.device)})" if cuda else str(self.device)

    def peak_memory(self) -> float:
        """The most memory used so far, in GB: of the accelerator, else of this process."""
        if self.device.type == "cuda":  # ROCm's devices are called cuda too
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def of_process_group(device: torch.device) -> World:
    """The world of torch's process group, which is there already where there is more than one worker."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return World(device=device)

    def add(value: torch.Tensor) -> torch.Tensor:
        torch.distributed.all_reduce(value)
        return value

    size = torch.distributed.get_world_size()
    return World(torch.distributed.get_rank(), size, device, partial(distributed, device=device), add)


def distributed(model: nn.Module, device: torch.device) -> DistributedDataParallel:
    """A model whose gradients are averaged over the workers of torch's process group, which all begin with rank 0's
    weights."""
    # what a start found is rank 0's alone; torch before 2.13 does not send it
    for buffer in model.buffers():
        torch.distributed.broadcast(buffer, 0)
    known = inspect.signature(DistributedDataParallel).parameters
    # torch warns of the earlier name where it knows the later one
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    # a training changes no buffers: no collective at each step
    none: dict[str, Any] = {buffers: False}
    return DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,  # saves a copy of the gradients
        **none,
    )


def apart(network: nn.Module, alone: bool) -> contextlib.AbstractContextManager:
    """Where `alone`: gradients stay on this worker for now, for batches that are accumulated before a step."""
    no_sync = getattr(network, "no_sync", None)
    return no_sync() if alone and no_sync else contextlib.nullcontext()
