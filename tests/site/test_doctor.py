"""Each check on facts made up for it, and the whole on this machine. Several machines: tests/cluster/test_site.py."""

import copy
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from helpers import small

from glitchflow.config import Train
from glitchflow.errors import RunError
from glitchflow.site import checks, probe
from glitchflow.site import doctor as asking
from glitchflow.site.doctor import doctor
from glitchflow.site.facts import HERE, Facts, Finding

COMMAND = Path(sys.executable).parent / "glitchflow"
MACHINE = {
    "host": "n1",
    "python": "3.12.1",
    "versions": dict.fromkeys(probe.PACKAGES, "1.0"),
    "cpu": "Xeon",
    "affinity": 8,
    "quota": None,
    "threads": "",
    "files": 65536,
    "torch": {"error": None, "build": "CUDA 12.8", "gloo": True, "nccl": True, "devices": ["A100", "A100"]},
    "hardware": ["/dev/nvidia0"],
    "missing_interfaces": [],
    "memory": 16e9,
    "auth": "token",
    "space": {"/scratch": (50e9, 1e12, 10**6), "/tmp": (5e9, 1e10, None), "/dev/shm": (5e9, 1e10, 10**6)},
}
GOOD = Facts(
    here=MACHINE,
    session="/tmp",
    places=["/scratch"],
    address="n1:6379",
    token=("token", "/home/u/token", 0o600),
    nodes={"n1": MACHINE, "n2": MACHINE},
    resources={name: {"CPU": 8.0, "GPU": 2.0, "memory": 64e9} for name in ("n1", "n2")},
    exchange={
        HERE: {"/scratch": {"write": None, "n1": None, "n2": None}},
        "n1": {"/scratch": {"write": None, HERE: None}},
        "n2": {"/scratch": {"write": None, HERE: None}},
    },
    calls={"n1": None, "n2": None},
    sums={"gloo": {"n1": None, "n2": None}, "nccl": {"n1": None, "n2": None}},
    offsets={"n1": (0.001, 0.002), "n2": (-0.2, 0.01)},
    need=("/scratch", 20e9, 5000),
)


def machine(**changes: object) -> dict[str, dict]:
    """n2 with other values; of a dictionary, other entries."""
    other = copy.deepcopy(MACHINE)
    for name, value in changes.items():
        other[name] = {**other[name], **value} if isinstance(value, dict) else value
    return {"n1": MACHINE, "n2": other}


def problems(facts: Facts) -> list[tuple[str, str, str]]:
    return [(name, f.level, f.text) for name, f in checks.judge(facts) if f.level != "ok"]


def test_a_cluster_in_order():
    found = checks.judge(GOOD)
    assert problems(GOOD) == []
    text = {name: finding.text for name, finding in found}
    assert set(text) == set(checks.CHECKS) - {"config"}
    assert text["torch"] == "1.0, CUDA 12.8 build, 4 x A100"
    assert text["Ray"] == "1.0, n1:6379: 2 node(s): 16 CPUs, 4 GPUs, 128 GB"
    assert text["gloo, NCCL"] == "gloo: a sum over 2 machine(s); NCCL: a sum over 2 machine(s)"
    assert text["storage"] == "/scratch: written and read on another, 2 node(s)"
    assert text["clocks"] == "within 0.200 s of this one, 2 node(s)"
    assert text["space"].endswith("the dataset needs 20.00 GB, 5000 files")


EXCHANGE = GOOD.exchange
UNSEEN = {**EXCHANGE, "n2": {"/scratch": {"write": None, HERE: "No such file or directory"}}}
READ_ONLY = {**EXCHANGE, "n2": {"/scratch": {"write": "Read-only file system", HERE: None}}}


