"""What workers said before they died: kept in a file, for Ray's own logs go with its session.

The nodes' logs are read by a task on each, so that they need no file system in common, and what is kept is where the
stage writes: `workers.log` in its workdir.
"""

import contextlib
import re
import socket
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glitchflow.errors import Died
from glitchflow.progress import log

NAME = "workers.log"
HEADS = (":job_id:", ":task_name:", ":actor_name:")  # of lines by which Ray says whose a file is
TAIL = 20_000  # bytes of each file: a traceback of every thread
MOST = 64  # files of a node, the last written
WARNING = re.compile(
    r" [WEF] \d+ \d+\] \(raylet\) (?!store.cc)"
)  # the store says so of every client that ends
PATIENCE = 30.0  # s for the nodes to answer

_directory: ContextVar[Path | None] = ContextVar("directory", default=None)


@contextlib.contextmanager
def kept_in(directory: Path) -> Iterator[None]:
    """Within the block, what dead workers said is kept in a file of this directory."""
    before = _directory.set(directory)
    try:
        yield
    finally:
        _directory.reset(before)


def died(what: str, error: Exception, line: int, directory: Path | None = None) -> Died:
    """The error to raise where workers died of `error`: one line, with the file that has all of it and their logs.

    line: the line of the error that says why; the rest of its advice is in the file. directory: where that is written;
    default: that of `kept_in`, else a new temporary one.
    """
    where = directory or _directory.get() or Path(tempfile.mkdtemp(prefix="glitchflow-"))
    said = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = said[line].split(". ")[0].rstrip(".")
    text = "\n".join([f"=== {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {what}", str(error).strip(), *_logs()])
    try:
        where.mkdir(parents=True, exist_ok=True)
        log(where / NAME, text)
    except OSError as refused:
        return Died(f"{what}: {reason} (what they said cannot be kept in {where}: {refused.strerror})")
    return Died(f"{what}: {reason}; what they said is in {where / NAME}")


def _logs() -> list[str]:
    """A text of each node that is alive, as far as it answers in time."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    try:
        job, read = ray.get_runtime_context().get_job_id(), ray.remote(num_cpus=0)(_of_this_node)
        alive = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
        asked = {read.options(scheduling_strategy=On(key, soft=False)).remote(job): key for key in alive}
        done, late = ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE)
        return [text for one in done for text in _answer(one, alive[asked[one]])] + [
            f"--- {alive[asked[one]]}: no answer within {PATIENCE:g} s" for one in late
        ]
    except (RuntimeError, ValueError, ray.exceptions.RayError) as gone:
        return [f"--- no node can be asked: {gone}"]


def _answer(reference: Any, node: str) -> list[str]:
    import ray

    try:
        return list(ray.get(reference))
    except ray.exceptions.RayError as error:
        return [f"--- {node}: {error}"]


def _of_this_node(job: str) -> list[str]:
    """In a task: what this node's workers of a job wrote, and its raylet's warnings, each under its file's name."""
    import ray

    node = ray._private.worker._global_node
    logs = Path(node.get_logs_dir_path()) if node else Path()
    files = sorted(logs.glob("worker-*"), key=lambda path: path.stat().st_mtime)[-MOST:]
    texts = {
        path: _tail(path) for path in (*files, logs / "raylet.out", logs / "raylet.err") if path.exists()
    }
    found = {}
    for path, text in texts.items():
        lines = text.splitlines()
        if path in files:
            ours = f":job_id:{job}" in path.read_text(errors="replace")[:1000]
            lines = [line for line in lines if ours and not line.startswith(HEADS)]
        elif path.suffix == ".out":
            lines = [line for line in lines if WARNING.search(line)]
        if lines:
            found[path.name] = "\n".join(lines)
    return [f"--- {socket.gethostname()}: {name}\n{text}" for name, text in found.items()]


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().decode(errors="replace")
