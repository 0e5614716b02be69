"""What stages say of a dataset, or of predictions, that a disk has lost or changed some of: one line, never zeros."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import run_here

from glitchflow.analysis.clean.clean import clean
from glitchflow.analysis.evaluate.evaluate import evaluate
from glitchflow.analysis.infer import infer
from glitchflow.config import Experiment
from glitchflow.data.store.dataset import open_store
from glitchflow.errors import RunError
from glitchflow.train.loop import train
from glitchflow.train.setup import training_of


def flip(file: Path) -> None:
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 64
    file.write_bytes(changed)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def loop(run: Experiment, overwrite: bool) -> None:
    """What a worker of `train` does."""
    train(training_of(run), Path(run.workdir) / "train")


SHARD = "c/3/0/0/0"
STAGES: dict[str, Callable] = {"infer": infer, "evaluate": evaluate, "clean": clean, "train": loop}


def copy_of(run: Experiment, workdir: Path, stage: str) -> Experiment:
    """What a stage starts from."""
    shutil.copytree(run.workdir, workdir, dirs_exist_ok=True)
    if stage == "infer":
        shutil.rmtree(workdir / "predictions.zarr")
    if stage == "train":
        shutil.rmtree(workdir / "train")
    return run.model_copy(update={"workdir": str(workdir)})


@pytest.mark.parametrize(
    "stage, file, harm, message",
    [
        ("infer", f"dataset.zarr/qplot/{SHARD}", flip, "shard 3: qplot differs from its checksum"),
        ("infer", f"dataset.zarr/qplot/{SHARD}", Path.unlink, "shard 3: qplot is missing"),
        ("infer", "dataset.zarr/split/c/0", Path.unlink, "split is missing"),
        ("infer", "dataset.zarr/qplot/zarr.json", cut, "no array there"),
        ("evaluate", f"dataset.zarr/qplot/{SHARD}", flip, "shard 3: qplot differs from its checksum"),
        ("evaluate", "dataset.zarr/split/c/0", flip, "split differs from its checksum"),
        ("evaluate", "predictions.zarr/qplot/c/TEST/0/0", cut, "shard TEST: qplot "),
        ("clean", "dataset.zarr/series/c/3/0/0", flip, "shard 3: series differs from its checksum"),
        ("clean", "predictions.zarr/qplot/c/3/0/0", Path.unlink, "shard 3: qplot is missing"),
        ("clean", "dataset.zarr/.done/all.json", Path.unlink, ".done/all.json is missing"),
        ("train", f"dataset.zarr/qplot/{SHARD}", flip, "shard 3: qplot differs from its checksum"),
        ("train", "dataset.zarr/split/c/0", Path.unlink, "split is missing"),
    ],
)
def test_a_stage_says_what_is_damaged(trained_run, tmp_path, stage, file, harm, message):
    run = copy_of(trained_run, tmp_path, stage)
    dataset = open_store(run.dataset)
    scored = str(dataset.indices("test")[0] // dataset.layout.shard)  # a shard that holds an event to score
    file, message = file.replace("TEST", scored), message.replace("TEST", scored)
    harm(tmp_path / file)
    options = {} if stage in ("infer", "evaluate") else {"overwrite": True}
    with pytest.raises(RunError) as error:
        STAGES[stage](run, **options)
    line = str(error.value)
    assert line.startswith(f"{tmp_path}/{file.split('/')[0]}")
    assert "damaged: " in line
    assert message in line
    assert "\n" not in line


@pytest.mark.parametrize("stage", ["clean", "infer"])
def test_through_the_command(trained_run, tmp_path, stage):
    run = copy_of(trained_run, tmp_path, stage)
    flip(tmp_path / "dataset.zarr" / "split" / "c" / "0")
    (tmp_path / "x.yaml").write_text(run.model_dump_json())
    done = run_here(stage, tmp_path / "x.yaml")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"glitchflow: {tmp_path}/dataset.zarr: damaged: split differs from its checksum"
    )
