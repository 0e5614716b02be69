"""Where every method stands: `python tests/benchmarks/challenge.py [--workdir DIR] [--tasks easy hard]`.

    easy   the detector of configs/synthetic.yaml: five witnesses that say what they see
    hard   that of configs/observatory.yaml: 102 witnesses, of which ten tell something; `scan` chooses first

For each of at least three seeds (couplings are one draw of the seed) 1,500 events are made, for scan, validation and
test; networks learn from events that the recipe draws anew, which nothing stores (`loader.fresh`). Every method is
fitted on the same split, scored on the same events, and stands in the same table: the score by family, mean over the
seeds and half of the range between them, as markdown; and as records of scores, which `--render RECORD...` prints
again, others' among them. What is done is kept by seed and network, so an interrupted run goes on; a dataset is
deleted once it is scored.
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
from typing import Any

import numpy as np

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
    "snr_kept_median",
    "snr_kept_p1",
    "efficiency_0.1",
    "efficiency_1",
)
TOGETHER = "witnessed"

Record = dict[
    str, Any
]  # task, seed, events, glitches, minutes by stage, families -> method -> score -> number


@dataclass(frozen=True)
class Task:
    """A detector, and whether its witnesses are chosen first."""

    config: str
    keys: tuple[str, ...]
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
    "easy": Task("synthetic.yaml", COMMON),
    # half of the events are about a transient: with one in ten, as configured, a test split would hold 40 glitches
    "hard": Task("observatory.yaml", (*COMMON, "simulate.detector.background=0.5"), scan=True),
}
NETWORKS = {  # the first one's run is evaluated, the others beside it
    "coherent": (
        "model.name=coherent",
        "loader.batch=16",
        "loader.fresh=6000",
        "train.loss=l2",
        "train.epochs=6",
        "train.lr=3e-3",
        "train.warmup=100",
        "train.precision=bfloat16",
    ),
    "unet_whittle": ("model.name=unet", "loader.fresh=6000", "train.loss=whittle", "train.epochs=4"),
    "unet_l1": ("model.name=unet", "loader.fresh=6000", "train.loss=l1", "train.epochs=4"),
}


def run(task: Task, stage: str, *settings: str) -> float:
    """One stage, as a user starts it; returns the minutes that it took."""
    print(f"== {stage} {task.config} {' '.join(settings)}", flush=True)
    command = [sys.executable, "-c", "from glitchflow.cli import main; main()", stage]
    began = time.monotonic()
    subprocess.run([*command, str(CONFIGS / task.config), *settings], check=True)
    return (time.monotonic() - began) / 60


def scored(name: str, task: Task, home: Path, seed: int, overrides: Sequence[str]) -> Record:
    """The record of a task's seed: made now, or read."""
    record = home / "record.json"
    if record.exists():
        return json.loads(record.read_text())
    home.mkdir(parents=True, exist_ok=True)
    minutes, own = Minutes(home / "minutes.json"), (f"seed={seed}", *task.keys)
    dataset = home / "dataset.zarr"
    common = (*own, f"store.path={dataset}")
    minutes.once("generate", lambda: run(task, "generate", f"workdir={home}", *common, *overrides))
    if task.scan:
        minutes.once("scan", lambda: run(task, "scan", f"workdir={home}", *common, *overrides))
        common = (*common, f"loader.witnesses={home / 'witnesses.txt'}")
    for network, keys in NETWORKS.items():
        where = (f"workdir={home / network}", *common, *keys, *overrides)
        minutes.once(f"train {network}", lambda: run(task, "train", *where))  # noqa: B023  called here
        minutes.once(f"infer {network}", lambda: run(task, "infer", *where))  # noqa: B023
    first, *others = NETWORKS
    beside = f"evaluate.beside=[{','.join(str(home / other) for other in others)}]"
    last = (f"workdir={home / first}", *common, *NETWORKS[first], beside, *overrides)
    minutes.once("evaluate", lambda: run(task, "evaluate", *last))
    metrics = json.loads((home / first / "evaluation" / "metrics.json").read_text())
    made = record_of(name, seed, metrics, minutes.known, first)
    record.write_text(json.dumps(made, indent=1))
    shutil.rmtree(dataset)
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
    """A small record: of each method and family, its scores and whether it looks at the strain."""
    families = {}
    for family, entry in metrics["families"].items():
        methods = {
            first if method == "network" else method.removeprefix("network:"): {
                score: found["value"] for score, found in scores.items() if found["value"] is not None
            }
            for method, scores in entry["scores"].items()
        }
        families[family] = {"glitches": entry["glitches"], "events": entry["events"], "methods": methods}
    return {"task": task, "seed": seed, "minutes": minutes, "families": families}


def tables(records: Sequence[Record]) -> Iterator[str]:
    """Of each task: all scores of all witnessed families together, and `residual` and `left` by family."""
    for task in dict.fromkeys(record["task"] for record in records):
        some = [record for record in records if record["task"] == task]
        families = [
            f for f in some[0]["families"] if any(_over(some, f, m, "left").any() for m in methods(some))
        ]
        glitches = [record["families"][TOGETHER]["glitches"] for record in some]
        yield table(
            f"{task}: seeds {[r['seed'] for r in some]}, {glitches} glitches",
            SHOWN,
            {
                method: [_cell(_over(some, TOGETHER, method, score)) for score in SHOWN]
                for method in methods(some)
            },
        )
        for score in ("residual", "left"):
            yield table(
                f"{task}: {score} by family",
                families,
                {
                    method: [_cell(_over(some, f, method, score)) for f in families]
                    for method in methods(some)
                },
            )


def methods(records: Sequence[Record]) -> list[str]:
    """All methods of the records, the best in the headline first."""
    names = dict.fromkeys(m for record in records for m in record["families"][TOGETHER]["methods"])
    return sorted(
        names, key=lambda m: np.nan_to_num(np.mean(_over(records, TOGETHER, m, "residual")), nan=np.inf)
    )


def _over(records: Sequence[Record], family: str, method: str, score: str) -> np.ndarray:
    """A score over the seeds; not a number where one has none."""
    found = [r["families"].get(family, {}).get("methods", {}).get(method, {}).get(score) for r in records]
    return np.array([np.nan if one is None else one for one in found])


def _cell(values: np.ndarray) -> str:
    if np.isnan(values).any():
        return "–"
    return f"{values.mean():.3g}" + (f" ± {np.ptp(values) / 2:.2g}" if len(values) > 1 else "")


def table(title: str, columns: Sequence[str], rows: dict[str, list[str]]) -> str:
    lines = [f"\n{title}\n", "| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items())])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/challenge"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--render", type=Path, nargs="+", help="records to print, and nothing to run")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    home = arguments.workdir.resolve()
    if arguments.render:
        read = [json.loads(path.read_text()) for path in arguments.render]
        records = [one for found in read for one in (found if isinstance(found, list) else [found])]
    else:
        records = [
            scored(task, TASKS[task], home / f"{task}{seed}", seed, arguments.overrides)
            for seed in arguments.seeds
            for task in arguments.tasks
        ]
        (home / "challenge.json").write_text(json.dumps(records, indent=1))
    print("\n".join(tables(records)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
