"""Where the field's own tools stand beside ours: `python tests/benchmarks/peers.py --store DATASET --stretch DATASET`.

Each peer is installed once into an environment of its own (outside the measured time; it is no dependency of ours), is
handed the data that our methods see as a .npz file by peers_bridge.py, which runs there, and what it hands back is
scored as every method is.

    franc     a Wiener filter, one that is fitted anew for each event, and two that adapt (LMS, polynomial LMS): of
              witnesses and a strain that are whitened and kept to the band of the Q-plots, for of raw strain all of
              them overflow. The step of the adapting ones is chosen on the validation split of `--store`
    gw-nomad  couplings that slow witnesses modulate, fitted to frames of a stretch that is made here, in which a
              vibration is modulated all the time
    hveto     rounds of vetoes, by triggers of the Q-plots of `--stretch`: chosen on its train split, as many of them as
              the validation split affords, and judged on the test split

Prints tables by the scores of docs/scores.md, with whether a method sees the target when it is applied and, of one that
did not run, its error; writes peers.json, whose records are as challenge.py's. What a peer has said is kept, so an
interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import challenge
import numpy as np
import peers_hveto
import peers_nomad
from peers_franc import FEW, FILTERS, Data, Filter, Said, franc
from peers_home import PACKAGES, Home, NotRun
from peers_home import Said as Made

from glitchflow.analysis.evaluate.evaluate import rows_of
from glitchflow.config import Evaluate, Loader
from glitchflow.data.store import Dataset, open_store
from glitchflow.methods.compare import Basis, Comparison, basis_of, facts, lengths, parts_of, train_of
from glitchflow.methods.method import Fit, Method
from glitchflow.methods.table import METHODS
from glitchflow.score.sample import Scored, join
from glitchflow.score.statistics import Bootstrap
from glitchflow.score.table import plain
from glitchflow.signal.types import Indices

OURS = ("nothing", "wiener", "wiener_derived", "wiener_robust")
SHOWN = (  # those of them that a record has
    "residual",
    "power_left",
    "left",
    "noise_added",
    "noise_above_5",
    "snr_left_median",
    "snr_left_p90",
    "efficiency",
    "deadtime",
    "efficiency_over_deadtime",
    "use_percentage",
    "significance",
)


def scored(
    dataset: Dataset, basis: Basis, events: Indices, said: Mapping[str, Said], settings: Evaluate
) -> Scored:
    """Numbers per event of our methods and of peers, over the same events."""
    segment, band = lengths(settings, dataset.config.series, dataset.config.qplot)
    train = train_of(basis, 0.0, None, {}, segment)
    rows = {name: METHODS[name] for name in OURS if METHODS[name].needs <= facts(train, dataset)}
    fitted = {name: row.fit(train) for name, row in rows.items()}
    rows |= {name: Method(lambda train, one=one: one, seeing=False) for name, one in said.items()}
    comparison = Comparison(
        dataset, Fit(rows, {**fitted, **said}, basis.channels[1:], train.floor, band), None, True
    )
    parts = [comparison.score(part) for part in parts_of(dataset, events)]
    about = {name: dataset.events(name, events) for name in ("label", "gps", "snr")}
    columns = {name: join([part.columns[name] for part in parts]) for name in rows}
    return Scored(
        events, **about, loudness=np.concatenate([p.loudness for p in parts]), columns=columns, covered={}
    )


def some_of(scored: Scored, events: Indices) -> Scored:
    """The same of some of the events."""
    place = np.searchsorted(scored.events, events)
    columns = {m: {n: v[place] for n, v in one.items()} for m, one in scored.columns.items()}
    rows = {name: getattr(scored, name)[place] for name in ("label", "gps", "snr", "loudness")}
    return Scored(events, **rows, columns=columns, covered={})


def record(
    task: str, dataset: Dataset, scored: Scored, about: Mapping[str, dict[str, Any]]
) -> challenge.Record:
    """A record as challenge.py's, and of each peer what else is known: `sees`, minutes, step, error."""
    rows, seed = rows_of(dataset, Evaluate().quiet, None), dataset.config.seed
    metrics = {"families": plain(rows.table(scored, Bootstrap(seed, 200)))}
    minutes = {name: one["minutes"] for name, one in about.items() if "minutes" in one}
    return challenge.record_of(task, seed, metrics, minutes, OURS[0]) | {"peers": dict(about)}


