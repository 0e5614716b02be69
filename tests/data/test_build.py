"""The one driver over Ray tasks, on parts that are no shards."""

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from glitchflow.config.sections import Cluster
from glitchflow.data import build
from glitchflow.data.build import MIB, Job, on_every_cpu, run_tasks
from glitchflow.errors import InputError, RunError

CLUSTER = Cluster(cpus=2)
pytestmark = pytest.mark.usefixtures("ray_session")


def job(make, memory=50 * MIB, **more):
    return Job(make, "squares", memory, "numbers", **more)


def square(part):
    return part[1] ** 2


def tell(directory, part):
    Path(directory, str(part)).touch()
    if part == 3:
        raise InputError("part 3: not so")
    if part == 4:
        raise KeyError("a mistake of ours")
    time.sleep(0.3)
    Path(directory, f"{part} is done").touch()


def dies_once(directory, part):
    mark = Path(directory, f"{part} died")
    if part == 1 and not mark.exists():
        mark.touch()
        os._exit(1)
    return part


def fills_a_gpu(part):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")


def fills_it_by_a_library(part):
    raise RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED")


def process_on_a_gpu(part):
    assert torch.ones(1, device="cuda").item() == 1
    return os.getpid()


def test_any_parts_and_what_each_returned_in_their_order():
    parts = {("b", i): 2 for i in (5, 3, 9, 1, 7)}
    found = run_tasks(job(square), parts, CLUSTER)
    assert list(found.items()) == [(part, part[1] ** 2) for part in parts]
    assert run_tasks(job(square), {}, CLUSTER) == {}


def test_little_is_made_here_where_there_is_no_ray(monkeypatch):
    kept, little = [], replace(job(lambda part: os.getpid()), here=True)
    parts = {"b": 2, "a": 1}
    elsewhere = run_tasks(little, parts, CLUSTER)  # there is one
    assert list(elsewhere) == ["b", "a"] and os.getpid() not in elsewhere.values()
    monkeypatch.setattr(build, "at_hand", lambda address: False)
    found = run_tasks(little, parts, CLUSTER, keep=lambda part, returned: kept.append(part) or returned)
    assert found == dict.fromkeys(parts, os.getpid())
    assert kept == ["b", "a"]

    def stolen():
        raise RunError("another driver")

    with pytest.raises(RunError, match=r"^another driver$"):
        run_tasks(little, parts, CLUSTER, stolen)


def test_what_is_made_here_has_one_thread_as_a_task_has(monkeypatch):
    monkeypatch.setattr(build, "at_hand", lambda address: False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        asked = replace(job(lambda part: torch.get_num_threads()), here=True)
        assert run_tasks(asked, {1: 1, 2: 1}, CLUSTER) == {1: 1, 2: 1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_first_error_is_the_tasks_own_line_and_nothing_is_at_work_after_it(tmp_path):
    with pytest.raises(InputError, match=r"^part 3: not so$"):
        run_tasks(job(partial(tell, str(tmp_path))), dict.fromkeys([0, 1, 2, 3, 5, 6, 7, 8, 9], 1), CLUSTER)
    begun = {path.name for path in tmp_path.iterdir() if "done" not in path.name} - {"3"}
    assert all((tmp_path / f"{name} is done").exists() for name in begun)
    assert len(begun) < 9


def test_a_mistake_keeps_its_traceback(tmp_path):
    import ray

    with pytest.raises(ray.exceptions.RayTaskError, match="a mistake of ours"):
        run_tasks(job(partial(tell, str(tmp_path))), {4: 1}, CLUSTER)


def test_a_lease_that_is_lost_ends_it():
    def lost():
        raise RunError("taken over")

    with pytest.raises(RunError, match=r"^taken over$"):
        run_tasks(job(square), {("a", 1): 1}, CLUSTER, lost)


def test_a_worker_that_dies_is_replaced(tmp_path):
    found = run_tasks(job(partial(dies_once, str(tmp_path))), {0: 1, 1: 1}, CLUSTER)
    assert found == {0: 0, 1: 1}


def test_a_task_that_no_node_has_memory_for_is_refused_in_one_line():
    with pytest.raises(RunError) as error:
        run_tasks(job(square, memory=2**50, smaller="scan.block"), {("a", 1): 1}, CLUSTER)
    line = str(error.value)
    assert line.startswith(
        "squares: a task needs 1,073,741,824 MiB, and no node of the cluster has more than "
    )
    assert line.endswith(" MiB for tasks; a smaller scan.block makes smaller tasks")


def test_what_cuda_keeps_of_the_host_is_kept_free_too(monkeypatch):
    asked = job(square, memory=2**50, accelerated=True)
    monkeypatch.setattr(build, "tasks_per_gpu", lambda cluster: 2)
    with pytest.raises(RunError, match=r"^squares: a task needs 1,073,742,848 MiB, and no node"):
        run_tasks(asked, {("a", 1): 1}, CLUSTER)
    monkeypatch.setattr(build, "tasks_per_gpu", lambda cluster: 0)
    with pytest.raises(RunError, match=r"^squares: a task needs 1,073,741,824 MiB, and no node"):
        run_tasks(asked, {("a", 1): 1}, CLUSTER)


@pytest.mark.parametrize("tasks", [1, 3, 7, 8, 64])
def test_as_many_tasks_as_one_says_fit_on_a_gpu(tasks):
    part = build.share(tasks)
    assert tasks * part <= 1 < (tasks + 1) * part
    assert part * build.FINEST == pytest.approx(
        round(part * build.FINEST)
    )  # or Ray would round it, perhaps up


@pytest.mark.parametrize("fills", [fills_a_gpu, fills_it_by_a_library])
def test_a_gpus_memory_that_is_not_there_is_a_line(monkeypatch, fills):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 2**34))
    with pytest.raises(RunError) as error:
        build._call(fills, 1, 16)
    assert str(error.value) == (
        "cluster.tasks_per_gpu = 16: a task's part of the GPU is too little, or others fill it: 1,024 of 16,384 MiB"
        " are free; fewer tasks get more"
    )


@pytest.mark.gpu
def test_a_process_that_has_opened_a_gpu_is_used_again():
    """At most as many as share it make eight times as many parts."""
    cluster = CLUSTER.model_copy(update={"tasks_per_gpu": 2})
    found = run_tasks(job(process_on_a_gpu, accelerated=True), dict.fromkeys(range(16), 1), cluster)
    assert len(set(found.values())) <= 2


def test_on_every_cpu():
    assert sorted(on_every_cpu(job(abs), CLUSTER)) == [1, 2]
