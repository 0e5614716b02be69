"""A training run on a Ray cluster: Ray Train starts the workers and replaces those that die.

Checkpoints are ours, on the file system that `workdir` is on: a worker that comes back, after its own death, the
driver's or a node's, finds the last one there.
"""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from pathlib import Path
from typing import Any

from glitchflow.cluster import session, threads
from glitchflow.config import Experiment, InputError, RunError
from glitchflow.progress import follow, log
from glitchflow.train import checkpoint
from glitchflow.train.loop import World, prepare, train
from glitchflow.train.tracking import read_metrics

# keys of `train` that may change from one part of a run to the next
FREE = ("epochs", "workers", "threads", "restarts", "checkpoint_every", "keep", "early_stop")


def fit(experiment: Experiment, overwrite: bool = False) -> Path:
    """Train, or go on training, under `workdir/train`; returns the best checkpoint's path.

    Raises `InputError` for settings that do not fit the store, the model, the cluster, or the run found there;
    `RunError` where the loss stopped being finite or the workers kept failing.
    """
    directory = Path(experiment.workdir) / "train"
    if overwrite:
        shutil.rmtree(directory, ignore_errors=True)
    _same_run(experiment, directory)
    # every mistake in the settings shows here, before Ray starts; nothing is read into memory for it
    light = experiment.loader.model_copy(update={"cache_gb": 0})
    progress = prepare(experiment.model_copy(update={"loader": light}), World(rank=-1)).progress
    if progress.epoch < experiment.train.epochs:
        with session(experiment.cluster), follow(directory / "log.txt"):
            _run(experiment, directory)
    found = checkpoint.best(directory / "checkpoints")
    if found is None:
        raise RunError(f"{directory}: no epoch was finished")
    return found


def _run(experiment: Experiment, directory: Path) -> None:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    settings, resources = experiment.train, ray.cluster_resources()
    gpu = settings.device == "gpu" or (
        settings.device == "auto" and resources.get("GPU", 0) >= settings.workers
    )
    needed = {"GPU": settings.workers if gpu else 0, "CPU": settings.workers * settings.threads}
    for name, count in needed.items():
        if resources.get(name, 0) < count:
            raise InputError(
                f"train.workers = {settings.workers}: needs {count} {name}s, the cluster has {resources.get(name, 0):g}"
            )
    trainer = TorchTrainer(
        worker,
        train_loop_config={"experiment": experiment.model_dump(mode="json")},
        scaling_config=ScalingConfig(
            num_workers=settings.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": settings.threads, "GPU": int(gpu)},
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex,  # Ray keeps no state of ours, so every attempt has a name of its own
            storage_path=str((directory / "ray").resolve()),
            failure_config=FailureConfig(max_failures=settings.restarts),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _cause(error) from None
    finally:
        shutil.rmtree(directory / "ray", ignore_errors=True)
    lines = read_metrics(directory / "metrics.jsonl")
    if lines and lines[-1]["kind"] == "failed":
        raise RunError(lines[-1]["reason"])


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
    import ray.train.torch
    import torch
    from torch.nn.parallel import DistributedDataParallel

    experiment = Experiment.model_validate(config["experiment"])
    threads(experiment.train.threads)
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    rank, size = context.get_world_rank(), context.get_world_size()
    journal = Path(experiment.workdir) / "train" / "log.txt"

    def add(value: torch.Tensor) -> torch.Tensor:
        if size > 1:
            torch.distributed.all_reduce(value)
        return value

    def wrap(model: torch.nn.Module) -> torch.nn.Module:
        if size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)

    def report(metrics: dict[str, Any]) -> None:
        ray.train.report(metrics)
        if rank == 0:
            log(journal, _line(metrics, experiment.train.epochs))

    backend = torch.distributed.get_backend() if size > 1 else "no"
    host = f"{socket.gethostname()}, process {os.getpid()}"
    log(
        journal,
        f"worker {rank} of {size} on {host}: {device}, {experiment.train.threads} CPU(s), {backend} backend",
    )
    train(experiment, World(rank, size, device, wrap, add, report))


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
            if before.get(key) != now[key] and not (section == "train" and key in FREE):
                name = f"{section}.{key}".rstrip(".")
                raise InputError(
                    f"{directory}: was begun with {name} = {before.get(key)}, not {now[key]};"
                    " --overwrite it or choose another workdir"
                )
