"""Where every method stands: `python tests/benchmarks/challenge.py [--tasks easy hard] [--seeds 1 2 3] [KEY=VALUE]`.

    easy   the detector of configs/synthetic.yaml: five witnesses that say what they see
    hard   that of configs/observatory.yaml: 102 witnesses, of which ten tell something; `scan` chooses first

For each of at least three seeds (couplings are one draw of the seed) 1,500 events are made, for scan, validation and
test; networks learn from events that the recipe draws anew, which nothing stores (`loader.fresh`). Every method is
fitted on the same split, scored on the same events, and stands in the same table, each network before its first step
among them: scores and what a family is left, mean over the seeds and half of the range between them, minutes by stage;
as markdown, and as records, which `--render RECORD...` prints again as a page, others' (those of peers.py) among them.

What is done is kept by seed and network (`--networks` names some), so an interrupted run goes on, and a network, or a
method of one's own (`--method my.module:method`), that is asked for later joins the record. A dataset is deleted once
it is scored, and made again where it is wanted again; `--keep` keeps it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from command_line import parse
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

CONFIGS = Path(__file__).parents[2] / "configs"
SEEDS = (1, 2, 3)
SHOWN = (
    "residual",
    "left",
    "noise_added",
    "noise_above_5",
    "snr_left_median",
    "snr_left_p90",
    "skill",
    "removed",
    "destroyed",
    "efficiency_0.1",
    "efficiency_1",
)
SIGNALS = ("snr_kept_median", "snr_kept_p1", "bias_time", "bias_phase", "bias_mass", "chi2")
TOGETHER = "witnessed"
PHASES = "phases of scattered light"
SEEING = {"coherent": PHASES, "coherent_untrained": PHASES, "reference": PHASES, "oracle": "told"}

UNTRAINED = "_untrained"  # what the name of a network before its first step ends with


class Family(TypedDict):
    """What methods do to the events of a family, or to all of some together."""

    events: int
    glitches: int | None
    methods: dict[str, dict[str, float]]  # method -> score -> number; no score, no number


class Record(TypedDict):
    """What is known of a task's seed."""

    task: str
    seed: int
    minutes: dict[str, float]  # by stage
    families: dict[str, Family]
    networks: NotRequired[list[str]]  # those that were trained
    peers: NotRequired[dict[str, dict[str, Any]]]  # what peers.py knows of each besides


@dataclass(frozen=True)
class Task:
    """A detector, and whether its witnesses are chosen first."""

    config: str
    keys: tuple[str, ...]
    epochs: dict[str, int]  # of each network: a seed takes an hour of two busy cores, or less
    scan: bool = False


COMMON = (
    "simulate.events=1500",
    "split.validation=0.15",
    "split.test=0.4",
    "whiten.asd=dataset",
    "whiten.filter=prediction",
    "store.series=float32",
)
TASKS = {
    "easy": Task("synthetic.yaml", COMMON, {"coherent": 6, "unet_whittle": 4, "unet_l1": 4}),
    # half of the events are about a transient: with one in ten, as configured, a test split would hold 40 glitches
    "hard": Task(
        "observatory.yaml",
        (*COMMON, "simulate.detector.background=0.5"),
        {"coherent": 5, "unet_whittle": 2, "unet_l1": 2},
        scan=True,
    ),
}
NETWORKS = {  # the first one's run is evaluated, the others beside it
    "coherent": (
        "model.name=coherent",
        "loader.batch=16",
        "loader.fresh=6000",
        "train.loss=l2",
        "train.lr=3e-3",
        "train.warmup=100",
        "train.precision=bfloat16",
    ),
    "unet_whittle": ("model.name=unet", "loader.fresh=6000", "train.loss=whittle"),
    "unet_l1": ("model.name=unet", "loader.fresh=6000", "train.loss=l1"),
}


