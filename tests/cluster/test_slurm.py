"""launch/slurm on a real Slurm of two nodes, each with its own network, processes, address and name."""

import contextlib
import getpass
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
import yaml
from helpers import small

from glitchflow.data.store import dataset as store
from glitchflow.train import checkpoint
from glitchflow.train.tracking import read_metrics

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "slurm" / "glitchflow.sbatch"
HERE = Path(__file__).parent
PAUSE = "0.4"  # s per batch: 60 epochs outlast the walltime of the job that is cut
JOBS = f".glitchflow-jobs-{getpass.getuser()}"
WIDTH = 512  # ports of a job on a node
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Slurm:
    """A Slurm whose login host this test speaks from. Whatever runs on its nodes ends with their namespaces."""

    def __init__(self, directory: Path):
        self.home = directory
        self.directory = Path(tempfile.mkdtemp(prefix="gfs"))
        self.directory.chmod(0o755)  # munged runs as a user of its own
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_"))}
        self.environment |= {
            "GF_DIR": str(self.directory),
            "GF_PREFIX": f"gfs{os.getpid() % 10000}-",
            "SLURM_CONF": str(self.directory / "slurm" / "slurm.conf"),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
            "GLITCHFLOW_VENV": str(Path(sys.executable).parents[1]),
            "GLITCHFLOW_OBJECT_STORE_MB": "200",
            "GLITCHFLOW_TMP": str(self.directory / "t"),  # the nodes share this machine's /tmp
        }

    def run(self, *words: str, script: str = "fakenodes.sh", **keys: str) -> str:
        done = subprocess.run(
            ["bash", str(HERE / script), *words],
            env=self.environment | keys,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def on(self, node: int, *words: str) -> str:
        return self.run("sh", str(node), *words)

    def submit(self, *words: str, options: tuple[str, ...] = (), **keys: str) -> int:
        """Give a stage to sbatch on the login host, for both nodes and a CPU of each; returns the job's id."""
        line = ["sbatch", "--parsable", "-N", "2", "-c", "1", *options, str(SCRIPT), *words]
        return int(self.run("sh", "0", *line, **keys))

    def state(self, job: int) -> dict[str, str]:
        shown = self.on(0, "scontrol", "show", "job", "-o", str(job))
        return dict(word.split("=", 1) for word in shown.split() if "=" in word)

    def wait(self, job: int, seconds: float = 400) -> dict[str, str]:
        until = time.monotonic() + seconds
        while (state := self.state(job))["JobState"] not in OVER:
            assert time.monotonic() < until, f"{state}\n{self.output(job)}"
            time.sleep(0.5)
        return state

    def output(self, job: int) -> str:
        file = self.home / f"glitchflow-{job}.out"
        return file.read_text() if file.exists() else ""

    def wait_for(self, job: int, text: str, seconds: float = 240) -> None:
        until = time.monotonic() + seconds
        while text not in self.output(job):
            assert time.monotonic() < until and self.state(job)["JobState"] not in OVER, self.output(job)
            time.sleep(0.1)

    def wait_for_state(self, job: int, key: str, value: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (state := self.state(job))[key] != value:
            assert time.monotonic() < until, f"{state}\n{self.output(job)}"
            time.sleep(0.5)

    def completed(self, job: int, seconds: float = 400) -> str:
        state = self.wait(job, seconds)
        assert (state["JobState"], state["ExitCode"]) == ("COMPLETED", "0:0"), self.output(job)
        return self.output(job)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    needed = ("ip", "nsenter", "unshare", "pgrep", "sbatch", "slurmctld", "slurmd", "munged")
    missing = [
        tool for tool in needed if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    ]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"a Slurm of one's own needs root and {', '.join(missing) or 'nothing else'}")
    made = Slurm(tmp_path_factory.mktemp("slurm"))
    open_to_all(made.home)
    try:
        made.run("up", "2", script="netslurm.sh")
    except AssertionError as error:
        down(made)
        pytest.skip(f"no Slurm here: {' '.join(str(error).split())[:300]}")
    yield made
    down(made)


def open_to_all(directory: Path) -> None:
    """Give a directory a default ACL, as shared ones have: whatever the umask, all may open what is made in it."""
    owner, group, others = (struct.pack("<HHI", who, 7, 0xFFFFFFFF) for who in (0x01, 0x04, 0x20))  # all: rwx
    with contextlib.suppress(OSError):  # a file system without
        os.setxattr(directory, "system.posix_acl_default", struct.pack("<I", 2) + owner + group + others)


def down(slurm: Slurm) -> None:
    line = ["bash", str(HERE / "netslurm.sh"), "down"]
    subprocess.run(line, env=slurm.environment, capture_output=True, check=False)
    shutil.rmtree(slurm.directory)


def write(experiment, home: Path) -> str:
    """The experiment as a file named after its workdir, which becomes relative to where sbatch is called."""
    name = Path(experiment.workdir).name
    (home / f"{name}.yaml").write_text(yaml.safe_dump(experiment.model_dump(mode="json") | {"workdir": name}))
    return f"{name}.yaml"


def nothing_left(slurm: Slurm, job: int) -> None:
    """No process of Ray on the nodes, no temporary directory, no token."""
    assert not processes(slurm)
    assert not list(slurm.directory.glob(f"t/gf-{job}-*"))
    assert not list((slurm.home / JOBS).glob(f"{job}.*/token"))


def nothing_runs_on(slurm: Slurm, seconds: float) -> None:
    until = time.monotonic() + seconds
    while processes(slurm) and time.monotonic() < until:
        time.sleep(0.5)
    assert not processes(slurm)


def processes(slurm: Slurm) -> list[str]:
    """What of Ray runs on the nodes."""
    lines = [line for node in (1, 2) for line in slurm.on(node, "ps", "-eo", "args").splitlines()]
    return [line for line in lines if re.search(r"raylet|gcs_server|node\.py|ray::|dashboard", line)]


def digests(path: Path) -> list[dict]:
    """The checksums of every shard."""
    dataset = store.open_store(path)
    return [dataset.marker(k).sha256 for k in range(dataset.layout.shards)]


@pytest.fixture(scope="module")
def here(slurm):
    """The same experiment, generated on this machine without Slurm."""
    train = {"epochs": 60, "early_stop": None, "loss": "helpers:unhurried"}
    experiment = small(slurm.home / "here", train=train)
    here_too(slurm, "generate", experiment)
    return experiment


def here_too(slurm: Slurm, stage: str, experiment) -> None:
    """Run a stage on this machine, without Slurm, with a Ray of its own."""
    line = [
        sys.executable,
        "-c",
        "from glitchflow.cli import main; main()",
        stage,
        write(experiment, slurm.home),
    ]
    done = subprocess.run(
        line, env=slurm.environment, cwd=slurm.home, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_generate_and_train_over_two_nodes(slurm, here):
    config = write(small(slurm.home / "both"), slurm.home)
    first = slurm.submit("generate", config)
    second = slurm.submit("train", config, "train.workers=2", options=("-d", f"afterok:{first}"))
    text = slurm.completed(first)
    assert "Ray has 2 node(s), node1 node2: 2 CPUs, 0 GPUs" in text
    assert re.search(r"dashboard: ssh -N -L 8265:127\.0\.0\.1:\d+ -J login node1", text)
    assert digests(slurm.home / "both" / "dataset.zarr") == digests(here.dataset)
    slurm.completed(second)
    log = (slurm.home / "both" / "train" / "log.txt").read_text()
    assert set(re.findall(r"worker \d of 2 on (\w+)", log)) == {"node1", "node2"}
    assert [x["kind"] for x in read_metrics(slurm.home / "both" / "train" / "metrics.jsonl")].count(
        "epoch"
    ) == 2
    for job in (first, second):
        nothing_left(slurm, job)
        assert not list((slurm.home / JOBS).glob(f"{job}.*"))


@pytest.mark.timeout(2400)
def test_a_job_cut_by_its_walltime_goes_on_in_the_queue_to_the_same_end(slurm, here):
    cut = here.model_copy(update={"workdir": str(slurm.home / "cut")})
    (slurm.home / "cut").mkdir()
    (slurm.home / "cut" / "dataset.zarr").symlink_to(here.dataset)
    options = ("-t", "4", "--signal=B:USR1@45")  # Slurm sends it up to half a minute early
    keys = {"GLITCHFLOW_REQUEUE": "9", "GLITCHFLOW_TEST_PAUSE": PAUSE}
    job = slurm.submit("train", write(cut, slurm.home), options=options, **keys)
    slurm.wait_for(job, "run 2", 600)
    text = slurm.completed(job, 1500)
    assert "SIGUSR1: the stage is asked to stop" in text
    assert re.search(r"stopped after step \d+, with a checkpoint", text)
    assert f"job {job} goes on in the queue" in text
    assert int(slurm.state(job)["Restarts"]) == text.count("goes on in the queue") >= 1
    here_too(slurm, "train", here)  # undisturbed
    last = [checkpoint.find(Path(e.workdir) / "train" / "checkpoints", "last") for e in (here, cut)]
    assert last[0].step == last[1].step
    for name, value in last[0].weights().items():
        assert torch.equal(value, last[1].weights()[name]), name
    losses = [
        [
            x["validation_loss"]
            for x in read_metrics(Path(e.workdir) / "train" / "metrics.jsonl")
            if x["kind"] == "epoch"
        ]
        for e in (here, cut)
    ]
    assert losses[0] == losses[1]
    nothing_left(slurm, job)


def test_generation_stops_when_asked_and_goes_on_to_the_same_bytes(slurm, here):
    experiment = small(slurm.home / "stopped", simulate={"events": 960})
    job = slurm.submit("generate", write(experiment, slurm.home), GLITCHFLOW_REQUEUE="1")
    slurm.wait_for(job, "Q-plots: ")
    slurm.on(0, "scancel", "--batch", "--signal=USR1", str(job))
    text = slurm.completed(job)
    assert "glitchflow: stopped; what is finished is kept, and the same command goes on from there" in text
    there = re.search(r"(\d+) of (\d+) shards are there already", text)
    assert there and 0 < int(there[1]) < int(there[2])
    alone = experiment.model_copy(update={"workdir": str(slurm.home / "alone")})
    here_too(slurm, "generate", alone)
    assert digests(experiment.dataset) == digests(alone.dataset)


def test_a_job_goes_on_after_its_first_node_has_died(slurm):
    experiment = small(slurm.home / "died", simulate={"events": 960})
    job = slurm.submit("generate", write(experiment, slurm.home))
    slurm.wait_for(job, "Q-plots: ")
    slurm.run("crash", "1")
    slurm.wait_for_state(job, "Restarts", "1", 120)
    slurm.run("boot", "1")
    slurm.on(1, "slurmd", "-N", "node1")
    text = slurm.completed(job)
    there = re.search(r"(\d+) of (\d+) shards are there already", text)
    assert there and int(there[1]) < int(there[2])
    alone = experiment.model_copy(update={"workdir": str(slurm.home / "undisturbed")})
    here_too(slurm, "generate", alone)
    assert digests(experiment.dataset) == digests(alone.dataset)
    nothing_left(slurm, job)


def test_the_network_asked_for_is_that_of_ray_and_its_workers(slurm):
    name = slurm.environment["GF_PREFIX"]
    slurm.on(
        0, "ip", "-n", f"{name}1", "link", "add", "hs0", "type", "veth", "peer", "hs0", "netns", f"{name}2"
    )
    for number in (1, 2):
        slurm.on(number, "ip", "addr", "add", f"10.79.0.{number}/24", "dev", "hs0")
        slurm.on(number, "ip", "link", "set", "hs0", "up")
    config = write(small(slurm.home / "pinned", simulate={"events": 480}), slurm.home)
    job = slurm.submit("generate", config, GLITCHFLOW_INTERFACE="hs0")
    slurm.wait_for(job, "Q-plots: ")
    assert "Ray is up at 10.79.0.1:" in slurm.output(job)
    for number in (1, 2):
        assert f"--node_ip_address=10.79.0.{number} " in slurm.on(number, "pgrep", "-af", "raylet/raylet")
        ray = slurm.on(number, "sh", "-c", "cat /proc/$(pgrep -o raylet)/environ").split(
            "\0"
        )  # and its workers
        assert {"GLOO_SOCKET_IFNAME=hs0", "NCCL_SOCKET_IFNAME=hs0"} <= set(ray)
    slurm.completed(job)
    nothing_left(slurm, job)


def test_a_job_in_an_image_sees_what_is_bound_alone(slurm, here):
    experiment = small(slurm.home / "within")
    (slurm.directory / "t").mkdir(exist_ok=True)
    keys = {
        "GLITCHFLOW_VENV": "",
        "GLITCHFLOW_IMAGE": slurm.environment["GLITCHFLOW_VENV"],
        "GLITCHFLOW_CONTAINER": f"{HERE / 'container.sh'} exec",
        "GLITCHFLOW_BINDS": f"{ROOT},{slurm.environment['GLITCHFLOW_VENV']}",
        "GLITCHFLOW_MODULES": "none/that/is",
    }
    job = slurm.submit("generate", write(experiment, slurm.home), **keys)
    assert "Ray has 2 node(s)" in slurm.completed(job)
    assert digests(experiment.dataset) == digests(here.dataset)
    nothing_left(slurm, job)


def admits_nobody(slurm: Slurm, job: int) -> None:
    """A running job's files and token are its owner's, its dashboard is on loopback, its ports are of its block."""
    directory = slurm.home / JOBS / f"{job}.0"
    for private in (directory, *(slurm.directory / "t" / f"gf-{job}-{k}" for k in (0, 1))):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "token").stat().st_mode) == 0o600
    assert len((directory / "token").read_text()) == 64
    address, dashboard = (directory / "address").read_text().split()
    listening = [line.split()[3].rsplit(":", 1) for line in slurm.on(1, "ss", "-Hltn").splitlines()]
    assert {host for host, port in listening if port == dashboard} == {"127.0.0.1"}
    first = int(address.split(":")[1]) - 1
    assert sum(first <= int(port) < first + WIDTH for _, port in listening) >= 8
    # what is neither of a block, nor slurmd's, came from the kernel
    assert all(10000 <= int(port) < 61000 or port == "6818" for _, port in listening), listening


