"""A training run on a Ray cluster: Ray Train starts the workers and replaces those that die.

Checkpoints are ours, on the file system that `workdir` is on: a worker that comes back, after its own death, the
driver's or a node's, finds the last one there.
"""

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

from glitchflow.cluster import affordable, at_hand, joins, one_session, session, threads
from glitchflow.config import Cluster, Experiment, Train
from glitchflow.data import lease
from glitchflow.data.objects import make_directory
from glitchflow.data.store.dataset import open_store
from glitchflow.errors import Died, InputError, RunError
from glitchflow.methods.learnability import Terms, gate
from glitchflow.progress import follow, log, say
from glitchflow.train import checkpoint
from glitchflow.train.begun import as_begun, same_run
from glitchflow.train.loop import train
from glitchflow.train.mlflow_copy import mirrored
from glitchflow.train.setup import Training, check, training_of
from glitchflow.train.stopping import flag_is_up, until_stopped, watch
from glitchflow.train.tracking import read_metrics
from glitchflow.train.workers import World, of_process_group
from glitchflow.twin import kinds
from glitchflow.worker_logs import died

# glibc gives large arrays back to the kernel, which has to clear their pages anew: a sixth of a step on a CPU. Workers
# keep what they once had, up to their peak; the same variables in the driver's environment go first.
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}

LOOK = 60.0  # s between looks at whether there is room for other workers than there are; Ray knows nodes 20 s later


@joins
@one_session()
def fit(experiment: Experiment, overwrite: bool = False) -> Path:
    """Train, or go on training, under `workdir/train`; returns the best checkpoint's path.

    Before anything is trained, and when the settings are known to be right, it says what the dataset can teach.
    Raises `InputError` for settings that do not fit the store, the model, the cluster, or the run found there, and
    for a dataset with nothing to teach; `RunError` where the loss stopped being finite, the workers kept failing, or
    a signal ended the run.
    """
    directory = Path(experiment.workdir) / "train"
    with lease.hold(directory) as still_mine:
        training = training_of(experiment if overwrite else as_begun(experiment, directory))
        if overwrite:
            _keeps_its_origin(training.train, directory)
        else:
            same_run(training, directory)
        dataset = open_store(training.dataset)
        if not check(training, dataset, directory / "none" if overwrite else directory).over(training.train):
            enough(training.train, experiment.cluster)
            if not kinds.of(training.model.name).draws:
                gate(dataset, Terms.of(experiment), directory.with_name("baseline.json"))
            make_directory(directory)  # of what is known to be right: a mistake leaves nothing behind
            with session(experiment.cluster.address, experiment.cluster.cpus):
                gpu = accelerated(training.train)
                for told in filter(None, (fallen(training.train, gpu), lost(training.train))):
                    say(told)
                # an earlier run is deleted when nothing can be wrong any more with what comes in its place
                remove = partial(clear, directory) if overwrite else None
                name = experiment.mlflow.run or Path(experiment.workdir).name
                flag = uuid.uuid4().hex
                work = partial(launch, training, directory, flag, gpu)
                mirror = mirrored(experiment.mlflow, name, training.to_json(), directory, remove)
                with mirror, follow(directory / "log.txt"):
                    until_stopped(work, flag, training.train.grace)
            still_mine()
            ended(directory)
    found = checkpoint.best(directory / "checkpoints")
    if found is None:
        raise RunError(f"{directory}: no epoch was finished")
    if found.name == checkpoint.INITIAL:
        say(f"no epoch was better on the validation split than what it began with, which is kept: {found}")
    return found


def clear(directory: Path) -> None:
    """Delete an earlier run. Directories go out of sight first: a kill leaves no half of them."""
    for path in [path for path in directory.iterdir() if path.is_dir()]:
        path.rename(path.with_name(f".{path.name}.{time.time_ns()}"))
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _keeps_its_origin(settings: Train, directory: Path) -> None:
    """Refuse to delete the checkpoint that the new run is to start from."""
    origin = settings.init_from
    if origin and Path(origin).resolve().is_relative_to(directory.resolve()):
        raise InputError(f"train.init_from = {origin}: --overwrite would delete it; choose another workdir")


def enough(settings: Train, cluster: Cluster) -> None:
    """Raises `InputError` where the cluster can never hold the workers: before anything is waited for, of a Ray that
    would be started here too."""
    if at_hand(cluster.address):
        with session(cluster.address):
            accelerated(settings)
        return
    need, there = settings.threads * settings.fewest, affordable(cluster.cpus)
    if need > there:
        raise InputError(
            f"train.workers = {settings.workers}: needs {need} CPUs, the cluster has {there}, which is this machine"
        )


def accelerated(settings: Train) -> bool:
    """Whether the workers get a GPU each. Raises `InputError` where the cluster can never hold them."""
    import ray

    total = ray.cluster_resources()
    gpu = settings.device == "gpu" or (settings.device == "auto" and total.get("GPU", 0) >= settings.fewest)
    need = resources(settings, gpu)
    for name, count in need.items():
        if total.get(name, 0) < count * settings.fewest:
            raise InputError(
                f"train.workers = {settings.workers}: needs {count * settings.fewest} {name}s,"
                f" the cluster has {total.get(name, 0):g}"
            )
    if room(need) < settings.fewest:
        raise InputError(
            f"train.workers = {settings.workers}: needs {settings.fewest} times"
            f" {' and '.join(f'{count} {name}s' for name, count in need.items())} on one node each,"
            f" the cluster's nodes hold {room(need)}"
        )
    return gpu