@pytest.mark.parametrize(
    "changes, check, level, text",
    [
        ({"nodes": machine(python="3.11.0")}, "versions", "FAIL", "n2: python 3.11.0, not 3.12.1"),
        ({"nodes": machine(versions={"zarr": None})}, "versions", "FAIL", "n2: zarr missing, not 1.0"),
        ({"nodes": machine(cpu="EPYC")}, "versions", "warn", "CPUs differ: EPYC; Xeon"),
        ({"nodes": machine(torch={"devices": []})}, "torch", "FAIL",
         "n2: Ray counts 2 GPU(s), torch sees 0 (CUDA 12.8 build)"),
        ({"nodes": machine(torch={"error": "driver too old"})}, "torch", "FAIL", "n2: driver too old"),
        ({"nodes": machine(torch={"nccl": False})}, "gloo, NCCL", "FAIL", "n2: torch was built without NCCL"),
        ({"nodes": machine(missing_interfaces=["NCCL_SOCKET_IFNAME=ib0"])}, "gloo, NCCL", "FAIL",
         "n2: no interface NCCL_SOCKET_IFNAME=ib0"),
        ({"sums": {"gloo": {"n1": "timed out", "n2": "timed out"}}}, "gloo, NCCL", "FAIL",
         "n1, n2: gloo: timed out"),
        ({"sums": {"gloo": {"n1": None}, "nccl": {"n1": None, "n2": "no route"}}}, "gloo, NCCL", "FAIL",
         "n2: nccl: no route"),
        ({"ray": "cannot join"}, "Ray", "FAIL", "cannot join"),
        ({"silent": {"n3": "no answer in 20 s"}}, "Ray", "FAIL", "n3: no answer in 20 s"),
        ({"lost": ["n3 (10.0.0.3)"]}, "Ray", "warn", "lost: n3 (10.0.0.3)"),
        ({"token": ("token", "/home/u/token", 0o644)}, "token", "warn", "/home/u/token: others can read it (mode 644)"),
        ({"nodes": machine(auth="disabled")}, "token", "warn",
         "n2: no token is asked for: who reaches Ray's ports runs code as you"),
        ({"exchange": UNSEEN}, "storage", "FAIL",
         "n2: /scratch: does not see what here wrote: No such file or directory"),
        ({"exchange": READ_ONLY}, "storage", "FAIL", "n2: /scratch: cannot write: Read-only file system"),
        ({"need": ("/scratch", 60e9, 5000)}, "space", "FAIL",
         "here, n1, n2: /scratch: 50.00 GB free, 60.00 needed"),
        ({"need": ("/scratch", 2e9, 2 * 10**6)}, "space", "FAIL",
         "here, n1, n2: /scratch: 1000000 files and directories free, 2000000 needed"
         " (a larger store.shard_mb makes fewer)"),
        ({"nodes": machine(space={"/tmp": (1e8, 1e10, None)})}, "space", "FAIL", "n2: /tmp: 0.10 GB free, 1.00 needed"),
        ({"address": "", "here": {**MACHINE, "memory": 1e9}}, "memory", "warn",
         "1.00 GB may be held here, 8 CPUs need 3.87"),
        ({"nodes": machine(space={"/dev/shm": (6e7, 6e7, None)})}, "space", "warn",
         "n2: /dev/shm: 0.06 GB free, 0.25 needed"),
        ({"calls": {"n1": None, "n2": "No route to host"}}, "ports", "FAIL",
         "n2: cannot connect to this machine: No route to host"),
        ({"nodes": machine(files=1024)}, "ports", "warn", "n2: 1024 open files allowed"),
        ({"taken": [6379]}, "ports", "warn", "6379 taken here"),
        ({"nodes": machine(affinity=4)}, "threads", "warn",
         "n2: 4 CPUs may be used, Ray offers 8, OMP_NUM_THREADS=unset"),
        ({"nodes": machine(quota=2.0)}, "threads", "warn",
         "n2: 2 CPUs may be used, Ray offers 8, OMP_NUM_THREADS=unset"),
        ({"nodes": machine(threads="64")}, "threads", "warn",
         "n2: 8 CPUs may be used, Ray offers 8, OMP_NUM_THREADS=64"),
        ({"offsets": {"n2": (-2.0, 0.1)}}, "clocks", "warn", "n2: 2.0 s behind this one"),
        ({"offsets": {"n2": (11.0, 0.1)}}, "clocks", "FAIL", "n2: 11.0 s ahead of this one"),
        ({"devices": [Finding("warn", "the workers get CPUs", "more GPUs")]}, "config", "warn", "the workers get CPUs"),
        ({"refusals": ["train.workers = 9: needs"]}, "config", "FAIL", "train.workers = 9: needs"),
    ],
)  # fmt: skip
def test_one_thing_wrong_is_one_finding(changes, check, level, text):
    facts = replace(GOOD, **changes)
    assert problems(facts) == [(check, level, text)]
    advice = [f.advice for _, f in checks.judge(facts) if f.level != "ok"]
    assert all(advice), "each says what to do"


def test_a_clock_is_not_blamed_for_a_slow_answer():
    assert problems(replace(GOOD, offsets={"n2": (11.0, 10.5)})) == []