def test_two_jobs_at_once_do_not_disturb_each_other(slurm):
    left, right = (small(slurm.home / name, simulate={"events": 480}) for name in ("left", "right"))
    jobs = [slurm.submit("generate", write(experiment, slurm.home)) for experiment in (left, right)]
    for job in jobs:
        slurm.wait_for(job, "Ray is up at")
    assert {slurm.state(job)["JobState"] for job in jobs} == {"RUNNING"}, "they were not at work together"
    addresses = {re.search(r"Ray is up at (\S+)", slurm.output(job))[1] for job in jobs}
    assert len(addresses) == 2
    for job in jobs:
        admits_nobody(slurm, job)
    for job in jobs:
        assert "Ray has 2 node(s), node1 node2: 2 CPUs" in slurm.completed(job)
    for job in jobs:
        nothing_left(slurm, job)
    assert digests(left.dataset) == digests(right.dataset)


def test_a_cancelled_job_leaves_no_process(slurm):
    job = slurm.submit("generate", write(small(slurm.home / "gone", simulate={"events": 9600}), slurm.home))
    slurm.wait_for(job, "Q-plots: ")
    slurm.on(0, "scancel", str(job))
    assert slurm.wait(job)["JobState"] == "CANCELLED"
    nothing_runs_on(
        slurm, 60
    )  # files may be left: its srun is signalled too, and kills node.py while it removes them


