"""containers/ for real: the CPU image built, tested and used by Apptainer; the CUDA packages resolved against the lock.

Without a registry of containers: the recipe's base is replaced by a small Debian, by the arguments it has for that.
The other two recipes are read by Apptainer itself, without their %post. Prints sizes and times (pytest -s).
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers import small

from glitchflow.train import checkpoint

ROOT = Path(__file__).parents[2]
HELPER = Path(__file__).with_name("apptainer.sh")
NOBODY = "65534"
PYPI = "https://pypi.org/simple"
EXTRAS = ".[gwf,mlflow,optuna]"
BASE = """\
Bootstrap: debootstrap
OSVersion: bookworm
MirrorURL: {mirror}
Include: python3 python3-venv ca-certificates

%files
    {directory}/apt.conf /etc/apt/apt.conf.d/99site

%post
    mkdir -p {binds}
    touch /etc/pip.conf
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def report(name: str, started: float, path: Path | None = None) -> None:
    size = f", {path.stat().st_size / 1e6:.0f} MB" if path else ""
    print(f"\n{name}: {time.monotonic() - started:.0f} s{size}")


def failure(done: subprocess.CompletedProcess) -> str:
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}, and no word"


class Apptainer:
    """An Apptainer command, of this machine or in a root of its own, with a directory for images."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.local = [str(path) for path in local_paths()]
        self.command = ["apptainer"] if shutil.which("apptainer") else [str(HELPER), "apptainer"]
        (directory / "tmp").mkdir()
        self.environment = os.environ | {
            "BINDS": ":".join([str(directory), *self.local]),
            "TMPDIR": str(directory / "tmp"),
            "APPTAINER": " ".join(self.command),
        }

    def run(self, *words: str, **options) -> subprocess.CompletedProcess:
        line = [*self.command, *words]
        given = {"env": self.environment, "cwd": self.directory, "capture_output": True, "text": True}
        return subprocess.run(line, **(given | options))

    def as_nobody(self, *words: str) -> list[str]:
        """The same as a user who is not root: one without rights or home, where this one is root."""
        if os.geteuid() != 0:
            return [*self.command, *words]
        other = [
            "setpriv",
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
            "env",
            "HOME=/nonexistent",
        ]
        return [*self.command[:-1], *other, "apptainer", *words]


def pip_settings() -> dict[str, str]:
    """pip's settings of this machine, from its files and the environment."""
    lines = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    pairs = (line.split("=", 1) for line in lines)
    found = {name.split(".")[-1]: value.strip("'\"").replace("\\n", " ") for name, value in pairs}
    kept = ("cert", "find-links", "index-url", "extra-index-url")
    return {name: found[name] for name in kept if name in found}


def local_paths() -> list[Path]:
    """Directories that pip's settings name: packages, indices, and that of the CA bundle."""
    found = []
    for word in " ".join(pip_settings().values()).split():
        path = Path(word.removeprefix("file://"))
        if path.is_absolute() and path.exists():
            found.append(path if path.is_dir() and not (path / "index.html").exists() else path.parent)
    return sorted(set(found))


def debian() -> tuple[str, str]:
    """The mirror that this machine's apt uses, and its settings for fetching."""
    if not shutil.which("apt-config"):
        return "http://deb.debian.org/debian", ""
    lines = (["apt-get", "indextargets", "--format", "$(SITE)"], ["apt-config", "dump", "Acquire"])
    sites, settings = (subprocess.run(x, capture_output=True, text=True, check=True).stdout for x in lines)
    kept = re.findall(r"^Acquire::(?:Check-|https?::).*$", settings, flags=re.M)
    return sites.split()[0], "".join(f"{line}\n" for line in kept)


@pytest.fixture(scope="module")
def apptainer(tmp_path_factory):
    if not shutil.which("apptainer"):
        if os.geteuid() != 0 or not shutil.which("debootstrap"):
            pytest.skip("no `apptainer` here, and to make a root for it needs debootstrap and to be root")
        done = subprocess.run([str(HELPER), "setup"], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no `apptainer` here, and no root could be made for it: {failure(done)}")
    made = Apptainer(tmp_path_factory.mktemp("apptainer"))
    made.directory.chmod(0o755)
    for parent in made.directory.parents[
        :3
    ]:  # pytest's directories are private; another user is to read the image
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o011)
    done = made.run("--version")
    if done.returncode != 0:
        pytest.skip(f"Apptainer does not run here: {failure(done)}")
    return made


