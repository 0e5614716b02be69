"""Checkpoints by a registry's names: what cannot be fetched is one line. Fetched from a server: test_mlflow_copy.py."""

import pytest
from helpers import run_here

from glitchflow.errors import InputError
from glitchflow.train.checkpoint import find


@pytest.mark.parametrize(
    "name", ["models:/twin", "models:/twin/latest", "models:/twin@champion", "models:/../1/2"]
)
def test_a_version_is_a_number(tmp_path, name):
    with pytest.raises(InputError) as error:
        find(tmp_path / "train" / "checkpoints", name, "http://127.0.0.1:1")
    assert str(error.value) == (
        f"infer.checkpoint = {name}: a registered checkpoint is models:/NAME/VERSION, and its version a number"
    )


def test_without_a_server_there_is_none(tmp_path, dataset_run):
    command = ["infer", tmp_path / "a.yaml", f"store.path={dataset_run.dataset}", f"workdir={tmp_path}"]
    (tmp_path / "a.yaml").write_text(dataset_run.model_dump_json())
    ended = run_here(*command, "infer.checkpoint=models:/twin/3")
    assert (ended.returncode, ended.stderr) == (
        2,
        "glitchflow: infer.checkpoint = models:/twin/3: mlflow.uri names no MLflow server\n",
    )


def test_a_server_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="the extra [mlflow] is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        InputError, match=r"^infer.checkpoint = models:/twin/3: not to be had from http://127.0.0.1:1: "
    ):
        find(tmp_path / "train" / "checkpoints", "models:/twin/3", "http://127.0.0.1:1")
    assert [path for path in (tmp_path / "registry").rglob("*") if path.is_file()] == []
