"""The command line: one command per stage, `glitchflow STAGE CONFIG.yaml [section.key=value ...]`.

No logic here: arguments in, a stage's function called, its errors turned into one line and an exit status:
0 done, 1 failed at run time, 2 the user's input is wrong.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NoReturn

import typer

from glitchflow import config
from glitchflow.config import Experiment
from glitchflow.config.sections import Cluster
from glitchflow.errors import InputError, RunError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)

Config = Annotated[str, typer.Argument(metavar="CONFIG", help="The experiment, a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="SECTION.KEY=VALUE", help="Keys of the file to change.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what this stage wrote before.")]
Shard = Annotated[int | None, typer.Option("--shard", help="Make this shard alone, again.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Check every shard first, and make damaged ones again.")
]
Address = Annotated[str, typer.Option("--address", help="Ray cluster to join.", envvar="RAY_ADDRESS")]

Scaling = Annotated[
    str,
    typer.Option(
        "--scaling", metavar="1,2,4", help="Instead, measure the speed on so many workers: scaling/."
    ),
]


def stage(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A command whose help ends in the keys it reads. `\\b` keeps typer from joining the lines."""
    return app.command(name, epilog=f"\b\nKeys it reads, with defaults:\n{config.describe(name)}")


STAGE_OF = {"fit": "train", "sweep": "tune"}  # where a stage's function has another name
GATES = {
    "fit": "analysis.baseline",
    "sweep": "analysis.baseline",
}  # modules whose gate(experiment) may refuse a stage


def _run(
    module: str, function: str, path: str, overrides: list[str] | None, address: str = "", **options: Any
) -> None:
    """Read the experiment, call `glitchflow.<module>.<function>(experiment)`, and say what it wrote."""
    with _one_line():
        experiment = _load(path, overrides, address)
        started = time.monotonic()
        # imported only now: --help and a mistyped key answer without waiting for torch and Ray
        if function in GATES:
            options["gate"] = importlib.import_module(f"glitchflow.{GATES[function]}").gate
        written = getattr(importlib.import_module(f"glitchflow.{module}"), function)(experiment, **options)
        print(
            f"{STAGE_OF.get(function, function)}: wrote {_shown(written)} in {time.monotonic() - started:.1f} s"
        )


def _load(path: str, overrides: list[str] | None, address: str) -> Experiment:
    experiment = config.load(path, overrides or [])
    joined = experiment.cluster.model_copy(update={"address": address or experiment.cluster.address})
    return experiment.model_copy(update={"cluster": joined})


def _shown(written: Any) -> str:
    shown = str(written) if "://" in str(written) else os.path.relpath(written)
    return (
        str(written) if shown.startswith("../..") else shown
    )  # a job's directory is nobody's starting point


@app.callback()
def about() -> None:
    """GlitchFlow: digital twins of gravitational-wave detector noise, from witness Q-plots to the strain's.

    Every stage reads the same CONFIG.yaml and writes under its `workdir`.
    """


@stage("plan")
def plan(
    path: Config,
    overrides: Overrides = None,
    nodes: Annotated[int, typer.Option("--nodes", help="Nodes of the cluster to plan for.")] = 1,
    cores: Annotated[int | None, typer.Option("--cores", help="Cores of each; default: as here.")] = None,
    address: Address = "",
) -> None:
    """Say what a dataset will cost, from a few seconds' calibration here. Writes nothing."""
    with _one_line():
        from glitchflow.site import plan as module

        experiment = _load(path, overrides, address)
        print(module.describe(experiment.store, module.plan(experiment, nodes=nodes, cores=cores)))


@stage("generate")
def generate(
    path: Config,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    shard: Shard = None,
    verify: Verify = False,
    address: Address = "",
) -> None:
    """Make synthetic events and their Q-plots: dataset.zarr. Goes on where it stopped."""
    options = {"overwrite": overwrite, "shard": shard, "verify": verify}
    _run("data.generate", "generate", path, overrides, address, **options)


@stage("ingest")
def ingest(
    path: Config,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    shard: Shard = None,
    verify: Verify = False,
    address: Address = "",
) -> None:
    """Make the Q-plots of recorded events: dataset.zarr. Goes on where it stopped."""
    options = {"overwrite": overwrite, "shard": shard, "verify": verify}
    _run("data.generate", "ingest", path, overrides, address, **options)


@stage("baseline")
def baseline(path: Config, overrides: Overrides = None) -> None:
    """Score baselines and oracle on the test split, and say whether the data can teach: baseline.json."""
    _run("analysis.baseline", "baseline", path, overrides)


@stage("scan")
def scan(path: Config, overrides: Overrides = None, address: Address = "") -> None:
    """Rank the witnesses by their coincidence with the strain: scan.json, scan.png and witnesses.txt."""
    _run("analysis.scan", "scan", path, overrides, address)


@stage("train")
def train(
    path: Config,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    address: Address = "",
    workers: Scaling = "",
) -> None:
    """Say what the data can teach, then train the network with Ray Train: train/. Goes on where it stopped."""
    if workers:
        _run("train.scaling", "scaling", path, overrides, address, workers=workers)
    else:
        _run("train.fit", "fit", path, overrides, address, overwrite=overwrite)


@stage("tune")
def tune(
    path: Config, overrides: Overrides = None, overwrite: Overwrite = False, address: Address = ""
) -> None:
    """Search for the best settings with Ray Tune: tune/, with best.yaml to train. Goes on where it stopped."""
    _run("train.tune.sweep", "sweep", path, overrides, address, overwrite=overwrite)