def run(task: Task, stage: str, *settings: str) -> float:
    """One stage, as a user starts it; returns the minutes that it took."""
    print(f"== {stage} {task.config} {' '.join(settings)}", flush=True)
    command = [sys.executable, "-c", "from glitchflow.cli import main; main()", stage]
    began = time.monotonic()
    subprocess.run([*command, str(CONFIGS / task.config), *settings], check=True)
    return (time.monotonic() - began) / 60


@dataclass(frozen=True)
class Run:
    """A seed of a task: where it is, and what is asked of it."""

    name: str
    seed: int
    home: Path
    overrides: Sequence[str]
    own: Sequence[str] = ()  # methods of a user's, by import path

    @property
    def task(self) -> Task:
        return TASKS[self.name]

    @property
    def dataset(self) -> Path:
        return self.home / "dataset.zarr"

    def stage(self, minutes: Minutes, stage: str, where: Path, *settings: str, about: str = "") -> None:
        """A stage on the dataset, once, under its name and what it is about."""
        own = (f"workdir={where}", f"seed={self.seed}", *self.task.keys, f"store.path={self.dataset}")
        chosen = [f"loader.witnesses={self.home / 'witnesses.txt'}"] if "scan" in minutes.known else []
        name = " ".join(part for part in (stage, about) if part)
        minutes.once(name, lambda: run(self.task, stage, *own, *chosen, *settings, *self.overrides))

    def network(self, minutes: Minutes, name: str) -> None:
        """Train a network, and say of every event what it expects, then and before its first step."""
        where, epochs = self.home / name, f"train.epochs={self.task.epochs[name]}"
        keys = (*NETWORKS[name], epochs, "infer.untrained=false", "infer.train=false")
        self.stage(minutes, "train", where, *keys, about=name)
        self.stage(minutes, "infer", where, *keys, about=name)
        initial = where / "train" / "checkpoints" / "initial"
        if initial.exists():
            before = where.with_name(name + UNTRAINED)
            asked = (*keys, f"infer.checkpoint={initial}")
            self.stage(minutes, "infer", before, *asked, about=before.name)

    def evaluated(self, minutes: Minutes, networks: Sequence[str]) -> dict[str, Any]:
        """Metrics of every method, the networks among them, each also as it was before its first step."""
        first, *others = [m for n in networks for m in (n, n + UNTRAINED) if f"infer {m}" in minutes.known]
        beside = f"evaluate.beside=[{','.join(str(self.home / other) for other in others)}]"
        about, own = " ".join((*networks, *self.own)), f"evaluate.methods=[{','.join(self.own)}]"
        self.stage(minutes, "evaluate", self.home / first, *NETWORKS[first], beside, own, about=about)
        return json.loads((self.home / first / "evaluation" / "metrics.json").read_text())


def _has(known: Record, networks: Sequence[str], own: Sequence[str]) -> bool:
    """Whether a record knows of these networks, and of a user's methods."""
    methods = known["families"][TOGETHER]["methods"]
    return set(networks) <= set(known.get("networks", NETWORKS)) and set(own) <= set(methods)


def scored(run: Run, networks: Sequence[str], keep: bool) -> Record:
    """The record of a task's seed with these networks, and those that it had: made now, or read."""
    path = run.home / "record.json"
    known: Record | None = json.loads(path.read_text()) if path.exists() else None
    if known and _has(known, networks, run.own):
        return known
    run.home.mkdir(parents=True, exist_ok=True)
    minutes = Minutes(run.home / "minutes.json")
    if not run.dataset.exists():
        minutes.known.pop("generate", None)
    run.stage(minutes, "generate", run.home)
    if run.task.scan:
        run.stage(minutes, "scan", run.home)
    for network in networks:
        run.network(minutes, network)
    there = [name for name in NETWORKS if f"infer {name}" in minutes.known]
    metrics = run.evaluated(minutes, there)
    made = record_of(run.name, run.seed, metrics, minutes.known, there[0])
    path.write_text(json.dumps(made | {"networks": there}, indent=1))
    if not keep:
        shutil.rmtree(run.dataset)
    return made


