"""Scores of a trained network, beside every other method, per family, with intervals.

    methods      what each of them generates for the events: methods/compare.py
    scores       loss, excess power removed, overlap, likeness: score/table.py
    vetoes       clusters at every threshold, vetoes and their cost, ROC: veto_scores.py
    attribution  which sensor carries each veto
    drift        which events' witnesses are out of the range that the network was trained on
    injections   what cleaning in the time domain takes from glitches, and what from signals

Writes under `evaluation/`: `metrics.json` (every score), `events.csv` and `events.parquet` (a row per event),
`attribution.csv` (a row per veto that was attributed), and the figures as PNG.

Shapes: E event that is scored.
"""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from glitchflow.analysis import attribute, drift
from glitchflow.analysis.attribute import Attribution
from glitchflow.analysis.evaluate import injections, veto_scores
from glitchflow.analysis.opened import Opened, open_run
from glitchflow.config import Evaluate, Experiment
from glitchflow.data import store
from glitchflow.data.identity import identity
from glitchflow.data.objects import write_text
from glitchflow.data.view import axes
from glitchflow.errors import InputError
from glitchflow.figures.evaluation import figures
from glitchflow.methods.compare import compare
from glitchflow.methods.table import BASELINES, NETWORK
from glitchflow.progress import say
from glitchflow.score.clusters import pixel_areas
from glitchflow.score.former_table import Unit, Values, score_events, score_table
from glitchflow.score.levels import Levels, cluster_levels, threshold_table
from glitchflow.score.metrics import Excess
from glitchflow.score.sample import Sample
from glitchflow.score.table import Bootstrap, number, plain, share

Columns = dict[str, list[Any]]


def evaluate(experiment: Experiment) -> Path:
    """Write `workdir/evaluation` and return its path. Raises `InputError` where a store is missing or does not fit."""
    settings, subset = experiment.evaluate, experiment.loader.subset
    directory, interval = (
        Path(experiment.workdir) / "evaluation",
        Bootstrap(experiment.seed, settings.bootstrap),
    )
    run = open_run(experiment)
    dataset, basis = run.dataset, run.basis
    events = scored_events(run, settings.split)[: subset.test]
    unit = Unit.of(experiment.train.loss, basis.strain)
    sample = compare(dataset, events, basis, unit, subset.train, run.generated)
    say(f"scoring {len(events)} events")
    values = score_events(sample, unit, settings.mask)
    levels = cluster_levels(sample, pixel_areas(*axes(dataset, 0)), settings.area)
    vetoed = levels.generated[NETWORK] >= settings.veto
    moved = drift.measure(basis, sample.loudness, vetoed, settings.drift)
    where = directory / "attribution.zarr"
    lost = attribute.spread(events[vetoed], settings.attribute)
    found = attribute.attribute(run, lost, settings, experiment.infer.batch, experiment.cluster, where)
    result = {
        "loss": unit.loss,
        "normalisation": basis.normalisation.kind,
        "split": settings.split,
        "events": len(events),
        "dataset": dataset.path,
        "checkpoint": run.predictions.attributes["checkpoints"]["qplot"],
        **_tables(dataset, sample, levels, values, settings, interval),
        "veto": veto_scores.veto_table(dataset, sample, levels, settings, interval),
        "attribution": attribute.table(found, int(vetoed.sum()), dataset) if found else None,
        "drift": moved.table if moved else None,
    }
    if "series" in dataset:
        validation = dataset.indices("validation")[: subset.validation]
        trial = injections.Trial(experiment.harm, experiment.clean.threshold, interval)
        result["do_no_harm"] = injections.measure(run, sample, trial, validation)
    rows = event_rows(dataset, sample, levels, values[NETWORK], settings.veto)
    rows["trusted"] = (~moved.flagged).tolist() if moved else [True] * len(events)
    rows["carrier"] = found.carriers(events) if found else [""] * len(events)
    return _write(directory, plain(result), {name: rows[name] for name in COLUMNS}, found)


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
        events = np.flatnonzero(np.asarray(dataset["split"][:]) != store.SKIPPED)
    else:
        events = dataset.indices("test")
    if not len(events):
        hint = "; evaluate.split=all scores a store of new data whole" if split == "test" else ""
        raise InputError(f"{dataset.path}: its {split} split is empty{hint}")
    return events


