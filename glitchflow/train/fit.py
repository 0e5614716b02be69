"""A training run on a Ray cluster: Ray Train starts the workers and replaces those that die.

Checkpoints are ours, on the file system that `workdir` is on: a worker that comes back, after its own death, the
driver's or a node's, finds the last one there.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from glitchflow.cluster import session, threads
from glitchflow.config import Experiment
from glitchflow.data import lease
from glitchflow.data.objects import make_directory
from glitchflow.errors import InputError, RunError
from glitchflow.progress import follow, log
from glitchflow.train import checkpoint
from glitchflow.train.loop import World, train
from glitchflow.train.mlflow_copy import mirrored
from glitchflow.train.setup import check
from glitchflow.train.stopping import until_stopped, watch
from glitchflow.train.tracking import read_metrics

# keys that change nothing in a result
HARMLESS = {
    "loader.cache_gb",
    "loader.cache_dir",
    "train.threads",
    "train.restarts",
    "train.checkpoint_every",
    "train.keep",
    "train.keep_best",
    "train.samples",
    "train.grace",
}
# and those that may change, too, from one part of a run to the next
FREE = HARMLESS | {
    "train.epochs",
    "train.workers",
    "train.early_stop",
    "train.init_from",  # counts at the beginning only; the checkpoint may be gone by now
    "train.init_normalisation",
}

# glibc gives large arrays back to the kernel, which has to clear their pages anew: a sixth of a step on a CPU. Workers
# keep what they once had, up to their peak; the same variables in the driver's environment go first.
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


def fit(
    experiment: Experiment, overwrite: bool = False, gate: Callable[[Experiment], None] | None = None
) -> Path:
    """Train, or go on training, under `workdir/train`; returns the best checkpoint's path.

    `gate` is called before anything is trained, when the settings are known to be right, and may refuse.
    Raises `InputError` for settings that do not fit the store, the model, the cluster, or the run found there;
    `RunError` where the loss stopped being finite, the workers kept failing, or a signal ended the run.
    """
    directory = Path(experiment.workdir) / "train"
    make_directory(directory)
    with lease.hold(directory) as still_mine:
        if overwrite:
            _keeps_its_origin(experiment, directory)
        else:
            _same_run(experiment, directory)
        if not check(experiment, directory / "none" if overwrite else directory).over(experiment.train):
            if gate:
                gate(experiment)
            with session(experiment.cluster.address, experiment.cluster.cpus):
                gpu = accelerated(experiment)
                # an earlier run is deleted when nothing can be wrong any more with what comes in its place
                with mirrored(experiment, directory, partial(clear, directory) if overwrite else None):
                    _launch_until_stopped(experiment, directory, gpu)
            still_mine()
            ended(directory)
    found = checkpoint.best(directory / "checkpoints")
    if found is None:
        raise RunError(f"{directory}: no epoch was finished")
    return found


def _launch_until_stopped(experiment: Experiment, directory: Path, gpu: bool) -> None:
    flag = uuid.uuid4().hex
    with follow(directory / "log.txt"):
        until_stopped(partial(launch, experiment, directory, flag, gpu), flag, experiment.train.grace)


def clear(directory: Path) -> None:
    """Delete an earlier run. Directories go out of sight first: a kill leaves no half of them."""
    for path in [path for path in directory.iterdir() if path.is_dir()]:
        path.rename(path.with_name(f".{path.name}.{time.time_ns()}"))
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _keeps_its_origin(experiment: Experiment, directory: Path) -> None:
    """Refuse to delete the checkpoint that the new run is to start from."""
    origin = experiment.train.init_from
    if origin and Path(origin).resolve().is_relative_to(directory.resolve()):
        raise InputError(f"train.init_from = {origin}: --overwrite would delete it; choose another workdir")


def accelerated(experiment: Experiment) -> bool:
    """Whether the workers get a GPU each. Raises `InputError` where the cluster can never hold them."""
    import ray

    settings, total = experiment.train, ray.cluster_resources()
    gpu = settings.device == "gpu" or (settings.device == "auto" and total.get("GPU", 0) >= settings.workers)
    need = resources(experiment, gpu)
    for name, count in need.items():
        if total.get(name, 0) < count * settings.workers:
            raise InputError(
                f"train.workers = {settings.workers}: needs {count * settings.workers} {name}s,"
                f" the cluster has {total.get(name, 0):g}"
            )
    if room(need) < settings.workers:
        raise InputError(
            f"train.workers = {settings.workers}: needs {settings.workers} times"
            f" {' and '.join(f'{count} {name}s' for name, count in need.items())} on one node each,"
            f" the cluster's nodes hold {room(need)}"
        )
    return gpu


def resources(experiment: Experiment, gpu: bool) -> dict[str, int]:
    """What each worker reserves."""
    return {"CPU": experiment.train.threads} | ({"GPU": 1} if gpu else {})


def room(need: dict[str, int]) -> int:
    """How many workers of that need the nodes that are alive could hold if they were idle."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(min(int(node.get(name, 0) // count) for name, count in need.items()) for node in nodes)


