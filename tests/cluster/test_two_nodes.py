"""Training over nodes that come and go, each with its own network, processes, address and name."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from glitchflow.train import checkpoint
from glitchflow.train.fit import fit
from glitchflow.train.loop import train
from glitchflow.train.setup import training_of
from glitchflow.train.tracking import read_metrics

HEAD = "10.77.0.1:6379"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def wait_for_step(home: Path, step: int, driver: subprocess.Popen, seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = checkpoint.by_step(home / "checkpoints")
        if found and int(found[-1].name.removeprefix("step-")) >= step:
            return
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.05)
    raise TimeoutError(f"no checkpoint of step {step}")


def test_a_node_that_is_lost_and_comes_back_changes_nothing(nodes, dataset_run, tmp_path):
    changes = {"epochs": 40, "checkpoint_every": 5, "restarts": 20}
    train = dataset_run.train.model_copy(update=changes)
    runs = {}
    for name in ("two-nodes", "here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.zarr").symlink_to(dataset_run.dataset)
        runs[name] = dataset_run.model_copy(update={"workdir": str(tmp_path / name), "train": train})
    fit(runs["here"])

    for node in (1, 2):
        nodes.ray(node)
    file, home = tmp_path / "config.yaml", tmp_path / "two-nodes" / "train"
    file.write_text(yaml.safe_dump(runs["two-nodes"].model_dump(mode="json")))
    main = "from glitchflow.cli import main; main()"
    driver = nodes.start(1, sys.executable, "-c", main, "train", str(file), "--address", HEAD)
    wait_for_step(home, 60, driver)
    nodes.script("crash", "2")
    at = checkpoint.find(home / "checkpoints", "last").step
    nodes.script("boot", "2")
    nodes.ray(2)
    text, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, text

    log = (home / "log.txt").read_text()
    assert " on node1, " in log
    assert log.count(" on node2, ") >= 2, log
    assert "gloo backend" in log
    last = {name: checkpoint.find(tmp_path / name / "train" / "checkpoints", "last") for name in runs}
    assert at < last["here"].step == last["two-nodes"].step
    for key, value in last["here"].weights().items():
        assert torch.equal(value, last["two-nodes"].weights()[key]), key
    curves = {
        name: [
            x["validation_loss"]
            for x in read_metrics(tmp_path / name / "train" / "metrics.jsonl")
            if x["kind"] == "epoch"
        ]
        for name in runs
    }
    assert curves["two-nodes"] == curves["here"]


def test_workers_come_and_go_with_their_nodes(nodes, dataset_run, tmp_path):
    """As many as there is room for, with the batches of one; at last the head goes, and one worker ends the run."""
    changes = {
        "workers": [1, 2],
        "epochs": 100_000,
        "checkpoint_every": 5,
        "precision": "float64",
        "samples": 0,
    }
    changes |= {"early_stop": None, "schedule": "constant", "loss": "helpers:unhurried"}
    settings = dataset_run.train.model_copy(update=changes)
    (tmp_path / "dataset.zarr").symlink_to(dataset_run.dataset)
    run = dataset_run.model_copy(update={"workdir": str(tmp_path), "train": settings})
    file, home = tmp_path / "config.yaml", tmp_path / "train"
    file.write_text(yaml.safe_dump(run.model_dump(mode="json")))
    nodes.environment["GLITCHFLOW_TEST_PAUSE"] = "0.2"
    # Ray learns of a node that is gone after it has tried to use it
    nodes.environment["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "10"
    nodes.ray(1)
    main = "import glitchflow.train.fit as f; f.LOOK = 1.0; from glitchflow.cli import main; main()"
    driver = nodes.start(1, sys.executable, "-c", main, "train", str(file), "--address", HEAD)

    def wait_for(words: str, count: int) -> int:
        """Wait until the log has said so often, and the run has got on since; return its step."""
        until = time.monotonic() + 240
        while time.monotonic() < until:
            if (
                home.joinpath("log.txt").exists()
                and home.joinpath("log.txt").read_text().count(words) >= count
            ):
                at = checkpoint.by_step(home / "checkpoints")
                wait_for_step(home, 10 + int(at[-1].name.removeprefix("step-")) if at else 5, driver)
                return int(checkpoint.by_step(home / "checkpoints")[-1].name.removeprefix("step-"))
            assert driver.poll() is None, driver.communicate()[0]
            time.sleep(0.1)
        raise TimeoutError(f"{words}: not {count} times in the log: {home.joinpath('log.txt').read_text()}")

    steps = [wait_for("worker 0 of 1 on node1, ", 1)]
    nodes.ray(2)
    steps.append(wait_for("worker 1 of 2 on ", 1))
    nodes.script("crash", "2")
    steps.append(wait_for("worker 0 of 1 on node1, ", 2))
    nodes.script("boot", "2")
    nodes.ray(2)
    steps.append(wait_for("worker 1 of 2 on ", 2))
    nodes.script("crash", "1")
    driver.communicate(timeout=60)
    assert steps == sorted({*steps})

    last = checkpoint.find(home / "checkpoints", "last")
    whole = settings.model_copy(update={"epochs": last.meta.epoch + 1})
    training = training_of(run.model_copy(update={"train": whole}))
    ends = []
    for where in (home, tmp_path / "one"):
        train(training, where)
        ends.append(checkpoint.find(where / "checkpoints", "last"))
    assert ends[0].step == ends[1].step
    for key, value in ends[1].weights().items():
        torch.testing.assert_close(ends[0].weights()[key], value, rtol=1e-6, atol=1e-8)
    losses = [
        [line["loss"] for line in read_metrics(where / "metrics.jsonl") if line["kind"] == "epoch"]
        for where in (home, tmp_path / "one")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
