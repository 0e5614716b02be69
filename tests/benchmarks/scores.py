"""What the scores say of every method: `python tests/benchmarks/scores.py [--workdir runs/scores] [key=value ...]`.

Makes the dataset of configs/synthetic.yaml with three seeds (6,000 events each; couplings are one draw of the seed),
trains its U-Net on each with the losses l1 and whittle, generates, evaluates, and prints one table: every method by
family, the mean over the seeds and their spread, as markdown, and as JSON in the working directory. What is there
already is kept, so an interrupted run goes on. Exits with status 1 where a trivial method wins what it must not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from command_line import parse

CONFIG = Path(__file__).parents[2] / "configs" / "synthetic.yaml"
SEEDS, LOSSES, EVENTS = (1, 2, 3), ("l1", "whittle"), 6000
SHOWN = ("residual", "left", "noise_added", "skill", "nll", "removed", "destroyed", "snr_left_median")
TRIVIAL = ("constant", "gate", "mean", "untrained")  # must be worse than nothing
SERIES = ("wiener", "wiener_derived", "reference")

Scores = Mapping[str, Mapping[str, Any]]  # by method, by score


def run(stage: str, *settings: str) -> None:
    """One stage, as a user starts it."""
    print(f"== {stage} {' '.join(settings)}", flush=True)
    command = [sys.executable, "-c", "from glitchflow.cli import main; main()", stage, str(CONFIG)]
    subprocess.run([*command, *settings], check=True)


def stages(home: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """All stages of one seed; what `evaluate` says of the run with the first loss, the others beside it."""
    metrics = home / LOSSES[0] / "evaluation" / "metrics.json"
    if not metrics.exists():
        own = [f"seed={seed}", f"store.path={home / 'dataset.zarr'}", *overrides]
        run("generate", f"workdir={home}", *own)
        for loss in LOSSES:
            where = [f"workdir={home / loss}", f"train.loss={loss}", *own]
            run("train", *where)
            run("infer", *where)
        others = ",".join(str(home / loss) for loss in LOSSES[1:])
        run("evaluate", f"workdir={home / LOSSES[0]}", f"evaluate.beside=[{others}]", "harm.signals=0", *own)
    return json.loads(metrics.read_text())


def value(scores: Scores, method: str, score: str) -> float:
    found = scores.get(method, {}).get(score, {}).get("value")
    return np.nan if found is None else found


def demands(scores: Scores) -> list[tuple[str, bool]]:
    """What must hold of all witnessed families together, whatever the couplings."""
    methods = list(scores)
    checks = [("nothing is 1 in residual", abs(value(scores, "nothing", "residual") - 1) < 1e-6)]
    checks += [(f"{m} is worse than nothing in residual", value(scores, m, "residual") > 1) for m in TRIVIAL]
    for score, below in (
        ("skill", ("constant", "loudest_witness")),
        ("removed", ("constant", "loudest_witness", "gate")),
    ):
        linear = value(scores, "linear", score)
        checks += [(f"{m} is below linear in {score}", value(scores, m, score) < linear) for m in below]
    images = [m for m in methods if m not in SERIES]
    for first, others in (("oracle", images), ("reference", [m for m in methods if m in SERIES])):
        best = min(
            others, key=lambda m: (np.isnan(value(scores, m, "residual")), value(scores, m, "residual"))
        )
        checks.append((f"{first} is first in residual among its like ({best} is)", best == first))
    return checks


def table(results: list[dict[str, Any]], family: str) -> list[str]:
    """A markdown table of a family: mean over the seeds, and half of the range between them."""
    entries = [result["families"][family] for result in results if family in result["families"]]
    methods = sorted(
        entries[0]["scores"], key=lambda m: np.nan_to_num(_over(entries, m, "residual").mean(), nan=np.inf)
    )
    lines = [
        f"\n{family}, {[e['glitches'] for e in entries]} glitches\n",
        "| method | " + " | ".join(SHOWN) + " |",
    ]
    lines.append("|---" * (len(SHOWN) + 1) + "|")
    for method in methods:
        cells = [_cell(_over(entries, method, score)) for score in SHOWN]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def _over(entries: list[dict[str, Any]], method: str, score: str) -> np.ndarray:
    return np.array([value(entry["scores"], method, score) for entry in entries])


def _cell(values: np.ndarray) -> str:
    if np.isnan(values).any():
        return "–"
    return f"{values.mean():.3f} ± {np.ptp(values) / 2:.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/scores"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parse(parser)
    overrides = [f"simulate.events={EVENTS}", *arguments.overrides]
    home = arguments.workdir.resolve()
    results = [stages(home / f"seed{seed}", seed, overrides) for seed in arguments.seeds]
    for family in results[0]["families"]:
        print("\n".join(table(results, family)))
    missed = 0
    for seed, result in zip(arguments.seeds, results):
        for words, met in demands(result["families"]["witnessed"]["scores"]):
            print(f"seed {seed}: {words:<70} {'ok' if met else 'MISSED'}")
            missed += not met
    (home / "scores.json").write_text(json.dumps(dict(zip(map(str, arguments.seeds), results)), indent=1))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
