"""A stage as a job on a running Ray cluster: a small working directory goes up, the log and exit status come back.

What goes up is the experiment, resolved, and the modules of the user's own that it names by import path; never
data. Paths in the experiment are those of the machine where the command was given, which the cluster must share.
"""

import ast
import asyncio
import logging
import os
import re
import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from glitchflow.cluster import ENVIRONMENT
from glitchflow.config import Experiment
from glitchflow.errors import InputError, RunError
from glitchflow.progress import say
from glitchflow.ray_join import knock

LIMIT = 10.0  # MB of a working directory: settings and code
DATA = (".git", "*.zarr", "*.gwf", "*.hdf5", "*.h5", "*.hdf", "*.root", "*.npy", "*.npz", "*.pt", "*.sif")
CACHES = ("__pycache__", "*.pyc", "*.egg-info")
IMPORT_PATH = re.compile(r"([A-Za-z_]\w*)(\.\w+)*:[A-Za-z_]\w*")


def submit(
    words: Sequence[str],
    experiment: Experiment,
    address: str = "",
    environment: Sequence[str] = (),
    follow: bool = True,
) -> str:
    """Run a stage as a job on the cluster whose dashboard is at `address`; returns the job's id when it is done.

    words: the stage, the experiment's file, which names the job, and the options of the stage's command line.
    environment: NAME=VALUE, or NAME alone for the value it has here.

    Raises `InputError` where what the job needs is too much to upload or the job found its input wrong;
    `RunError` where the cluster cannot be reached, refuses the token, or the job fails.
    """
    stage, source, *options = words
    variables = dict(map(_variable, environment))
    client = connect(address)
    job = f"{stage}-{Path(source).stem}-{secrets.token_hex(3)}"
    name = f"{Path(source).stem}.yaml"
    with tempfile.TemporaryDirectory(prefix="glitchflow-") as directory:
        pack(given(experiment), Path(directory) / name, Path.cwd())
        wait = {"RAY_JOB_STOP_WAIT_TIME_S": str(round(experiment.train.grace) + 5)}  # time for a checkpoint
        client.submit_job(
            entrypoint=shlex.join(["glitchflow", stage, name, *options]),
            submission_id=job,
            runtime_env={"working_dir": directory, "env_vars": ENVIRONMENT | wait | variables},
        )
    say(
        f"job {job} on {client.get_address()}; its files are under {experiment.workdir} as the cluster sees it"
    )
    if follow:
        _follow(client, job)
    else:
        say(_commands(client, job))
    return job


def connect(address: str) -> Any:
    """Ray's client for jobs. Raises `InputError` without an address, `RunError` where it does not let us in."""
    address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS", "")
    if not address:
        raise InputError(
            "--address: which cluster? that of its dashboard, as http://127.0.0.1:8265, or RAY_API_SERVER_ADDRESS"
        )
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for module in ("dashboard_sdk", "job.sdk"):  # not what is uploaded, and when a socket closes
        logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.WARNING)
    try:
        knock(address)
        return JobSubmissionClient(address)
    except AuthenticationError:
        raise RunError(
            f"--address {address}: the cluster wants its token: export RAY_AUTH_MODE=token"
            " RAY_AUTH_TOKEN_PATH=FILE, the file it was started with"
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"--address {address}: no Ray dashboard answers there: {reason}") from None


def _variable(item: str) -> tuple[str, str]:
    name, given, value = item.partition("=")
    if not name or (not given and name not in os.environ):
        raise InputError(f"--env {item}: NAME=VALUE, or the NAME of a variable that is set here")
    return name, value if given else os.environ[name]


# -- what goes up ------------------------------------------------------------------------------------------------


def given(experiment: Experiment) -> dict[str, Any]:
    """What of an experiment goes up: the keys that were given; another version may not know the rest."""
    values = experiment.model_dump(mode="json", exclude_unset=True) | {"workdir": experiment.workdir}
    values.pop("cluster", None)  # the job joins the cluster it runs on
    return values


def pack(values: dict[str, Any], path: Path, here: Path) -> None:
    """Write an experiment to the file `path`, and copy the modules in `here` that it names beside it.

    Raises `InputError` naming a dataset among a module's files, or the biggest of them where they are too big.
    """
    files = _own_files(sorted(_import_paths(values)), here)
    sizes = {file: file.stat().st_size / 1e6 for file in files}
    if sum(sizes.values()) > LIMIT:
        biggest = sorted(files, key=lambda file: -sizes[file])[:3]
        raise InputError(
            f"{sum(sizes.values()):.1f} MB of modules to upload, at most {LIMIT:g}: the biggest are "
            + ", ".join(f"{file.relative_to(here)} ({sizes[file]:.1f} MB)" for file in biggest)
        )
    for file in files:
        target = path.parent / file.relative_to(here)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def _import_paths(values: Any) -> Iterator[str]:
    """Top-level modules of every `package.module:name` among the values."""
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _import_paths(value)
    elif isinstance(values, str) and (match := IMPORT_PATH.fullmatch(values)):
        yield match[1]


def _own_files(modules: list[str], here: Path) -> list[Path]:
    """Files of these modules and of those they import, as far as they lie in the directory `here`."""
    waiting, seen, files = list(modules), {"glitchflow"}, []  # the nodes have GlitchFlow itself
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        single = here / f"{module}.py"
        found = [single] if single.is_file() else list(_package(here / module, here))
        for file in found:
            if file.suffix == ".py":
                waiting += _imported(file)
        files += found
    return sorted(files)


def _package(directory: Path, here: Path) -> Iterator[Path]:
    """All files of a package, caches left out. Raises `InputError` at the first dataset or repository in it."""
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if any(fnmatch(path.name, pattern) for pattern in DATA):
            raise InputError(
                f"{path.relative_to(here)}: data and repositories are not uploaded with a job: keep it outside"
                f" {directory.relative_to(here)}/ and name its path on the cluster"
            )
        if any(fnmatch(path.name, pattern) for pattern in CACHES):
            continue
        if path.is_dir():
            yield from _package(path, here)
        else:
            yield path


def _imported(file: Path) -> Iterator[str]:
    """Top-level names that a Python file imports, at any depth of nesting."""
    try:
        tree = ast.parse(file.read_text())
    except (SyntaxError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: is not Python: {error}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


# -- what comes back ---------------------------------------------------------------------------------------------


def _follow(client: Any, job: str) -> None:
    """Show the job's log until it ends. Raises `RunError` or `InputError` where it ended with status 1 or 2."""
    import aiohttp

    try:
        asyncio.run(_show(client, job))
        while not (info := client.get_job_info(job)).status.is_terminal():
            time.sleep(0.2)
    except KeyboardInterrupt:
        raise RunError(f"no longer following; {_commands(client, job)}") from None
    except (aiohttp.ClientError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"the connection was lost ({reason}); {_commands(client, job)}") from None
    status = info.driver_exit_code
    if status == 2:
        raise InputError(f"job {job}: its input is wrong: its last line says what")
    if status or info.status != "SUCCEEDED":
        reason = (
            f"status {status}" if status else f"{info.status}: {(info.message or '').strip()}".splitlines()[0]
        )
        missing = "; is `glitchflow` on the PATH that Ray was started with?" if status == 127 else ""
        raise RunError(f"job {job} ended with {reason}{missing}")


async def _show(client: Any, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        say(lines.rstrip("\n"))


def _commands(client: Any, job: str) -> str:
    where = f"--address {client.get_address()} {job}"
    return f"job {job} runs on: `ray job logs --follow {where}`, `ray job stop {where}`"
