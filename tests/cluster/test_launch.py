"""launch/slurm and launch/sites without a Slurm: ports, dry runs, what is said of nodes that are missing."""

import getpass
import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPT = LAUNCH / "slurm" / "glitchflow.sbatch"
SITES = sorted((LAUNCH / "sites").glob("*.sh"))
sys.path.append(str(LAUNCH / "slurm"))

import hub  # noqa: E402
import joined  # noqa: E402
import node  # noqa: E402


def shell(line: str, **keys: str) -> subprocess.CompletedProcess:
    dropped = ("GLITCHFLOW_", "SLURM_", "SBATCH_", "RAY_", "ROCR_", "HIP_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return subprocess.run(["bash", "-c", line], env=kept | keys, capture_output=True, text=True, timeout=60)


def dry_run(*words: str, **keys: str) -> str:
    done = shell(shlex.join([str(SCRIPT), "--dry-run", *words]), **keys)
    assert done.returncode == 0, done.stderr
    return done.stdout


def command(text: str, begins: str) -> list[str]:
    (line,) = re.findall(rf"^{begins}.*$", text, flags=re.M)
    return shlex.split(line)


# -- ports --------------------------------------------------------------------------------------------------------


def test_the_ports_follow_from_the_job_and_stay_below_those_of_outgoing_connections():
    for job in (0, 1, 4711, 98765432):
        blocks = node.blocks(job)
        assert blocks == node.blocks(job)
        assert len(set(blocks)) == len(blocks) == 44
        assert min(blocks) >= 10000 and max(blocks) + node.WIDTH <= 32768
    assert len({node.blocks(job)[0] for job in range(44)}) == 44  # the jobs around this one begin elsewhere


def test_a_job_claims_the_next_block_where_its_own_is_taken():
    mine, first = node.claim(7)
    with mine:
        other, second = node.claim(7)
        with other:
            assert abs(second - first) >= node.WIDTH
        with socket.socket() as stranger:  # a single port of the block is enough to leave it
            stranger.bind(("127.0.0.1", second + node.WIDTH - 1))
            third, elsewhere = node.claim(7)
            with third:
                assert elsewhere not in (first, second)


def test_every_port_of_ray_is_in_the_block():
    options = dict(option.removeprefix("--").split("=") for option in node.port_options(20000, head=True))
    ports = {name: int(port) for name, port in options.items()}
    assert ports["port"] == 20001
    fixed = [port for name, port in ports.items() if "worker" not in name]
    assert len(set(fixed)) == len(fixed) == 9
    assert max(fixed) < ports["min-worker-port"] < ports["max-worker-port"] == 20000 + node.WIDTH - 1
    worker = [option.split("=")[0] for option in node.port_options(20000, head=False)]
    assert not {"--port", "--dashboard-port", "--ray-client-server-port"} & set(worker)


# -- what a node has ----------------------------------------------------------------------------------------------


def test_addresses():
    assert node.own_address("lo", "") == "127.0.0.1"
    assert node.own_address("", "") == "127.0.0.1"
    assert node.own_address("", "localhost").startswith("127.")
    with pytest.raises(node.NodeError, match=r"^interface ib7: .*; here are .*lo"):
        node.own_address("ib7", "localhost")
    with pytest.raises(node.NodeError, match=r"^no route to no-such-host.invalid: "):
        node.own_address("", "no-such-host.invalid")


def test_cpus_are_those_that_the_job_has_here(monkeypatch):
    allowed = len(os.sched_getaffinity(0))
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert node.cpus() == 1
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "100000")  # Slurm counts more than this process may use
    assert node.cpus() == allowed
    code = f"import sys; sys.path.append({str(LAUNCH / 'slurm')!r}); import node; print(node.cpus())"
    assert (
        shell(f"taskset -c {min(os.sched_getaffinity(0))} {sys.executable} -c {shlex.quote(code)}").stdout
        == "1\n"
    )