@stage("export")
def export(path: Config, overrides: Overrides = None) -> None:
    """Write the trained network, with its normalisation, as a torch.export program: export/."""
    _run("train.export", "export", path, overrides)


@stage("infer")
def infer(
    path: Config, overrides: Overrides = None, overwrite: Overwrite = False, address: Address = ""
) -> None:
    """Generate the strain's Q-plots from the witnesses': predictions.zarr. Goes on where it stopped."""
    _run("analysis.infer", "infer", path, overrides, address, overwrite=overwrite)


@stage("evaluate")
def evaluate(path: Config, overrides: Overrides = None, address: Address = "") -> None:
    """Score the predictions on the test split, beside baselines and oracle: evaluation/."""
    _run("analysis.evaluate.evaluate", "evaluate", path, overrides, address)


@stage("clean")
def clean(path: Config, overrides: Overrides = None, overwrite: Overwrite = False) -> None:
    """Subtract the generated noise from the strain, and write it with the veto segments: clean/."""
    _run("analysis.clean.clean", "clean", path, overrides, overwrite=overwrite)


@stage("report")
def report(path: Config, overrides: Overrides = None) -> None:
    """Draw everything there is so far on one page: report.html."""
    _run("analysis.report", "report", path, overrides)


@app.command("inspect")
def inspect(
    store: Annotated[str, typer.Argument(help="A store, such as runs/quickstart/dataset.zarr.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every shard against its checksum.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    event: Annotated[
        int | None, typer.Option("--event", metavar="N", help="Draw this event instead.")
    ] = None,
    figure: Annotated[
        str, typer.Option("--figure", metavar="FILE", help="Where to; default: event-N.png.")
    ] = "",
) -> None:
    """Show what a store holds, or draw one event of it."""
    from glitchflow.analysis.inspect import inspect

    with _one_line():
        if event is not None or figure:
            from glitchflow.analysis.event_figure import draw

            print(f"inspect: wrote {_shown(draw(store, event, figure))}")
            return
        text, intact = inspect(store, verify, as_json)
        print(text)
        if not intact:
            raise RunError(
                f"{store}: damaged or incomplete: the same command finishes it, --shard K makes a damaged shard again"
            )


@stage("doctor")
def doctor(
    path: Annotated[
        str, typer.Argument(metavar="CONFIG", help="Also check what this experiment needs.")
    ] = "",
    overrides: Overrides = None,
    address: Address = "",
) -> None:
    """Say what on this machine or cluster would make a run fail, and what to do. Status 1 where something would."""
    with _one_line():
        started = time.monotonic()
        experiment = _load(path, overrides, address) if path else None
        module = importlib.import_module("glitchflow.site.doctor")
        screen, failed = module.doctor(
            experiment, experiment.cluster if experiment else Cluster(address=address)
        )
        print(screen, flush=True)  # before the line on standard error, where both go to one place
        if failed:
            raise RunError(f"doctor: would break a run: {', '.join(failed)}")
        print(f"doctor: nothing that would break a run, in {time.monotonic() - started:.1f} s")


@app.command("submit", context_settings={"ignore_unknown_options": True})
def submit(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Any command that takes a CONFIG.")],
    words: Annotated[
        list[str], typer.Argument(metavar="CONFIG", help="The rest of the stage's command line.")
    ],
    address: Annotated[
        str, typer.Option("--address", help="Dashboard of the cluster, or RAY_API_SERVER_ADDRESS.")
    ] = "",
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="Set in the job; NAME: as here.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Show the job's log and end with its status.")] = True,
) -> None:
    """Run a stage as a job on a running Ray cluster, show its log, and end with its exit status."""
    with _one_line():
        path, overrides, options = _words_of(stage, words)
        experiment = config.load(path, overrides)
        started = time.monotonic()
        module = importlib.import_module("glitchflow.site.submit")
        job = module.submit(stage, experiment, path, options, address, env or [], follow)
        print(f"submit: job {job} {'done' if follow else 'sent'} in {time.monotonic() - started:.1f} s")


def _words_of(stage: str, words: list[str]) -> tuple[str, list[str], list[str]]:
    """CONFIG, overrides and options of a stage's command line, which that command itself checks."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    if stage not in config.STAGES:
        raise InputError(f"submit {stage}: not one of {', '.join(config.STAGES)}")
    given = commands[stage].make_context(f"glitchflow {stage}", list(words)).params
    path, overrides = given["path"], given["overrides"] or []
    return path, overrides, [word for word in words if word not in (path, *overrides)]


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Turn the errors a user can act on into one line on standard error and an exit status."""
    for number in (signal.SIGTERM, signal.SIGUSR1):  # a batch system's end, or its warning, is a Ctrl-C
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except InputError as error:
        _stop(str(error), 2)
    except RunError as error:
        _stop(str(error), 1)
    except KeyboardInterrupt:
        _stop("stopped; what is finished is kept, and the same command goes on from there", 1)


def _stop(line: str, status: int) -> NoReturn:
    print(f"glitchflow: {line}", file=sys.stderr)
    sys.exit(status)


def main() -> None:
    """The `glitchflow` command."""
    sys.path.append(os.getcwd())  # noqa: PTH109  recipes, models and losses of a user's own, by import path
    app()