def fallen(settings: Train, gpu: bool) -> str:
    """Says where `train.device` is auto and GPUs are there, and CPUs are taken; empty elsewhere."""
    import ray

    there = ray.cluster_resources().get("GPU", 0)
    if gpu or not there or settings.device != "auto":
        return ""
    return (
        f"train.device = auto: the workers get CPUs, since the cluster has {there:g} GPU(s) for train.workers ="
        f" {settings.workers}"
    )


def lost(settings: Train) -> str:
    """Says what each change of the number of workers costs, where nobody said how little it may; empty elsewhere."""
    if settings.checkpoint_every or settings.range[0] == settings.range[1]:
        return ""
    return (
        f"train.workers = {settings.workers}: where their number changes training goes on from the last checkpoint,"
        " that of an epoch's end; train.checkpoint_every=600s makes more of them"
    )


def resources(settings: Train, gpu: bool) -> dict[str, int]:
    """What each worker reserves."""
    return {"CPU": settings.threads} | ({"GPU": 1} if gpu else {})


def room(need: dict[str, int]) -> int:
    """How many workers of that need the nodes that are alive could hold if they were idle."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(min(int(node.get(name, 0) // count) for name, count in need.items()) for node in nodes)


def launch(training: Training, directory: Path, flag: str, gpu: bool) -> None:
    """Train under `directory` on `train.workers` Ray Train workers until they are done, or the flag goes up.

    Workers that died `train.restarts` times begin again, as often, if there is a new checkpoint since they began:
    nodes that are taken away all day end no run.
    """
    config = {"training": training, "directory": directory, "flag": flag}
    while True:
        before = checkpoint.by_step(directory / "checkpoints")[-1:]
        try:
            return run_workers(worker, config, training.train, directory, gpu)
        except Died as error:
            last = checkpoint.by_step(directory / "checkpoints")[-1:]
            if last == before or not training.train.restarts or flag_is_up(flag):
                raise
            log(directory / "log.txt", f"{error}; workers begin again, from {last[0]}")


def run_workers(
    function: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    settings: Train,
    directory: Path,
    gpu: bool,
) -> None:
    """Run a function on Ray Train workers; those that die are replaced, `train.restarts` times at most, and of a pair
    of numbers there are as many as the nodes have room for: Ray Train stops them all, and starts others, once nodes
    have come or gone.

    Raises the workers' own error where it is one of ours, else `RunError`, which names a file in the directory.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from glitchflow.train.group import Group

    few, most = settings.range
    elastic: dict[str, Any] = {"elastic_resize_monitor_interval_s": LOOK} if few < most else {}
    scratch = directory / "ray"  # Ray keeps no state of ours, so every attempt has a name of its own
    trainer = TorchTrainer(
        function,
        train_loop_config=config,
        torch_config=Group(timeout_s=settings.timeout),  # type: ignore[arg-type]  # seconds
        scaling_config=ScalingConfig(
            num_workers=(few, most) if elastic else few,  # type: ignore[arg-type]  # the stubs are those of Train V1
            use_gpu=gpu,
            resources_per_worker=resources(settings, gpu),
            **elastic,
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=str(scratch.resolve()),
            failure_config=FailureConfig(max_failures=settings.restarts),
            worker_runtime_env={  # type: ignore[call-arg]  # likewise
                "env_vars": {name: os.environ.get(name, value) for name, value in ALLOCATOR.items()}
            },
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _cause(error, directory) from None
    except ray.exceptions.RayActorError as error:  # of the one that Ray Train watches over workers with
        raise died("the controller of the training died", error, 0, directory) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def ended(directory: Path) -> None:
    """Raises `RunError` where the run's last word is that it failed or was stopped."""
    last = next(iter(read_metrics(directory / "metrics.jsonl")[-1:]), {"kind": ""})
    if last["kind"] == "stopped":
        raise RunError(f"{last['reason']}; the same command goes on from there")
    if last["kind"] == "failed":
        raise RunError(last["reason"])


def _cause(error: Exception, directory: Path) -> Exception:
    """A worker's own error of ours where there is one, else one line of Ray's, and the file that has the rest."""
    for failure in getattr(error, "worker_failures", {}).values():
        while failure is not None:
            if isinstance(failure, (InputError, RunError)):
                return failure
            failure = getattr(failure, "cause", None) or failure.__cause__
    return died("the training workers failed", error, -1, directory)


def worker(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs: the loop, with this process's place in the world."""
    import ray.train

    training, directory = config["training"], config["directory"]
    settings, journal = training.train, directory / "log.txt"
    world = join(settings)

    def report(metrics: dict[str, Any]) -> None:
        ray.train.report(metrics)
        if world.rank == 0:
            log(journal, _line(metrics, settings.epochs))

    backend = torch.distributed.get_backend() if world.size > 1 else "no"
    log(
        journal,
        f"worker {world.rank} of {world.size} on {socket.gethostname()}, process {os.getpid()}: {world.where},"
        f" {settings.threads} CPU(s), {backend} backend",
    )
    stop = watch(config["flag"]) if world.rank == 0 else world.stop
    train(training, directory, replace(world, report=report, say=partial(log, journal), stop=stop))


def join(settings: Train) -> World:
    """The world that Ray Train put this process in, with the device it gave."""
    import ray.train.torch

    threads(settings.threads)
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # what does not say where it is to be, or it would be on the first
    return of_process_group(device)


def _line(metrics: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {metrics['epoch'] + 1}/{epochs}: loss {metrics['loss']:.4f}, validation"
        f" {metrics['validation_loss']:.4f}, {metrics['samples_per_second']:.0f} events/s"
    )
