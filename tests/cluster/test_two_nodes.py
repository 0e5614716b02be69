"""Training over two nodes, each with its own network, processes, address and name; one loses power and comes back."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from glitchflow.train import checkpoint
from glitchflow.train.fit import fit
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
