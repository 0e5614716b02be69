"""The command itself: one line and a status for each end, help for each stage.

In this process, but where it is the process that is looked at.
"""

import importlib.metadata
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import obstore
import pytest
import ray
from helpers import a_process, run_here, small
from obstore.store import S3Store

from glitchflow.cli import STAGES
from glitchflow.command import one_line
from glitchflow.config import NO_IMPORTS, Experiment, describe, load
from glitchflow.errors import RunError

COMMAND = Path(sys.executable).parent / "glitchflow"
QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """As a user's shell runs it."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=120
    )


def test_a_mistyped_key_is_one_line_and_status_2():
    done = run("train", QUICKSTART, "train.epoch=3")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"glitchflow: {QUICKSTART} with train.epoch=3: train.epoch: unknown key; did you mean train.epochs?\n"
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("generate", "nowhere.yaml"), "glitchflow: nowhere.yaml: no such file"),
        (
            ("generate", QUICKSTART, "simulate.recipe=nope"),
            "glitchflow: simulate.recipe = nope: not one of detector, notebook",
        ),
        (("inspect", "nowhere.zarr"), "glitchflow: nowhere.zarr: no store there; make one with"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = run_here(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize(
    "stage", [name for name, one in STAGES.items() if one.writes and "cluster" in one.reads.split()]
)
def test_a_stage_lays_nothing_out_for_a_ray_that_does_not_answer(tmp_path, monkeypatch, stage):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    done = run_here(stage, QUICKSTART, f"workdir={tmp_path}/run", "--address", "127.0.0.1:1")
    said = "cluster.address = 127.0.0.1:1: cannot join a Ray cluster there: [Errno 111] Connection refused"
    assert (done.returncode, done.stderr) == (1, f"glitchflow: {said}\n")
    experiment = load(QUICKSTART, [f"workdir={tmp_path}/run", "cluster.address=127.0.0.1:1"])
    for name in (STAGES[stage].function, *STAGES[stage].instead.values()):  # from Python, too
        with pytest.raises(RunError, match=re.escape(said)):
            pkgutil.resolve_name(name)(experiment)
    assert not (tmp_path / "run").exists()


def test_a_refusing_disk_is_one_line_and_status_1(tmp_path):
    (tmp_path / "file").touch()
    done = run_here("generate", QUICKSTART, f"workdir={tmp_path}/file/x")
    assert done.returncode == 1
    assert done.stderr == f"glitchflow: {tmp_path}/file/x/dataset.zarr: cannot be written: Not a directory\n"


def test_a_disk_that_is_full_under_a_plain_file_is_one_line_and_status_1(capsys):
    with pytest.raises(SystemExit) as ended, a_process(), one_line(), Path("/dev/full").open("w") as file:
        file.write("metrics")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "glitchflow: a file: cannot be written: No space left on device\n"
    with pytest.raises(SystemExit), a_process(), one_line():
        Path(300 * "x").touch()
    assert capsys.readouterr().err == f"glitchflow: {300 * 'x'}: cannot be written: File name too long\n"
    with (
        pytest.raises(FileNotFoundError),
        a_process(),
        one_line(),
    ):  # no disk's fault: the traceback says whose
        Path("/nowhere/at/all").read_text()


def test_an_object_store_that_does_not_answer_is_one_line_and_status_1(capsys):
    away = S3Store(
        "bucket",
        endpoint="http://127.0.0.1:1",
        region="none",
        skip_signature=True,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    with pytest.raises(SystemExit) as ended, a_process(), one_line():
        obstore.head(away, "zarr.json")
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("glitchflow: the file system or the object store refuses: ")
    assert "http://127.0.0.1:1/bucket/zarr.json" in said
    assert said.count("\n") == 1


def test_what_reads_beyond_its_end_is_no_ctrl_c():
    """typer takes an EOFError for one, and says no more than that it aborted."""
    with (
        pytest.raises(RuntimeError, match=r"^something read beyond the end of its input: no more$"),
        a_process(),
        one_line(),
    ):
        raise EOFError("no more")


def test_no_import_path_is_followed_where_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv(NO_IMPORTS, "")  # what the command sets ends with the test
    monkeypatch.chdir(tmp_path)
    done = run_here("generate", QUICKSTART, "--no-imports", "simulate.recipe=builtins:print")
    assert done.returncode == 2
    assert done.stderr == (
        "glitchflow: simulate.recipe = builtins:print: is not imported under --no-imports; built in are detector,"
        " notebook\n"
    )


def test_inspect(dataset_run):
    done = run_here("inspect", dataset_run.dataset, "--verify", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["events"] == 96
    assert done.stderr == ""


@pytest.mark.ci
def test_a_notebooks_backend_is_none_of_ours(dataset_run, tmp_path):
    """Jupyter and Colab hand theirs down, which an environment of our own has not."""
    code = (
        "import os, sys; os.environ['MPLBACKEND'] = 'module://ipympl.backend_nbagg';"
        "from glitchflow.cli import main; sys.argv[0] = 'glitchflow'; main()"
    )
    words = ("inspect", dataset_run.dataset, "--event", "3", "--figure", tmp_path / "event.png")
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "event.png").stat().st_size


def test_inspect_of_a_damaged_store_has_status_1(dataset_run, tmp_path):
    path = shutil.copytree(dataset_run.dataset, tmp_path / "d.zarr")
    (path / "witnessed" / "c" / "2" / "0" / "0").unlink()
    done = run_here("inspect", path, "--verify")
    assert done.returncode == 1
    assert "  shard 2: witnessed is missing" in done.stdout.splitlines()
    assert done.stderr.startswith(f"glitchflow: {path}: damaged or incomplete: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("stage", STAGES)
def test_help_ends_in_the_keys_that_a_stage_reads(stage):
    done = run_here(stage, "--help")
    assert done.returncode == 0
    shown = [line.strip() for line in done.stdout.splitlines()]
    keys = [line.strip() for line in describe(Experiment, STAGES[stage].reads.split()).splitlines()]
    assert shown[-len(keys) :] == keys, "one line each, none wrapped"


def test_help_lists_the_stages():
    done = run_here("--help")
    assert done.returncode == 0
    for stage in (*STAGES, "inspect", "replay", "submit"):
        assert f"\n  {stage} " in done.stdout


@pytest.mark.parametrize("arguments", [("nosuch",), ("generate",), ("generate", QUICKSTART, "--nosuch")])
def test_a_wrong_command_line_has_status_2(arguments):
    done = run_here(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Try 'glitchflow" in done.stderr


@pytest.mark.ci
def test_a_recipe_in_the_working_directory(tmp_path):
    """By import path, as the user's shell stands there: in the driver and in Ray's workers."""
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from glitchflow.signal.types import Event, Recipe\n"
        "def event(index):\n"
        "    return Event(np.random.default_rng(index).standard_normal((2, 2048)), None, 0, float(index), 0.0)\n"
        "def make(simulate, series, derived, seed):\n"
        "    return Recipe(16, ['S', 'W'], ['background'], [], {}, event, int)\n"
    )
    (tmp_path / "x.yaml").write_text(
        "workdir: out\nseries: {duration: 8, sample_rate: 256}\nsimulate: {recipe: 'mine:make'}\n"
        "qplot: {q: 8, frange: [12, 90], shape: [16, 16]}\ncluster: {cpus: 1}\n"
    )
    done = run("generate", "x.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("generate: wrote out/dataset.zarr in ")
    assert done.stderr.splitlines()[-1].startswith("Q-plots: 16/16 events, ")


@pytest.mark.parametrize(
    "words, found",
    [
        ("glitchflow tr", ["train"]),
        (
            "glitchflow train a.yaml train.l",
            ["train.loss=", "train.lr=", "train.lr_batch=", "train.lr_scaling="],
        ),
        ("glitchflow evaluate a.yaml train.l", []),  # which it does not read
    ],
)
def test_a_shell_completes_stages_and_the_keys_that_they_read(words, found):
    place = len(words.split()) - 1
    done = subprocess.run(
        [COMMAND],
        env={
            **os.environ,
            "_GLITCHFLOW_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(place),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, found, "")


@pytest.mark.ci
def test_version_is_said():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"glitchflow {importlib.metadata.version('glitchflow')}\n")


@pytest.mark.ci
def test_quiet_says_results_and_errors_alone(tmp_path):
    few = ["generate", QUICKSTART, f"workdir={tmp_path}", "simulate.events=8", "cluster.cpus=1"]
    told = run("--quiet", *few)
    assert told.returncode == 0
    assert told.stderr == ""
    assert told.stdout.startswith("generate: wrote ")


def test_verbose_says_where_an_error_comes_from():
    done = run("--verbose", "train", QUICKSTART, "train.epoch=3")
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("train.epoch: unknown key; did you mean train.epochs?\n")


# in a process of its own: signals meet a command, several at once, at one of these moments
ENDING = """
import atexit, logging, os, signal, sys, threading, time, warnings
from glitchflow.cli import main

