"""containers/: what the recipes promise, read from their text, and build.sh with a recorder in Apptainer's place."""

import configparser
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from glitchflow.data.provenance import provenance

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "containers"
ACCELERATORS = ("cpu", "cuda", "cuda12", "rocm")
SECTIONS = {"arguments", "files", "post", "environment", "runscript", "test", "labels", "help"}
COPIED = ("constraints.txt", "configs", "containers", "glitchflow", "setup.cfg", "pyproject.toml")

# writes the image it is asked for, and what it was asked and saw
RECORDER = """#!/bin/sh
echo "$*" >"$RECORD"
ls glitchflow >>"$RECORD"
for last; do image=$recipe; recipe=$last; done
cp "$recipe" "$image"
"""


def sections(accelerator: str) -> dict[str, str]:
    """A recipe's sections by name; the header is ''. Words after a section's name are an error: we use none."""
    text = (CONTAINERS / f"glitchflow-{accelerator}.def").read_text()
    header, *rest = re.split(r"^%(\w+)[ ]*\n", text, flags=re.M)
    assert not re.search(r"^%", "".join(rest[1::2]), flags=re.M)
    assert len(rest[::2]) == len(set(rest[::2])), "a section comes twice"
    return {"": header} | dict(zip(rest[::2], rest[1::2]))


def arguments(accelerator: str) -> dict[str, str]:
    lines = sections(accelerator)["arguments"].split("\n")
    return dict(line.strip().split("=", 1) for line in lines if line.strip())


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_recipes_have_their_sections_and_defaults(accelerator):
    found = sections(accelerator)
    assert set(found) == SECTIONS | {""}
    used = set(re.findall(r"{{ *(\w+) *}}", "".join(found.values())))
    assert used == set(arguments(accelerator)), "Apptainer refuses unknown arguments and unused ones"
    assert re.match(r"Bootstrap: {{ BOOTSTRAP }}\nFrom: {{ FROM }}\n", found[""])
    assert arguments(accelerator)["BOOTSTRAP"] == "docker"
    assert re.fullmatch(r"python@sha256:[0-9a-f]{64}", arguments(accelerator)["FROM"])
    assert f"install.sh {accelerator} " in found["post"]
    for line in found["files"].split("\n"):
        if line.strip():
            source, target = line.split()
            assert (ROOT / source).exists()
            assert target == f"/opt/source/{source}"
    assert set(COPIED) <= set(found["files"].split())


def test_recipes_differ_in_their_accelerator_only():
    same = ("", "files", "environment", "runscript", "test")
    for name in same:
        texts = {re.sub(r"^# GlitchFlow for .*\n", "", sections(a)[name], flags=re.M) for a in ACCELERATORS}
        assert len(texts) == 1, name
    assert len({arguments(a)["FROM"] for a in ACCELERATORS}) == 1
    assert [arguments(a)["TORCH_INDEX"].rsplit("/", 1)[1] for a in ACCELERATORS] == [
        "cpu",
        "simple",
        "cu129",
        "rocm7.2",
    ]


def test_the_image_for_kubernetes_has_the_same_base_and_installation():
    text = (ROOT / "launch" / "kubernetes" / "Dockerfile").read_text()
    assert f"FROM {arguments('cuda')['FROM']}\n" in text
    assert "RUN sh containers/install.sh" in text
    for _, inside in re.findall(r"^    (\S+) /opt/source/(\S+)$", sections("cuda")["files"], re.M):
        assert re.search(rf"^COPY .*\b{re.escape(inside)} ", text, re.M), inside
    for accelerator, flag in zip(ACCELERATORS, ("", " --nv", " --nv", " --rocm")):
        assert f"apptainer run{flag} IMAGE.sif STAGE" in sections(accelerator)["help"]


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), flags=re.M)
    return {canonicalize_name(name): version for name, version in found}


def test_each_file_of_an_image_has_its_hash_at_the_lock_s_versions():
    """Those of the extras that images have, with all that they need in turn."""
    lock, images = pins(ROOT / "constraints.txt"), pins(CONTAINERS / "hashes.txt")
    assert not {name: version for name, version in images.items() if lock.get(name) != version}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    needed = "\n".join(
        [setup["options"]["install_requires"], *(extras[e] for e in ("gwf", "mlflow", "optuna"))]
    )
    names = {canonicalize_name(re.split(r"[\[>=]", line)[0]) for line in needed.split()}
    assert names | {"setuptools", "triton", "nvidia-nccl-cu13"} <= images.keys()
    blocks = re.split(r"^(?=\w)", (CONTAINERS / "hashes.txt").read_text(), flags=re.M)[1:]
    assert len(blocks) == len(images)
    for block in blocks:
        assert re.search(r"\\\n    --hash=sha256:[0-9a-f]{64}", block), block
    assert "pip install --no-deps --no-build-isolation ." in (CONTAINERS / "install.sh").read_text().replace(
        "$pip", "pip"
    )


