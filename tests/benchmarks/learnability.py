"""Can a twin be learned? `python tests/benchmarks/learnability.py [--workdir runs/synthetic] [section.key=value ...]`.

Makes the dataset of configs/synthetic.yaml, trains its U-Net with three seeds, generates, evaluates, and prints the
whole table: share of the excess power removed per family by the best blind baseline, by the Wiener filters, by each
network, by the oracle, and what the networks do to glitches that no witness sees. What is there already is kept, so
an interrupted run goes on. Exits with status 1 where one of the demands below is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from glitchflow.data.store import dataset as store
from glitchflow.score.statistics import Interval

CONFIG = Path(__file__).parents[2] / "configs" / "synthetic.yaml"
SEEDS = (1, 2, 3)  # the first is that of the configuration
BLIND = ("zero", "constant", "mean", "median", "linear")
NONLINEAR = ("scattered_light", "bilinear")
UNWITNESSED = ("blip", "chirp")
CLOSED, KEPT = 0.5, 0.99  # share of the distance to the oracle; median SNR of unwitnessed signals
DEVIATIONS = 2.64  # of a difference that is one of six: 95 % for all six together


def stages(workdir: Path, seed: int, overrides: list[str]) -> None:
    """All stages of one seed; the dataset is that of the first."""
    own = [f"workdir={directory(workdir, seed)}"]
    if seed == SEEDS[0]:
        names = ["generate", "baseline"]
    else:
        own += [f"store.path={workdir / 'dataset.zarr'}", f"train.seed={seed}"]
        names = []
    for name in [*names, "train", "infer", "evaluate"]:
        print(f"== seed {seed}: {name}", flush=True)
        command = [sys.executable, "-c", "from glitchflow.cli import main; main()", name, str(CONFIG)]
        subprocess.run([*command, *own, *overrides], check=True)


def directory(workdir: Path, seed: int) -> Path:
    return workdir if seed == SEEDS[0] else workdir.with_name(f"{workdir.name}-seed{seed}")


def removed(entry: dict, name: str) -> Interval:
    return Interval(**entry["scores"][name]["excess_removed"])


def percent(value: Interval) -> str:
    return f"{value.value:7.1%} [{value.low:6.1%}, {value.high:6.1%}]"


def removal(baseline: dict, networks: dict[int, dict]) -> list[tuple[str, bool]]:
    """Print the table of excess power removed and return the demands on it."""
    checks = []
    for family, entry in baseline["families"].items():
        if not entry["witnessed"]:
            continue
        best = max((name for name in BLIND), key=lambda name: removed(entry, name).value)
        wiener = max(("wiener", "wiener + derived"), key=lambda name: removed(entry, name).value)
        print(f"{family}, {entry['events']} events: excess power removed")
        for name in (best, "wiener", "wiener + derived", "oracle"):
            print(f"    {name:<18} {percent(removed(entry, name))}")
        low, high = removed(entry, best).value, removed(entry, "oracle").value
        for seed, result in networks.items():
            found = removed(result["families"][family], "network")
            closed = (found.value - low) / (high - low)
            print(
                f"    network, seed {seed}    {percent(found)}   {closed:.0%} of the distance from {best} to the oracle"
            )
            if family == "witnessed":
                checks.append(
                    (f"seed {seed}: at least {CLOSED:.0%} of the distance closed", closed >= CLOSED)
                )
            if family in NONLINEAR:
                better = found.low > removed(entry, wiener).high
                checks.append((f"seed {seed}: {family} clearly better than the Wiener filters", better))
    return checks


def generated_mean(path: Path, split: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean generated energy of each test event, and its label."""
    test = np.flatnonzero(split == store.SPLITS.index("test"))
    predictions = store.open_store(path)
    blocks = [
        energy.mean(axis=(1, 2), dtype=np.float64) for _, (energy,) in predictions.blocks(test, "qplot")
    ]
    return np.concatenate(blocks), label[test]


def untouched(workdir: Path, networks: dict[int, dict]) -> list[tuple[str, bool]]:
    """Print what the networks generate where no witness sees anything, and return the demands on it."""
    dataset, checks = store.open_store(workdir / "dataset.zarr"), []
    split, label = np.asarray(dataset["split"][:]), np.asarray(dataset["label"][:])
    print("glitches that no witness sees: mean generated energy less that of background events; SNR kept")
    for seed, result in networks.items():
        mean, family = generated_mean(directory(workdir, seed) / "predictions.zarr", split, label)
        quiet = mean[family == 0]
        for name in UNWITNESSED:
            # two samples of different events, so the difference of the means with both errors
            some = mean[family == dataset.labels.index(name)]
            difference = float(some.mean() - quiet.mean())
            error = DEVIATIONS * float(
                np.hypot(some.std(ddof=1) / len(some) ** 0.5, quiet.std(ddof=1) / len(quiet) ** 0.5)
            )
            print(
                f"    seed {seed} {name:<8} {difference:+.4f} +- {error:.4f} (background {quiet.mean():.4f})"
            )
            checks.append((f"seed {seed}: {name} generated as background", abs(difference) <= error))
        harm = result["do_no_harm"]["kept"]
        for where in ("alone", "on_glitches"):
            kept = harm[where]
            print(
                f"    seed {seed} SNR kept {where}: median {kept['median']:.2%}, 1st percentile {kept['p01']:.2%}"
            )
        checks.append((f"seed {seed}: median SNR kept at least {KEPT:.0%}", harm["alone"]["median"] >= KEPT))
    return checks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/synthetic"))
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    for seed in SEEDS:
        stages(arguments.workdir, seed, arguments.overrides)
    baseline = json.loads((arguments.workdir / "baseline.json").read_text())
    networks = {
        seed: json.loads((directory(arguments.workdir, seed) / "evaluation" / "metrics.json").read_text())
        for seed in SEEDS
    }
    checks = removal(baseline, networks) + untouched(arguments.workdir, networks)
    for words, met in checks:
        print(f"{words:<70} {'ok' if met else 'MISSED'}")
    return int(not all(met for _, met in checks))


if __name__ == "__main__":
    sys.exit(main())