DEADLY = """
import ctypes, sys
from glitchflow.signal.streams import generator
from glitchflow.signal.types import Event, Recipe

def make(simulate, series, derived, seed):
    def event(index):
        if index == 20:
            print("the end of event 20", file=sys.stderr)
            ctypes.string_at(0)
        values = generator(seed, 100, index).standard_normal((2, series.samples))
        return Event(values, None, 0, float(index), 0.0)
    return Recipe(32, ["MY:STRAIN", "MY:WITNESS"], ["background"], [], {}, event, int)
"""


def test_what_dead_workers_said_stays_in_the_workdir_and_is_named(slurm):
    (slurm.home / "deadly.py").write_text(DEADLY)
    config = write(small(slurm.home / "dead", derived=[], simulate={"recipe": "deadly:make"}), slurm.home)
    job = slurm.submit("generate", config)
    assert slurm.wait(job)["JobState"] == "FAILED"
    said = r"its task died, and three more after it: .*; what they said is in (\S+/dead/workers\.log)$"
    kept = re.search(said, slurm.output(job), flags=re.M)
    assert kept, slurm.output(job)
    text = Path(kept[1]).read_text()
    assert "the end of event 20" in text and "Segmentation fault" in text
    assert set(re.findall(r"^--- (\w+): worker-", text, flags=re.M)) <= {"node1", "node2"}
    nothing_left(slurm, job)


