"""How a row of the table of stages becomes a command: its arguments, its help, its call, its errors as one line."""

import contextlib
import errno
import inspect
import logging
import math
import os
import pkgutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn, TextIO

import typer

from glitchflow.config import NO_IMPORTS, Experiment, Reads, describe, listed, load
from glitchflow.errors import InputError, RunError
from glitchflow.progress import said
from glitchflow.signals import SIGNALS
from glitchflow.worker_logs import kept_in


@dataclass(frozen=True)
class Stage:
    """A command on an experiment."""

    function: str  # package.module:function, called with the experiment and those options that it takes
    help: str
    reads: str  # sections, and single keys as section.key
    options: tuple[str, ...] = ()
    instead: dict[str, str] = field(default_factory=dict)  # another function, where this option is given
    says: str = "{stage}: wrote {shown} in {seconds:.1f} s"  # of what the function returns
    required: bool = True  # CONFIG
    writes: bool = True  # under the workdir, which then has a record of the run
    arguments: tuple[str, ...] = ()  # that follow CONFIG


# name: type, option, default
OPTIONS: dict[str, tuple[Any, Any, Any]] = {
    "nodes": (int, typer.Option("--nodes", help="Nodes of the cluster to plan for."), 1),
    "cores": (int | None, typer.Option("--cores", help="Cores of each; default: as here."), None),
    "overwrite": (bool, typer.Option("--overwrite", help="Replace what this stage wrote before."), False),
    "force": (bool, typer.Option("--force", help="Also where validation says that it does harm."), False),
    "shard": (int | None, typer.Option("--shard", help="Make this shard alone, again."), None),
    "verify": (
        bool,
        typer.Option("--verify", help="Check every shard first, and make damaged ones again."),
        False,
    ),
    "split": (
        bool,
        typer.Option("--split", help="Assign the splits anew, as `split` says; no data are read."),
        False,
    ),
    "address": (str, typer.Option("--address", help="Ray cluster to join.", envvar="RAY_ADDRESS"), ""),
    "no_imports": (
        bool,
        typer.Option(
            "--no-imports", help="Refuse import paths: run no code but GlitchFlow's.", envvar=NO_IMPORTS
        ),
        False,
    ),
    "workers": (
        str,
        typer.Option(
            "--scaling", metavar="1,2,4", help="Instead, measure the speed on so many workers: scaling/."
        ),
        "",
    ),
}
ARGUMENTS: dict[str, tuple[Any, Any]] = {
    "gps": (float, typer.Argument(metavar="GPS", help="The time, in GPS s."))
}
SAME, LATER = 1.0, 0.05  # s
VERBOSE = "GLITCHFLOW_VERBOSE"  # in the environment: where an error comes from is printed before its line
CONFIG = {True: "The experiment, a YAML file.", False: "Also check what this experiment needs."}


def command(app: typer.Typer, name: str, stage: Stage) -> None:
    """Make a command of a row of the table, with the keys it reads at the end of its help."""
    keyword, empty = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
    overrides = typer.Argument(
        metavar="SECTION.KEY=VALUE", help="Keys of the file to change.", autocompletion=completing(stage)
    )
    rows: dict[str, tuple[Any, Any, Any]] = {
        "path": (
            str,
            typer.Argument(metavar="CONFIG", help=CONFIG[stage.required]),
            empty if stage.required else "",
        ),
    }
    rows |= {name: (*ARGUMENTS[name], empty) for name in stage.arguments}
    rows["overrides"] = (list[str] | None, overrides, None)
    names = (*stage.options, *("address",) * ("cluster" in stage.reads.split()), "no_imports")
    rows |= {option: OPTIONS[option] for option in names}

    def run(**given: Any) -> None:
        with one_line():
            call(name, stage, given)

    run.__doc__ = stage.help
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(key, keyword, default=default, annotation=Annotated[kind, option])
            for key, (kind, option, default) in rows.items()
        ]
    )
    # \b keeps typer from joining the lines
    keys = describe(Experiment, stage.reads.split())
    app.command(name, epilog=f"\b\nKeys it reads, with defaults:\n{keys}")(run)


def completing(stage: Stage) -> Callable[[str], list[tuple[str, str]]]:
    """How a shell completes the keys that a stage reads: those that begin so, with what they mean."""

    def keys(incomplete: str) -> list[tuple[str, str]]:
        rows = listed(Experiment, stage.reads.split())
        return [
            (f"{name}=", meaning)
            for name, _, meaning in rows
            if name.startswith(incomplete) and "[]" not in name  # of a list as a whole
        ]

    return keys


