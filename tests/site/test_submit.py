"""What a job's working directory holds and what is refused; jobs themselves run in tests/cluster/test_site.py."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from glitchflow import cli, config
from glitchflow.errors import InputError
from glitchflow.site import submit

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
COMMAND = Path(sys.executable).parent / "glitchflow"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A user's directory: a recipe of their own, what it imports, what it does not, and data."""
    files = {
        "mine.py": "import numpy\nimport glitchflow\nfrom parts import noise\n",
        "parts/__init__.py": "",
        "parts/noise.py": "def f():\n    import helper\n",
        "parts/curve.txt": "10 1e-23\n",
        "parts/__pycache__/noise.pyc": "",
        "helper.py": "from . import nothing_else\n",
        "other.py": "import helper\n",
        "data/big.zarr/c/0": "0" * 1000,
        "glitchflow/__init__.py": "",
        "x.yaml": "workdir: out\nsimulate: {recipe: 'mine:make'}\nmodel: {width: 8}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def packed(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_what_goes_up_is_the_experiment_and_the_modules_it_names(here, tmp_path_factory):
    up = tmp_path_factory.mktemp("up")
    experiment = config.load("x.yaml", ["train.epochs=3", "infer.checkpoint=other", "cluster.address=a:6379"])
    submit.pack(submit.given(experiment), up / "x.yaml", here)
    modules = ["helper.py", "mine.py", "parts/__init__.py", "parts/curve.txt", "parts/noise.py"]
    assert packed(up) == sorted([*modules, "x.yaml"])
    assert yaml.safe_load((up / "x.yaml").read_text()) == {
        "workdir": str(here / "out"),  # a job's own directory is another
        "simulate": {"recipe": "mine:make"},
        "model": {"width": 8},
        "train": {"epochs": 3},
        "infer": {"checkpoint": str(here / "other")},
    }
    unset = experiment.model_copy(update={"cluster": config.Experiment().cluster})
    assert config.load(up / "x.yaml") == unset


def test_the_default_workdir_is_that_of_the_user_too(here, tmp_path_factory):
    up = tmp_path_factory.mktemp("up")
    (here / "y.yaml").write_text("seed: 2\n")
    submit.pack(submit.given(config.load("y.yaml")), up / "y.yaml", here)
    assert yaml.safe_load((up / "y.yaml").read_text()) == {
        "seed": 2,
        "workdir": str(here / "runs" / "default"),
    }
    assert packed(up) == ["y.yaml"]


@pytest.mark.parametrize("name", [".git/HEAD", "cache.zarr/zarr.json", "events.h5", "deep/er/frames.gwf"])
def test_data_and_repositories_are_refused(here, tmp_path_factory, name):
    (here / "parts" / name).parent.mkdir(parents=True, exist_ok=True)
    (here / "parts" / name).write_text("")
    up = tmp_path_factory.mktemp("up")
    shown = f"parts/{name.removesuffix('/HEAD').removesuffix('/zarr.json')}"
    with pytest.raises(
        InputError, match=f"^{shown}: data and repositories are not uploaded with a job: keep it outside"
    ):
        submit.pack(submit.given(config.load("x.yaml")), up / "x.yaml", here)
    assert packed(up) == []


def test_too_much_is_refused_with_the_biggest_files(here, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(submit, "LIMIT", 0.3)
    for name, size in {"a": 100, "b": 250, "c": 50, "d": 10}.items():
        (here / "parts" / f"{name}.txt").write_bytes(b"0" * size * 1000)
    biggest = r"parts/b.txt \(0.2 MB\), parts/a.txt \(0.1 MB\), parts/c.txt \(0.1 MB\)$"
    message = "^0.4 MB of modules to upload, at most 0.3: the biggest are " + biggest
    with pytest.raises(InputError, match=message):
        submit.pack(submit.given(config.load("x.yaml")), tmp_path_factory.mktemp("up") / "x.yaml", here)


def test_a_module_that_is_not_python(here, tmp_path_factory):
    (here / "helper.py").write_text("def (:\n")
    with pytest.raises(InputError, match=r"helper\.py: is not Python: "):
        submit.pack(submit.given(config.load("x.yaml")), tmp_path_factory.mktemp("up") / "x.yaml", here)


def test_the_environment_of_a_job(monkeypatch):
    monkeypatch.setenv("MY_KEY", "a=b")
    monkeypatch.delenv("NOT_SET", raising=False)
    assert submit._variable("X=1=2") == ("X", "1=2")
    assert submit._variable("EMPTY=") == ("EMPTY", "")
    assert submit._variable("MY_KEY") == ("MY_KEY", "a=b")
    for item in ("NOT_SET", "=1"):
        with pytest.raises(
            InputError, match=f"^--env {item}: NAME=VALUE, or the NAME of a variable that is set here"
        ):
            submit._variable(item)


def test_the_words_of_a_stage():
    words = ["--overwrite", "x.yaml", "train.epochs=3", "--scaling", "1,2"]
    assert cli.words_of("train", words) == (
        "x.yaml",
        ["train.epochs=3"],
        ["--overwrite", "--scaling", "1,2"],
    )
    with pytest.raises(InputError, match=r"^submit inspect: not one of plan, generate, "):
        cli.words_of("inspect", ["x.zarr"])


def run(cwd: Path, *arguments: object) -> subprocess.CompletedProcess:
    import os

    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    line = [COMMAND, "submit", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=kept, timeout=120)


@pytest.mark.ci
@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (("train", QUICKSTART), 2, "glitchflow: --address: which cluster? that of its dashboard"),
        (("train", "nowhere.yaml", "--address", "http://127.0.0.1:1"), 2, "glitchflow: nowhere.yaml: no such file"),
        (("train", QUICKSTART, "train.epoch=1"), 2, f"glitchflow: {QUICKSTART} with train.epoch=1: "),
        (("fly", QUICKSTART), 2, "glitchflow: submit fly: not one of plan, generate"),
        (
            ("train", QUICKSTART, "--address", "http://127.0.0.1:1"),
            1,
            "glitchflow: --address http://127.0.0.1:1: no Ray dashboard answers there: ",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(tmp_path, arguments, status, message):
    done = run(tmp_path, *arguments)
    assert done.returncode == status
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_the_stage_has_not(tmp_path):
    done = run(tmp_path, "generate", QUICKSTART, "--scaling", "1,2")
    assert done.returncode == 2
    assert "No such option: --scaling" in done.stderr