def test_torch_of_another_index_is_all_that_has_no_hash(tmp_path):
    """What install.sh leaves out of the hashed list for torch's other builds, by its own line."""
    (line,) = re.findall(
        r"^  (awk .*) containers/hashes.txt >", (CONTAINERS / "install.sh").read_text(), re.M
    )
    shell = f"{line} {CONTAINERS / 'hashes.txt'}"
    kept = tmp_path / "hashes.txt"
    kept.write_text(subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout)
    gone = pins(CONTAINERS / "hashes.txt").keys() - pins(kept).keys()
    assert {"torch", "triton", "cuda-toolkit", "nvidia-nccl-cu13"} <= gone
    assert all(name.startswith(("torch", "triton", "cuda-", "nvidia-")) for name in gone)
    assert {"numpy", "ray", "zarr"} <= pins(kept).keys()


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_labels_name_version_revision_and_recipe(accelerator):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    labels = dict(line.strip().split(" ", 1) for line in sections(accelerator)["labels"].strip().split("\n"))
    assert labels["org.opencontainers.image.version"] == setup["metadata"]["version"]
    assert labels["org.opencontainers.image.revision"] == "{{ REVISION }}"
    assert labels["glitchflow.recipe.sha256"] == "{{ RECIPE }}"


def test_what_an_image_makes_names_the_image_s_revision(monkeypatch):
    monkeypatch.setenv("GLITCHFLOW_REVISION", "0123abc")
    assert provenance()["revision"] == "0123abc"


@pytest.fixture
def checkout(tmp_path):
    """A clean checkout of what is here, and a function that calls its build.sh: (exit status, output, record)."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "containers", tree / "containers")
    shutil.copytree(ROOT / "glitchflow" / "signal", tree / "glitchflow")
    shutil.copy(ROOT / "constraints.txt", tree)
    recorder = tmp_path / "recorder"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-C", str(tree), *words], check=True)

    def build(*words: str, apptainer: str = str(recorder)) -> tuple[int, str, str]:
        record = tmp_path / "record"
        own = {"APPTAINER": apptainer, "RECORD": str(record)}
        line = [str(tree / "containers" / "build.sh"), *words]
        done = subprocess.run(line, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr, record.read_text() if record.exists() else ""

    return tree, build


def revision(tree: Path) -> str:
    line = ["git", "-C", str(tree), "rev-parse", "HEAD"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


def test_build_records_revision_and_recipe(checkout, tmp_path):
    tree, build = checkout
    status, output, record = build("cpu", "out.sif", "--fakeroot")
    assert status == 0, output
    assert f"REVISION={revision(tree)} " in record
    assert "--fakeroot" in record
    first, second, third, *parts = (tmp_path / "out.sif.recipe").read_text().splitlines()
    text = "\n".join(parts) + "\n"
    assert first == f"recipe: {hashlib.sha256(text.encode()).hexdigest()}"
    assert f"RECIPE={first.split()[1]} " in record
    assert second == f"revision: {revision(tree)}"
    assert third == f"image: {hashlib.sha256((tmp_path / 'out.sif').read_bytes()).hexdigest()}"
    lock = hashlib.sha256((tree / "constraints.txt").read_bytes()).hexdigest()
    assert f"{lock}  constraints.txt" in parts
    files = hashlib.sha256((tree / "containers" / "hashes.txt").read_bytes()).hexdigest()
    assert f"{files}  containers/hashes.txt" in parts
    assert parts[-1] == "options: --fakeroot"


def test_build_refuses_a_changed_tree_or_says_so(checkout):
    tree, build = checkout
    (tree / "glitchflow" / "new.py").write_text("")
    (tree / "glitchflow" / "whiten.py").unlink()
    status, output, record = build("cpu", "out.sif")
    assert (status, record) == (2, "")
    assert output.count("\n") == 1
    assert "the tree is changed ( D glitchflow/whiten.py ...): commit, or give --dirty" in output
    status, output, record = build("--dirty", "cpu", "out.sif")
    assert status == 0, output
    assert f"REVISION={revision(tree)}-dirty " in record
    assert "new.py" in record
    assert "whiten.py" not in record


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the first word is cpu, cuda, cuda12 or rocm, not ''"),
        (("tpu", "out.sif"), "the first word is cpu, cuda, cuda12 or rocm, not 'tpu'"),
        (("cpu",), "the second word is the image to write"),
        (("cpu", "record"), "record is there already: remove it first"),
    ],
)
def test_build_names_what_is_wrong(checkout, tmp_path, words, message):
    (tmp_path / "record").write_text("")
    status, output, record = checkout[1](*words)
    assert (status, record) == (2, "")
    assert message in output
    assert output.count("\n") == 1


def test_build_without_apptainer_says_what_to_do(checkout):
    status, output, _ = checkout[1]("rocm", "out.sif", apptainer="no-such-apptainer")
    assert status == 2
    assert "no command 'no-such-apptainer': install Apptainer, or name it in APPTAINER" in output
