"""A run in MLflow: a copy, made by the driver, of what the run writes under `train/` anyway.

Workers know nothing of it, and a server that stops answering costs the run nothing: what is missing is sent when the
command is given again. `train/mlflow.json` remembers the run and how many lines of metrics.jsonl it has.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glitchflow.config import Mlflow
from glitchflow.data.objects import read, write_text
from glitchflow.errors import InputError, RunError
from glitchflow.progress import say
from glitchflow.train import checkpoint
from glitchflow.train.registry import FILES, TIMES
from glitchflow.train.tracking import ENDS, read_metrics

NAME = "mlflow.json"
EVERY = 5.0  # seconds between looks at metrics.jsonl
BATCH = 1000  # metrics that MLflow takes in one request


@dataclass(frozen=True)
class Known:
    """What `NAME` says."""

    run: str
    sent: int


@dataclass
class Mirror:
    """A run of ours and the one in MLflow that shows it."""

    client: Any
    run: str
    directory: Path
    sent: int = 0  # lines of metrics.jsonl, without the words of how it ended
    trouble: str = ""  # what was last said of the server

    def remember(self) -> None:
        """Note which run it is, and how much of it is there."""
        write_text(self.directory / NAME, json.dumps({"run": self.run, "sent": self.sent}))


@contextlib.contextmanager
def mirrored(
    settings: Mlflow,
    name: str,
    parameters: dict[str, Any],
    directory: Path,
    clear: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Keep a run in MLflow up to date while the block runs; nothing without `mlflow.uri`.

    `name` and `parameters`, a tree, are those of a new run there. `clear` deletes an earlier run, once the server has
    answered; this one is then a new one there, too.

    Raises `InputError` where MLflow is not installed or, for a new run, nothing answers there.
    """
    mirror = _open(settings, name, parameters, directory, clear is not None) if settings.uri else None
    if clear:
        clear()
    if mirror is None:
        yield
        return
    mirror.remember()
    over = threading.Event()

    def send() -> None:
        while not over.wait(EVERY):
            _quietly(mirror, settings, lambda: _send_metrics(mirror))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped = sys.exc_info()[0] is not None
        over.set()
        thread.join()
        _quietly(mirror, settings, lambda: _finish(mirror, settings, stopped))


def _open(settings: Mlflow, name: str, parameters: dict[str, Any], directory: Path, afresh: bool) -> Mirror:
    """The run that `directory` has already, or a new one."""
    for variable, seconds in TIMES.items():
        os.environ.setdefault(variable, seconds)
    try:
        from mlflow import entities
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise InputError("mlflow.uri: MLflow is not installed; pip install 'glitchflow[mlflow]'") from None
    client = MlflowClient(settings.uri)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        known = None if afresh else read(directory, NAME, Known)
        if known:
            mirror = Mirror(client, known.run, directory, known.sent)
            _quietly(mirror, settings, lambda: client.update_run(known.run, status="RUNNING"))
            return mirror
        there = client.get_experiment_by_name(settings.experiment)
        number = there.experiment_id if there else client.create_experiment(settings.experiment)
        mirror = Mirror(client, client.create_run(number, run_name=name).info.run_id, directory)
        params = [entities.Param(key, str(value)) for key, value in _flat(parameters)]
        client.log_batch(mirror.run, params=params)
    except MlflowException as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"mlflow.uri = {settings.uri}: no MLflow server answers there: {text}") from None
    return mirror


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _send_metrics(mirror: Mirror) -> None:
    """The lines that are new. Those that a resumed run takes back come again, the same ones at the same places."""
    from mlflow.entities import Metric

    lines = [x for x in read_metrics(mirror.directory / "metrics.jsonl") if x["kind"] not in ENDS]
    now = int(time.time() * 1000)
    metrics = [
        Metric(f"{line['kind']}/{name}", float(value), now, line["step"])
        for line in lines[mirror.sent :]
        for name, value in line.items()
        if name not in ("kind", "step") and isinstance(value, (int, float))
    ]
    for start in range(0, len(metrics), BATCH):
        mirror.client.log_batch(mirror.run, metrics=metrics[start : start + BATCH])
    mirror.sent = max(mirror.sent, len(lines))
    mirror.remember()


def _finish(mirror: Mirror, settings: Mlflow, stopped: bool) -> None:
    """The last metrics, the artefacts, the registered model, and how the run ended."""
    _send_metrics(mirror)
    for path in (mirror.directory / "metrics.jsonl", mirror.directory / "log.txt"):
        if path.exists():
            mirror.client.log_artifact(mirror.run, str(path))
    if (mirror.directory / "figures").exists():
        mirror.client.log_artifacts(mirror.run, str(mirror.directory / "figures"), "figures")
    last = read_metrics(mirror.directory / "metrics.jsonl")[-1:]
    kind = last[0]["kind"] if last else "failed"
    best = checkpoint.best(mirror.directory / "checkpoints")
    if best is not None:
        for name in FILES:
            mirror.client.log_artifact(mirror.run, str(best / name), "best")
        if settings.model and not stopped and kind == "epoch":
            _register(mirror, settings.model, best)
    status = {"stopped": "KILLED", "failed": "FAILED"}.get(kind, "FAILED" if stopped else "FINISHED")
    mirror.client.set_terminated(mirror.run, status)


def _register(mirror: Mirror, name: str, best: Path) -> None:
    """The best checkpoint as a new version of a registered model, unless it is one already."""
    from mlflow.exceptions import MlflowException

    try:
        mirror.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    of_this_run = mirror.client.search_model_versions(f"run_id='{mirror.run}'")
    if any(version.tags.get("checkpoint") == best.name for version in of_this_run):
        return
    source = f"{mirror.client.get_run(mirror.run).info.artifact_uri}/best"
    mirror.client.create_model_version(
        name, source, mirror.run, tags={"checkpoint": best.name}, await_creation_for=0
    )


def _quietly(mirror: Mirror, settings: Mlflow, send: Any) -> None:
    """Say what MLflow refuses, and go on: the run is worth more than its copy."""
    from mlflow.exceptions import MlflowException

    trouble = ""
    try:
        send()
    except (MlflowException, OSError, RunError) as error:
        trouble = f"mlflow.uri = {settings.uri}: not up to date: {' '.join(str(error).split())[:200]}"
    if trouble and trouble[:80] != mirror.trouble[:80]:  # what follows may be an address in memory
        say(trouble)
    mirror.trouble = trouble
