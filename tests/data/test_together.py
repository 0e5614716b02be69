"""What ranks of one host hold together is one memory, filled once, and is gone with them."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import shares, write_store
from ranks import SIZE, batches, fill

from glitchflow.data.store import Layout
from glitchflow.data.together import together
from glitchflow.train.workers import World


def among(size: int, tmp_path: Path, task, *words):
    """What each rank returns."""
    with ProcessPoolExecutor(size, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked = [pool.submit(task, rank, size, tmp_path / "ranks", *words) for rank in range(size)]
        return [one.result(timeout=200) for one in asked]


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


@pytest.mark.ci
def test_a_split_in_memory_is_the_same_whoever_read_it(stored, tmp_path):
    ((target, place, whole),) = among(1, tmp_path, batches, stored)
    first, second = among(2, tmp_path, batches, stored)
    assert np.array_equal(np.concatenate([first[0], second[0]]), target)
    for _, said, values in (first, second):
        assert said == f"{place} that 2 workers share"
        assert values.tobytes() == whole.tobytes()
