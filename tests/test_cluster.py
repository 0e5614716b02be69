"""Ray for the length of a block: what an embedded one is like, and what a wrong address answers."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ray

from glitchflow import cluster, ray_join
from glitchflow.errors import InputError, RunError

EMBEDDED = """
import json, os, sys
from pathlib import Path
from glitchflow.cluster import one_session, session

with one_session():
    with session(cpus=1):
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
            "files": ray._private.worker.global_worker.node.get_session_dir_path(),
            "ways": {str(p): p.stat().st_mode & 0o777 for p in Path(os.environ["TMPDIR"]).iterdir()},
        }
    with session(cpus=1):
        found["again"] = ray._private.worker.global_worker.node.get_session_dir_path()
found["after"] = ray.is_initialized()
print(json.dumps(found))
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=kept | environment, timeout=120
    )


DIRECTORY = "from glitchflow.cluster import _private; print(_private(), flush=True); input()"


@pytest.fixture
def temporary():
    """A directory of a name so short that Ray's sockets can lie under it."""
    with tempfile.TemporaryDirectory(prefix="gf-") as directory:
        yield Path(directory)


@pytest.mark.ci
def test_an_embedded_ray_admits_nobody_else_and_leaves_nothing(tmp_path, temporary):
    """Nor does it follow the address that a `ray start` leaves in its directory where it is killed, and it is the same
    with Ray's own word for none."""
    (temporary / "ray").mkdir()
    (temporary / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    done = run(EMBEDDED, HOME=str(tmp_path), TMPDIR=str(temporary), RAY_ADDRESS="local")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["cpus"] == 1
    assert found["dashboard"] == ""
    assert (found["mode"], found["length"], found["usage"]) == ("token", 64, "0")
    assert stat.S_IMODE(found["bits"]) == 0o600
    assert found["again"] == found["files"], "one Ray for both blocks"
    assert found["after"] is False
    assert not Path(found["token"]).exists()
    assert not list(tmp_path.rglob("*token*")), (
        "nothing in the user's home that would change other Ray clusters"
    )
    del found["ways"][str(temporary / "ray")]
    ((way, mode),) = found["ways"].items()
    assert found["files"].startswith(f"{way}/")
    assert mode == 0o700, "Ray lets everybody into its own directory"
    assert list(temporary.iterdir()) == [temporary / "ray"]


def test_what_a_killed_run_left_is_removed_and_what_another_uses_is_not(temporary):
    def start() -> tuple[subprocess.Popen, Path]:
        line, pipe = [sys.executable, "-c", DIRECTORY], subprocess.PIPE
        environment = os.environ | {"TMPDIR": str(temporary)}
        started = subprocess.Popen(line, env=environment, stdin=pipe, stdout=pipe, text=True)
        return started, Path(started.stdout.readline().strip())

    (killed, left), (living, used) = start(), start()
    (left / "r" / "sockets").mkdir(parents=True)
    killed.kill()
    killed.wait()
    assert left.exists() and used.exists()
    other, own = start()
    assert set(temporary.iterdir()) == {used, own}
    for process in (living, other):
        process.communicate("\n", timeout=60)
    assert list(temporary.iterdir()) == []


def test_a_ray_that_cannot_start_says_why_and_where(tmp_path):
    long = tmp_path / ("long" * 20)
    done = run(EMBEDDED, RAY_TMPDIR=str(long))
    said = f"no directory for Ray's files can be made in {long}: No such file or directory"
    assert done.stderr.splitlines()[-1] == f"glitchflow.errors.RunError: {said}"
    long.mkdir()
    done = run(EMBEDDED, RAY_TMPDIR=str(long))
    assert "Ray could not start on this machine: " in done.stderr
    assert "AF_UNIX path length cannot exceed 107 bytes" in done.stderr
    (left,) = long.iterdir()
    assert done.stderr.endswith(f"(its files: {left}/r)\n")
    assert (left / "r" / "session_latest" / "logs").is_dir()


def test_a_ray_that_runs_is_joined_and_left_running(ray_session):
    import ray

    assert cluster.at_hand("")
    with cluster.session(cpus=1):
        assert ray.cluster_resources()["CPU"] == 2
    assert ray.is_initialized()


def test_a_ray_is_at_hand_where_it_runs_or_is_named(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    assert not cluster.at_hand("")
    assert cluster.at_hand("head:6379")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert cluster.at_hand("")
    monkeypatch.setenv("RAY_ADDRESS", "local")  # Ray's word for one of its own
    assert not cluster.at_hand("")
    assert cluster.named_address("") == cluster.named_address("local") == ""


@pytest.mark.parametrize(
    ("groups", "files", "found"),
    [
        ("0::/", {"memory.max": "1000000000"}, 1e9),
        (
            "0::/slurm/job_7/step_0",
            {"slurm/job_7/memory.max": "2000000000", "slurm/job_7/step_0/memory.max": "max"},
            2e9,
        ),
        ("9:cpu:/a\n4:memory:/a", {"memory/a/memory.limit_in_bytes": "3000000000", "a/memory.max": "5"}, 3e9),
        ("4:memory:/host/only", {"memory/memory.limit_in_bytes": "3500000000"}, 35e8),
        ("0::/x", {}, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
    ],
)
def test_a_jobs_memory_is_what_its_control_groups_grant(tmp_path, monkeypatch, groups, files, found):
    (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    monkeypatch.setattr(cluster, "CGROUPS", str(tmp_path / "cgroup"))
    monkeypatch.setattr(cluster, "CGROUP_ROOT", str(tmp_path / "root"))
    assert cluster.available_memory() == found


def test_no_more_cpus_than_memory_is_enough_for(monkeypatch, capsys):
    monkeypatch.setattr(cluster, "available_cpus", lambda: 4)
    monkeypatch.setattr(cluster, "available_memory", lambda: 10**10)
    assert (cluster.affordable(None), cluster.affordable(8)) == (4, 8)
    monkeypatch.setattr(cluster, "available_memory", lambda: 10**9)
    assert cluster.affordable(None) == 1
    assert capsys.readouterr().err == "1.00 GB of memory is enough for 1 of 4 CPUs, 0.43 GB for each\n"
    with pytest.raises(RunError) as error:
        cluster.affordable(2)
    assert str(error.value) == (
        "cluster.cpus = 2: takes 1.29 GB, a process for each and this one, and 1.00 GB is what they may hold; give the"
        " job more memory, or fewer cluster.cpus"
    )
    monkeypatch.setattr(cluster, "available_memory", lambda: 5 * 10**8)
    with pytest.raises(
        RunError, match=r"^cluster.cpus = 1: takes 0.86 GB, .* 0.50 GB .*; give the job more memory$"
    ):
        cluster.affordable(None)


def test_a_mode_that_the_user_chose_stays(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    cluster._token()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host.invalid:6379"])
def test_an_address_where_nobody_answers(address):
    with pytest.raises(RunError, match=f"^cluster.address = {address}: cannot join a Ray cluster there: "):
        ray_join.join(address)


@pytest.mark.parametrize(
    "address, more",
    [
        ("head", ""),
        ("10.0.0.9", ""),
        (":6379", ""),
        ("ray://10.0.0.9", ""),
        (
            "http://10.0.0.9:8265",
            ", where http:// is its dashboard, which `glitchflow submit` takes",
        ),
    ],
)
def test_an_address_of_another_form_is_told_which_one_is_meant(address, more):
    said = (
        f"cluster.address (or RAY_ADDRESS) = {address}: a stage joins a Ray at HOST:PORT of its head, as"
        f" 127.0.0.1:6379{more}"
    )
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        ray_join.join(address)


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


def test_shared_memory_that_ray_cannot_use_is_named(tmp_path, monkeypatch, capsys):
    assert cluster._objects() is None, "there is enough on this machine"
    monkeypatch.setattr(cluster, "SHARED", str(tmp_path / "shm"))  # nothing there: as where it is read-only
    assert cluster._objects() == str(cluster._private())
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(cluster, "LEAST", shutil.disk_usage(tmp_path).free * 2)
    assert cluster._objects() == str(cluster._private())
    first, second = capsys.readouterr().err.splitlines()
    where = f"; Ray's objects are files below {cluster._private()}, which is slower"
    assert first == f"{tmp_path}/shm: cannot be written to{where}"
    assert "shm: has " in second and second.endswith(where)


def test_a_signal_while_ray_starts_is_one_as_at_any_other_time(monkeypatch):
    """Ray's own handler, until ours is back, ends the process with status 15 and says nothing."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: sys.exit(15))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), cluster.session():
        pytest.fail("begun")
    assert signal.getsignal(signal.SIGTERM) is before
