"""The command line: a table of stages, `glitchflow STAGE CONFIG.yaml [section.key=value ...]`.

No logic here: `command.py` makes a command of a row. Exit status: 0 done, 1 failed at run time, 2 the user's input is
wrong. A stage sees what its row says it reads, and its `--help` prints the same.
"""

import importlib.metadata
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from glitchflow.command import VERBOSE, Stage, command, done, one_line, shown
from glitchflow.config import load
from glitchflow.errors import InputError, RunError
from glitchflow.progress import QUIET

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


MADE = "seed series {} derived whiten qplot store split cluster"
STAGES = {
    "plan": Stage(
        "glitchflow.site.plan:costs",
        "Say what a dataset and a training will cost, from a few seconds' calibration here. Writes nothing.",
        MADE.format("simulate ingest")
        + " loader model train stretch infer.batch infer.untrained infer.compile scan.block evaluate clean online",
        ("nodes", "cores"),
        says="{written}",
        writes=False,
    ),
    "generate": Stage(
        "glitchflow.data.generate:generate",
        "Make synthetic events and their Q-plots: dataset.zarr. Goes on where it stopped.",
        "workdir generate " + MADE.format("simulate"),
        ("overwrite", "shard", "verify"),
    ),
    "stretch": Stage(
        "glitchflow.data.stretch:stretch",
        "Write hours of the simulated detector as frame files, with the truth: frames/. Goes on where it stopped.",
        "workdir seed series.sample_rate simulate.recipe simulate.detector stretch cluster",
        ("overwrite",),
    ),
    "ingest": Stage(
        "glitchflow.data.generate:ingest",
        "Make the Q-plots of recorded events: dataset.zarr. Goes on where it stopped.",
        "workdir generate " + MADE.format("ingest"),
        ("overwrite", "shard", "verify", "split"),
        instead={"split": "glitchflow.data.resplit:resplit"},
    ),
    "baseline": Stage(
        "glitchflow.analysis.baseline:baseline",
        "Score what needs no network on the validation split, and say whether the data can teach: baseline.json.",
        "workdir seed store.path loader evaluate clean.threshold baseline cluster",
    ),
    "scan": Stage(
        "glitchflow.analysis.scan:scan",
        "Rank the witnesses by their coincidence with the strain: scan.json, scan.png and witnesses.txt.",
        "workdir seed series ingest derived whiten qplot store split scan cluster",
    ),
    "train": Stage(
        "glitchflow.train.fit:fit",
        "Say what the data can teach, then train the network with Ray Train: train/. Goes on where it stopped.",
        "workdir seed simulate.recipe store.path loader model train mlflow baseline evaluate clean.threshold cluster",
        ("overwrite", "workers"),
        instead={"workers": "glitchflow.train.scaling:scaling"},
    ),
    "tune": Stage(
        "glitchflow.train.tune.sweep:sweep",
        "Search for the best settings with Ray Tune: tune/, with best.yaml to train. Goes on where it stopped.",
        "workdir seed simulate.recipe store.path loader model train tune baseline evaluate clean.threshold cluster",
        ("overwrite",),
    ),
    "export": Stage(
        "glitchflow.train.export:export",
        "Write the trained network, with its normalisation, as a torch.export program: export/.",
        "workdir infer.checkpoint model.name mlflow.uri",
    ),
    "infer": Stage(
        "glitchflow.analysis.infer:infer",
        "Generate the strain's Q-plots from the witnesses': predictions.zarr. Goes on where it stopped.",
        "workdir store.path infer model.name mlflow.uri cluster",
        ("overwrite",),
    ),
    "sample": Stage(
        "glitchflow.analysis.sample:sample",
        "Draw glitches from a trained generative twin: samples.zarr. Goes on where it stopped.",
        "workdir seed store.path loader.subset infer.checkpoint model.name mlflow.uri sample ingest.channels"
        " clean.format cluster",
        ("overwrite",),
    ),
    "evaluate": Stage(
        "glitchflow.analysis.evaluate.evaluate:evaluate",
        "Score the predictions on the test split, beside every other method: evaluation/.",
        "workdir seed simulate.recipe store.path ingest.channels loader.subset infer.batch model.name evaluate veto"
        " clean.threshold harm scan.signals scan.alpha cluster",
    ),
    "clean": Stage(
        "glitchflow.analysis.clean.clean:clean",
        "Subtract the generated noise from the strain, and write it with the veto segments: clean/.",
        "workdir seed store.path ingest model.name clean veto evaluate harm cluster",
        ("overwrite", "force"),
    ),
    "watch": Stage(
        "glitchflow.online.watch:watch",
        "Clean frames as they appear in a directory, until it is told to stop: online/. Goes on where it stopped.",
        "workdir infer.checkpoint model.name mlflow.uri ingest.channels ingest.segments online",
        says="{stage}: stopped after {seconds:.0f} s; {shown} has the frames",
    ),
    "event": Stage(
        "glitchflow.analysis.event:event",
        "Show one time on one page: strain before and after, who carries it, other methods, vetoes: events/GPS.html.",
        "workdir store.path ingest.channels model.name evaluate harm veto clean.threshold",
        arguments=("gps",),
    ),
    "report": Stage(
        "glitchflow.analysis.report:report",
        "Draw everything there is so far on one page: report.html.",
        "workdir store.path model.name sample.path report evaluate train.loss",
    ),
    "doctor": Stage(
        "glitchflow.site.doctor:doctor",
        "Say what on this machine or cluster would make a run fail, and what to do. Status 1 where something would.",
        "workdir generate " + MADE.format("simulate ingest") + " train",
        says="doctor: nothing that would break a run, in {seconds:.1f} s",
        required=False,
        writes=False,
    ),
}


