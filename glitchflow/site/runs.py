"""What was run under a directory: a record of each run in the `runs.jsonl` of its workdir, and the table of them.

A record is written when a stage begins and once more, with its end, when it ends; of the lines of one run the last
counts. A run without an end is at work, or was killed. A record is no result: where it cannot be written, nothing is
said of that.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from glitchflow.data.objects import alive
from glitchflow.errors import InputError, RunError, printable
from glitchflow.progress import log
from glitchflow.train.tracking import read_metrics

NAME = "runs.jsonl"
COLUMNS = ("began", "stage", "took", "state", "score", "workdir", "config")


class Record(BaseModel):
    """What is read of a line: whoever may write into a workdir may have written it."""

    run: str
    stage: str
    config: str = Field(min_length=1)
    overrides: list[str]
    began: str
    host: str
    pid: int = Field(gt=0, lt=2**31)
    seconds: float = 0.0  # these with the end
    exit: int = 0
    said: str = ""
    score: dict[str, float] = {}


@contextlib.contextmanager
def recorded(workdir: Path, stage: str, config: str, overrides: Sequence[str]) -> Iterator[None]:
    """Within the block a stage runs, which its workdir is to remember; one that is never made remembers nothing."""
    began, started = datetime.now(UTC), time.monotonic()
    record: dict[str, Any] = {
        "run": f"{began:%Y%m%dT%H%M%S.%f}-{socket.gethostname()}-{os.getpid()}",
        "stage": stage,
        "config": os.path.abspath(config),  # noqa: PTH100  as it was given, links and all
        "overrides": list(overrides),
        "began": began.isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    _keep(workdir, record)
    status, said = 1, ""
    try:
        yield
        status = 0
    except InputError as error:
        status, said = 2, str(error)
        raise
    except BaseException as error:
        said = str(error) or type(error).__name__
        raise
    finally:
        seconds = round(time.monotonic() - started, 1)  # the clock may be set meanwhile
        score = {} if status else headline(stage, workdir)
        _keep(workdir, record | {"seconds": seconds, "exit": status, "said": said, "score": score})


def _keep(workdir: Path, record: dict[str, Any]) -> None:
    if workdir.is_dir():
        with contextlib.suppress(OSError):
            log(workdir / NAME, json.dumps(record))


def headline(stage: str, workdir: Path) -> dict[str, float]:
    """The one number that says most of what a stage has made; none of most stages."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RunError):
        if stage == "evaluate":
            families = json.loads((workdir / "evaluation" / "metrics.json").read_text())["families"]
            scores = families["witnessed"]["scores"]["network"]
            name = next(name for name in ("residual", "removed") if scores[name]["value"] is not None)
            return {name: scores[name]["value"]}
        if stage == "train":
            lines = read_metrics(workdir / "train" / "metrics.jsonl")
            return {"validation_loss": min(x["validation_loss"] for x in lines if x["kind"] == "epoch")}
    return {}


def runs(directory: Path, as_json: bool) -> str:
    """The table of what was run in the workdirs at and below a directory, by time of begin. Raises `InputError` where
    there is no such directory."""
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory")
    found = [
        r | {"workdir": os.path.relpath(at, directory)} for at in _workdirs(directory) for r in _read(at)
    ]
    found = [r | {"state": _state(r)} for r in sorted(found, key=lambda r: (r["began"], r["run"]))]
    if as_json:
        return json.dumps(found, indent=2)
    if not found:
        return f"{directory}: no runs"
    rows = [COLUMNS, *(tuple(map(printable, _row(one))) for one in found)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(COLUMNS))]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths)).rstrip() for row in rows)


def _workdirs(directory: Path) -> Iterator[Path]:
    for place, below, files in os.walk(directory):
        if NAME in files:
            yield Path(place)
        # neither stores, of many thousand objects, nor what is hidden
        below[:] = sorted(name for name in below if not name.endswith(".zarr") and not name.startswith("."))


def _read(workdir: Path) -> list[dict[str, Any]]:
    """The last record of each run; lines that are none, cut off by a full disk, are left out."""
    found = {}
    for line in (workdir / NAME).read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            record = Record.model_validate_json(line)
            found[record.run] = record.model_dump(exclude_unset=True)
    return list(found.values())


def _state(record: dict[str, Any]) -> str:
    if "exit" in record:
        return f"exit {record['exit']}" if record["exit"] else "done"
    if record["host"] != socket.gethostname():
        return "no end yet"
    return "at work" if alive(record["pid"]) else "killed"


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    score = ", ".join(f"{name} {value:.3g}" for name, value in record.get("score", {}).items())
    took = f"{record['seconds']:.0f} s" if "seconds" in record else ""
    words = " ".join([os.path.relpath(record["config"]), *record["overrides"]])
    return record["began"][:19], record["stage"], took, record["state"], score, record["workdir"], words