def test_a_ray_that_ends_on_a_node_leaves_its_logs(slurm):
    job = slurm.submit("generate", write(small(slurm.home / "raylet", simulate={"events": 960}), slurm.home))
    slurm.wait_for(job, "Q-plots: ")
    slurm.on(1, "sh", "-c", "kill -9 $(pgrep -o raylet)")
    assert slurm.wait(job)["JobState"] == "FAILED"
    directory = slurm.home / JOBS / f"{job}.0"
    said = (directory / "node1.log").read_text()
    assert re.search(
        r"Ray ended by itself, with status -?\d+; its logs are in \S+/node1\.ray$", said, flags=re.M
    )
    assert (directory / "node1.ray" / "raylet.out").exists()
    nothing_left(slurm, job)


def test_a_failing_stage_is_a_failed_job(slurm):
    job = slurm.submit("train", write(small(slurm.home / "nothing"), slurm.home), GLITCHFLOW_REQUEUE="1")
    state = slurm.wait(job)
    assert (state["JobState"], state["ExitCode"], state["Restarts"]) == ("FAILED", "2:0", "0")
    assert "train: exit status 2" in slurm.output(job)
    nothing_left(slurm, job)


def test_a_node_without_the_network_asked_for_is_named(slurm):
    slurm.on(1, "ip", "link", "add", "ib0", "type", "bridge")
    slurm.on(1, "ip", "addr", "add", "10.78.0.1/24", "dev", "ib0")
    slurm.on(1, "ip", "link", "set", "ib0", "up")
    job = slurm.submit("generate", "any.yaml", GLITCHFLOW_INTERFACE="ib0")
    assert slurm.wait(job)["JobState"] == "FAILED"
    text = slurm.output(job)
    assert "node2 did not join: failed: interface ib0: " in text
    assert "here are lo, eth0" in text
    nothing_left(slurm, job)


def test_a_node_that_a_firewall_keeps_away_is_named(slurm):
    rule = ("rule", "add", "to", "10.77.0.1", "ipproto", "tcp", "dport", "10000-32767", "blackhole")
    slurm.on(2, "ip", *rule)
    try:
        job = slurm.submit("generate", "any.yaml", GLITCHFLOW_JOIN_TIMEOUT="25")
        assert slurm.wait(job)["JobState"] == "FAILED"
    finally:
        slurm.on(2, "ip", "rule", "del", *rule[2:])
    text = slurm.output(job)
    assert "node2 did not join: Ray has begun there, as 10.77.0.2, and has not joined" in text
    assert "node1 did not join" not in text
    nothing_left(slurm, job)
