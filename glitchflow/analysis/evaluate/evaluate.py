"""Scores of a trained network, beside every other method, per family, with intervals.

    methods      what each of them generates for the events: methods/compare.py
    scores       what is left of glitches, noise added, likelihood, likeness: score/table.py
    vetoes       clusters at every threshold, vetoes and their cost, ROC: veto_scores.py
    attribution  which sensor carries each veto
    chance       p(glitch) in a sixteenth of a second, calibrated: chance.py
    drift        which events' witnesses are out of the range that the network was trained on
    injections   what every method leaves of signals: injections.py
    stretch      the same of a stretch whose truth is known, over all its live time: stretch.py

Writes under `evaluation/`: `metrics.json` (every score), `events.csv` and `events.parquet` (a row per event),
`attribution.csv` (a row per veto that was attributed), `chance.json`, and the figures as PNG.

Shapes: E event that is scored.
"""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from glitchflow.analysis import attribute, drift, truth
from glitchflow.analysis.attribute import Attribution
from glitchflow.analysis.evaluate import chance, injections, safety, veto_scores
from glitchflow.analysis.evaluate.stretch import measure as measure_stretch
from glitchflow.analysis.opened import Opened, check_whole, open_run, windows_of
from glitchflow.cluster import joins, one_session
from glitchflow.config import Cluster, Evaluate, Experiment
from glitchflow.data.fresh import check_recipe
from glitchflow.data.identity import identity
from glitchflow.data.objects import together, write_text
from glitchflow.data.store import SKIPPED, Dataset
from glitchflow.data.view import slides
from glitchflow.errors import InputError
from glitchflow.figures import save
from glitchflow.figures.evaluation import figures
from glitchflow.methods.compare import Comparison, compare, fit_methods
from glitchflow.methods.method import Fit
from glitchflow.methods.table import NETWORK, thresholded
from glitchflow.progress import say
from glitchflow.score.levels import Levels, threshold_table
from glitchflow.score.lines import method_lines, stretch_lines
from glitchflow.score.made import Who
from glitchflow.score.sample import Scored
from glitchflow.score.statistics import Bootstrap
from glitchflow.score.table import plain, score_table
from glitchflow.signal.types import Indices

Columns = dict[str, NDArray]
LINES = 4096  # rows that are Python's numbers at once


@joins
@one_session()
def evaluate(experiment: Experiment) -> Path:
    """Write `workdir/evaluation` and return its path. Raises `InputError` where a store is missing or does not fit."""
    settings, subset = experiment.evaluate, experiment.loader.subset
    directory = Path(experiment.workdir) / "evaluation"
    interval = Bootstrap(experiment.seed, settings.bootstrap)
    run = open_run(experiment, settings.beside)
    dataset, basis = run.dataset, run.basis
    check_recipe(dataset, experiment.simulate.recipe)
    events = scored_events(run, settings.split)[: subset.test]
    stretch = truth.open_truth(dataset, experiment.ingest.channels, settings.truth, experiment.harm)
    frames = truth.frames_of(stretch, dataset) if stretch else None
    fit = fit_methods(dataset, basis, experiment.clean.threshold, subset.train, run.methods, settings, frames)
    rule = veto_scores.cluster_rule(dataset, settings)
    rows = rows_of(dataset, settings.quiet, stretch)
    scored = rows.named(compare(dataset, events, fit, rule, experiment.cluster))
    levels = Levels.of(scored.columns, scored.covered)
    known = dataset.indices("validation")[: subset.validation]
    before = _before(dataset, known, fit, rule, experiment.cluster) if settings.split == "test" else None
    here = veto_scores.judge(dataset, events, levels)
    vetoes, caught = veto_scores.veto_table(here, before, rule, experiment.veto, interval)
    exam = partial(injections.examine, dataset, experiment.harm, experiment.seed, experiment.cluster)
    scored.add(caught)
    scored.add(exam(events, fit))
    vetoed = levels.generated[NETWORK] >= settings.veto
    moved = drift.measure(basis, scored.loudness, vetoed, settings.drift)
    found = _attributed(run, experiment, events[vetoed], directory)
    treated = Comparison(dataset, fit, None, False), events
    cuts = partial(veto_scores.at_veto, here, rule, experiment.veto)
    result = {
        **_about(run, settings, events),
        **_tables(rows, scored, levels, settings, interval),
        "safety": safety.tell(rows.labels, scored, experiment.scan)
        | safety.inject(run, events, stretch, experiment.harm, experiment.scan.alpha, interval),
        "stretch": stretch and measure_stretch(stretch, *treated, cuts(), experiment.cluster, interval),
        "veto": vetoes,
        "clusters_left": veto_scores.left_table(levels, settings.veto, interval),
        "attribution": attribute.table(found, int(vetoed.sum()), dataset) if found else None,
        "drift": moved.table if moved else None,
        "chance": chance.calibrate(run, known, events, rule),
    }
    listed = event_rows(rows.labels, scored, levels, settings.veto) | _carried(events, moved, found)
    if experiment.harm.thresholds and len(known) and not run.subtracts:
        tried = thresholded(fit, experiment.harm.thresholds)
        again = rows.named(_tried(dataset, tried, known, experiment.cluster, exam))
        result["thresholds_tried"] = rows.table(again, interval)
    return _write(directory, plain(result), {name: listed[name] for name in COLUMNS}, found)