def _tables(
    dataset: store.Dataset,
    sample: Sample,
    levels: Levels,
    values: Values,
    settings: Evaluate,
    interval: Bootstrap,
) -> dict[str, Any]:
    """Scores and shares at every threshold, by family and of all events; and the ROC."""
    masks, quiet = sample.families(dataset.labels, dataset.witnessed_labels), sample.label == 0
    families = score_table(values, masks, dataset.witnessed_labels, interval, NETWORK)
    for name, entry in families.items():
        entry["thresholds"] = threshold_table(levels, quiet, settings.thresholds, masks[name])
    return {
        "families": families,
        "thresholds": threshold_table(levels, quiet, settings.thresholds),
        "roc": veto_scores.roc_table(levels, settings.veto),
    }


COLUMNS = (
    "event",
    "gps",
    "family",
    "snr",
    "loss",
    "recorded_level",
    "generated_level",
    "residual_level",
    "truth",
    "veto",
    "trusted",
    "carrier",
    "iou",
    "excess_removed",
)


def event_rows(
    dataset: store.Dataset, sample: Sample, levels: Levels, values: dict[str, Any], veto: float
) -> Columns:
    """Make the table of events: who each is, how loud recorded and generated, and what the network made of it.

    truth, veto       a cluster at the threshold `veto` in the recorded, the generated energy
    excess_removed    share of the excess power; not a number where there is none that the witnesses explain
    """
    excess: Excess = values["excess_removed"]
    with np.errstate(invalid="ignore", divide="ignore"):
        removed = np.where(excess.pixels > 0, 1 - np.abs(excess.after) / excess.before, np.nan)
    columns = {
        "event": sample.events,
        "gps": sample.gps,
        "family": np.array(dataset.labels)[sample.label],
        "snr": sample.snr.astype(np.float64),
        "loss": values["loss"],
        "recorded_level": levels.recorded,
        "generated_level": levels.generated[NETWORK],
        "residual_level": levels.residual[NETWORK],
        "truth": levels.recorded >= veto,
        "veto": levels.generated[NETWORK] >= veto,
        "iou": values["iou"],
        "excess_removed": removed,
    }
    return {name: column.tolist() for name, column in columns.items()}


def attribution_rows(found: Attribution) -> Columns:
    """List the level of what is generated for each attributed event without each witness and group."""
    columns: Columns = {"event": found.events.tolist()}
    columns |= {f"without {name}": found.level[:, v].tolist() for v, name in enumerate(found.variants)}
    return columns


def summary(result: dict[str, Any]) -> str:
    """Say what the scores come to, a line per family: the network beside the best baseline."""
    lines = [
        f"test split: {result['events']} events, loss {result['loss']} in {result['normalisation']} units"
    ]
    for family, entry in result["families"].items():
        scores = entry["scores"]
        best = min((n for n in BASELINES if n in scores), key=lambda n: scores[n]["loss"]["value"])
        line = (
            f"  {family:<16} {entry['events']:>5} events  loss {scores[NETWORK]['loss']['value']:.4f},"
            f" {best} {number(scores[best]['loss_above_network'], '+.4f')}"
        )
        if entry["witnessed"]:
            line += f"  excess power removed {share(scores[NETWORK]['excess_removed'])}"
        lines.append(line)
    return "\n".join(lines)


# -- writing -----------------------------------------------------------------------------------------------------


def _write(directory: Path, result: dict[str, Any], rows: Columns, found: Attribution | None) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "metrics.json", to_json(result))
    write_csv(directory / "events.csv", rows)
    pyarrow.parquet.write_table(pyarrow.table(rows), directory / "events.parquet")
    if found:
        write_csv(directory / "attribution.csv", attribution_rows(found))
    for name, figure in figures(result).items():
        figure.savefig(directory / f"{name}.png", dpi=110)
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
        for row in zip(*columns.values()):
            writer.writerow(
                f"{v:.6g}" if isinstance(v, float) and name != "gps" else v for name, v in zip(columns, row)
            )
