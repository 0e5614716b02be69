"""How well the coherent twin subtracts: `python tests/benchmarks/coherent.py [--workdir DIR] [key=value ...]`.

With three seeds (couplings are one draw of the seed) makes the dataset of configs/coherent.yaml, trains its twin,
generates and evaluates, as a user does; prints what is left of the witnessed part of the strain, by family and by its
SNR, beside other methods, and what it does to quiet time and to signals, as markdown, and as JSON in the working
directory. What is there already is kept, so an interrupted run goes on. `--store '/data/seed{seed}/dataset.zarr'`
takes datasets that there are, of any configuration with series and a known witnessed part. Exits with status 1 where a
demand is not met.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from command_line import parse

from glitchflow.analysis.event_figure import subtracted
from glitchflow.data.store import open_store
from glitchflow.train import checkpoint

CONFIG = Path(__file__).parents[2] / "configs" / "coherent.yaml"
SEEDS = (1, 2, 3)
METHODS = ("nothing", "constant", "untrained", "linear", "wiener_derived", "oracle", "network", "reference")
SHOWN = (
    "left",
    "left_below_12",
    "left_12_20",
    "left_20_35",
    "left_above_35",
    "residual",
    "snr_left_median",
    "snr_left_p90",
    "noise_added",
    "noise_above_5",
    "snr_kept_p1",
)
TOGETHER, SCATTER = "witnessed", "scattered_light"
ASKED = 32  # events whose strain is replaced

Result = dict[str, Any]  # metrics.json, with `minutes` of training and whether it is `blind`


def run(stage: str, *settings: str) -> float:
    """One stage, as a user starts it; returns the minutes that it took."""
    print(f"== {stage} {' '.join(settings)}", flush=True)
    command = [sys.executable, "-c", "from glitchflow.cli import main; main()", stage, str(CONFIG)]
    began = time.monotonic()
    subprocess.run([*command, *settings], check=True)
    return (time.monotonic() - began) / 60


def stages(home: Path, seed: int, store: str, overrides: Sequence[str]) -> Result:
    """All stages of one seed that are not done, and what they say."""
    dataset = store.format(seed=seed) if store else str(home / "dataset.zarr")
    own = [f"seed={seed}", f"workdir={home}", f"store.path={dataset}", *overrides]
    trained, metrics = home / "trained.json", home / "evaluation" / "metrics.json"
    if not metrics.exists():
        if not store:
            run("generate", *own)
        if not trained.exists():
            minutes = run("train", *own)
            trained.write_text(json.dumps({"minutes": minutes}))
        run("infer", "infer.train=false", *own)
        run("evaluate", "evaluate.attribute=0", *own)  # which witness carries it is not asked here
    known = json.loads(trained.read_text())
    if "blind" not in known:
        draw(home, dataset)
        known["blind"] = is_blind(home, dataset)
        trained.write_text(json.dumps(known))
    return json.loads(metrics.read_text()) | known


def draw(home: Path, store: str) -> None:
    """Draws the first test event of each witnessed family, before and after: `subtracted.png`."""
    dataset, predictions = open_store(store), open_store(home / "predictions.zarr")
    events = dataset.indices("test")
    label = np.array(dataset.labels)[dataset.events("label", events)]
    first = [int(events[label == family][0]) for family in dataset.witnessed_labels if family in label]
    subtracted(dataset, predictions, first).savefig(home / "subtracted.png", dpi=80)


def is_blind(home: Path, store: str) -> bool:
    """Whether the estimate of some events is the same, bit by bit, when their strain is replaced by noise."""
    dataset = open_store(store)
    trained = checkpoint.find(home / "train" / "checkpoints", "best").trained()
    series = dataset.events("series", dataset.indices("test")[:ASKED])
    other, rng = series.copy(), np.random.default_rng(0)
    other[:, 0] = rng.standard_normal(series[:, 0].shape) * series[:, 0].std()
    first, second = (
        trained.predict(block, dataset.recorded_channels, ASKED)["estimate"] for block in (series, other)
    )
    return bool(np.array_equal(first, second))


def value(result: Result, family: str, method: str, score: str) -> float:
    found = result["families"][family]["scores"].get(method, {}).get(score, {}).get("value")
    return np.nan if found is None else found


def families(result: Result) -> list[str]:
    """The witnessed families, without all of them together."""
    return [name for name, entry in result["families"].items() if entry["witnessed"] and name != TOGETHER]


def away(result: Result) -> float:
    """The least first percentile of the SNR that signals keep on a family other than scattered light."""
    kept = [
        value(result, family, "network", "snr_kept_p1") for family in families(result) if family != SCATTER
    ]
    return min(kept, default=np.nan)


Demand = tuple[
    str, Callable[[Result], float], float, int
]  # words, number, limit, and 1 for at least, -1 for at most


def of(score: str, method: str = "network", family: str = TOGETHER) -> Callable[[Result], float]:
    return lambda result: value(result, family, method, score)


EACH: tuple[Demand, ...] = (
    ("left", of("left"), 0.085, -1),
    (
        "left / the perfect mask's",
        lambda r: of("left")(r) / of("left", "oracle")(r),
        0.6,
        -1,
    ),
    ("residual", of("residual"), 0.10, -1),
    ("SNR left, median", of("snr_left_median"), 6, -1),
    ("SNR left, 90 %", of("snr_left_p90"), 12, -1),
    ("noise added, rms", of("noise_added"), 0.03, -1),
    ("quiet windows given an SNR > 5", of("noise_above_5"), 0.01, -1),
    ("blind to the strain (1: bit by bit)", lambda result: float(result["blind"]), 1, 1),
    ("SNR kept, 1 %, away from scattered light", away, 0.9999, 1),
    ("SNR kept, 1 %, all glitches", of("snr_kept_p1"), 0.96, 1),
    ("SNR kept, 1 %, scattered light", of("snr_kept_p1", family=SCATTER), 0.93, 1),
    ("minutes of training", lambda result: result["minutes"], 15, -1),
)


def demands(results: dict[int, Result]) -> Iterator[tuple[str, float, float, bool]]:
    """What is asked of each seed and of their mean: words, number, limit, and whether it is met."""
    for seed, result in results.items():
        for words, number, limit, sign in EACH:
            found = number(result)
            yield f"seed {seed}: {words}", found, limit, sign * found >= sign * limit
    every = list(results.values())
    mean = lambda family, method: float(np.mean([value(r, family, method, "left") for r in every]))  # noqa: E731
    limits = {
        "left, mean of the seeds": 0.07,
        "the same, 1.8 x the reference's": 1.8 * mean(TOGETHER, "reference"),
    }
    for words, limit in limits.items():
        yield words, mean(TOGETHER, "network"), limit, mean(TOGETHER, "network") <= limit
    for family in families(every[0]):
        found, limit = mean(family, "network"), max(0.03, 2 * mean(family, "reference"))
        yield f"left of {family}, mean of the seeds", found, limit, found <= limit


def row(title: str, cells: Sequence[str]) -> str:
    return f"| {title} | " + " | ".join(cells) + " |"


def table(title: str, columns: Sequence[str], rows: dict[str, Sequence[str]]) -> str:
    lines = [f"\n{title}\n", row("", columns), "|---" * (len(columns) + 1) + "|"]
    return "\n".join([*lines, *(row(name, cells) for name, cells in rows.items())])


def interval(result: Result, family: str, method: str, score: str = "left") -> str:
    found = result["families"][family]["scores"].get(method, {}).get(score)
    if not found or found["value"] is None:
        return "–"
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def tables(seed: int, result: Result) -> Iterator[str]:
    """`left` by family, and all scores over all families, of every method."""
    columns = [TOGETHER, *families(result)]
    glitches = [f"{name} ({result['families'][name]['glitches']})" for name in columns]
    shown = [method for method in METHODS if method in result["families"][TOGETHER]["scores"]]
    yield table(
        f"seed {seed}: left of glitches, 95 %",
        glitches,
        {method: [interval(result, family, method) for family in columns] for method in shown},
    )
    yield table(
        f"seed {seed}, all families",
        SHOWN,
        {method: [f"{value(result, TOGETHER, method, score):.4g}" for score in SHOWN] for method in shown},
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/coherent_scores"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--store", default="", help="datasets that there are; {seed} stands for the seed")
    arguments = parse(parser)
    home = arguments.workdir.resolve()
    results = {}
    for seed in arguments.seeds:
        where = home / f"seed{seed}"
        where.mkdir(parents=True, exist_ok=True)
        results[seed] = stages(where, seed, arguments.store, arguments.overrides)
        print("\n".join(tables(seed, results[seed])), flush=True)
    missed = 0
    print()
    for words, found, limit, met in demands(results):
        print(f"{words:<56} {found:9.4f} of {limit:.4f} {'ok' if met else 'MISSED'}")
        missed += not met
    print(f"{missed} of the demands missed")
    (home / "coherent.json").write_text(json.dumps({str(seed): r for seed, r in results.items()}, indent=1))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