def test_amd_gpus_are_named_where_ray_looks(monkeypatch):
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "4,5,6")  # the head's, which srun hands on
    node.use_rocr()
    assert os.environ["HIP_VISIBLE_DEVICES"] == "0,1,2"
    assert "ROCR_VISIBLE_DEVICES" not in os.environ


def test_the_temporary_directory_is_private_and_made_anew(tmp_path):
    (tmp_path / "gf-1-0").mkdir()
    (tmp_path / "gf-1-0" / "left").touch()
    node.make_private(tmp_path / "gf-1-0")
    assert stat.S_IMODE((tmp_path / "gf-1-0").stat().st_mode) == 0o700
    assert not list((tmp_path / "gf-1-0").iterdir())
    (tmp_path / "stranger").mkdir()
    (tmp_path / "gf-2-0").symlink_to(tmp_path / "stranger")
    with pytest.raises(node.NodeError, match=r"^temporary directory .*gf-2-0: File exists"):
        node.make_private(tmp_path / "gf-2-0")


# -- how nodes find each other --------------------------------------------------------------------------------------


@pytest.fixture
def hub_at(tmp_path, monkeypatch):
    """A hub of a process of its own, and its address; `end` ends it."""
    (tmp_path / "token").write_text("0123" * 16)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    line = [sys.executable, str(LAUNCH / "slurm" / "hub.py"), str(tmp_path), "127.0.0.1"]
    process = subprocess.Popen(line)
    until = time.monotonic() + 60
    while not (tmp_path / "port").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    yield f"127.0.0.1:{(tmp_path / 'port').read_text().strip()}", process
    process.kill()
    process.wait()


def test_a_job_of_64_nodes_asks_the_shared_file_system_once_a_node(hub_at, tmp_path):
    """Each says one thing, learns where the head is, and hears of the end; what it opens is its token."""
    address, process = hub_at
    asked: list[str] = []
    watched = ("open", "os.listdir", "os.scandir", "os.rename", "os.mkdir")

    def audit(event: str, words: tuple) -> None:
        if event in watched and words and str(words[0]).startswith(str(tmp_path)):
            asked.append(event)

    sys.addaudithook(audit)
    nodes = [hub.Line(address, hub.token()) for _ in range(64)]
    watcher = hub.Line(address, hub.token())
    watcher.send({"watch": True})
    for k, one in enumerate(nodes):
        one.send({"name": f"n{k}", "address": f"10.0.0.{k}"})
    nodes[0].send({"name": "n0", "head": "10.0.0.0:20001", "dashboard": 20002})
    assert [one.receive(60) for one in nodes] == [{"head": "10.0.0.0:20001"}] * 64
    known = {"nodes": {}}
    while len(known["nodes"]) < 64:
        known = watcher.receive(60)
    assert (known["head"], known["dashboard"], known["failed"]) == ("10.0.0.0:20001", 20002, {})
    process.terminate()
    for one in (*nodes, watcher):
        with pytest.raises(EOFError):
            while one.receive(60):
                pass
    assert asked == ["open"] * 65


def test_who_does_not_know_the_token_learns_nothing_and_says_nothing(hub_at):
    address, _ = hub_at
    watcher = hub.Line(address, hub.token())
    watcher.send({"watch": True})
    stranger = hub.Line(address, "f" * 64)
    with pytest.raises(EOFError):
        stranger.send({"watch": True})
        stranger.receive(60)
    with socket.create_connection(address.split(":")) as other:
        other.recv(1000)
        other.sendall(b"nonsense\n")
        assert other.recv(1000) == b""
    node_line = hub.Line(address, hub.token())
    node_line.send({"name": "a", "address": "10.0.0.1"})
    known = watcher.receive(60)
    while not known["nodes"]:
        known = watcher.receive(60)
    assert known == {"nodes": {"a": "10.0.0.1"}, "failed": {}, "head": "", "dashboard": 0}
    node_line.close()
    assert watcher.receive(60)["failed"] == {"a": "node.py has ended there"}


