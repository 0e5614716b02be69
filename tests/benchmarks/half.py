"""What energies of float16 cost: `python tests/benchmarks/half.py [--seeds 1 2 3] [--workdir DIR] [key=value ...]`.

Makes the dataset of configs/quickstart.yaml twice with each seed, without series and with `store.qplot` float32 and
float16, trains the same image network on each, and prints the bytes of their Q-plots and what `evaluate` says of the
network, with its 95 % interval, as markdown; JSON in the working directory. What is there already is kept. Ends with
status 1 where any score of one lies outside the other's interval.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from command_line import parse

from glitchflow.data.store.dataset import open_store

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
KINDS = ("float32", "float16")
SCORES = ("skill", "nll", "removed", "destroyed")  # those that need no series
TOGETHER = "witnessed"
KEYS = (
    "store.series=none",
    "model.name=unet",
    "train.loss=l1",
    "train.workers=1",
    "train.epochs=3",
    "train.lr=1e-3",
    "loader.batch=64",
    "infer.untrained=false",
    "harm.signals=0",
)


def run(stage: str, *settings: str) -> None:
    """One stage, as a user starts it."""
    print(f"== {stage} {' '.join(settings)}", flush=True)
    command = [sys.executable, "-c", "from glitchflow.cli import main; main()", stage, str(CONFIG)]
    subprocess.run([*command, *KEYS, *settings], check=True)


def made(home: Path, seed: int, kind: str, overrides: list[str]) -> dict[str, Any]:
    """All stages of a seed with energies of one type: bytes of an event's Q-plots, and the network's scores."""
    metrics = home / "evaluation" / "metrics.json"
    if not metrics.exists():
        for stage in ("generate", "train", "infer", "evaluate"):
            run(stage, f"workdir={home}", f"seed={seed}", f"store.qplot={kind}", *overrides)
    found = json.loads(metrics.read_text())["families"][TOGETHER]["scores"]["network"]
    array = open_store(home / "dataset.zarr").known.arrays["qplot"]
    assert array is not None
    return {"bytes": array.event_bytes, **{score: found[score] for score in SCORES}}


def agree(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether each of two numbers lies in the other's interval."""
    return all(a["low"] <= b["value"] <= a["high"] for a, b in ((one, other), (other, one)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/half"))
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3))
    arguments = parse(parser)
    home = arguments.workdir.resolve()
    found = {
        seed: {kind: made(home / f"{seed}_{kind}", seed, kind, arguments.overrides) for kind in KINDS}
        for seed in arguments.seeds
    }
    home.joinpath("half.json").write_text(json.dumps(found, indent=1))
    print("| seed | energies | bytes an event | " + " | ".join(SCORES) + " |")
    print("|---" * (3 + len(SCORES)) + "|")
    for seed, kinds in found.items():
        for kind, one in kinds.items():
            cells = (f"{one[s]['value']:.4g} [{one[s]['low']:.4g}, {one[s]['high']:.4g}]" for s in SCORES)
            print(f"| {seed} | {kind} | {one['bytes']:,} | {' | '.join(cells)} |")
    apart = [
        f"seed {seed}: {score}"
        for seed, kinds in found.items()
        for score in SCORES
        if not agree(*(one[score] for one in kinds.values()))
    ]
    print("\n".join(apart) or "no score differs by more than its interval")
    return len(apart) > 0


if __name__ == "__main__":
    sys.exit(main())