def launch(experiment: Experiment, directory: Path, flag: str, gpu: bool) -> None:
    """Train under `directory` on `train.workers` Ray Train workers until they are done, or the flag goes up."""
    config = {"experiment": experiment.model_dump(mode="json"), "directory": str(directory), "flag": flag}
    run_workers(worker, config, experiment, directory, gpu)


def run_workers(
    function: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    experiment: Experiment,
    directory: Path,
    gpu: bool,
) -> None:
    """Run a function on Ray Train workers; those that die are replaced, `train.restarts` times at most.

    Raises the workers' own error where it is one of ours, else `RunError`.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    scratch = directory / "ray"  # Ray keeps no state of ours, so every attempt has a name of its own
    trainer = TorchTrainer(
        function,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=experiment.train.workers,
            use_gpu=gpu,
            resources_per_worker=resources(experiment, gpu),
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=str(scratch.resolve()),
            failure_config=FailureConfig(max_failures=experiment.train.restarts),
            worker_runtime_env={  # type: ignore[call-arg]  # the stubs are those of Train V1
                "env_vars": {name: os.environ.get(name, value) for name, value in ALLOCATOR.items()}
            },
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _cause(error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def ended(directory: Path) -> None:
    """Raises `RunError` where the run's last word is that it failed or was stopped."""
    last = next(iter(read_metrics(directory / "metrics.jsonl")[-1:]), {"kind": ""})
    if last["kind"] == "stopped":
        raise RunError(f"{last['reason']}; the same command goes on from there")
    if last["kind"] == "failed":
        raise RunError(last["reason"])


def _cause(error: Exception) -> Exception:
    """A worker's own error of ours where there is one, else one line of Ray's."""
    for failure in getattr(error, "worker_failures", {}).values():
        while failure is not None:
            if isinstance(failure, (InputError, RunError)):
                return failure
            failure = getattr(failure, "cause", None) or failure.__cause__
    return RunError(f"the training workers failed: {' '.join(str(error).split())[-400:]}")


def worker(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs: the loop, with this process's place in the world."""
    import ray.train

    experiment, directory = Experiment.model_validate(config["experiment"]), Path(config["directory"])
    world = join(experiment)
    journal = directory / "log.txt"

    def report(metrics: dict[str, Any]) -> None:
        ray.train.report(metrics)
        if world.rank == 0:
            log(journal, _line(metrics, experiment.train.epochs))

    backend = torch.distributed.get_backend() if world.size > 1 else "no"
    log(
        journal,
        f"worker {world.rank} of {world.size} on {socket.gethostname()}, process {os.getpid()}: {world.device},"
        f" {experiment.train.threads} CPU(s), {backend} backend",
    )
    stop = watch(config["flag"]) if world.rank == 0 else world.stop
    train(experiment, replace(world, report=report, stop=stop), directory)


def join(experiment: Experiment) -> World:
    """The world that Ray Train put this process in, with the device it gave."""
    import ray.train
    import ray.train.torch

    threads(experiment.train.threads)
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    rank, size = context.get_world_rank(), context.get_world_size()
    if size == 1:
        return World(device=device)

    def add(value: torch.Tensor) -> torch.Tensor:
        torch.distributed.all_reduce(value)
        return value

    def wrap(model: torch.nn.Module) -> torch.nn.Module:
        return DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # the models' only buffers are constants: no collective for them
            gradient_as_bucket_view=True,
        )

    return World(rank, size, device, wrap, add)


def _line(metrics: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {metrics['epoch'] + 1}/{epochs}: loss {metrics['loss']:.4f}, validation"
        f" {metrics['validation_loss']:.4f}, {metrics['samples_per_second']:.0f} events/s"
    )


def _same_run(experiment: Experiment, directory: Path) -> None:
    """Refuse to go on with a run that was begun with other settings."""
    found = checkpoint.by_step(directory / "checkpoints")
    if not found:
        return
    old, new = checkpoint.open_checkpoint(found[-1]).meta["config"], experiment.model_dump(mode="json")
    for section in ("seed", "loader", "model", "train"):
        before, now = ({"": v[section]} if section == "seed" else v[section] for v in (old, new))
        for key in now:
            name = f"{section}.{key}".rstrip(".")
            if before.get(key) != now[key] and name not in FREE:
                raise InputError(
                    f"{directory}: was begun with {name} = {before.get(key)}, not {now[key]};"
                    " --overwrite it or choose another workdir"
                )