def tables(records: Sequence[challenge.Record]) -> Iterator[str]:
    """A table a record: scores of all witnessed families together, what a method sees, what it took, and errors."""
    for one in records:
        peers, together = one["peers"], one["families"][challenge.TOGETHER]
        scores = together["methods"]
        shown = [score for score in SHOWN if any(score in found for found in scores.values())]
        rows = {}
        for method in [*ranked(scores), *(name for name in peers if "error" in peers[name])]:
            known = scores.get(method, {})
            rows[method] = [*(cell(known.get(score)) for score in shown), *told(peers.get(method, {}))]
        title = f"{one['task']}: seed {one['seed']}"
        if together["glitches"]:
            title += f", {together['glitches']} glitches"
        yield challenge.table(title, (*shown, "sees the target", "minutes", "chosen, or error"), rows)


def ranked(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Methods by `residual`, the best first; vetoes by deadtime."""
    order = "residual" if any("residual" in found for found in scores.values()) else "deadtime"
    return sorted(scores, key=lambda name: scores[name].get(order, np.inf))


def cell(value: float | None) -> str:
    """A number to three digits; a dash where there is none."""
    return "–" if value is None else f"{value:.3g}"


def told(about: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a table says of a method besides its scores; one of ours, of which nothing is said, is blind."""
    chosen = (f"{cell(about[name])} ({name})" for name in ("taps", "step") if name in about)
    other = about.get("error") or ", ".join(chosen) or "–"
    return "yes" if about.get("sees") else "no", cell(about.get("minutes")), other


def filtered(
    home: Home,
    filters: Mapping[str, Filter],
    dataset: Dataset,
    basis: Basis,
    settings: Evaluate,
    others: Mapping[str, Callable[[], Made]],
) -> tuple[Scored, Scored, dict[str, dict[str, Any]]]:
    """Numbers of all filters of franc's but the slow ones, and of others that see witnesses alone, over the test split;
    of all over the few events that the slow ones did; and about each of them: whether it `sees` the target, minutes,
    what was chosen, or its error."""
    _, band = lengths(settings, dataset.config.series, dataset.config.qplot)
    asks: dict[str, Callable[[], Made]] = {
        name: partial(franc, home, one, dataset, basis.channels[1:], band) for name, one in filters.items()
    }
    said, about = {}, {}
    for name, ask in (asks | dict(others)).items():
        print(f"== {name}", flush=True)
        about[name] = {"sees": name in filters and filters[name].sees}
        try:
            made, more = home.kept(name, ask)
            said[name] = Said(made["events"], made["series"])
            about[name] |= more
        except NotRun as reason:
            about[name]["error"] = str(reason)
        print(f"   {about[name]}", flush=True)
    data = Data(dataset, [])
    found = scored(dataset, basis, data.events("test"), said, settings)
    few = some_of(found, data.events("test", FEW))
    fast = {name: one for name, one in found.columns.items() if name not in filters or not filters[name].few}
    return replace(found, columns=fast), few, about


def subtraction(
    home: Home, task: str, store: str, witnesses: str, filters: Mapping[str, Filter]
) -> list[challenge.Record]:
    """Records of filters: all but the slow one over the test split, and all over the few events that it did."""
    dataset, settings = open_store(store), Evaluate()
    basis = basis_of(dataset, Loader(witnesses=witnesses or []))
    found, few, about = filtered(home, filters, dataset, basis, settings, {})
    fast = {name: one for name, one in about.items() if not filters[name].few}
    return [record(task, dataset, found, fast), record(f"{task}, {FEW} events", dataset, few, about)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument("--workdir", type=Path, default=Path("runs/peers"))
    parser.add_argument(
        "--environments", type=Path, help="where they are or are made; default: in the workdir"
    )
    parser.add_argument("--store", help="a simulated dataset with series (store.series=float32), for franc")
    parser.add_argument(
        "--task", default="peers", help="what records of franc are of: easy, hard (challenge.py)"
    )
    parser.add_argument(
        "--witnesses", default="", help="a file that scan wrote: what franc is handed of --store"
    )
    parser.add_argument("--filters", nargs="+", choices=FILTERS, default=list(FILTERS), help="those of franc")
    parser.add_argument("--stretch", help="the dataset of configs/stretch.yaml, for hveto")
    arguments = parser.parse_args()
    path = arguments.workdir.resolve()
    path.mkdir(parents=True, exist_ok=True)
    home = Home(path, (arguments.environments or path / "environments").resolve())
    filters = {name: FILTERS[name] for name in arguments.filters}
    work = {
        "franc": lambda: subtraction(home, arguments.task, arguments.store, arguments.witnesses, filters),
        "gw-nomad": lambda: peers_nomad.records(home),
        "hveto": lambda: peers_hveto.records(home, arguments.stretch),
    }
    for peer, key in (("franc", "store"), ("hveto", "stretch")):
        if peer in arguments.peers and not getattr(arguments, key):
            parser.error(f"{peer} needs --{key}")
    records = [one for peer in arguments.peers for one in work[peer]()]
    (path / "peers.json").write_text(json.dumps(records, indent=1))
    print("\n".join(tables(records)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