def test_a_node_that_cannot_reach_the_hub_says_so(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("0" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    words = ["--directory", str(tmp_path), "--job", "7", "--name", "a", "--head", "a", "--nodes", "a"]
    monkeypatch.setattr(
        sys, "argv", ["node.py", *words, "--temporary", str(tmp_path / "t"), "--hub", "127.0.0.1:1"]
    )
    done = subprocess.run(
        [sys.executable, str(LAUNCH / "slurm" / "node.py"), *sys.argv[1:]], capture_output=True, text=True
    )
    said = "glitchflow: a: the job's hub at 127.0.0.1:1 cannot be reached: [Errno 111] Connection refused\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_nodes_that_are_missing_are_named_with_what_is_known(hub_at, tmp_path):
    known = {
        "nodes": {"a": "10.0.0.1", "b": "10.0.0.2"},
        "failed": {"c": "no route to a: unreachable"},
        "head": "",
    }
    assert joined.missing(known, ["a", "b", "c", "d"], {"10.0.0.1"}) == {
        "b": "Ray has begun there, as 10.0.0.2, and has not joined",
        "c": "failed: no route to a: unreachable",
        "d": "node.py has not begun there",
    }
    (tmp_path / "b.log").write_text("one\nthe reason\n\n")
    assert joined.last_words(tmp_path / "b.log") == "the reason"
    address, process = hub_at
    watcher, failing = (hub.Line(address, hub.token()) for _ in range(2))
    watcher.send({"watch": True})
    failing.send({"name": "c", "failed": "no route"})
    lacking = {"a": "node.py has not begun there", "c": "failed: no route"}
    assert joined.wait(watcher, 600, ["a", "c"])[1] == lacking  # at once: it can only get worse
    failing.send({"name": "a", "head": "127.0.0.1:1", "dashboard": 2})  # of a Ray that is no more
    process.terminate()
    assert joined.wait(watcher, 600, ["a"])[1] == {"a": "node.py has not begun there"}  # nobody else comes


# -- the script ---------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_what_would_run_and_leaves_nothing(tmp_path):
    text = dry_run("train", "configs/mine.yaml", "train.workers=8", GLITCHFLOW_JOBS=str(tmp_path / "jobs"))
    srun = command(text, "'srun'")
    assert {"--overlap", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpu-bind=none"} <= set(srun)
    ray = command(text, r"\S*python3 -m ray")
    assert {"--head", "--dashboard-host=127.0.0.1", "--port=10001", "--block"} <= set(ray)
    assert f"--num-cpus={len(os.sched_getaffinity(0))}" in ray
    assert "--temp-dir=/tmp/gf-0-0/r" in ray
    stage = command(text, "RAY_ADDRESS=")
    assert stage == ["RAY_ADDRESS=HEAD:PORT", "glitchflow", "train", "configs/mine.yaml", "train.workers=8"]
    assert f"RAY_AUTH_TOKEN_PATH={tmp_path}/jobs/0.0/token" in text
    assert {"RAY_AUTH_MODE=token", "OMP_NUM_THREADS=1"} <= set(text.splitlines())
    assert "NCCL_SOCKET_IFNAME" not in text
    assert not list(tmp_path.iterdir())


def test_keys_change_what_would_run(tmp_path):
    keys = {
        "INTERFACE": "ib0",
        "NCCL_INTERFACE": "ib0,ib1",
        "THREADS": "4",
        "DASHBOARD": "0",
        "TMP": "/scratch",
    }
    text = dry_run("generate", "a b.yaml", **{f"GLITCHFLOW_{name}": value for name, value in keys.items()})
    lines = set(text.splitlines())
    assert {"GLOO_SOCKET_IFNAME=ib0", "NCCL_SOCKET_IFNAME=ib0,ib1", "OMP_NUM_THREADS=4"} <= lines
    assert command(text, "'srun'")[-4:] == ["--interface", "ib0", "--hub", "node1:PORT"]
    assert "--include-dashboard=false" in command(text, r"\S*python3 -m ray")
    assert "--temp-dir=/scratch/gf-0-0/r" in text
    assert command(text, "RAY_ADDRESS=")[1:] == ["glitchflow", "generate", "a b.yaml"]


def test_in_a_container_everything_runs_within_it():
    keys = {"IMAGE": "image.sif", "CONTAINER": "apptainer exec --nv", "BINDS": "/data"}
    text = dry_run("train", "c.yaml", **{f"GLITCHFLOW_{k}": v for k, v in keys.items()})
    begins = ["apptainer", "exec", "--nv", "--bind"]
    stage, srun = command(text, "RAY_ADDRESS=")[1:], command(text, "'srun'")
    assert stage[:4] == begins and stage[-4:] == ["image.sif", "glitchflow", "train", "c.yaml"]
    assert stage[4].split(",") == [
        str(Path.cwd()),
        str(SCRIPT.parent),
        f"{Path.cwd()}/.glitchflow-jobs-{getpass.getuser()}",
        "/tmp",
        "/data",
    ]
    at = srun.index("apptainer")
    assert srun[at : at + 4] == begins and srun[srun.index("image.sif") + 1] == "python3"


def program(directory: Path, name: str, *lines: str) -> str:
    """A stand-in for a program; returns the PATH on which it comes first."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text("\n".join(("#!/bin/bash", *lines)))
    (directory / name).chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def test_a_restarted_job_keeps_what_its_first_run_wrote(tmp_path):
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a", "SLURMD_NODENAME": "a"}
    job["PATH"] = program(tmp_path, "scontrol", "echo a")
    words = ["train", "c.yaml", "--overwrite", "train.epochs=3"]
    for count, kept in (("0", words), ("1", [word for word in words if word != "--overwrite"])):
        text = dry_run(*words, **job, SLURM_RESTART_COUNT=count)
        assert command(text, "RAY_ADDRESS=")[1:] == ["glitchflow", *kept]


def test_a_job_that_is_cut_goes_back_to_the_queue_or_says_that_it_may_not(tmp_path):
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a", "GLITCHFLOW_JOBS": str(tmp_path / "jobs")}
    program(tmp_path, "srun", "exit 0")
    program(tmp_path, "python3", "echo 1 >$2/port", 'echo "a:1 2" >$2/address')  # hub.py, joined.py
    program(tmp_path, "glitchflow", "trap 'exit 1' USR1", "kill -USR1 $PPID", "while sleep 0.05; do :; done")
    requeue, refused = "job 7 goes on in the queue", "or rather not: Slurm refused"
    for restart, status, said in (("0", 0, [requeue]), ("0", 3, [requeue, refused]), ("1", 0, [])):
        scontrol = f"[ $1 = requeue ] && exit {status} || echo a"
        keys = {"PATH": program(tmp_path, "scontrol", scontrol), "SLURM_RESTART_COUNT": restart}
        done = shell(f"{SCRIPT} train c.yaml", **job, **keys, GLITCHFLOW_REQUEUE="1")
        assert done.returncode == 1, done.stderr
        assert "SIGUSR1: the stage is asked to stop" in done.stdout
        assert [text for text in (requeue, refused) if text in done.stdout] == said
        assert not list(tmp_path.glob("jobs/*/token"))


def test_the_helpers_are_beside_the_script_that_sbatch_was_given(tmp_path):
    given, copy = tmp_path / "my scripts", tmp_path / "slurm_script"
    shutil.copytree(SCRIPT.parent, given)
    shutil.copy(SCRIPT, copy)
    record = f"   Command={given}/glitchflow.sbatch train c.yaml"  # of an array, as many as it has jobs
    path = program(tmp_path / "bin", "scontrol", f"[ $2 = hostnames ] && echo a || echo '{record}\n{record}'")
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a", "SLURMD_NODENAME": "a", "PATH": path}
    done = shell(shlex.join([str(copy), "--dry-run", "train", "c.yaml"]), **job)
    assert done.returncode == 0, done.stderr
    assert f"{given}/node.py" in command(done.stdout, "'srun'")


def test_what_another_cluster_left_in_the_environment_is_neither_used_nor_shown():
    text = dry_run("train", "c.yaml", RAY_AUTH_TOKEN="0123abcd", RAY_ADDRESS="elsewhere:6379")
    assert "0123abcd" not in text and "elsewhere" not in text


def test_modules():
    loads = {"GLITCHFLOW_MODULES": "Python CUDA/12", "BASH_FUNC_module%%": '() { echo "$@ $UNSET"; }'}
    assert "load Python CUDA/12 \n" in dry_run("train", "c.yaml", **loads)
    assert "load Python" not in dry_run("train", "c.yaml", **loads, GLITCHFLOW_IMAGE="image.sif")
    loads["BASH_FUNC_module%%"] = "() { return 3; }"
    done = shell(f"{SCRIPT} --dry-run train c.yaml", **loads)
    assert (done.returncode, done.stderr) == (2, "glitchflow: module load Python CUDA/12: exit status 3\n")


def test_the_environment_that_is_named_is_the_one_that_runs(tmp_path):
    program(tmp_path / "modules", "glitchflow", "exit 3")
    loads = {"GLITCHFLOW_MODULES": "Python", "BASH_FUNC_module%%": f"() {{ PATH={tmp_path}/modules:$PATH; }}"}
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a", "GLITCHFLOW_JOBS": str(tmp_path / "jobs")}
    program(tmp_path / "bin", "srun", "exit 0")
    program(tmp_path / "bin", "scontrol", "echo a")
    program(tmp_path / "mine" / "bin", "python3", "echo 1 >$2/port", 'echo "a:1 2" >$2/address')
    program(tmp_path / "mine" / "bin", "glitchflow", 'echo "mine: $*"')
    keys = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "GLITCHFLOW_VENV": "mine"}
    done = shell(f"cd {tmp_path}; {SCRIPT} train c.yaml", **job, **keys, **loads)
    assert "mine: train c.yaml" in done.stdout, done.stderr


def test_an_environment_that_is_none_or_one_too_many_is_refused(tmp_path):
    done = shell(f"{SCRIPT} --dry-run train c.yaml", GLITCHFLOW_VENV=str(tmp_path))
    said = f"glitchflow: GLITCHFLOW_VENV={tmp_path}: there is no {tmp_path}/bin/glitchflow\n"
    assert (done.returncode, done.stderr) == (2, said)
    done = shell(f"{SCRIPT} --dry-run train c.yaml", GLITCHFLOW_VENV=str(tmp_path), GLITCHFLOW_IMAGE="a.sif")
    said = (
        f"glitchflow: GLITCHFLOW_VENV={tmp_path} and GLITCHFLOW_IMAGE=a.sif: everything runs in one of them\n"
    )
    assert (done.returncode, done.stderr) == (2, said)


def test_a_job_that_is_done_is_not_begun_again(tmp_path):
    """By Slurm's own switch, which `scontrol requeue` and a node's death obey alike."""
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a", "GLITCHFLOW_JOBS": str(tmp_path / "jobs")}
    program(tmp_path, "srun", "exit 0")
    program(tmp_path, "python3", "echo 1 >$2/port", 'echo "a:1 2" >$2/address')
    path = program(tmp_path, "scontrol", f'echo "$*" >>{tmp_path}/said', "echo a")
    for status, said in ((0, True), (1, False)):
        program(tmp_path, "glitchflow", f"exit {status}")
        (tmp_path / "said").unlink(missing_ok=True)
        assert shell(f"{SCRIPT} train c.yaml", **job, PATH=path).returncode == status
        assert ("update JobId=7 Requeue=0" in (tmp_path / "said").read_text()) is said


def test_a_dry_run_needs_no_new_python(tmp_path):
    text = dry_run("train", "c.yaml", PATH=program(tmp_path, "python3", "exit 1"))
    assert "# (no python3 of 3.8 or newer here" in text
    assert command(text, "RAY_ADDRESS=")[1:] == ["glitchflow", "train", "c.yaml"]


def test_keys_that_sbatch_kept_back_are_missed_aloud():
    assert "sbatch --export=NONE" in dry_run("train", "c.yaml", SLURM_EXPORT_ENV="NONE")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "glitchflow: usage: sbatch [SBATCH OPTIONS]"),
        ("train configs/mine.yaml", "glitchflow: this is no Slurm job: sbatch "),
    ],
)
def test_mistakes_are_one_line(words, said):
    done = shell(f"{SCRIPT} {words}")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_the_shell_is_sound():
    for file in (SCRIPT, *SITES):
        assert shell(f"bash -n {file}").stderr == ""
    checker = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if checker:
        done = shell(shlex.join([checker, "-s", "bash", *map(str, (SCRIPT, *SITES))]))
        assert done.returncode == 0, done.stdout


def test_a_site_s_proxy_is_not_for_the_nodes_themselves():
    own = "127.0.0.1,localhost,node1,node2"
    for given, shown in (
        ({}, own),
        ({"no_proxy": ".site.example"}, f".site.example,{own}"),
        ({"NO_PROXY": ".site.example"}, f".site.example,{own}"),
    ):
        text = dry_run("train", "x.yaml", **{"no_proxy": "", "NO_PROXY": ""} | given)
        assert re.findall(r"^no_proxy=(.*)$", text, flags=re.M) == [shown]


def test_vega_s_nodes_are_taken_whole_and_its_scratch_is_bound():
    text = (LAUNCH / "sites" / "vega.sh").read_text()
    assert "sbatch -N 2 -c 256 " in text, "2 x 64 cores of two threads, each a CPU of Slurm"
    shown = shell(f". {LAUNCH / 'sites' / 'vega.sh'}; echo $GLITCHFLOW_BINDS").stdout
    assert shown == "/ceph/hpc,/exa5\n"


def test_the_page_for_a_new_site_names_every_key_of_the_generic_one():
    page = (LAUNCH.parent / "docs" / "sites.md").read_text()
    keys = set(re.findall(r"export (\w+)=", (LAUNCH / "sites" / "generic.sh").read_text()))
    assert {key for key in keys if f"`{key}`" not in page} == set()


@pytest.mark.parametrize("site", SITES, ids=lambda path: path.stem)
def test_a_site_sets_options_of_sbatch_and_keys_of_the_script(site):
    known = set(re.findall(r"GLITCHFLOW_\w+(?=:=)", SCRIPT.read_text()))
    names = set(re.findall(r"\b(?:GLITCHFLOW|SBATCH)_\w+(?==)", site.read_text()))
    assert {name for name in names if name.startswith("GLITCHFLOW_")} <= known
    options = {"ACCOUNT", "PARTITION", "TIMELIMIT", "GRES", "GPUS_PER_NODE"}
    assert {name.removeprefix("SBATCH_") for name in names if name.startswith("SBATCH_")} <= options
    exported = re.findall(r"^export (\w+)", site.read_text(), flags=re.M)
    assert len(exported) >= 6
    shown = shell(f". {site}; env", **dict.fromkeys(exported, "chosen")).stdout.splitlines()
    assert {f"{name}=chosen" for name in exported} <= set(shown)  # what the user has set stays
    shown = shell(f"set -eu; . {site}; env").stdout
    assert not re.findall(r"^SBATCH_\w+=$", shown, flags=re.M)
