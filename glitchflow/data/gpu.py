"""GPUs that `generate` and `ingest` share among their tasks: whether there are any, and each task's part of one.

A GPU draws the Q-plots of a thousand events or more in the second in which a core simulates or reads some hundred. So
the tasks stay as many as there are CPUs, make events and pack shards as ever, and several of them share a GPU, each in
its part of the memory: none can fill it.
"""

from socket import gethostname

import torch

from glitchflow.config import Cluster, Generate
from glitchflow.data.build import MIB, tasks_per_gpu
from glitchflow.device import out_of_memory
from glitchflow.errors import InputError, RunError
from glitchflow.signal.qtransform import QTransform

# bytes of a GPU that a process takes before it holds a tensor: CUDA's context, its libraries' kernels, plans of FFTs
CONTEXT = 768 * MIB


def sharing(settings: Generate, cluster: Cluster) -> int:
    """Returns how many tasks share a GPU; 0: they compute on CPUs.

    Raises `InputError` where the cluster has no GPU and one is asked for.
    """
    if settings.device == "cpu":
        return 0
    tasks = tasks_per_gpu(cluster)
    if settings.device == "gpu" and not tasks:  # or none on a node with a CPU for a task
        raise InputError(
            "generate.device = gpu: the cluster has no GPU; auto or cpu makes Q-plots on its CPUs"
        )
    return tasks


def told(settings: Generate, tasks: int) -> str:
    """Says where Q-plots are made, by so many tasks that share a GPU."""
    where = f"GPUs, {tasks} task(s) on each" if tasks else "CPUs"
    none = ": the cluster has no GPU" if settings.device == "auto" and not tasks else ""
    return f"generate.device = {settings.device}{none}: Q-plots are made on {where}"


def to_gpu(engine: QTransform, tasks: int) -> QTransform:
    """Moves an engine to the GPU that Ray gave this process, which it shares with `tasks - 1` others.

    Raises `RunError` where torch cannot use that, or where a part of its memory is too little to begin with.
    """
    try:
        _, whole = torch.cuda.mem_get_info()
        mine = whole // tasks - CONTEXT
        if mine <= 0:
            raise RunError(
                f"cluster.tasks_per_gpu = {tasks}: leaves {whole / tasks / MIB:,.0f} MiB of the GPU's"
                f" {whole / MIB:,.0f} MiB to each, and a process takes {CONTEXT / MIB:,.0f} MiB before it computes"
                " anything; fewer tasks get more"
            )
        torch.cuda.set_per_process_memory_fraction(mine / whole)
        return engine.cuda()
    except (RuntimeError, AssertionError) as error:  # the latter of a torch that was built for CPUs
        if out_of_memory(error):  # which has a line of its own
            raise
        reason = str(error).strip().splitlines()[0]
        raise RunError(
            f"generate.device: {gethostname()}: Ray gives a GPU that torch {torch.__version__} cannot use: {reason};"
            " generate.device = cpu needs none"
        ) from None
