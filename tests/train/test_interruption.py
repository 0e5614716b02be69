"""Runs that are stopped, killed and continued end with the bits of one that was left alone.

The loop's own part of it is tested without Ray (test_loop.py); here are signals, dead workers and dead drivers.
"""

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from helpers import beyond_loopback, command, listeners
from two_workers import train_on_two

from glitchflow.config import Experiment
from glitchflow.errors import RunError
from glitchflow.train import checkpoint
from glitchflow.train.fit import fit
from glitchflow.train.setup import training_of
from glitchflow.train.tracking import read_metrics

EPOCHS = 14


@pytest.fixture(scope="module")
def undisturbed(dataset_run: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A run on two workers that nobody touches."""
    experiment = on_the_same_data(dataset_run, tmp_path_factory.mktemp("undisturbed"))
    train_on_two(training_of(experiment), home(experiment))
    return experiment


def on_the_same_data(experiment: Experiment, directory: Path, **train) -> Experiment:
    (directory / "dataset.zarr").symlink_to(experiment.dataset.resolve())
    settings = {"epochs": EPOCHS, "checkpoint_every": 5, "early_stop": None} | train
    return experiment.model_copy(
        update={"workdir": str(directory), "train": experiment.train.model_copy(update=settings)}
    )


def home(experiment: Experiment) -> Path:
    return Path(experiment.workdir) / "train"


def same_end(one: Experiment, other: Experiment) -> None:
    """The same weights and the same validation losses, bit for bit."""
    a, b = (checkpoint.find(home(e) / "checkpoints", "last") for e in (one, other))
    assert a.step == b.step
    for name, value in a.weights().items():
        assert torch.equal(value, b.weights()[name]), name
    assert validation_losses(one) == validation_losses(other)


def validation_losses(experiment: Experiment) -> list[float]:
    lines = read_metrics(home(experiment) / "metrics.jsonl")
    return [line["validation_loss"] for line in lines if line["kind"] == "epoch"]


def wait_for_step(experiment: Experiment, step: int, seconds: float = 280) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = checkpoint.by_step(home(experiment) / "checkpoints")
        if found and int(found[-1].name.removeprefix("step-")) >= step:
            return
        time.sleep(0.02)
    raise TimeoutError(f"no checkpoint of step {step} within {seconds} s")


def when_at(experiment: Experiment, step: int, act) -> None:
    def wait() -> None:
        wait_for_step(experiment, step)
        act()

    threading.Thread(target=wait, daemon=True).start()


def worker_processes(experiment: Experiment) -> dict[int, int]:
    """Process of each rank, as the log says; the last to have had it."""
    found = re.findall(
        r"worker (\d+) of \d+ on \S+, process (\d+)", (home(experiment) / "log.txt").read_text()
    )
    return {int(rank): int(process) for rank, process in found}


@pytest.mark.ci
def test_a_killed_worker_is_replaced_a_signal_ends_the_run_at_a_checkpoint_and_it_goes_on(
    undisturbed, tmp_path, capsys
):
    """All that only Ray Train can show, in one launch of it: its workers do what the loop does without it."""
    experiment = on_the_same_data(undisturbed, tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=kill_worker_1_and_stop, args=(experiment,), daemon=True).start()
    with (
        listeners() as found,
        pytest.raises(RunError, match=r"stopped after step \d+, with a checkpoint; the same command goes on"),
    ):
        fit(experiment)
    assert any("RayTrainWorker" in name for name, _ in found)
    assert beyond_loopback(found) == []
    assert signal.getsignal(signal.SIGTERM) == before
    assert "SIGTERM: stopping at a checkpoint, within 60 s" in capsys.readouterr().err
    log = (home(experiment) / "log.txt").read_text()
    assert log.count("worker 0 of 2 on ") == log.count("worker 1 of 2 on ") == 2
    assert log.count("gloo backend") == log.count(": train split in memory, ") == 4
    assert "epoch 2/14: loss " in log
    assert not (home(experiment) / "ray").exists(), "Ray leaves nothing behind"
    last = read_metrics(home(experiment) / "metrics.jsonl")[-1]
    assert last["kind"] == "stopped"
    assert checkpoint.find(home(experiment) / "checkpoints", "last").step == last["step"]
    train_on_two(training_of(experiment), home(experiment))
    same_end(experiment, undisturbed)


def kill_worker_1_and_stop(experiment: Experiment) -> None:
    wait_for_step(experiment, 20)
    first = worker_processes(experiment)[1]
    os.kill(first, signal.SIGKILL)
    while worker_processes(experiment)[1] == first:
        time.sleep(0.02)
    wait_for_step(experiment, 40)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_the_signal_of_a_batch_system_before_the_walltime(undisturbed, tmp_path):
    experiment = on_the_same_data(undisturbed, tmp_path, checkpoint_every=0)
    when_at(experiment, 30, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    with pytest.raises(RunError, match=r"stopped after step \d+, with a checkpoint"):
        fit(experiment)
    fit(experiment)
    same_end(experiment, undisturbed)


@pytest.mark.slow
def test_workers_that_keep_failing_end_the_run_in_one_line(undisturbed, tmp_path):
    experiment = on_the_same_data(undisturbed, tmp_path, restarts=0, loss="helpers:killed_on_rank_1")
    reason = "The actor is dead because its worker process has died"
    file = home(experiment) / "workers.log"
    with pytest.raises(
        RunError, match=f"^the training workers failed: {reason}; what they said is in {file}$"
    ):
        fit(experiment)
    text = file.read_text()
    assert "[Rank 1 Error Snippet]:" in text and "world_rank=1" in text, "all that Ray says of it"
    assert re.search(r"^--- \S+: worker-\S+\.err$", text, flags=re.M)


@pytest.mark.slow
def test_a_killed_driver_goes_on_when_the_command_is_given_again(undisturbed, tmp_path):
    experiment = on_the_same_data(undisturbed, tmp_path)
    first = command(experiment, "train")
    wait_for_step(experiment, 40)
    workers = worker_processes(experiment).values()
    first.kill()
    first.wait()
    assert all(gone(process) for process in workers), "workers outlive their driver"
    second = command(experiment, "train")
    assert second.wait(timeout=200) == 0, second.stderr.read()
    same_end(experiment, undisturbed)


def gone(process: int, seconds: float = 30) -> bool:
    for _ in range(int(seconds / 0.2)):
        if not Path(f"/proc/{process}").exists():
            return True
        time.sleep(0.2)
    return False


@pytest.mark.slow
def test_the_command_ends_in_one_line_after_sigterm(undisturbed, tmp_path):
    experiment = on_the_same_data(undisturbed, tmp_path, epochs=500)
    running = command(experiment, "train")
    wait_for_step(experiment, 20)
    running.terminate()
    assert running.wait(timeout=60) == 1
    assert running.stderr.read().splitlines()[-1].startswith("glitchflow: stopped after step ")
