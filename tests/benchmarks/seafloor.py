"""Every method on real witnesses, one day left out: `python tests/benchmarks/seafloor.py [--workdir runs/seafloor]`.

Runs configs/seafloor.yaml three times, each time learning from two of the three days and scored on the third:
`baseline`, or with --network train, infer and evaluate. Prints what every method leaves of the target's power, and of
injected signals, as markdown, and writes the same as JSON in the working directory: `seafloor.json`, `network.json`.
With --peers franc's filters and gw-nomad are fitted and tuned as peers.py does it, with taps enough for minutes:
`peers.json`, and `peers_few.json` of the few windows that the slow one of them is asked about; of those that adapt to
the target it says what is left of signals too.
What is there already is kept, so an interrupted run goes on. GLITCHFLOW_TEST_DATA is the directory that m08a/ lies in:
docs/seafloor.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import peers
from peers_franc import FILTERS, Data, Filter, kept
from peers_home import Home, NotRun
from peers_nomad import of_windows

from glitchflow.analysis.evaluate.evaluate import rows_of
from glitchflow.config import Harm, Loader, load
from glitchflow.data.store import open_store
from glitchflow.methods.compare import basis_of
from glitchflow.score.statistics import Bootstrap
from glitchflow.score.table import plain

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

TAPS = (150, 300, 600)  # s at 1 Hz, of a peer's filter: one is chosen on the validation split
ADAPTING = (
    300  # of one that adapts, whose step is chosen there: with it, all that is tried takes minutes a day
)

Result = dict[str, Any]  # of a day: `events`, and `scores` by method, by score: value, low, high


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


def divided(home: Path, left_out: int, name: str, overrides: list[str]) -> list[str]:
    """Divide the store so that one day is left out, in the split of that name; returns the overrides of that."""
    own = [f"store.path={home / 'dataset.zarr'}", groups(left_out, name), *overrides]
    run("ingest", "--split", f"workdir={home}", *own)
    return own


def shown(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Those scores that are printed, by method; None for one that there is not."""
    return {method: {name: row.get(name) for name in SHOWN} for method, row in scores.items()}


def day(home: Path, left_out: int, network: bool, overrides: list[str]) -> Result:
    """What `baseline`, or with a network `evaluate`, says of the day that is left out."""
    where = home / DAYS[left_out]
    found = where / "evaluation" / "metrics.json" if network else where / "baseline.json"
    if not found.exists():
        own = divided(home, left_out, "test" if network else "validation", overrides)
        for stage in ("train", "infer", "evaluate") if network else ("baseline",):
            run(stage, f"workdir={where}", *own)
    known = json.loads(found.read_text())
    return {"events": known["events"], "scores": shown(known["families"]["recorded"]["scores"])}


def told_of_signals(
    peer: Home, filters: Mapping[str, Filter], about: dict[str, dict[str, Any]], data: Data, harm: Harm
) -> None:
    """Adds to what is known `about` filters that adapt to the target how much signals keep of their SNR: `snr_kept`."""
    for name, one in about.items():
        if "step" not in one:
            continue
        try:
            ask = partial(kept, peer, filters[name], data, one["taps"], one["step"], harm)
            found = peer.kept(f"{name} signals", ask)[0]["kept"]
            one["snr_kept"] = {"median": float(np.median(found)), "least": float(found.min())}
        except NotRun as reason:
            one["snr_kept"] = str(reason)
        print(f"== {name}: signals keep {one['snr_kept']} of their SNR", flush=True)


def peers_day(home: Path, left_out: int, environments: Path, overrides: list[str]) -> tuple[Result, Result]:
    """What franc's filters and gw-nomad leave of the day that is left out, beside ours, and `peers`, about each of
    them: of all windows those that are quick, and of a few windows all."""
    peer = Home(home / DAYS[left_out] / "peers", environments)
    peer.path.mkdir(parents=True, exist_ok=True)
    experiment = load(CONFIG, divided(home, left_out, "test", overrides))
    settings = experiment.evaluate
    dataset = open_store(str(home / "dataset.zarr"))
    filters = {
        name: one if one.few else replace(one, lengths=TAPS if one.steps == (0.0,) else (ADAPTING,))
        for name, one in FILTERS.items()
        if not one.derived  # the configuration derives no channel
    }
    basis, rows = basis_of(dataset, Loader()), rows_of(dataset, settings.quiet, None)
    data = Data(dataset, basis.channels[1:])
    nomad = partial(of_windows, peer, data, settings.band)
    *found, about = peers.filtered(peer, filters, dataset, basis, settings, {"gw-nomad": nomad})
    told_of_signals(peer, filters, about, data, experiment.harm)
    tables = [plain(rows.table(one, Bootstrap(dataset.config.seed, 200)))["recorded"] for one in found]
    quick, few = ({"events": one["events"], "scores": shown(one["scores"]), "peers": about} for one in tables)
    return quick, few


def table(result: Mapping[str, Result], score: str) -> list[str]:
    """A markdown table of a score: methods by days, and the mean of the days."""
    methods = list(dict.fromkeys(method for entry in result.values() for method in entry["scores"]))
    lines = [f"\n{score}\n", f"| method | {' | '.join(result)} | mean |", "|---" * (len(result) + 2) + "|"]
    for method in methods:
        found = [entry["scores"].get(method, {}).get(score) for entry in result.values()]
        values = [None if one is None else one["value"] for one in found]
        values.append(None if None in values else sum(values) / len(values))
        lines.append(f"| {method} | " + " | ".join("–" if v is None else f"{v:.4f}" for v in values) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/seafloor"))
    parser.add_argument(
        "--network", action="store_true", help="train one too, and examine signals: much longer"
    )
    parser.add_argument("--peers", action="store_true", help="run franc and gw-nomad instead, beside ours")
    parser.add_argument(
        "--environments", type=Path, help="where peers are or are made; default: in the workdir"
    )
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    home = arguments.workdir.resolve()
    made = home / "made"
    if not made.exists():  # later the store has the split of a day
        run("ingest", f"workdir={home}", *arguments.overrides)
        made.touch()
    network, overrides = arguments.network, arguments.overrides
    if arguments.peers:
        environments = (arguments.environments or home / "environments").resolve()
        both = [peers_day(home, place, environments, overrides) for place in range(len(DAYS))]
        results = {"peers": [quick for quick, _ in both], "peers_few": [few for _, few in both]}
    else:
        days = [day(home, place, network, overrides) for place in range(len(DAYS))]
        results = {"network" if network else "seafloor": days}
    for name, days in results.items():
        result = dict(zip(DAYS, days))
        print(f"\n{' / '.join(str(one['events']) for one in days)} windows")
        for score in SHOWN if network else SHOWN[:4]:
            print("\n".join(table(result, score)))
        (home / f"{name}.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
