"""How long a trained twin lives: `python tests/benchmarks/lifetime.py [key=value ...] [--hours 6] [--workdir DIR]`.

Of each hour of one stretch whose couplings and noise drift (that of configs/stretch.yaml, with six witnesses) it makes
the first `--seconds`, and asks every method that is fitted what it leaves of the witnessed noise there, plain sums over
the live time (`residual`, and `noise_added`):

    stale       fitted to hour 1 alone
    retrained   fitted to the hour before, the network on from its last weights

Prints a table of hours, writes it as JSON, with 95 % intervals, and draws it (`--figure`). What is done is kept, so an
interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from glitchflow.cli import app
from glitchflow.cluster import session
from glitchflow.figures import drawn, save
from glitchflow.figures.colours import look
from glitchflow.train import checkpoint

CONFIG = Path(__file__).parents[2] / "configs" / "stretch.yaml"
START, HOUR = 1_400_000_000, 3600
METHODS = (
    "network",
    "linear",
    "loudest_thresholded",
    "wiener_mask",
    "constant",
    "wiener",
    "wiener_derived",
    "wiener_robust",
)
SCORES = ("residual", "noise_added")
WITNESSES = ("SIM:ACC_X", "SIM:ACC_Y", "SIM:SUS", "SIM:ASC", "SIM:PEM_1", "SIM:PEM_2")
CHANNELS = [{"name": name, "files": ["${workdir}/frames/*.gwf"]} for name in ("SIM:STRAIN", *WITNESSES)]
PEM = "{name: PEM, count: 2, rate: 512, telling: 1, hears: [ringdown], bursts: 0.05, shared: 0.3, band: [12, 40]}"
DETECTOR = (
    f"simulate.detector.subsystems=[{PEM}]",
    "simulate.detector.rate=0.3",
    "simulate.detector.drift={noise: 0.1, coupling: 0.3}",
    "simulate.detector.faults.rate=0",
    f"ingest.channels={json.dumps(CHANNELS)}",
)
TWIN = (
    "whiten.asd=dataset",
    "whiten.filter=prediction",
    "split.test=0",  # what is scored are other hours
    "model.name=coherent",
    "loader.batch=16",
    "train.loss=l2",
    "train.workers=1",
    "train.epochs=12",
    "train.warmup=30",
    "train.lr=3e-3",
    "train.precision=bfloat16",
    "harm.signals=0",
    "evaluate.attribute=0",
    "baseline.refuse=false",
)

Table = dict[str, dict[int, dict[str, Any]]]  # by stale or retrained, by hour: method -> score -> interval


def stage(name: str, settings: Sequence[str]) -> None:
    """One stage, as its command runs it, in this process: Ray, which takes longer to start than to work, stays."""
    print(f"== {name} {' '.join(settings)}", flush=True)
    app([name, str(CONFIG), *settings], prog_name="glitchflow", standalone_mode=False)


class Run:
    """The directories of a run, and what is made in them once."""

    def __init__(self, home: Path, seconds: int, overrides: Sequence[str]) -> None:
        self.home, self.seconds, self.overrides = home, seconds, (*DETECTOR, *TWIN, *overrides)

    def once(self, done: Path, name: str, *settings: str) -> None:
        if not done.exists():
            stage(name, (*self.overrides, *settings))
            done.touch()

    def directory(self, name: str, k: int) -> Path:
        """A workdir, in which the frames of hour k are where the configuration looks for them."""
        where = self.home / name
        where.mkdir(exist_ok=True)
        if not (where / "frames").exists():
            (where / "frames").symlink_to(f"../hour{k}/frames")
        return where

    def hour(self, k: int) -> Path:
        """The begin of hour k as a dataset, whose windows lie side by side."""
        where, start = self.home / f"hour{k}", START + (k - 1) * HOUR
        where.mkdir(exist_ok=True)
        span = (f"stretch.start={start}", f"stretch.duration={self.seconds}")
        self.once(where / "stretched", "stretch", f"workdir={where}", *span)
        times = f"ingest.times={{start: {start + 4}, end: {start + self.seconds - 4}}}"
        self.once(where / "ingested", "ingest", f"workdir={where}", times)
        return where

    def twin(self, k: int, last: Path | None) -> Path:
        """A network trained on hour k; from the weights of `last`, where there is one."""
        hour, where = self.hour(k), self.directory(f"twin{k}", k)
        origin = []
        if last:
            best = checkpoint.find(last / "train" / "checkpoints", "best").path
            origin = [f"train.init_from={best}", "train.init_normalisation=new", "train.epochs=4"]
        self.once(
            where / "trained", "train", f"workdir={where}", f"store.path={hour / 'dataset.zarr'}", *origin
        )
        return where

    def scored(self, twin: Path, k: int) -> dict[str, Any]:
        """What every method, fitted to what the network was trained on, does in hour k."""
        hour, where = self.hour(k), self.directory(f"{twin.name}_hour{k}", k)
        own = (f"workdir={where}", f"store.path={hour / 'dataset.zarr'}")
        self.once(where / "inferred", "infer", *own, f"infer.checkpoint={twin}")
        truth = (f"evaluate.truth={hour / 'frames' / 'truth'}", "evaluate.split=all")
        self.once(where / "evaluated", "evaluate", *own, *truth)
        found = json.loads((where / "evaluation" / "metrics.json").read_text())["stretch"]
        return {m: {s: found[m][s] for s in SCORES} for m in METHODS if m in found}


def lifetime(run: Run, hours: int) -> Table:
    first = run.twin(1, None)
    table: Table = {"stale": {}, "retrained": {}}
    last = first
    for k in range(2, hours + 1):
        table["stale"][k] = run.scored(first, k)
        table["retrained"][k] = run.scored(last, k)
        last = run.twin(k, last)
    return table


def shown(table: Table, score: str) -> str:
    """Markdown: a row an hour; of each method stale / retrained."""
    methods = [m for m in METHODS if any(m in row for row in table["stale"].values())]
    lines = [
        f"\n{score}, stale / retrained\n",
        "| hour | " + " | ".join(methods) + " |",
        "|---" * (len(methods) + 1) + "|",
    ]
    for hour in table["stale"]:
        cells = [
            " / ".join(f"{table[how][hour][m][score]['value']:.3g}" for how in ("stale", "retrained"))
            for m in methods
        ]
        lines.append(f"| {hour} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@drawn
def draw(table: Table) -> Figure:
    """What each method leaves, hour by hour: fitted to the first hour alone, and to the hour before."""
    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, how, title in zip(panels, table, ("fitted to hour 1", "fitted to the hour before")):
        for k, method in enumerate(METHODS):
            hours = [hour for hour, row in table[how].items() if method in row]
            numbers = [table[how][hour][method]["residual"] for hour in hours]
            values = [one["value"] for one in numbers]
            ends = [
                [one["value"] - one["low"] for one in numbers],
                [one["high"] - one["value"] for one in numbers],
            ]
            axes.errorbar(hours, values, ends, label=method, capsize=2, **look(method, k))
        axes.axhline(1, color="0.7", linewidth=0.8, zorder=0)
        axes.set(xlabel="hour of the stretch", title=title, yscale="log", xticks=list(table[how]))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.tick_params(which="minor", labelsize="small")
    panels[0].set_ylabel("residual (1: nothing done)")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize="small"
    )
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--workdir", type=Path, default=Path("runs/lifetime"))
    parser.add_argument("--hours", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=1200, help="of each hour")
    parser.add_argument("--figure", type=Path, help="where to draw it; default: lifetime.png in the workdir")
    arguments = parser.parse_args()
    home = arguments.workdir.resolve()
    home.mkdir(parents=True, exist_ok=True)
    with session():
        table = lifetime(Run(home, arguments.seconds, arguments.overrides), arguments.hours)
    print("\n".join(shown(table, score) for score in SCORES))
    (home / "lifetime.json").write_text(json.dumps(table, indent=1))
    save(draw(table), arguments.figure or home / "lifetime.png", dpi=120)
    return 0


if __name__ == "__main__":
    sys.exit(main())