class Minutes:
    """What each stage took, kept in a file: what is in it is done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def once(self, stage: str, work: Any) -> None:
        if stage not in self.known:
            self.known[stage] = work()
            self.path.write_text(json.dumps(self.known, indent=1))


def record_of(task: str, seed: int, metrics: dict[str, Any], minutes: dict[str, float], first: str) -> Record:
    """A small record: of each method and family, the scores that are shown."""
    families: dict[str, Family] = {}
    for family, entry in metrics["families"].items():
        methods = {
            first if method == "network" else method.removeprefix("network:"): {
                score: float(f"{found['value']:.5g}")
                for score, found in scores.items()
                if score in (*SHOWN, *SIGNALS) and found["value"] is not None
            }
            for method, scores in entry["scores"].items()
        }
        families[family] = {"glitches": entry["glitches"], "events": entry["events"], "methods": methods}
    return {"task": task, "seed": seed, "minutes": minutes, "families": families}


def joined(records: Sequence[Record]) -> list[Record]:
    """One record of each task's seed: what several say of the same events, the last one where they say it twice."""
    found: dict[tuple[str, int], Record] = {}
    for record in records:
        one = found.setdefault((record["task"], record["seed"]), record)
        if one is record:
            continue
        families = dict(one["families"])
        for name, family in record["families"].items():
            there = families.get(name, family)
            known = there["methods"]
            more = {method: known.get(method, {}) | scores for method, scores in family["methods"].items()}
            families[name] = {**family, **there, "methods": known | more}
        minutes = one["minutes"] | record["minutes"]
        peers = one.get("peers", {}) | record.get("peers", {})
        found[record["task"], record["seed"]] = {
            **one,
            "families": families,
            "minutes": minutes,
            "peers": peers,
        }
    return list(found.values())


PAGE = """# The challenge

Every method on the same events, by `python tests/benchmarks/challenge.py`; what the scores are: [scores.md](scores.md).

- **easy**: the detector of `configs/synthetic.yaml`, five witnesses that say what they see
- **hard**: that of `configs/observatory.yaml`, 102 witnesses of which ten tell something; `scan` chooses first.
  Witnesses and strain share stationary noise there, which is to be removed too.

A dataset seed draws the detector's couplings anew; 1,500 events of it are for scan, validation and test, and networks
learn from events that nothing stores. Mean over the seeds, and half of the range between them; in brackets how many of
the seeds have a number, where not all do. `NETWORK_untrained` is a network before its first step; `oracle` is the
perfect mask, `reference` is told family, transfer functions and gates (on the easy task alone: where noise is shared,
or a scatterer inexact, it is no bound). What sees the target adapts to the strain that it is applied to; of the twin
only the fit of scattered light's phases does, its network sees witnesses alone. Masks multiply pixels of the strain by
what witnesses say.

A method takes part by import path (`--method my.module:method`, [own.md](own.md#a-method-of-comparison)). The
`record.json` of its run joins the tables of others': this page is
`python tests/benchmarks/challenge.py --render docs/challenge/*.json`.
"""


def page(records: Sequence[Record]) -> str:
    """The page of some records, in markdown."""
    return PAGE + "\n".join(tables(records)) + "\n"


