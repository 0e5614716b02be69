"""Every method on real witnesses, one day left out: `python tests/benchmarks/seafloor.py [--workdir runs/seafloor]`.

Runs configs/seafloor.yaml three times, each time learning from two of the three days and scored on the third:
`baseline`, or with --network train, infer and evaluate. Prints what every method leaves of the target's power, and of
injected signals, as markdown, and writes the same as JSON in the working directory: `seafloor.json`, `network.json`.
What is there already is kept, so an interrupted run goes on. GLITCHFLOW_TEST_DATA is the directory that m08a/ lies in:
docs/seafloor.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).parents[2] / "configs" / "seafloor.yaml"
START, DAY = 1014595215, 86400  # GPS of 2012-03-01, s
DAYS = ("2012-03-01", "2012-03-02", "2012-03-03")
LAST = 4 * 3600  # s at a day's end that are its validation
SHOWN = (
    "power_left",
    "power_left_median",
    "power_left_gated",
    "made_worse",
    "snr_kept_median",
    "snr_kept_p1",
)

Scores = dict[str, dict[str, dict[str, float | None]]]  # by method, by score: value, low, high


def groups(left_out: int, name: str) -> str:
    """The override of `split.groups` by which one day is left out, in the split of that name."""
    pieces = []
    for day in range(len(DAYS)):
        start, stop = START + day * DAY, START + (day + 1) * DAY
        learned = [[start, stop - LAST, "train"]]
        learned += [[stop - LAST, stop, "validation"]] if name == "test" else []
        pieces += [[start, stop, name]] if day == left_out else learned
    return "split.groups=" + json.dumps(pieces)


def run(stage: str, *words: str) -> None:
    """One stage, as a user starts it."""
    print(f"== {stage} {' '.join(words)}", flush=True)
    command = [sys.executable, "-c", "from glitchflow.cli import main; main()", stage, str(CONFIG)]
    subprocess.run([*command, *words], check=True)


def day(home: Path, left_out: int, network: bool, overrides: list[str]) -> dict[str, Any]:
    """What `baseline`, or with a network `evaluate`, says of the day that is left out."""
    where = home / DAYS[left_out]
    found = where / "evaluation" / "metrics.json" if network else where / "baseline.json"
    if not found.exists():
        split = groups(left_out, "test" if network else "validation")
        own = [f"store.path={home / 'dataset.zarr'}", split, *overrides]
        run("ingest", "--split", f"workdir={home}", *own)
        for stage in ("train", "infer", "evaluate") if network else ("baseline",):
            run(stage, f"workdir={where}", *own)
    known = json.loads(found.read_text())
    scores = known["families"]["recorded"]["scores"]
    return {
        "events": known["events"],
        "scores": {method: {name: row[name] for name in SHOWN} for method, row in scores.items()},
    }


def table(result: dict[str, dict[str, Any]], score: str) -> list[str]:
    """A markdown table of a score: methods by days."""
    methods = list(result[DAYS[0]]["scores"])
    lines = [f"\n{score}\n", "| method | " + " | ".join(result) + " |", "|---" * (len(result) + 1) + "|"]
    for method in methods:
        values = [entry["scores"][method][score]["value"] for entry in result.values()]
        lines.append(f"| {method} | " + " | ".join("–" if v is None else f"{v:.3f}" for v in values) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/seafloor"))
    parser.add_argument(
        "--network", action="store_true", help="train one too, and examine signals: much longer"
    )
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    home = arguments.workdir.resolve()
    made = home / "made"
    if not made.exists():  # later the store has the split of a day
        run("ingest", f"workdir={home}", *arguments.overrides)
        made.touch()
    network, overrides = arguments.network, arguments.overrides
    result = {name: day(home, place, network, overrides) for place, name in enumerate(DAYS)}
    for score in SHOWN if network else SHOWN[:4]:
        print("\n".join(table(result, score)))
    (home / ("network.json" if network else "seafloor.json")).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
