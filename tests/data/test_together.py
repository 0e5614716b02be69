"""What ranks of one host hold together is one memory, filled once, and is gone with them."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import shares, write_store

from glitchflow.config import Loader
from glitchflow.data import together as room
from glitchflow.data.loader import build_loader
from glitchflow.data.normalise import build_normalisation
from glitchflow.data.store import Layout, open_store
from glitchflow.data.together import together
from glitchflow.train.workers import World, of_process_group
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


def among(size: int, tmp_path: Path, task, *words):
    """What each rank returns."""
    with ProcessPoolExecutor(size, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked = [pool.submit(task, rank, size, tmp_path / "ranks", *words) for rank in range(size)]
        return [one.result(timeout=60) for one in asked]


@pytest.mark.ci
def test_each_rank_fills_a_part_of_one_memory(tmp_path):
    found = among(3, tmp_path, fill, (0, 1, 2))
    for (values, counts), parts, _ in found:
        assert (values.tolist(), counts.tolist(), parts) == ([1, 2, 3], [SIZE // 3] * 3, 3)
    files = [files for _, _, files in found]
    assert files[0] == files[1] == files[2] and len(files[0]) == 1


@pytest.mark.ci
def test_a_rank_that_wants_none_is_waited_for_and_has_none(tmp_path):
    (_, _, none), (first, two, one), (last, _, other) = among(3, tmp_path, fill, (1, 2))
    assert (none, two, one) == (set(), 2, other)
    for values, counts in (first, last):
        assert (values.tolist(), counts.tolist()) == ([2, 3], [SIZE // 2] * 2)


@pytest.mark.ci
def test_a_rank_that_sees_no_other_has_memory_of_its_own(tmp_path):
    first, second, third = among(3, tmp_path, fill, (0, 1, 2), 1)
    assert [parts for _, parts, _ in (first, second, third)] == [2, 1, 2]
    assert (first[0][0].tolist(), second[0][0].tolist()) == ([1, 3], [2])
    assert first[2] == third[2] and not second[2]


def test_one_rank_alone_asks_nobody():
    def share(values):
        pytest.fail("asked")

    for ranks in (None, replace(World(), add=share)):
        with together(SIZE, ranks) as had:
            assert (len(had.memory), had.part, had.parts) == (SIZE, 0, 1)


@pytest.mark.parametrize("forbidden", ["memfd_create", "truncate"])
def test_a_host_that_forbids_such_files_has_memory_a_rank(monkeypatch, forbidden):
    def refused(*_):
        raise OSError("not permitted, or larger than a file may be")

    monkeypatch.setattr(os, forbidden, refused)
    asked = []
    world = replace(World(size=2), add=lambda table: asked.append(table) or table)
    with together(SIZE, world) as had:
        assert (len(had.memory), had.part, had.parts) == (SIZE, 0, 1)
    assert len(asked) == 3


def test_what_fails_while_it_is_filled_waits_for_nobody(monkeypatch):
    waited = []
    world = replace(World(size=2), add=lambda table: waited.append(len(table)) or table)
    with pytest.raises(OSError, match="full"), together(SIZE, world):
        waited.clear()
        raise OSError("full")
    assert waited == []


@pytest.fixture
def stored(tmp_path):
    """A store of 301 events."""
    energy = np.random.default_rng(1).exponential(size=(301, 3, 4, 4)).astype("float32")
    about = {"channels": ["S", "W1", "W2"], "labels": [], "normalisation": shares(energy)}
    arrays = {"qplot": energy, "split": np.zeros(301, "int8")}
    write_store(tmp_path / "d.zarr", arrays, Layout(301, chunk=2, shard=64), **about)
    return tmp_path / "d.zarr"


def batches(rank: int, size: int, ranks: Path, store: Path):
    """The first batch that each rank makes of a split it shares, what is said of that, and the whole of it."""
    world = enter(rank, size, ranks) if size > 1 else World()
    dataset, settings = open_store(store), Loader(batch=8)
    normalisation = build_normalisation(settings.normalise, dataset.normalisation)
    reads = image.reads(dataset, normalisation, dataset.channels, 1)
    loader = build_loader(dataset, "train", settings, reads, 1, ranks=world)
    batch = next(loader.epoch(0, rank, size))
    return batch.target.numpy(), loader.place, loader.cache.numpy().copy()


@pytest.mark.ci
def test_a_split_in_memory_is_the_same_whoever_read_it(stored, tmp_path):
    ((target, place, whole),) = among(1, tmp_path, batches, stored)
    first, second = among(2, tmp_path, batches, stored)
    assert np.array_equal(np.concatenate([first[0], second[0]]), target)
    for _, said, values in (first, second):
        assert said == f"{place} that 2 workers share"
        assert values.tobytes() == whole.tobytes()