@pytest.fixture(scope="module")
def base(apptainer):
    """A Debian 12 with Python in place of the recipes' base, where pip finds its settings at /etc/pip.conf."""
    started, image = time.monotonic(), apptainer.directory / "base.sif"
    (apptainer.directory / "pip.conf").write_text(
        "[global]\n" + "".join(f"{name} = {value}\n" for name, value in pip_settings().items())
    )
    mirror, settings = debian()
    (apptainer.directory / "apt.conf").write_text(settings)
    recipe = apptainer.directory / "base.def"
    binds = " ".join(apptainer.local) or "/opt"
    recipe.write_text(BASE.format(mirror=mirror, directory=apptainer.directory, binds=binds))
    done = apptainer.run("build", "--fakeroot", str(image), str(recipe))
    if done.returncode != 0:
        pytest.skip(f"no Debian image could be made: {failure(done)}")
    report("base", started, image)
    return image


@pytest.fixture(scope="module")
def image(apptainer, base):
    """The CPU image of this tree. Its build runs %test."""
    started, path = time.monotonic(), apptainer.directory / "cpu.sif"
    options = ["--fakeroot", "--mksquashfs-args", "-comp lz4"]
    for argument in ("BOOTSTRAP=localimage", f"FROM={base}", f"TORCH_INDEX={PYPI}"):
        options += ["--build-arg", argument]
    for bind in (f"{apptainer.directory / 'pip.conf'}:/etc/pip.conf", *apptainer.local):
        options += ["--bind", bind]
    line = [str(ROOT / "containers" / "build.sh"), "--dirty", "cpu", str(path), *options]
    done = subprocess.run(line, env=apptainer.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "the self-test passed" in done.stdout
    report("image", started, path)
    return path


def test_the_image_says_what_it_is(apptainer, image):
    shown = apptainer.run("inspect", "--json", "--labels", str(image)).stdout
    labels = json.loads(shown)["data"]["attributes"]["labels"]
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert labels["org.opencontainers.image.revision"].removesuffix("-dirty") == head.stdout.strip()
    recipe = Path(f"{image}.recipe").read_text()
    assert recipe.startswith(f"recipe: {labels['glitchflow.recipe.sha256']}\n")
    assert "apptainer run IMAGE.sif STAGE" in apptainer.run("run-help", str(image)).stdout
    usage = apptainer.run("run", "--userns", str(image), "--help")
    assert "Usage: glitchflow [OPTIONS] COMMAND" in usage.stdout


def test_the_image_has_the_lock_s_versions(apptainer, image):
    packages = apptainer.run("exec", "--userns", str(image), "cat", "/opt/glitchflow/packages.txt").stdout
    lock = locked()
    ours = [line for line in packages.splitlines() if not line.startswith("glitchflow ")]
    assert len(ours) > 100
    assert not [line for line in ours if pinned(*line.split("==")) not in lock]


def test_the_hosts_packages_stay_outside(apptainer, image):
    shown = ["exec", "--userns", str(image), "sh", "-c", "echo $PYTHONPATH; which python3 glitchflow"]
    line = [*apptainer.command[:-1], "env", "PYTHONPATH=/host", "apptainer", *shown]
    done = subprocess.run(line, env=apptainer.environment, cwd="/", capture_output=True, text=True)
    assert done.stdout == "\n/opt/glitchflow/bin/python3\n/opt/glitchflow/bin/glitchflow\n"
    own = apptainer.run("exec", "--env", "PYTHONPATH=/mine", *shown[1:])
    assert own.stdout.startswith("/mine\n")


def test_anyone_may_run_it_read_only(apptainer, image):
    """%test again, from the finished image, as a user who is not root."""
    started = time.monotonic()
    tried = [*apptainer.as_nobody("exec", "--userns", str(image)), "sh", "-c", "id -u; touch /opt/new"]
    done = subprocess.run(tried, env=apptainer.environment, cwd="/", capture_output=True, text=True)
    assert int(done.stdout) > 0
    assert "Read-only file system" in done.stderr
    line = apptainer.as_nobody("test", "--userns", str(image))
    done = subprocess.run(line, env=apptainer.environment, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "the self-test passed" in done.stdout
    report("apptainer test", started)


def test_signals_reach_the_stage_inside(apptainer, image):
    """What launch/slurm counts on: SIGUSR1 to `apptainer` ends a training at a checkpoint, and its status comes out."""
    home = apptainer.directory / "home"
    home.mkdir()
    experiment = small(Path("run"), train={"epochs": 10_000, "workers": 1})
    (home / "mine.yaml").write_text(yaml.safe_dump(experiment.model_dump(mode="json") | {"workdir": "run"}))
    inside = ["exec", "--userns", "--bind", str(home), "--pwd", str(home), str(image), "glitchflow"]
    done = apptainer.run(*inside, "generate", "mine.yaml", cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    line = [*apptainer.command, *inside, "train", "mine.yaml"]
    with (home / "log").open("w") as log:
        training = subprocess.Popen(line, env=apptainer.environment, cwd=home, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 240
        while "epoch 3/" not in (home / "log").read_text():
            assert training.poll() is None and time.monotonic() < until, (home / "log").read_text()
            time.sleep(0.5)
        training.send_signal(signal.SIGUSR1)
        status = training.wait(120)
    finally:
        training.kill()
    text = (home / "log").read_text()
    assert status == 1, text  # as without a container: stopped, not done
    assert "SIGUSR1" in text
    stopped = int(re.search(r"stopped after step (\d+), with a checkpoint", text)[1])
    assert checkpoint.by_step(home / "run" / "train" / "checkpoints")[-1].name == f"step-{stopped:08d}"


@pytest.mark.parametrize("accelerator", ["cpu", "cuda", "cuda12", "rocm"])
def test_apptainer_reads_every_recipe(apptainer, base, accelerator):
    """Built from the local base with a recorder in install.sh's place: all sections are what Apptainer takes."""
    source, tree = apptainer.directory / f"source-{accelerator}", apptainer.directory / f"tree-{accelerator}"
    for name in ("configs", "containers", "glitchflow"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", "constraints.txt", "pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / name, source)
    (source / "containers" / "install.sh").write_text('echo "$*" >/opt/installed\n')
    line = ["build", "--fakeroot", "--sandbox", "--notest"]
    for argument in ("BOOTSTRAP=localimage", f"FROM={base}", "REVISION=0123abc"):
        line += ["--build-arg", argument]
    done = apptainer.run(*line, str(tree), f"containers/glitchflow-{accelerator}.def", cwd=source)
    assert done.returncode == 0, done.stdout + done.stderr
    recipe = (ROOT / "containers" / f"glitchflow-{accelerator}.def").read_text()
    (index,) = re.findall(r"TORCH_INDEX=(\S+)", recipe)
    assert (tree / "opt" / "installed").read_text() == f"{accelerator} {index}\n"
    assert (tree / "opt" / "source" / "glitchflow" / "cli.py").exists()
    written = tree / ".singularity.d"
    assert json.loads((written / "labels.json").read_text())["org.opencontainers.image.revision"] == "0123abc"
    assert "export GLITCHFLOW_REVISION=0123abc" in (written / "env" / "90-environment.sh").read_text()
    assert 'exec glitchflow "$@"' in (written / "runscript").read_text()
    assert "selftest.sh" in (written / "test").read_text()
    shutil.rmtree(tree)


# -- the CUDA image's packages --------------------------------------------------------------------------------------


def pinned(name: str, version: str) -> str:
    """One spelling of a name and a version, without a build tag such as +cpu."""
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version.split('+')[0]}"


def locked() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {pinned(*line.split("==")) for line in lines if not line.startswith("#")}


def test_the_cuda_packages_resolve_from_the_lock(tmp_path):
    """What %post of the CUDA recipe would install, by the packages' metadata alone; every version is in the lock."""
    started = time.monotonic()
    pip = tmp_path / "venv" / "bin" / "pip"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    done = subprocess.run([str(pip), "install", "-q", "pip>=26"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no package index here: {failure(done)}")
    (tmp_path / "none").mkdir()
    own = {
        "PIP_FIND_LINKS": str(tmp_path / "none"),
        "PIP_EXTRA_INDEX_URL": PYPI,
    }  # no CPU wheel of this machine
    options = ["--dry-run", "--only-binary=:all:", "--no-cache-dir", "--use-feature=fast-deps"]
    line = [str(pip), "install", *options, "--report", str(tmp_path / "report.json"), "-c", "constraints.txt"]
    done = subprocess.run([*line, EXTRAS], cwd=ROOT, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"Downloading (torch|nvidia)", done.stdout), "gigabytes for a question"
    chosen = json.loads((tmp_path / "report.json").read_text())["install"]
    versions = {item["metadata"]["name"].lower(): item["metadata"]["version"] for item in chosen}
    assert "+" not in versions["torch"]
    assert {"triton", "nvidia-nccl-cu13", "nvidia-cudnn-cu13", "ray"} <= set(versions)
    versions.pop("glitchflow")
    assert not [name for name, version in versions.items() if pinned(name, version) not in locked()]
    report(f"resolving {len(versions)} packages", started)