def test_many_machines_with_the_same_trouble_are_one_line():
    nodes = {f"n{i}": {**MACHINE, "auth": ""} for i in range(9)}
    (finding,) = [text for name, _, text in problems(replace(GOOD, nodes=nodes)) if name == "token"]
    assert finding.startswith("n0, n1, n2, n3 and 5 more: no token is asked for")


def test_a_requirement_that_is_not_met(monkeypatch):
    monkeypatch.setattr(
        checks.metadata, "requires", lambda name: ["zarr>=99", "nosuch>=1", "x; extra == 'test'"]
    )
    found = problems(GOOD)
    assert [(name, level) for name, level, _ in found] == [("Python", "FAIL")] * 2
    assert found[0][2].startswith("zarr>=99 is needed, 3.")
    assert found[1][2] == "nosuch>=1 is needed, nothing is installed"


# -- real machines -----------------------------------------------------------------------------------------------


def test_this_machine_and_an_experiment(ray_session, tmp_path, capsys):
    experiment = small(tmp_path / "not" / "yet", train={"device": "cpu"})
    doctor(experiment)
    screen = capsys.readouterr().out
    assert "ok    config      train.device = cpu: 2 worker(s), on CPUs" in screen.splitlines()
    assert "ok    config      generate.device = cpu: Q-plots are made on CPUs" in screen.splitlines()
    assert f"ok    storage     {tmp_path}: written and read here" in screen.splitlines()
    assert "the dataset needs 0.0" in screen
    assert list(tmp_path.iterdir()) == [], "nothing is left"


@pytest.mark.parametrize(
    "gpus, level, text",
    [
        (0, "ok", "train.device = auto: 2 worker(s), on CPUs"),
        (2, "ok", "train.device = auto: 2 worker(s), on a GPU each"),
        (
            1,
            "warn",
            "train.device = auto: the workers get CPUs, since the cluster has 1 GPU(s) for train.workers = 2",
        ),
    ],
)
def test_what_auto_would_take_is_said(monkeypatch, gpus, level, text):
    resources = {"CPU": 4.0, "GPU": float(gpus)}
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": resources}])
    monkeypatch.setattr("ray.cluster_resources", lambda: resources)
    found = asking._device(Train(workers=2))
    assert (found.level, found.text) == (level, text)


def test_what_this_experiment_cannot_do_here(ray_session, tmp_path, capsys):
    (tmp_path / "file").touch()
    changes = {"train": {"workers": 4}, "loader": {"lanes": 4}, "generate": {"device": "gpu"}}
    experiment = small(tmp_path / "file" / "run", **changes)
    with pytest.raises(RunError, match=r"^doctor: would break a run: config, storage$"):
        doctor(experiment)
    screen = capsys.readouterr().out
    assert f"FAIL  storage     here: {tmp_path}/file: cannot write: Not a directory" in screen
    assert "FAIL  config      train.workers = 4: needs 4 CPUs, the cluster has 2" in screen
    none = "FAIL  config      generate.device = gpu: the cluster has no GPU; auto or cpu makes Q-plots on its CPUs"
    assert (none in screen) == (not ray.cluster_resources().get("GPU"))


def test_ports_interfaces_and_files_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "=lo,^docker")
    assert probe.facts([])["missing_interfaces"] == ["GLOO_SOCKET_IFNAME=nosuch0"]
    port = probe.free_port("127.0.0.1")
    assert probe.call("127.0.0.1", port) == "Connection refused"
    assert "nosuch0" in (probe.add_up("gloo", 0, 1, "127.0.0.1", port, 5) or "")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    assert probe.add_up("gloo", 0, 1, "127.0.0.1", port, 5) is None
    monkeypatch.setattr(probe, "PATIENCE", 0.2)
    place = str(tmp_path)
    assert probe.exchange([place], "t", "n1", ["n1", "n2"]) == {
        place: {"write": None, "n1": None, "n2": "No such file or directory"}
    }
    probe.remove(place, "t-n1")
    assert list(tmp_path.iterdir()) == []


PARENT = """
import os, subprocess, sys
open("/proc/self/comm", "w").write(sys.argv[1])
child = "import os; from glitchflow.site import probe; probe._unhide(); print(os.environ.get('CUDA_VISIBLE_DEVICES'))"
hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
print(subprocess.run([sys.executable, "-c", child], env=hidden, capture_output=True, text=True).stdout)
"""


