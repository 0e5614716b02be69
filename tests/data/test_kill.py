"""Power cuts: kill -9 of the driver, of a worker, of the raylet, at times spread over a run, each seven times.

Slow; a process is only ever killed when it is a descendant of the run that the test itself started.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import descendants, missing_shards, small

from glitchflow.data.store import dataset as store

EVENTS, ROUNDS = 1536, 7
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def array_bytes(path: Path) -> dict[str, str]:
    files = [f for f in sorted(path.rglob("*")) if f.is_file() and f.name not in ("zarr.json", ".lease.json")]
    return {str(f.relative_to(path)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def start(workdir: Path) -> subprocess.Popen:
    simulate = small(workdir).simulate.model_dump(mode="json") | {"events": EVENTS}
    experiment = small(workdir, simulate=simulate, cluster={"cpus": 2})
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "x.yaml").write_text(experiment.model_dump_json())
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    command = [str(Path(sys.executable).parent / "glitchflow"), "generate", str(workdir / "x.yaml")]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def victim(running: subprocess.Popen, kind: str) -> int | None:
    if kind == "driver":
        return running.pid
    words = {"worker": "ray::", "raylet": "raylet/raylet"}[kind]
    return next((pid for pid, line in descendants(running.pid) if words in line), None)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The array bytes, and how long making them took from the first shard to the last."""
    workdir = tmp_path_factory.mktemp("whole")
    running = start(workdir)
    path, first, last, made = workdir / "dataset.zarr", 0.0, 0.0, 0
    while running.poll() is None:
        count = len(list((path / ".done").glob("*.json")))
        if count > made:
            first, last, made = first or time.monotonic(), time.monotonic(), count
        time.sleep(0.01)
    assert running.returncode == 0, running.stderr.read()
    assert store.open_store(path).layout.shards >= 16
    return array_bytes(path), last - first


@pytest.mark.parametrize("kind", ["driver", "worker", "raylet"])
def test_killed_runs_resume_to_the_same_bytes(undisturbed, tmp_path, kind):
    expected, seconds = undisturbed
    killed_inside = 0
    for i in range(ROUNDS):
        workdir = tmp_path / str(i)
        running = start(workdir)
        path = workdir / "dataset.zarr"
        while not (path / ".done").exists() and running.poll() is None:
            time.sleep(0.01)
        time.sleep(0.8 * seconds * i / ROUNDS)
        pid = victim(running, kind)
        if pid is not None and running.poll() is None:
            os.kill(pid, signal.SIGKILL)
            killed_inside += bool(missing_shards(path))
        left = [child for child, _ in descendants(running.pid)] if kind == "driver" else []
        running.wait(timeout=300)
        for child in left:  # what a killed driver leaves of its Ray ends by itself, but slowly
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        again = start(workdir)
        errors = again.communicate(timeout=300)[1]
        assert again.returncode == 0, errors
        assert array_bytes(path) == expected, f"round {i}"
    assert killed_inside >= ROUNDS - 2, "too few were killed before they were done"