moment, numbers = sys.argv[1], (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
sys.argv = ["glitchflow", *sys.argv[2:]]

def hit():
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)  # all at once

class Gone:
    def __del__(self):
        hit()

def reads(*arguments):
    if moment == "in a __del__":
        Gone()
        time.sleep(20)
    hit()

class Shown:
    def __init__(self, stream):
        self.stream = stream
    def write(self, text):
        self.stream.write(text)
        if self.stream.fileno() == 1 or text.startswith("glitchflow: "):
            hit()
    def __getattr__(self, name):
        return getattr(self.stream, name)

atexit.register(lambda: warnings.warn("of a library"))
library = logging.getLogger("a library")
library.addHandler(logging.StreamHandler(sys.stderr))  # the screen itself, as Ray's has
atexit.register(lambda: library.error("of a library too"))
if moment == "while it says its last line":
    sys.stdout, sys.stderr = Shown(sys.stdout), Shown(sys.stderr)
elif moment == "at exit":
    atexit.register(hit)
elif moment == "while threads end":
    threading._register_atexit(hit)
else:
    import glitchflow.site.runs
    glitchflow.site.runs._read = reads
main()
"""
STOPPED = "glitchflow: stopped; what is finished is kept, and the same command goes on from there\n"


def ending(moment: str, *words: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-c", ENDING, moment, *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


@pytest.mark.ci
@pytest.mark.parametrize("moment", ["while it says its last line", "at exit", "while threads end"])
def test_a_signal_after_the_end_changes_nothing(tmp_path, moment):
    """Neither the status, nor what is said; and libraries have nothing to add as they are torn down."""
    done = ending(moment, "init", tmp_path / "config.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("init: wrote")
    failed = ending(moment, "init", tmp_path / "config.yaml")
    assert failed.returncode == 2
    assert failed.stderr.startswith(f"glitchflow: {tmp_path}/config.yaml: ")
    assert failed.stderr.count("\n") == 1


@pytest.mark.ci
def test_a_signal_after_the_end_of_a_stage_changes_nothing(tmp_path):
    experiment = small(tmp_path, simulate={"events": 4})
    (tmp_path / "config.yaml").write_text(experiment.model_dump_json())
    done = ending("while it says its last line", "generate", tmp_path / "config.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("generate: wrote")


@pytest.mark.ci
@pytest.mark.parametrize("moment", ["in a call", "in a __del__"])
def test_signals_end_it_in_one_line(tmp_path, moment):
    """Also where Python lets no exception out."""
    (tmp_path / "runs.jsonl").touch()
    done = ending(moment, "runs", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", STOPPED)


@pytest.mark.ci
def test_ctrl_c_while_modules_are_imported_is_a_line(tmp_path):
    """As in the first tenths of a second, before a stage listens to signals."""
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "glitchflow", "generate", "none.yaml"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "glitchflow: stopped before it began\n"