def _about(run: Opened, settings: Evaluate, events: Indices) -> dict[str, Any]:
    """Which events are scored, and which networks."""
    return {
        "form": "series" if "series" in run.dataset else "energies",
        "split": settings.split,
        "events": len(events),
        "quiet": settings.quiet,
        "dataset": run.dataset.path,
        "checkpoint": run.predictions.attributes["checkpoints"]["qplot"],
        "beside": {name: other.attributes["checkpoints"]["qplot"] for name, other in run.beside.items()},
    }


def _carried(events: Indices, moved: drift.Drift | None, found: Attribution | None) -> Columns:
    """Whether each event is to be trusted, and who carries its veto."""
    return {
        "trusted": ~moved.flagged if moved else np.ones(len(events), bool),
        "carrier": np.array(found.carriers(events) if found else [""] * len(events)),
    }


def _attributed(run: Opened, experiment: Experiment, vetoed: Indices, directory: Path) -> Attribution | None:
    """Who carries the vetoes of some of these events."""
    settings = experiment.evaluate
    some, where = attribute.spread(vetoed, settings.attribute), directory / "attribution.zarr"
    return attribute.attribute(run, some, settings, experiment.infer.batch, experiment.cluster, where)


def scored_events(run: Opened, split: str) -> NDArray[np.int64]:
    """Return the ascending indices of the events of `evaluate.split`.

    Raises `InputError` where there are none, and for a store that is to be scored whole and was trained on.
    """
    dataset, training = run.dataset, run.basis.training
    if split == "all":
        if training is not None and identity(training) == identity(dataset):
            raise InputError(
                f"evaluate.split = all: {dataset.path} holds the events that the network was trained on;"
                " all is for a store of new data"
            )
        for predictions in (run.predictions, *run.beside.values()):
            check_whole(predictions, "evaluate.split = all")
        events = np.flatnonzero(np.asarray(dataset["split"][:]) != SKIPPED)
    else:
        events = dataset.indices("test")
    if not len(events):
        hint = "; evaluate.split=all scores a store of new data whole" if split == "test" else ""
        raise InputError(f"{dataset.path}: its {split} split is empty{hint}")
    return events


def _before(
    dataset: Dataset, events: Indices, fit: Fit, rule: veto_scores.Rule, cluster: Cluster
) -> veto_scores.Judged | None:
    """What methods generate for the validation events, by which thresholds are chosen; None without any."""
    if not len(events):
        return None
    scored = compare(dataset, events, fit, rule, cluster, whole=False)
    return veto_scores.judge(dataset, events, Levels.of(scored.columns, scored.covered))


def _tried(
    dataset: Dataset, fit: Fit, known: Indices, cluster: Cluster, verdicts: Callable[[Indices, Fit], Any]
) -> Scored:
    """The scores of validation events, of a network alone at several thresholds, with those of signals."""
    scored = compare(dataset, known, fit, None, cluster)
    scored.add(verdicts(known, fit))
    return scored


@dataclass(frozen=True)
class Rows:
    """Says which rows the tables of scores have: see `made.families`."""

    labels: list[str]
    witnessed: list[str]
    ratio: float | None
    name: Callable[[Indices], Indices] | None  # events -> their families; None: as the store has them

    def named(self, scored: Scored) -> Scored:
        """Return the same with the families of these rows."""
        return replace(scored, label=self.name(scored.events)) if self.name else scored

    def of(self, scored: Scored) -> dict[str, Who]:
        """Return the events of each row."""
        return scored.families(self.labels, self.witnessed, self.ratio)

    def table(self, scored: Scored, interval: Bootstrap) -> dict[str, Any]:
        """Tabulate the scores of each row."""
        return score_table(scored.columns, self.of(scored), self.witnessed, interval)


def rows_of(dataset: Dataset, quiet: float, stretch: truth.Stretch | None) -> Rows:
    """Say which families there are, and that `quiet` s stand beside a glitch. Where windows slide over a stretch its
    truth names them, and quiet time is what there is of it."""
    if stretch and slides(dataset):
        return Rows(
            *truth.families(stretch), None, lambda some: truth.name_events(stretch, windows_of(dataset, some))
        )
    ratio = quiet / dataset.config.qplot.span
    return Rows(dataset.labels, dataset.witnessed_labels, ratio, None)


