"""Training over two nodes, each with its own network, processes, address and name; one loses power and comes back."""

import os
import shutil
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

SCRIPT = Path(__file__).with_name("fakenodes.sh")
RAY = Path(sys.executable).with_name("ray")
HEAD = "10.77.0.1:6379"
QUICK = {  # a dead node is noticed in seconds
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Nodes:
    """Hosts of one's own, and Ray on them. Whatever runs there ends with their namespaces."""

    def __init__(self, directory: Path):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        own = {"GF_DIR": str(directory), "GF_PREFIX": f"gft{os.getpid() % 10000}-"}
        self.environment = kept | own | QUICK | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        self.environment["GLOO_SOCKET_IFNAME"] = "eth0"

    def script(self, *words: str) -> None:
        subprocess.run(["bash", str(SCRIPT), *words], env=self.environment, check=True, capture_output=True)

    def start(self, node: int, *command: str) -> subprocess.Popen:
        line = ["bash", str(SCRIPT), "sh", str(node), *command]
        pipe = subprocess.PIPE
        return subprocess.Popen(line, env=self.environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)

    def ray(self, node: int) -> None:
        """Ray with one CPU on a node; returns when it runs."""
        where = (
            ["--head", "--port", "6379", "--include-dashboard=false"] if node == 1 else ["--address", HEAD]
        )
        size = [
            "--num-cpus",
            "1",
            "--object-store-memory",
            "100000000",
            "--node-ip-address",
            f"10.77.0.{node}",
        ]
        started = self.start(node, str(RAY), "start", *where, *size)
        text, _ = started.communicate(timeout=120)
        assert started.returncode == 0, text


@pytest.fixture
def nodes(tmp_path):
    missing = [tool for tool in ("ip", "nsenter", "unshare", "pgrep") if not shutil.which(tool)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"hosts of one's own need root and {', '.join(missing) or 'nothing else'}")
    made = Nodes(tmp_path / "nodes")
    try:
        made.script("up", "2")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()[-200:]}")
    yield made
    made.script("down")


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