@pytest.mark.parametrize(
    "parent, given, seen", [("raylet", "3,4", "3,4"), ("raylet", None, "None"), ("bash", "3", "")]
)
def test_a_task_sees_the_gpus_that_ray_has_and_no_others(parent, given, seen):
    """Ray empties the variable for its tasks; where a user has emptied it, it stays."""
    environment = {k: v for k, v in os.environ.items() if k not in probe.DEVICES}
    environment |= {"CUDA_VISIBLE_DEVICES": given} if given else {}
    line = [sys.executable, "-c", PARENT, parent]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == seen, done.stderr


def test_without_a_gpu_nccl_is_not_tried():
    nodes = machine(torch={"devices": []})
    for sums in ({"gloo": {HERE: None}}, {"gloo": {HERE: None}, "nccl": {}}):
        found = dict(checks.judge(replace(GOOD, nodes=nodes, sums=sums)))["gloo, NCCL"]
        assert found.text == "gloo: a sum over 1 machine(s); NCCL: there, not tried"
    none = {**MACHINE, "torch": {**MACHINE["torch"], "nccl": False, "devices": []}}
    found = dict(checks.judge(replace(GOOD, here=none, nodes={}, sums={"gloo": {HERE: None}})))["gloo, NCCL"]
    assert found.text == "gloo: a sum over 1 machine(s); NCCL: not in this build"


@pytest.mark.gpu
def test_nccl_is_tried_where_there_is_a_gpu(tmp_path, capfd):
    subprocess.run([COMMAND, "doctor"], cwd=tmp_path, check=False)
    assert "gloo: a sum over 1 machine(s); NCCL: a sum over 1 machine(s)" in capfd.readouterr().out


def test_hidden_gpus_are_not_missed(monkeypatch):
    monkeypatch.setattr(probe, "HARDWARE", ("/dev/null",))
    assert probe.facts([])["hardware"] == ["/dev/null"]
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "")
    assert probe.facts([])["hardware"] == []


def test_a_token_in_the_environment_goes_before_the_file(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/some/file")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0")
    assert asking._token()[1:] == ("", None)


def test_clocks_are_asked_all_at_once(monkeypatch):
    """The error is that of the quickest round; who does not answer has none."""
    rounds = []

    def on_each(ids, function, arguments, seconds):
        rounds.append(list(ids))
        return {"n1": time.time() + 7, **({"n2": time.time()} if len(rounds) == 2 else {})}, {}

    monkeypatch.setattr(asking, "on_each", on_each)
    found = asking._offsets({"n1": "a", "n2": "b", "n3": "c"})
    assert rounds == [["n1", "n2", "n3"]] * 3
    assert set(found) == {"n1", "n2"}
    assert abs(found["n1"][0] - 7) <= 0.1 + found["n1"][1]


def test_a_place_behind_a_url(tmp_path, monkeypatch):
    """The same calls that s3:// takes."""
    pytest.importorskip("obstore", reason="URLs need the extra `s3`")
    monkeypatch.setattr(probe, "PATIENCE", 0.2)
    place = f"file://{tmp_path}"
    (found,) = probe.exchange([place], "t", "n1", ["n1", "n2"]).values()
    assert (found["write"], found["n1"]) == (None, None)
    assert ".glitchflow-doctor-t-n2" in found["n2"]
    assert [path.name for path in tmp_path.iterdir()] == [".glitchflow-doctor-t-n1"]
    (tmp_path / ".glitchflow-doctor-t-n1").write_text("x")
    assert probe.wait(place, "t-n1") == "holds 1 bytes of 4"
    probe.remove(place, "t-n1")
    assert list(tmp_path.iterdir()) == []
    assert "nosuch" in (probe.write("nosuch://x", "t-n1") or "")


@pytest.mark.ci
def test_no_cluster_at_the_address_is_status_1(tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    line = [COMMAND, "doctor", "--address", "127.0.0.1:1"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=kept, timeout=120)
    assert done.returncode == 1
    assert "FAIL  Ray         cluster.address = 127.0.0.1:1: cannot join a Ray cluster there: " in done.stdout
    assert done.stderr == "glitchflow: doctor: would break a run: Ray\n"


def test_a_token_file_that_others_can_read(ray_session, tmp_path, monkeypatch, capsys):
    path = tmp_path / "token"
    path.write_text("0" * 64)
    path.chmod(0o640)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    monkeypatch.chdir(tmp_path)
    doctor(None)
    screen = capsys.readouterr().out
    assert f"warn  token       {path}: others can read it (mode 640)" in screen
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