def tables(records: Sequence[Record]) -> Iterator[str]:
    """Of each task: scores of all witnessed families together, `residual` and `left` by family, minutes by stage."""
    records = joined(records)
    for task in dict.fromkeys(record["task"] for record in records):
        some = [record for record in records if record["task"] == task]
        rows, seeds = methods(some), [record["seed"] for record in some]
        glitches = [record["families"][TOGETHER]["glitches"] for record in some]
        for scores, about in ((SHOWN, f"seeds {seeds}, {glitches} glitches"), (SIGNALS, "what signals keep")):
            shown = [score for score in scores if _any(some, TOGETHER, score)]
            cells = {m: [_cell(_over(some, TOGETHER, m, score)) for score in shown] for m in rows}
            if scores is SHOWN:
                seeing = {m: [_seeing(some, m), *cells[m]] for m in rows}
                yield table(f"{task}: {about}", ["sees the target", *shown], seeing)
            elif shown:
                yield table(f"{task}: {about}", shown, cells)
        for score in ("residual", "left"):
            families = [family for family in some[0]["families"] if _any(some, family, score)]
            cells = {m: [_cell(_over(some, f, m, score)) for f in families] for m in rows}
            if families:
                yield table(f"{task}: {score} by family", families, cells)
        stages = dict.fromkeys(stage for record in some for stage in record["minutes"])
        taken = {s: np.array([one["minutes"].get(s, np.nan) for one in some]) for s in stages}
        yield table(
            f"{task}: what stages took",
            ["minutes"],
            {stage: [_cell(one)] for stage, one in taken.items()},
            "stage",
        )


def _seeing(records: Sequence[Record], method: str) -> str:
    """Whether a method looks at the strain when it is applied to it, other than by multiplying its pixels."""
    peers = (one.get("peers", {}).get(method, {}) for one in records)
    return SEEING.get(method, "yes" if any(about.get("sees") for about in peers) else "no")


def _any(records: Sequence[Record], family: str, score: str) -> bool:
    """Whether any method has a score."""
    return any(np.isfinite(_over(records, family, method, score)).any() for method in methods(records))


def methods(records: Sequence[Record]) -> list[str]:
    """All methods of the records, the best in the headline first."""
    names = dict.fromkeys(m for record in records for m in record["families"][TOGETHER]["methods"])
    return sorted(
        names, key=lambda m: np.nan_to_num(_mean(_over(records, TOGETHER, m, "residual")), nan=np.inf)
    )


def _over(records: Sequence[Record], family: str, method: str, score: str) -> np.ndarray:
    """A score over the seeds; not a number where one has none."""
    found = [r["families"].get(family, {}).get("methods", {}).get(method, {}).get(score) for r in records]
    return np.array([np.nan if one is None else one for one in found])


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _cell(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "–"
    spread = f" ± {np.ptp(known) / 2:.2g}" if len(known) > 1 else ""
    return f"{known.mean():.3g}{spread}" + (f" ({len(known)})" if len(known) < len(values) else "")


def table(title: str, columns: Sequence[str], rows: dict[str, list[str]], what: str = "method") -> str:
    """A title and a table in markdown."""
    lines = [f"\n{title}\n", f"| {what} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items())])


def read(paths: Sequence[Path]) -> list[Record]:
    """The records of files, each of which holds one or a list of them. Ends the program where one is none."""
    records = []
    for path in paths:
        found = json.loads(path.read_text())
        for one in found if isinstance(found, list) else [found]:
            try:
                records.append(TypeAdapter(Record).validate_python(one))
            except ValidationError as error:
                first = error.errors()[0]
                sys.exit(f"{path}: no record: {'.'.join(map(str, first['loc']))}: {first['msg']}")
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/challenge"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument(
        "--method", nargs="+", default=[], help="of your own: import paths package.module:function"
    )
    parser.add_argument("--keep", action="store_true", help="keep datasets")
    parser.add_argument(
        "--render", type=Path, nargs="+", help="records to print as a page, and nothing to run"
    )
    arguments = parse(parser)
    if arguments.render:
        print(page(read(arguments.render)), end="")
        return 0
    home = arguments.workdir.resolve()
    records = [
        scored(
            Run(task, seed, home / f"{task}{seed}", arguments.overrides, arguments.method),
            arguments.networks,
            arguments.keep,
        )
        for seed in arguments.seeds
        for task in arguments.tasks
    ]
    (home / "challenge.json").write_text(json.dumps(records, indent=1))
    print("\n".join(tables(records)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
