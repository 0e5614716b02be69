"""The one driver over Ray tasks: parts -> tasks -> what they return.

    1. a part is anything that tells tasks apart: a shard's number, a block of events, a file's time
    2. a task calls `make(part)`, which writes what it makes itself, and may return a little
    3. the driver keeps every CPU busy, shows progress, and ends with the first error

Every store, and everything else that is made in parts, is made by it.
"""

import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glitchflow.cluster import at_hand, available_cpus, one_thread, session, threads
from glitchflow.config import Cluster
from glitchflow.errors import InputError, RunError
from glitchflow.gauges import tell
from glitchflow.progress import track
from glitchflow.worker_logs import died

MIB = 2**20
# what a process of ours holds before it has done anything: Python, numpy, torch, gwpy, Zarr and Ray's client
BASE_MEMORY = 400 * MIB
AHEAD = 2  # tasks per CPU in flight: one at work, and one whose start-up nobody has to wait for
RETRIES = 3  # of a task whose worker or node died; its own errors are never tried again
LOOK = 1.0  # s at most between looks at the lease
LAST = 60.0  # s that running tasks get to finish in, after an error
FINEST = 10_000  # parts of a GPU that Ray counts in
CUDA = 1024 * MIB  # of the host: what CUDA keeps in a process with a GPU


@dataclass(frozen=True)
class Job:
    """What is done to every part.

    make: called with a part, in a process of its own; sent to the cluster once. memory: bytes that a task is projected
    to hold at most, which Ray keeps free for it, and what CUDA keeps where it has a GPU. accelerated: whether a task
    gets its share of a GPU where there is one. here: whether all parts together take less than a Ray and its processes
    to start: they are made in this one then, unless there is a Ray. smaller: the key that makes a task hold less.
    """

    make: Callable[[Any], Any]
    label: str
    memory: int
    unit: str = "events"
    accelerated: bool = False
    here: bool = False
    smaller: str = "store.shard_mb"


def run_tasks(
    job: Job,
    parts: Mapping[Any, int],
    cluster: Cluster,
    check: Callable[[], None] = lambda: None,
    keep: Callable[[Any, Any], Any] = lambda part, returned: returned,
) -> dict[Any, Any]:
    """Call `job.make(part)` in a Ray task for each part; returns what each returned, in the order of `parts`.

    parts: each with its size, in the job's unit. keep: called here with a part and what it returned, as it comes; gives
    what is kept of that. Tasks whose worker or node died are tried again. The first error of a
    task, or of `check`, which is called all the time, ends the run when the tasks at work are done.
    Raises `RunError` where no node has the memory that a task needs, or a task's process died again and again.
    """
    if not parts:
        return {}
    if job.here and not at_hand(cluster.address):
        return _made_here(job, parts, check, keep)
    found: dict[Any, Any] = {}
    with session(cluster.address, cluster.cpus), track(sum(parts.values()), job.label, job.unit) as advance:
        import ray

        submit, slots = _task(job, cluster), AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting, running = deque(parts), dict[Any, Hashable]()
        done, began = 0, time.monotonic()
        try:
            while waiting or running:
                while waiting and len(running) < slots:
                    part = waiting.popleft()
                    running[submit(part)] = part
                ray.wait(list(running), num_returns=1, timeout=LOOK)
                ready, _ = ray.wait(
                    list(running), num_returns=len(running), timeout=0
                )  # all that are done by now
                check()
                for reference in ready:
                    part = running.pop(reference)
                    found[part] = keep(part, _result(reference, job, part))
                    advance(parts[part])
                    done += parts[part]
                if ready:
                    values = {"done": done, "per_second": done / (time.monotonic() - began)}
                    tell(job.label, values | {"left": len(waiting) + len(running)})
        except Exception:
            # what is being written is finished first, so that nothing writes behind the caller's back. (Ray's cancel
            # is no help: where it meets a task that is just ending, it takes the whole process down.)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=LAST)
            raise
    return {part: found[part] for part in parts}


def _made_here(
    job: Job, parts: Mapping[Any, int], check: Callable[[], None], keep: Callable[[Any, Any], Any]
) -> dict[Any, Any]:
    """What `run_tasks` returns, without a Ray."""
    found = {}
    with one_thread(), track(sum(parts.values()), job.label, job.unit) as advance:
        for part, size in parts.items():
            check()
            found[part] = keep(part, job.make(part))
            advance(size)
    return found


