"""What ranks do that tests begin as processes of their own: here, where a process that is spawned finds it."""

import inspect
import os
from pathlib import Path

import numpy as np
import torch

from glitchflow.config import Loader
from glitchflow.data import together as room
from glitchflow.data.loader import build_loader
from glitchflow.data.normalise import build_normalisation
from glitchflow.data.store import open_store
from glitchflow.data.together import together
from glitchflow.train.workers import World, distributed, of_process_group
from glitchflow.twin import image

SIZE = 3_000_000
COUNTED = "memfd:glitchflow"


def enter(rank: int, size: int, store: Path) -> World:
    """The world of a process of its own among others."""
    torch.set_num_threads(1)
    found = torch.distributed.FileStore(str(store), size)
    torch.distributed.init_process_group("gloo", store=found, rank=rank, world_size=size)
    return of_process_group(torch.device("cpu"))


def mapped() -> set[str]:
    """The numbers of the files without a name that this process has mapped."""
    return {line.split()[4] for line in Path("/proc/self/maps").read_text().splitlines() if COUNTED in line}


def fill(rank: int, size: int, store: Path, wants: tuple[int, ...], apart: int = -1):
    """Fill a part with the rank; what is there in the end, how many filled it, and which files are mapped.

    apart: a rank that can open no other's file, as in another container.
    """
    world = enter(rank, size, store)
    if rank == apart:
        room._open, seen = lambda offer: seen(offer) if int(offer[1]) == os.getpid() else None, room._open
    with together(SIZE * (rank in wants), world) as had:
        count = len(had.memory)
        had.memory[count * had.part // had.parts : count * (had.part + 1) // had.parts] = rank + 1
    return np.unique(had.memory.numpy(), return_counts=True), had.parts, mapped()


def batches(rank: int, size: int, ranks: Path, store: Path):
    """The first batch that each rank makes of a split it shares, what is said of that, and the whole of it."""
    world = enter(rank, size, ranks) if size > 1 else World()
    dataset, settings = open_store(store), Loader(batch=8)
    normalisation = build_normalisation(settings.normalise, dataset.normalisation)
    reads = image.reads(dataset, normalisation, dataset.channels, 1)
    loader = build_loader(dataset, "train", settings, reads, 1, ranks=world)
    batch = next(loader.epoch(0, rank, size))
    return batch.target.numpy(), loader.place, loader.cache.numpy().copy()


def buffer_of(rank: int, ranks: Path) -> float:
    """What a buffer is, which was the rank, once its network is shared out by a torch that knows the earlier name."""
    enter(rank, 2, ranks)
    network, signature = torch.nn.Linear(3, 2), inspect.signature

    def earlier(of):
        known = signature(of)
        kept = [one for name, one in known.parameters.items() if name != "forward_sync_buffers"]
        return known.replace(parameters=kept)

    inspect.signature = earlier
    network.register_buffer("found", torch.full((2,), float(rank)))
    distributed(network, torch.device("cpu"))
    return network.get_buffer("found").sum().item()