def call(name: str, stage: Stage, given: dict[str, Any]) -> None:
    """Read the experiment, call the stage's function with what it may see of it, and say what it wrote."""
    path, address = given.pop("path"), given.get("address", "")
    if given.pop("no_imports"):
        os.environ[NO_IMPORTS] = "1"
    overrides, experiment = given.pop("overrides") or [], None
    if path:
        whole = load(path, overrides)
        cluster = whole.cluster.model_copy(update={"address": address or whole.cluster.address})
        whole = whole.model_copy(update={"cluster": cluster})
        experiment = whole.limited(Reads(name, frozenset(stage.reads.split())))
    started = time.monotonic()
    # imported only now: --help and a mistyped key answer without waiting for torch and Ray
    chosen = next((stage.instead[option] for option in stage.instead if given[option]), stage.function)
    function: Callable[..., Any] = pkgutil.resolve_name(chosen)
    taken = inspect.signature(function).parameters
    with contextlib.ExitStack() as kept:
        if path:
            kept.enter_context(remembered(name, stage, Path(whole.workdir), path, overrides))
        written = function(experiment, **{key: value for key, value in given.items() if key in taken})
    seconds = time.monotonic() - started
    done(stage.says.format(stage=name, written=written, shown=shown(written), seconds=seconds))


@contextlib.contextmanager
def remembered(name: str, stage: Stage, workdir: Path, path: str, overrides: list[str]) -> Iterator[None]:
    """Within the block the workdir keeps what dead workers said, and a record of the run where the stage writes."""
    from glitchflow.site.runs import recorded

    with (
        kept_in(workdir),
        recorded(workdir, name, path, overrides) if stage.writes else contextlib.nullcontext(),
    ):
        yield


def shown(written: Any) -> str:
    """A path from here, unless here is far from it: a job's directory is nobody's starting point."""
    text = str(written)
    near = text if "://" in text else os.path.relpath(text)
    return text if near.startswith("../..") else near


# what a file system says that no more can be written to, or not by this user: no fault of the program's
REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
REFUSED |= {errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP}


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Turn the errors a user can act on, and a signal, into one line on standard error and an exit status."""
    _heed_signals()
    try:
        yield
        _only_ends()
        _silence()
    except (InputError, RunError) as error:
        if said(VERBOSE):
            traceback.print_exc()
        stop(str(error), 2 if isinstance(error, InputError) else 1)
    except OSError as error:  # of a plain file; what goes through objects.py has its line by now
        if error.errno not in REFUSED:
            raise
        stop(f"{error.filename or 'a file'}: cannot be written: {error.strerror}", 1)
    except EOFError as error:  # typer would say no more than "Aborted!"
        raise RuntimeError(f"something read beyond the end of its input: {error}") from error
    except Exception as error:
        if not _of_object_store(error):
            raise
        stop(f"the file system or the object store refuses: {' '.join(str(error).split())[:300]}", 1)
    except KeyboardInterrupt:
        stop("stopped; what is finished is kept, and the same command goes on from there", 1)


def _of_object_store(error: Exception) -> bool:
    """Whether it is of obstore, through which objects and arrays are read and written; it may not be imported yet."""
    there = sys.modules.get("obstore.exceptions")
    return there is not None and isinstance(error, there.BaseError)


def done(line: str) -> None:
    """Say on standard output what is done; from then on the status is 0, whatever signal comes."""
    _only_ends()
    print(line, flush=True)


def stop(line: str, status: int) -> NoReturn:
    """End the process with one line on standard error and this status."""
    _only_ends()
    print(f"glitchflow: {line}", file=_silence(), flush=True)
    sys.exit(status)


def _heed_signals() -> None:
    """Make a batch system's end, or its warning, a Ctrl-C.

    What comes within `SAME` seconds of it is the same word, said to a job and to its step, and would break into what
    puts things in order.
    """
    last, shows = -math.inf, sys.unraisablehook

    def heed(number: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before > SAME:
            raise KeyboardInterrupt

    def lost(
        what: Any,
    ) -> None:  # raised where Python lets nothing out: in a __del__, or a callback of the collector
        nonlocal last
        if what.exc_type is not KeyboardInterrupt:
            shows(what)
            return
        threading.Timer(LATER, os.kill, (os.getpid(), signal.SIGTERM)).start()
        last = -math.inf

    sys.unraisablehook = lost
    for number in SIGNALS:
        if (
            number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
        ):  # as of a shell's jobs with &
            signal.signal(number, heed)


def _only_ends() -> None:
    """From here on the process only ends: what it makes is written, or its last line is about to be said, and no signal
    changes its status, or breaks into what libraries do at its end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _silence() -> TextIO:
    """Keep what libraries say while they are torn down away from the screen; returns where a last line goes."""
    shown = sys.stderr
    if not said(VERBOSE):
        logging.disable()  # as Ray's, which has the screen by itself
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  open until the process ends
    return shown
