"""A token-protected cluster of two nodes, started by launch/ray.sh: who is let in, jobs on it, doctor's eye for it."""

import contextlib
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from helpers import small

from glitchflow.data.store import dataset as store
from glitchflow.train import checkpoint

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
HEAD = "10.77.0.1:6379"
DASHBOARD = "http://127.0.0.1:8265"
JOIN = f"import ray; ray.init(address='{HEAD}'); print('joined', len(ray.nodes()))"
WHERE = f"""
import ray
ray.init(address={HEAD!r})
print("directory:", ray._private.worker.global_worker.node.get_session_dir_path())
"""
ASK = """
import sys, urllib.request, urllib.error
try:
    print(urllib.request.urlopen(sys.argv[1] + "/api/jobs/", timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError as error:
    print(error.reason)
"""
# asks every port that something listens on, over HTTP and with one method of each of Ray's gRPC services
KNOCK = """
import http.client, json, subprocess, sys
import grpc
METHODS = (
    "NodeInfoGcsService/GetAllNodeInfo", "InternalKVGcsService/InternalKVKeys", "JobInfoGcsService/GetAllJobInfo",
    "NodeManagerService/RequestWorkerLease", "NodeManagerService/GetNodeStats", "ObjectManagerService/Pull",
    "CoreWorkerService/PushTask", "CoreWorkerService/Exit", "RayletDriver/KVGet", "ReporterService/ReportMetrics",
    "LogService/ListLogs",
)
def web(host, port):
    connection = http.client.HTTPConnection(host, port, timeout=3)
    try:
        connection.request("GET", "/api/jobs/")
        answer = connection.getresponse()
        return "metrics" if answer.read(6) == b"# HELP" else str(answer.status)
    except (OSError, http.client.HTTPException):
        return ""
def call(channel, method):
    try:
        channel.unary_unary(f"/ray.rpc.{method}")(b"", timeout=3)
        return "OK"
    except grpc.RpcError as error:
        return error.code().name
found = {}
for line in subprocess.run(["ss", "-Hltn"], capture_output=True, text=True).stdout.splitlines():
    host, _, port = line.split()[3].rpartition(":")  # the local address
    host = host if host[0].isdigit() and host != "0.0.0.0" else sys.argv[1]
    codes = set()
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for method in METHODS:
            codes.add(call(channel, method))
            if codes == {"UNAVAILABLE"}:
                break
    found[port] = sorted((codes | {web(host, int(port))}) - {"", "UNAVAILABLE"})
print("ports:", json.dumps(found))
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def said(text: str, word: str) -> str:
    """What a program printed after a word that begins a line; Ray says things of its own between and after them."""
    (found,) = [line.removeprefix(word) for line in text.splitlines() if line.startswith(word)]
    return found


@dataclass
class Site:
    nodes: object
    directory: Path
    token: Path
    temporary: str

    def start(
        self, node: int, *command: object, cwd: Path | None = None, **environment: str
    ) -> subprocess.Popen:
        values = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "NODE_IP": f"10.77.0.{node}",
        }
        values |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "GLOO_SOCKET_IFNAME": "eth0",
            "RAY_TMPDIR": self.temporary,
        }
        values |= environment
        words = [f"{name}={value}" for name, value in values.items()]
        return self.nodes.start(node, "env", "-C", str(cwd or self.directory), *words, *map(str, command))

    def run(self, node: int, *command: object, **more: object) -> tuple[int, str]:
        process = self.start(node, *command, **more)
        text, _ = process.communicate(timeout=300)
        return process.returncode, text

    def ray(self, node: int, *words: str, **environment: str) -> None:
        """launch/ray.sh on a node; returns when Ray runs there."""
        log = self.directory / f"ray-{node}-{time.monotonic_ns()}.log"
        script = shlex.join(
            ["bash", str(ROOT / "launch" / "ray.sh"), *words, "--object-store-memory=100000000"]
        )
        process = self.start(node, "bash", "-c", f"exec {script} >{log} 2>&1", **environment)
        until = time.monotonic() + 120
        while not log.exists() or "Ray runtime started" not in log.read_text():
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)

    def doctor(self, *words: object, **environment: str) -> tuple[int, list[str]]:
        status, text = self.run(1, "glitchflow", "doctor", *words, "--address", HEAD, **environment)
        return status, text.splitlines()


@pytest.fixture(scope="module")
def site(shared_nodes, tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    with tempfile.TemporaryDirectory(prefix="gf-", ignore_cleanup_errors=True) as short:  # for Ray's sockets
        made = Site(shared_nodes, directory, directory / "keys" / "token", short)
        made.ray(1, "head")
        made.ray(2, "worker", HEAD)
        yield made
        for node in ("1", "2"):  # nobody writes there any more
            with contextlib.suppress(subprocess.CalledProcessError):
                shared_nodes.script("crash", node)


@pytest.fixture
def config(tmp_path):
    """A small experiment in a directory of its own, its workdir relative to that."""
    values = small(tmp_path).model_dump(mode="json", exclude_unset=True)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values | {"workdir": "runs/small"}))
    return tmp_path / "small.yaml"


# -- access ------------------------------------------------------------------------------------------------------


def test_the_head_makes_a_token_that_only_its_owner_reads(site):
    assert stat.S_IMODE(site.token.stat().st_mode) == 0o600
    assert stat.S_IMODE(site.token.parent.stat().st_mode) == 0o700
    assert len(site.token.read_text()) == 64
    (log,) = site.directory.glob("ray-1-*.log")
    assert "ssh -N -L 8265:127.0.0.1:8265 root@node1" in log.read_text()
    assert site.token.read_text() not in log.read_text()


def test_a_client_without_the_token_is_refused(site, tmp_path):
    (tmp_path / "wrong").write_text("0" * 64)
    for environment in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "wrong")}):
        status, text = site.run(1, sys.executable, "-c", JOIN, **environment)
        assert status != 0, text
        assert "joined" not in text
        assert "nauthenticated" in text or "AuthenticationError" in text, text
    status, text = site.run(1, sys.executable, "-c", JOIN)
    assert status == 0, text
    assert "joined 2" in text


def test_a_stage_without_the_token_says_so(site, config, tmp_path):
    """In a line, and not after the 20 s and more that Ray tries for."""
    wrong, none = tmp_path / "wrong", tmp_path / "none"
    wrong.write_text("0" * 64)
    asks = f"cluster.address = {HEAD}: the cluster wants its token, and not this one ({{}}): export"
    lines = {
        f"RAY_AUTH_TOKEN_PATH = {none}: no token is there": {"RAY_AUTH_TOKEN_PATH": str(none)},
        asks.format(f"RAY_AUTH_TOKEN_PATH = {wrong}"): {"RAY_AUTH_TOKEN_PATH": str(wrong)},
        asks.format("none given"): {"RAY_AUTH_MODE": "disabled"},
    }
    for line, environment in lines.items():
        status, text = site.run(1, "glitchflow", "generate", config, "--address", HEAD, **environment)
        assert status == 1, text
        assert text.splitlines()[-1].startswith(f"glitchflow: {line}"), text
        assert "Traceback" not in text


def test_a_worker_without_the_token_is_refused(site, tmp_path):
    (tmp_path / "wrong").write_text("0" * 64)
    line = ["bash", ROOT / "launch" / "ray.sh", "worker", HEAD]
    status, text = site.run(2, *line, RAY_AUTH_TOKEN_PATH=str(tmp_path / "wrong"))
    assert status == 2, text
    wrong = f"RAY_AUTH_TOKEN_PATH={tmp_path}/wrong"
    assert text == f"ray.sh: the head at {HEAD} refuses the token of {wrong}: copy its own there\n"
    status, text = site.run(2, *line, RAY_AUTH_TOKEN_PATH=str(tmp_path / "none"))
    assert status == 2
    assert text == f"RAY_AUTH_TOKEN_PATH={tmp_path}/none: copy the head's token there\n"


def test_the_dashboard_listens_on_loopback_and_asks_for_the_token(site):
    assert site.run(1, sys.executable, "-c", ASK, DASHBOARD) == (0, "401\n")
    _, text = site.run(2, sys.executable, "-c", ASK, "http://10.77.0.1:8265")
    assert "Connection refused" in text


def test_nobody_else_enters_the_directories_of_ray(site):
    for node in (1, 2):
        status, text = site.run(node, sys.executable, "-c", WHERE)
        assert status == 0, text
        outer = Path(said(text, "directory: ")).parent.parent  # of temporary directory and session
        assert outer.name.startswith("gf.")
        assert stat.S_IMODE(outer.stat().st_mode) == 0o700


def test_no_port_of_the_head_answers_without_the_token(site):
    status, text = site.run(1, sys.executable, "-c", KNOCK, "10.77.0.1")
    assert status == 0, text
    found = json.loads(said(text, "ports: "))
    print(found)
    assert {"6379", "8265"} <= set(found)
    served = {tuple(answers) for answers in found.values()}
    assert served == {("UNAUTHENTICATED", "UNIMPLEMENTED"), ("401",), ("metrics",)}, found


# -- jobs --------------------------------------------------------------------------------------------------------


def submit(site: Site, *words: object, **more: object) -> tuple[int, list[str]]:
    status, text = site.run(1, "glitchflow", "submit", *words, "--address", DASHBOARD, **more)
    return status, text.splitlines()


def test_a_job_from_another_directory(site, config, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    status, lines = submit(site, "generate", config, "workdir=out", "--env", "MINE=1", cwd=elsewhere)
    assert status == 0, lines
    assert any(line.startswith(f"generate: wrote {elsewhere}/out/dataset.zarr in ") for line in lines)
    assert lines[-1].startswith("submit: job generate-small-")
    assert len(store.open_store(elsewhere / "out" / "dataset.zarr")) == 96
    assert [path.name for path in elsewhere.iterdir()] == ["out"]


def test_the_plain_line_it_stands_for(site, config):
    values = yaml.safe_load(config.read_text()) | {"workdir": str(config.parent / "plain")}
    up = config.parent / "up"
    up.mkdir()
    (up / "small.yaml").write_text(yaml.safe_dump(values))
    (line,) = [
        x for x in (ROOT / "launch" / "README.md").read_text().splitlines() if x.startswith("ray job submit")
    ]
    line = line.split("  #")[0].replace("STAGE", "generate").replace("CONFIG", "small")
    status, text = site.run(1, "bash", "-c", line, cwd=config.parent)
    assert status == 0, text
    assert len(store.open_store(config.parent / "plain" / "dataset.zarr")) == 96


def test_a_job_that_fails_and_one_whose_input_is_wrong(site, config, tmp_path):
    status, lines = submit(site, "generate", config, "workdir=/proc/nowhere")
    assert status == 1, lines
    assert lines[-2] == "glitchflow: /proc/nowhere/dataset.zarr: cannot be created: No such file or directory"
    assert lines[-1].endswith(" ended with status 1")
    status, lines = submit(site, "train", config, f"workdir={tmp_path}/none")
    assert status == 2, lines
    assert lines[-2].startswith(f"glitchflow: {tmp_path}/none/dataset.zarr: no store there")
    assert lines[-1].endswith(": its input is wrong: its last line says what")


def test_submit_without_the_token(site, config):
    status, lines = submit(site, "generate", config, RAY_AUTH_MODE="disabled")
    assert status == 1
    assert len(lines) == 1
    assert "the cluster wants its token: export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE" in lines[0]


def test_ctrl_c_leaves_the_job_running_and_ray_job_stop_ends_it(site, config):
    home = config.parent / "long"
    words = ["generate", config, f"workdir={home}", "simulate.events=200000"]
    process = site.start(1, "glitchflow", "submit", *words, "--address", DASHBOARD)
    until = time.monotonic() + 240
    while not (home / "dataset.zarr" / "zarr.json").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.2)
    site.run(1, "pkill", "-INT", "-f", "glitchflow submit generate")  # in the node's own process namespace
    text, _ = process.communicate(timeout=60)
    last = text.splitlines()[-1]
    assert process.returncode == 1, text
    assert last.startswith("glitchflow: no longer following; job generate-small-")
    follow, stop = last.split("`")[1::2]
    assert follow.startswith(f"ray job logs --follow --address {DASHBOARD} generate-small-")
    status, text = site.run(1, *shlex.split(stop))
    assert status == 0, text
    status, text = site.run(1, "ray", "job", "status", *shlex.split(stop)[3:])
    assert "was stopped" in text, text


def test_a_training_that_ray_job_stop_ends_has_a_checkpoint(site, config):
    config = config.rename(config.with_name("stopped.yaml"))  # which names the job: others have run
    status, lines = submit(site, "generate", config, cwd=config.parent)
    assert status == 0, lines
    words = ["train", config, "train.epochs=10000", "train.workers=1"]
    process = site.start(1, "glitchflow", "submit", *words, "--address", DASHBOARD, cwd=config.parent)
    log = config.parent / "runs" / "small" / "train" / "log.txt"
    until = time.monotonic() + 240
    while not log.exists() or "epoch 3/" not in log.read_text():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.5)
    status, text = site.run(1, "ray", "job", "list", "--address", DASHBOARD)
    (job,) = set(re.findall(r"\btrain-stopped-\w+", text))
    status, text = site.run(1, "ray", "job", "stop", "--address", DASHBOARD, job)
    assert status == 0, text
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 1, text
    stopped = int(re.search(r"stopped after step (\d+), with a checkpoint", text)[1])
    written = config.parent / "runs" / "small" / "train" / "checkpoints"
    assert checkpoint.by_step(written)[-1].name == f"step-{stopped:08d}"


# -- doctor ------------------------------------------------------------------------------------------------------


def test_doctor_finds_nothing(site, config):
    status, lines = site.doctor(config, f"workdir={config.parent}/runs", "train.workers=2")
    assert status == 0, lines
    found = {line[6:16].strip(): line for line in lines if line[:2] == "ok"}
    assert f"{HEAD}: 2 node(s): 4 CPUs, 0 GPUs" in found["Ray"]
    assert "asked for on 2 node(s)" in found["token"]
    assert "equal on 2 node(s)" in found["versions"]
    assert f"{config.parent}: written and read on another, 2 node(s)" in found["storage"]
    assert "gloo: a sum over 2 machine(s)" in found["gloo, NCCL"]
    assert "connections from 2 machine(s)" in found["ports"]
    assert "2 node(s)" in found["clocks"]
    assert not list(config.parent.glob(".glitchflow-doctor*"))


@pytest.mark.parametrize(
    "mount, trouble",
    [
        ("mount -t tmpfs none {}", "does not see what here wrote: No such file or directory"),
        ("mount --bind {0} {0} && mount -o remount,bind,ro {0}", "cannot write: Read-only file system"),
    ],
    ids=["not shared", "read-only"],
)
def test_doctor_sees_storage_that_is_not_for_all(site, config, mount, trouble):
    home = config.parent / "store"
    home.mkdir()
    assert site.run(2, "bash", "-c", mount.format(home)) == (0, "")
    try:
        status, lines = site.doctor(config, f"workdir={home}")
    finally:
        site.run(2, "umount", home)
    assert status == 1, lines
    assert f"FAIL  storage     node2: {home}: {trouble}" in lines
    assert lines[-1] == "glitchflow: doctor: would break a run: storage"


def test_doctor_without_the_token(site):
    status, lines = site.doctor(RAY_AUTH_MODE="disabled")
    assert status == 1, lines
    line = f"FAIL  Ray         cluster.address = {HEAD}: the cluster wants its token, and not this one (none given)"
    assert any(one.startswith(line) for one in lines), lines


def test_doctor_sees_a_node_without_power_and_one_of_another_version(site, tmp_path):
    """Last of the file: node 2 is another afterwards."""
    site.nodes.script("crash", "2")
    status, lines = site.doctor()
    (line,) = [line for line in lines if line[6:12].strip() == "Ray"]
    assert "node2" in line
    assert (line.startswith("FAIL") and status == 1) or line.startswith("warn  Ray         lost: node2"), (
        lines
    )

    other = tmp_path / "zarr-0.0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: zarr\nVersion: 0.0.1\n")
    site.nodes.script("boot", "2")
    site.ray(
        2, "worker", HEAD, PYTHONPATH=f"{tmp_path}:{ROOT}", OMP_NUM_THREADS="64", GLOO_SOCKET_IFNAME="nosuch0"
    )
    status, lines = site.doctor()
    assert status == 1, lines
    shown = [line for line in lines if line.startswith("FAIL  versions")]
    assert shown[0].startswith("FAIL  versions    node2: zarr 0.0.1, not ")
    assert any(
        line.startswith("warn  threads     node2: ") and "OMP_NUM_THREADS=64" in line for line in lines
    )
    assert "FAIL  gloo, NCCL  node2: no interface GLOO_SOCKET_IFNAME=nosuch0" in lines
    assert lines[-1] == "glitchflow: doctor: would break a run: gloo, NCCL, versions"