def version(wanted: bool) -> None:
    """Print the version, and end."""
    if wanted:
        print(f"glitchflow {importlib.metadata.version('glitchflow')}")
        raise typer.Exit


@app.callback()
def about(
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help=f"Say nothing but results and errors; {QUIET}=1 too.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help=f"Print where an error comes from; {VERBOSE}=1 too.")
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """GlitchFlow: digital twins of gravitational-wave detector noise, from witness Q-plots to the strain's.

    Every stage reads the same CONFIG.yaml and writes under its `workdir`.
    """
    for name, wanted in ((QUIET, quiet), (VERBOSE, verbose)):
        if wanted:
            os.environ[name] = "1"


@app.command("init")
def init(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The file to write.")],
    frames: Annotated[
        list[str] | None,
        typer.Option("--frames", metavar="PATTERN", help="Recorded data: GWF or HDF5 files; several."),
    ] = None,
    strain: Annotated[
        str, typer.Option("--strain", metavar="NAME", help="The channel that is to be cleaned.")
    ] = "",
    witness: Annotated[
        list[str] | None,
        typer.Option("--witness", metavar="NAME", help="A witness, or a pattern; several. None: all others."),
    ] = None,
    triggers: Annotated[
        str, typer.Option("--triggers", metavar="FILE", help="Table of when to look; none: everywhere.")
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace CONFIG.")] = False,
) -> None:
    """Write a configuration to begin with: of a simulated detector, or of the channels in frame files."""
    with one_line():
        from glitchflow.site.init import init

        made = shown(init(config, frames or (), strain, witness or (), triggers, overwrite))
        first = "ingest" if frames else "generate"
        done(f"init: wrote {made}; then `glitchflow doctor {made}`, `glitchflow {first} {made}`")


for _name, _stage in STAGES.items():
    command(app, _name, _stage)


@app.command("inspect")
def show(
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
    with one_line():
        if event is not None or figure:
            from glitchflow.analysis.event_figure import draw

            done(f"inspect: wrote {shown(draw(store, event, figure))}")
            return
        from glitchflow.analysis.inspect import inspect

        text, intact = inspect(store, verify, as_json)
        print(text)
        if not intact:
            raise RunError(
                f"{store}: damaged or incomplete: the same command finishes it, --shard K makes a damaged shard again"
            )


@app.command("runs")
def runs(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the workdirs are.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what was run under a directory: stage, when, how long, how it ended, its main score."""
    with one_line():
        from glitchflow.site.runs import runs

        done(runs(directory, as_json))


@app.command("replay")
def replay(
    frames: Annotated[str, typer.Argument(help="A directory of frame files, such as runs/stretch/frames.")],
    into: Annotated[str, typer.Argument(help="The directory in which they appear.")],
    speed: Annotated[float, typer.Option(help="Times their own pace; 0: all at once.", min=0)] = 1.0,
    now: Annotated[bool, typer.Option("--now", help="With the time at which they appear.")] = False,
    cut: Annotated[int, typer.Option(help="Length of a file in s; 0: as they are.", min=0)] = 0,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="drop, delay, double, reorder, stall, truncate, flip, nan or missing; several."),
    ] = None,
    every: Annotated[int, typer.Option(help="Files, of which one meets each fault.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Which of them.", min=0)] = 1,
) -> None:
    """Let frames appear in a directory at their own pace, also with faults: what `watch` is tried with."""
    with one_line():
        started = time.monotonic()
        from glitchflow.online import replay as playing

        settings = playing.Replay(Path(into), speed, now, cut, tuple(fault or ()), every, seed)
        copied = playing.replay(Path(frames), settings)
        done(f"replay: {copied} in {time.monotonic() - started:.1f} s")


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
    with one_line():
        path, overrides, options = words_of(stage, words)
        experiment = load(path, overrides)
        started = time.monotonic()
        from glitchflow.site.submit import submit

        job = submit([stage, path, *options], experiment, address, env or [], follow)
        done(f"submit: job {job} {'done' if follow else 'sent'} in {time.monotonic() - started:.1f} s")


def words_of(stage: str, words: list[str]) -> tuple[str, list[str], list[str]]:
    """CONFIG, overrides and options of a stage's command line, which that command itself checks."""
    if stage not in STAGES:
        raise InputError(f"submit {stage}: not one of {', '.join(STAGES)}")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    given = commands[stage].make_context(f"glitchflow {stage}", list(words)).params
    path, overrides = given["path"], given["overrides"] or []
    return path, overrides, [word for word in words if word not in (path, *overrides)]


def main() -> None:
    """The `glitchflow` command."""
    os.environ["MPLBACKEND"] = (
        "agg"  # a notebook hands down one of its own environment, and nothing is shown here
    )
    sys.path.append(str(Path.cwd()))  # recipes, models and losses of a user's own, by import path
    app(prog_name="glitchflow")