def over_tasks(cluster: Cluster, label: str) -> Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]:
    """`map` that shares several lots out as tasks; one alone is done here, without a Ray."""

    def over(work: Callable[[Any], Any], lots: Sequence[Any]) -> list[Any]:
        if len(lots) < 2:
            return [work(lot) for lot in lots]
        job = Job(lambda place: work(lots[place]), label, BASE_MEMORY, "files")
        return list(run_tasks(job, {place: len(lot) for place, lot in enumerate(lots)}, cluster).values())

    return over


def tasks_per_gpu(cluster: Cluster) -> int:
    """How many tasks share each of the cluster's GPUs; 0: it has none. No more than the node with most CPUs for each
    has, for Ray fills one GPU before it takes the next, and would leave some without a task."""
    with session(cluster.address, cluster.cpus):
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and "GPU" in node["Resources"]]
        most = max((math.ceil(node.get("CPU", 0) / node["GPU"]) for node in nodes), default=0)
        return min(cluster.tasks_per_gpu, most)


def on_every_cpu(job: Job, cluster: Cluster) -> list[Any]:
    """What `job.make(part)` returns for part 1, 2, ... on as many CPUs as this process would use of the cluster, all at
    work at once; called for part 0 on each before, so that imports and constants are not part of it."""
    with session(cluster.address, cluster.cpus):
        import ray

        count = max(1, min(available_cpus(), int(ray.cluster_resources().get("CPU", 1))))
        submit = _task(job, cluster)
        ray.get([submit(0) for _ in range(count)])
        return [_result(reference, job, 1) for reference in [submit(1 + k) for k in range(count)]]


def _task(job: Job, cluster: Cluster) -> Callable[[Any], Any]:
    """Submits a part. Raises `RunError` where it would wait for memory for ever."""
    import ray

    sharing = tasks_per_gpu(cluster) if job.accelerated else 0
    memory = job.memory + CUDA * bool(sharing)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = max((node.get("memory", float("inf")) for node in nodes), default=0)
    if memory > largest:
        raise RunError(
            f"{job.label}: a task needs {memory / MIB:,.0f} MiB, and no node of the cluster has more than"
            f" {largest / MIB:,.0f} MiB for tasks; a smaller {job.smaller} makes smaller tasks"
        )
    # Ray ends a process after each task that had a GPU, unless it is told that it may have any number (0) of them: the
    # next one would import everything, and open the GPU, anew. Of several GPUs Ray may give a process another one in
    # the next run, and CUDA stays on the one that it has opened: each run has processes of its own there
    several = sharing > 0 and any(node.get("GPU", 0) > 1 for node in nodes)
    own: dict[str, Any] = {"env_vars": {"GLITCHFLOW_TASKS": secrets.token_hex(8)}} if several else {}
    task = ray.remote(
        num_cpus=1,
        num_gpus=share(sharing),
        max_calls=0,
        max_retries=RETRIES,
        memory=memory,
        runtime_env=own,
    )(_call)
    shared = ray.put(job.make)
    return lambda part: task.remote(shared, part, sharing)


def _result(reference: Any, job: Job, part: Any) -> Any:
    """What a task returned. Its own one-line errors come through; of others the task's traceback is kept."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError | RunError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise died(f"{job.label}, part {part}: its task died, and three more after it", error, 0) from None


def share(tasks: int) -> float:
    """Returns the part of a GPU that each of so many tasks asks Ray for; 0 for none."""
    return FINEST // tasks / FINEST if tasks else 0.0


def _call(make: Callable[[Any], Any], part: Any, sharing: int) -> Any:
    """Make a part. Raises `RunError` where the GPU has not the memory that is asked of it."""
    import torch

    from glitchflow.device import out_of_memory

    threads(1)
    try:
        return make(part)
    except RuntimeError as error:
        if not (sharing and out_of_memory(error)):
            raise
        free, whole = torch.cuda.mem_get_info()
        raise RunError(
            f"cluster.tasks_per_gpu = {sharing}: a task's part of the GPU is too little, or others fill it:"
            f" {free / MIB:,.0f} of {whole / MIB:,.0f} MiB are free; fewer tasks get more"
        ) from None
