"""Against a real MLflow server on loopback, with SQLite. Its `mlflow` command comes from an environment of its own,
which GLITCHFLOW_TEST_MLFLOW names: the server does not share our pins."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import torch

from glitchflow.config.training import Mlflow
from glitchflow.errors import InputError, RunError
from glitchflow.train import checkpoint
from glitchflow.train.fit import fit
from glitchflow.train.mlflow_copy import mirrored
from glitchflow.train.tracking import read_metrics


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a server that runs for this module."""
    pytest.importorskip("mlflow", reason="the extra [mlflow] is not installed")
    command = os.environ.get("GLITCHFLOW_TEST_MLFLOW", "")
    if not command:
        pytest.skip("GLITCHFLOW_TEST_MLFLOW is not set: no `mlflow` command to run a server with")
    directory = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [command, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    line += [
        "--backend-store-uri",
        f"sqlite:///{directory}/runs.db",
        "--artifacts-destination",
        str(directory / "files"),
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            line, cwd=directory, stdout=log, stderr=log, start_new_session=True, env=environment
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process, directory / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # it starts processes of its own; all are in its group
            process.wait()


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(log.read_text()[-2000:])


def run_of_its_own(dataset_run, directory, uri, **train):
    (directory / "dataset.zarr").symlink_to(dataset_run.dataset)
    settings = Mlflow(uri=uri, experiment="tests", run="twin", model="twin")
    update = {"workers": 1, "epochs": 2, "samples": 2, **train}
    return dataset_run.model_copy(
        update={
            "workdir": str(directory),
            "mlflow": settings,
            "train": dataset_run.train.model_copy(update=update),
        }
    )


@pytest.mark.slow
def test_a_run_with_metrics_artefacts_and_a_registered_model(server, dataset_run, tmp_path):
    from mlflow.tracking import MlflowClient

    experiment = run_of_its_own(dataset_run, tmp_path, server, epochs=400, schedule="constant")
    home = tmp_path / "train"
    threading.Thread(target=stop_after_two_epochs, args=(home,), daemon=True).start()
    with pytest.raises(RunError, match="stopped after step"):
        fit(experiment)
    client = MlflowClient(server)
    run = json.loads((home / "mlflow.json").read_text())["run"]
    assert client.get_run(run).info.status == "KILLED"
    assert not client.search_model_versions("name='twin'")

    done = checkpoint.find(home / "checkpoints", "last").meta.epoch
    fit(run_of_same(experiment, epochs=done + 2))  # the same run goes on
    assert json.loads((home / "mlflow.json").read_text())["run"] == run
    found = client.get_run(run)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == (experiment.mlflow.run or Path(experiment.workdir).name)
    assert found.data.params["train.lr"] == str(experiment.train.lr)
    epochs = [line for line in read_metrics(home / "metrics.jsonl") if line["kind"] == "epoch"]
    history = client.get_metric_history(run, "epoch/validation_loss")
    assert [m.value for m in sorted(history, key=lambda m: m.step)] == [e["validation_loss"] for e in epochs]
    names = {item.path for item in client.list_artifacts(run)}
    assert names == {"metrics.jsonl", "log.txt", "figures", "best"}
    (version,) = client.search_model_versions("name='twin'")
    assert version.run_id == run
    weights = client.download_artifacts(run, "best/weights.pt", str(tmp_path))
    best = checkpoint.open_checkpoint(checkpoint.best(home / "checkpoints"))
    for name, value in torch.load(weights, weights_only=True).items():
        assert torch.equal(value, best.weights()[name]), name

    elsewhere, registered = (
        tmp_path / "elsewhere" / "train" / "checkpoints",
        f"models:/twin/{version.version}",
    )
    found = checkpoint.find(elsewhere, registered, server)
    assert found.path.parents[1] == tmp_path / "elsewhere" / "registry"
    assert found.path.name == f"twin-{version.version}"
    assert found.meta == best.meta
    for name, value in found.weights().items():
        assert torch.equal(value, best.weights()[name]), name
    assert checkpoint.find(elsewhere, registered, server).path == found.path
    with pytest.raises(
        InputError, match=rf"^infer.checkpoint = models:/twin/99: not to be had from {server}: "
    ):
        checkpoint.find(elsewhere, "models:/twin/99", server)
    assert [path.name for path in found.path.parent.iterdir()] == [found.path.name], "nothing else is left"


def run_of_same(experiment, **train):
    return experiment.model_copy(update={"train": experiment.train.model_copy(update=train)})


def stop_after_two_epochs(home: Path) -> None:
    while sum(line["kind"] == "epoch" for line in read_metrics(home / "metrics.jsonl")) < 2:
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.ci
def test_no_server_is_said_before_anything_runs(dataset_run, tmp_path):
    pytest.importorskip("mlflow", reason="the extra [mlflow] is not installed")
    experiment = run_of_its_own(dataset_run, tmp_path, "http://127.0.0.1:1")
    with pytest.raises(InputError, match=r"mlflow.uri = http://127.0.0.1:1: no MLflow server answers there"):
        fit(experiment)
    assert not (tmp_path / "train" / "metrics.jsonl").exists()


@pytest.mark.ci
def test_a_run_goes_on_without_its_server(tmp_path, capsys):
    pytest.importorskip("mlflow", reason="the extra [mlflow] is not installed")
    (tmp_path / "mlflow.json").write_text('{"run": "known", "sent": 3}')
    with mirrored(Mlflow(uri="http://127.0.0.1:1"), "twin", {}, tmp_path):
        pass
    assert "mlflow.uri = http://127.0.0.1:1: not up to date: " in capsys.readouterr().err
    assert json.loads((tmp_path / "mlflow.json").read_text()) == {"run": "known", "sent": 3}


def test_what_it_remembers_and_is_damaged_is_named(tmp_path):
    pytest.importorskip("mlflow", reason="the extra [mlflow] is not installed")
    (tmp_path / "mlflow.json").write_text('{"run": 3}')
    with (
        pytest.raises(
            RunError, match=f"^{tmp_path}: damaged: mlflow.json: run: Input should be a valid string$"
        ),
        mirrored(Mlflow(uri="http://127.0.0.1:1"), "twin", {}, tmp_path),
    ):
        pytest.fail("begun")


def test_without_the_extra_it_says_what_to_install(dataset_run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow.tracking", None)
    with pytest.raises(
        InputError, match=r"mlflow.uri: MLflow is not installed; pip install 'glitchflow\[mlflow\]'"
    ):
        fit(run_of_its_own(dataset_run, tmp_path, "http://127.0.0.1:1"))
