"""Checkpoints that MLflow's registry keeps, as `models:/NAME/VERSION`: fetched once, and read from here then.

A version is a number: what an alias or a stage names may be another one tomorrow.
"""

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from glitchflow.errors import InputError

SCHEME = "models:/"
NAMED = re.compile(r"models:/([^/@]+)/(\d+)")
FILES = ("meta.json", "weights.pt")  # all that inference needs
# of a server that does not answer one hears sooner than by MLflow's own
TIMES = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


def fetched(name: str, uri: str, directory: Path) -> Path:
    """Fetch a registered checkpoint into a directory of its own below `directory`, one for each server, unless it is
    there; returns it.

    uri: the MLflow server. Raises `InputError`: one line.
    """
    asked = f"infer.checkpoint = {name}"
    named = NAMED.fullmatch(name)
    if not named:
        raise InputError(
            f"{asked}: a registered checkpoint is models:/NAME/VERSION, and its version a number"
        )
    model, version = named.groups()
    if not uri:
        raise InputError(f"{asked}: mlflow.uri names no MLflow server")
    path = directory / hashlib.sha256(uri.encode()).hexdigest()[:8] / f"{model}-{version}"
    if path.is_dir():
        return path
    for variable, value in TIMES.items():
        os.environ.setdefault(variable, value)
    try:
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise InputError("mlflow.uri: MLflow is not installed; pip install 'glitchflow[mlflow]'") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetched-") as scratch:
        made = Path(scratch) / path.name
        made.mkdir()
        try:
            # what models:/ leads to is asked of this server: `download_artifacts` asks the environment's
            source = MlflowClient(uri).get_model_version_download_uri(model, version)
            where = Path(download_artifacts(artifact_uri=source, dst_path=scratch, tracking_uri=uri))
            for one in FILES:
                shutil.copy(where / one, made / one)
        except (MlflowException, OSError) as error:
            text = " ".join(str(error).split())[:200]
            raise InputError(f"{asked}: not to be had from {uri}: {text}") from None
        try:
            made.rename(path)
        except OSError:  # another command fetched it meanwhile
            if not path.is_dir():
                raise
    return path