def _tables(
    rows: Rows, scored: Scored, levels: Levels, settings: Evaluate, interval: Bootstrap
) -> dict[str, Any]:
    """Scores and shares at every threshold, by family and of all events; and the ROC."""
    families, quiet, table = rows.of(scored), scored.label == 0, rows.table(scored, interval)
    for name, entry in table.items():
        entry["thresholds"] = threshold_table(levels, quiet, settings.thresholds, families[name].family)
    return {
        "families": table,
        "thresholds": threshold_table(levels, quiet, settings.thresholds),
        "roc": veto_scores.roc_table(levels, settings.veto),
    }


COLUMNS = (
    "event",
    "gps",
    "family",
    "snr",
    "nll",
    "recorded_level",
    "generated_level",
    "residual_level",
    "truth",
    "veto",
    "trusted",
    "carrier",
    "iou",
    "left",
)


def event_rows(labels: list[str], scored: Scored, levels: Levels, veto: float) -> Columns:
    """Make the table of events: who each is, how loud recorded and generated, and what the network made of it.

    truth, veto   a cluster at the threshold `veto` in the recorded, the generated energy
    left          of the witnessed part of the strain, the share of its power that is left; not a number where there is
                  none, or nobody knows
    """
    values = scored.columns[NETWORK]
    unknown = np.full(len(scored.events), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        left = values.get("residual2", unknown) / values.get("witnessed2", unknown)
    return {
        "event": scored.events,
        "gps": scored.gps,
        "family": np.array(labels)[scored.label],
        "snr": scored.snr.astype(np.float64),
        "nll": values.get(
            "nll", unknown
        ),  # of energies: of what works on series and sees the strain there is none
        "recorded_level": levels.recorded,
        "generated_level": levels.generated[NETWORK],
        "residual_level": levels.residual[NETWORK],
        "truth": levels.recorded >= veto,
        "veto": levels.generated[NETWORK] >= veto,
        "iou": values["iou"],
        "left": np.where(np.isfinite(left), left, np.nan),
    }


def attribution_rows(found: Attribution) -> Columns:
    """List the level of what is generated for each attributed event without each witness and group."""
    levels = {f"without {name}": found.level[:, v] for v, name in enumerate(found.variants)}
    return {"event": found.events} | levels


def summary(result: dict[str, Any]) -> str:
    """Say what the scores come to: a block per family, a line per method, the best in the headline first."""
    lines = [f"{result['split']} split: {result['events']} events"]
    for family, entry in result["families"].items():
        lines.append(f"  {family}, {entry['events']} events, {entry['glitches']} glitches")
        lines += [f"    {line}" for line in method_lines(entry["scores"])]
    if result["stretch"]:
        lines += [
            "  the stretch, over all its live time",
            *(f"    {line}" for line in stretch_lines(result["stretch"])),
        ]
    if unsafe := [name for name, told in result["safety"].items() if told and told["unsafe"]]:
        lines.append(f"  unsafe, for signals move what they generate: {', '.join(unsafe)}")
    return "\n".join(lines)


# -- writing -----------------------------------------------------------------------------------------------------


def _write(directory: Path, result: dict[str, Any], rows: Columns, found: Attribution | None) -> Path:
    with together(directory) as place:
        write_text(place / "metrics.json", to_json(result))
        if result["chance"]:
            write_text(place / chance.FILE, to_json(result["chance"]))
        write_csv(place / "events.csv", rows)
        pyarrow.parquet.write_table(pyarrow.table(rows), place / "events.parquet")
        if found:
            write_csv(place / "attribution.csv", attribution_rows(found))
        for name, figure in figures(result).items():
            save(figure, place / f"{name}.png", dpi=110)
    if not result["chance"]:
        (directory / chance.FILE).unlink(missing_ok=True)
    say(summary(result))
    return directory


def to_json(value: Any) -> str:
    """Write JSON for people too: a line for each key, lists of numbers on one line."""
    text = json.dumps(value, indent=1, allow_nan=False)
    return re.sub(r"\[[^\[\]{}\"]*\]", lambda found: " ".join(found[0].split()), text)


def write_csv(path: Path, columns: Columns) -> None:
    """Write a line of names, then a line per row; six digits, but times in full."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for start in range(0, len(next(iter(columns.values()))), LINES):
            some = [column[start : start + LINES].tolist() for column in columns.values()]
            writer.writerows(
                [f"{v:.6g}" if isinstance(v, float) and name != "gps" else v for name, v in zip(columns, row)]
                for row in zip(*some)
            )
