"""Ray for the length of a block: what an embedded one is like, and what a wrong address answers."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from glitchflow import cluster
from glitchflow.config import RunError
from glitchflow.config.schema import Cluster

EMBEDDED = """
import json, os, sys
from pathlib import Path
from glitchflow.cluster import session
from glitchflow.config.schema import Cluster
with session(Cluster(cpus=1)):
    import ray
    task = ray.remote(lambda: dict(os.environ))
    found = {
        "cpus": ray.cluster_resources()["CPU"],
        "dashboard": ray._private.worker.global_worker.node.webui_url or "",
        "mode": os.environ["RAY_AUTH_MODE"],
        "token": os.environ["RAY_AUTH_TOKEN_PATH"],
        "bits": Path(os.environ["RAY_AUTH_TOKEN_PATH"]).stat().st_mode,
        "length": len(Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()),
        "usage": ray.get(task.remote())["RAY_USAGE_STATS_ENABLED"],
    }
found["after"] = ray.is_initialized()
print(json.dumps(found))
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=kept | environment, timeout=120
    )


def test_an_embedded_ray_admits_nobody_else_and_leaves_nothing(tmp_path):
    done = run(EMBEDDED, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["cpus"] == 1
    assert found["dashboard"] == ""
    assert (found["mode"], found["length"], found["usage"]) == ("token", 64, "0")
    assert stat.S_IMODE(found["bits"]) == 0o600
    assert found["after"] is False
    assert not Path(found["token"]).exists()
    assert not list(tmp_path.rglob("*token*")), (
        "nothing in the user's home that would change other Ray clusters"
    )


def test_an_address_that_another_ray_left_behind_is_not_followed():
    """As `ray start` leaves it in its directory, and does not remove where it was killed."""
    with tempfile.TemporaryDirectory(prefix="gf-") as directory:  # short: Ray's sockets live under it
        (Path(directory) / "ray").mkdir()
        (Path(directory) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        done = run(EMBEDDED, RAY_TMPDIR=directory)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["cpus"] == 1


def test_a_ray_that_runs_is_joined_and_left_running(ray_session):
    import ray

    with cluster.session(Cluster(cpus=1)):
        assert ray.cluster_resources()["CPU"] == 2
    assert ray.is_initialized()


def test_a_mode_that_the_user_chose_stays(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    cluster._token()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host.invalid:6379"])
def test_an_address_where_nobody_answers(address):
    began = time.monotonic()
    with pytest.raises(RunError, match=f"^cluster.address = {address}: cannot join a Ray cluster there: "):
        cluster._join(address)
    assert time.monotonic() - began < 15


def test_cpus_are_those_of_this_process_not_of_the_machine():
    code = (
        "import os; from glitchflow.cluster import available_cpus\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(available_cpus())"
    )
    assert run(code).stdout == "1\n"
    assert cluster.available_cpus() == len(os.sched_getaffinity(0))


def test_threads():
    import torch

    before = torch.get_num_threads()
    try:
        cluster.threads(before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
