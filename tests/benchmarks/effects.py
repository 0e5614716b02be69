"""What is hard, and for whom: `python tests/benchmarks/effects.py [--workdir runs/effects] [key=value ...]`.

For each effect of docs/simulation.md two datasets of configs/synthetic.yaml are made that differ by its keys alone (the
same seed, the same couplings where the effect is not on them); the image U-Net is trained on each, and every method is
scored on each. Prints a table, the ranks of the methods without the effect and with it, and leaves both as JSON in the
working directory. A dataset that was scored is deleted; what was scored is kept, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command_line import parse

from glitchflow.cli import app
from glitchflow.cluster import session

CONFIG = Path(__file__).parents[2] / "configs" / "synthetic.yaml"
TRAINED = (
    "simulate.events=1200",
    "train.loss=whittle",
    "train.epochs=6",
    "train.workers=1",
    "harm.signals=0",
    "evaluate.attribute=0",
)
METHODS = ("network", "linear", "wiener", "wiener_derived", "loudest_witness", "oracle")
SCORES = {"residual": -1, "left": -1, "skill": 1, "efficiency_1": 1}  # and whether more is better
PLAIN = "synthetic"


def subsystem(keys: str) -> str:
    return f"simulate.detector.subsystems=[{{name: PEM, {keys}}}]"


HEARING = "count: 4, rate: 512, telling: 2, hears: [sine_gaussian, ringdown]"


@dataclass(frozen=True)
class Effect:
    """One effect: its keys, and the dataset it is compared with."""

    keys: tuple[str, ...]
    beside: str = PLAIN


VARIANTS = {
    PLAIN: Effect(()),
    "four witnesses more": Effect((subsystem(HEARING),)),
    "idle witnesses": Effect((subsystem("count: 60, rate: 256"),)),
    "witness bursts": Effect((subsystem(HEARING + ", bursts: 0.1"),), "four witnesses more"),
    "gain 1-100": Effect(("simulate.detector.coupling.gain=[1, 100]",)),
    "per sensor": Effect(("simulate.detector.coupling.per=sensor",)),
    "shared noise": Effect((subsystem(HEARING + ", shared: 0.6, band: [12, 50]"),), "four witnesses more"),
    "drift": Effect(
        (
            "simulate.detector.drift.noise=0.15",
            "simulate.detector.drift.coupling=0.2",
            "simulate.detector.drift.away=0.1",
        )
    ),
    "transients anywhere": Effect(("simulate.detector.rate=0.1",)),
    "unsafe witness": Effect(("simulate.detector.unsafe=SIM:MIC",)),
    "inexact scatterer": Effect(
        (
            "simulate.detector.families.scattered_light.calibration=[0.05, 0.2]",
            "simulate.detector.families.scattered_light.pole=3",
            "simulate.detector.families.scattered_light.reflectivity=0.3",
        )
    ),
    "faults": Effect(("simulate.detector.faults.rate=1", "simulate.detector.faults.dead=[SIM:MIC]")),
}


def stage(name: str, settings: list[str]) -> None:
    """One stage, as its command runs it, in this process: Ray, which takes longer to start than to work, stays."""
    print(f"== {name} {' '.join(settings)}", flush=True)
    app([name, str(CONFIG), *settings], prog_name="glitchflow", standalone_mode=False)


def scored(home: Path, keys: tuple[str, ...], overrides: list[str]) -> dict[str, Any]:
    """What `evaluate` says of a dataset; the dataset is gone then."""
    metrics = home / "evaluation" / "metrics.json"
    if not metrics.exists():
        for name in ("generate", "train", "infer", "evaluate"):
            stage(name, [f"workdir={home}", *TRAINED, *keys, *overrides])
        shutil.rmtree(home / "dataset.zarr")
    return json.loads(metrics.read_text())


def values(metrics: dict[str, Any], family: str) -> dict[str, dict[str, float]]:
    """By score and method; a score that a method does not have is left out."""
    scores = metrics["families"].get(family, {}).get("scores", {})
    found = {s: {m: scores.get(m, {}).get(s, {}).get("value") for m in METHODS} for s in SCORES}
    return {s: {m: v for m, v in row.items() if v is not None} for s, row in found.items()}


def ranking(row: dict[str, float], score: str) -> list[str]:
    return sorted(row, key=lambda method: -SCORES[score] * row[method])


def compared(without: dict[str, Any], having: dict[str, Any], family: str) -> dict[str, Any]:
    """Each score of each method without the effect and with it, and the two rankings."""
    pair = values(without, family), values(having, family)
    return {
        score: {
            "methods": {m: [pair[0][score].get(m), pair[1][score].get(m)] for m in METHODS},
            "ranks": [ranking(one[score], score) for one in pair],
        }
        for score in SCORES
    }


def table(results: dict[str, dict[str, Any]], score: str) -> list[str]:
    """Markdown: a row an effect, a column a method: the score without the effect, and with it."""
    head = ["effect", *METHODS, "ranking with it"]
    lines = [f"\n{score}\n", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, result in results.items():
        row = result[score]
        cells = [" → ".join("–" if v is None else f"{v:.3g}" for v in row["methods"][m]) for m in METHODS]
        changed = row["ranks"][0] != row["ranks"][1]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {' < '.join(row['ranks'][1]) if changed else 'as before'} |"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/effects"))
    parser.add_argument("--family", default="witnessed")
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    arguments = parse(parser)
    home = arguments.workdir.resolve()
    needed = dict.fromkeys(name for one in arguments.only for name in (VARIANTS[one].beside, one))
    with session():
        metrics = {
            name: scored(home / name.replace(" ", "_"), VARIANTS[name].keys, arguments.overrides)
            for name in needed
        }
    results = {
        name: compared(metrics[VARIANTS[name].beside], found, arguments.family)
        for name, found in metrics.items()
        if name != PLAIN
    }
    for score in SCORES:
        print("\n".join(table(results, score)))
    (home / "effects.json").write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
