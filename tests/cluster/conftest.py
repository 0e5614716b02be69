"""Hosts of one's own for the tests of clusters."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fakenodes.sh")
RAY = Path(sys.executable).with_name("ray")
HEAD = "10.77.0.1:6379"
QUICK = {  # a dead node is noticed in seconds
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


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


@contextlib.contextmanager
def hosts(directory: Path):
    missing = [tool for tool in ("ip", "nsenter", "unshare", "pgrep") if not shutil.which(tool)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"hosts of one's own need root and {', '.join(missing) or 'nothing else'}")
    made = Nodes(directory)
    try:
        made.script("up", "2")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()[-200:]}")
    try:
        yield made
    finally:
        made.script("down")


@pytest.fixture
def nodes(tmp_path):
    with hosts(tmp_path / "nodes") as made:
        yield made


@pytest.fixture(scope="module")
def shared_nodes(tmp_path_factory):
    """For tests that leave them as they found them."""
    with hosts(tmp_path_factory.mktemp("shared") / "nodes") as made:
        yield made
