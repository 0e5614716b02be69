"""Scores of a trained network, beside baselines and oracle, per family, with intervals.

    collect    the events, and what everybody generates for them
    scores     loss, excess power removed, overlap, likeness: per family
    decide     clusters at every threshold, vetoes and their cost, ROC
    attribute  which sensor carries each veto
    drift      which events' witnesses are out of the range that the network was trained on
    harm       what cleaning in the time domain takes from glitches, and what from signals

Writes under `evaluation/`: `metrics.json` (every score), `events.csv` and `events.parquet` (a row per event),
`attribution.csv` (a row per veto that was attributed), and the figures as PNG.

Shapes: E event that is scored.
"""

from __future__ import annotations

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
from glitchflow.analysis.evaluate import event_scores as scores
from glitchflow.analysis.evaluate import injections as harm
from glitchflow.analysis.evaluate import scored as collect
from glitchflow.analysis.evaluate import veto_scores as decide
from glitchflow.analysis.evaluate.event_scores import share as share
from glitchflow.analysis.evaluate.event_scores import summary as summary
from glitchflow.analysis.evaluate.scored import NETWORK, Sample, plain
from glitchflow.config import Experiment
from glitchflow.data.store import dataset as store
from glitchflow.figures.evaluation import figures
from glitchflow.methods.wiener import add_wiener
from glitchflow.progress import say
from glitchflow.score.metrics import Excess

Columns = dict[str, list[Any]]


def evaluate(experiment: Experiment) -> Path:
    """Write `workdir/evaluation` and return its path. Raises `InputError` where a store is missing or does not fit."""
    dataset = store.open_store(experiment.dataset)
    predictions = collect.open_predictions(experiment, dataset)
    basis = collect.find_basis(experiment, dataset, predictions)
    sample, areas = collect.collect(experiment, dataset, predictions, basis), collect.pixel_areas(dataset)
    add_wiener(experiment, dataset, basis, sample)
    say(f"scoring {len(sample.events)} events")
    each, excess = scores.event_scores(experiment, sample, basis.strain), scores.excess_scores(sample)
    levels = decide.cluster_levels(experiment, sample, areas)
    vetoed = levels.generated[NETWORK] >= experiment.evaluate.veto
    drifted = drift.measure(experiment, basis, sample, vetoed)
    found = attribute.attribute(experiment, dataset, predictions, basis, sample, levels, areas)
    masks, family = scores.families(dataset, sample), [dataset.labels[i] for i in sample.label]
    families = scores.score_table(
        experiment, sample, masks, dataset.attributes["witnessed_labels"], each, excess
    )
    for name, entry in families.items():
        entry["thresholds"] = decide.threshold_table(experiment, sample, levels, masks[name])
    result = {
        "loss": collect.loss_kind(experiment),
        "normalisation": basis.normalisation.kind,
        "split": experiment.evaluate.split,
        "events": len(sample.events),
        "dataset": dataset.path,
        "checkpoint": predictions.attributes["checkpoints"]["qplot"],
        "families": families,
        "thresholds": decide.threshold_table(experiment, sample, levels),
        "roc": decide.roc_table(experiment, levels),
        "veto": decide.veto_table(experiment, dataset, sample, levels),
        "attribution": attribute.table(found, int(vetoed.sum()), family),
        "drift": drifted.table if drifted else None,
    }
    if "series" in dataset:
        result["do_no_harm"] = harm.measure(experiment, dataset, predictions, sample)
    carrier = found.carriers(len(sample.events)) if found else [""] * len(sample.events)
    trusted = ~drifted.flagged if drifted else np.ones(len(sample.events), bool)
    rows = event_rows(experiment, sample, family, levels, each[NETWORK], excess[NETWORK], trusted, carrier)
    return _write(Path(experiment.workdir) / "evaluation", plain(result), rows, found)


def event_rows(
    experiment: Experiment,
    sample: Sample,
    family: list[str],
    levels: decide.Levels,
    each: dict[str, NDArray[np.float64]],
    excess: Excess,
    trusted: NDArray[np.bool_],
    carrier: list[str],
) -> Columns:
    """The table of events: who each is, how loud recorded and generated, and what the network made of it.

    truth, veto       a cluster at `evaluate.veto` in the recorded, the generated energy
    trusted           every witness is in the range that the network was trained on
    carrier           the witness, or group of them, that carries the veto
    excess_removed    share of the excess power; not a number where there is none that the witnesses explain
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        removed = np.where(excess.pixels > 0, 1 - np.abs(excess.after) / excess.before, np.nan)
    columns = {
        "event": sample.events,
        "gps": sample.gps,
        "family": np.array(family),
        "snr": sample.snr.astype(np.float64),
        "loss": each["loss"],
        "recorded_level": levels.recorded,
        "generated_level": levels.generated[NETWORK],
        "residual_level": levels.residual[NETWORK],
        "truth": levels.recorded >= experiment.evaluate.veto,
        "veto": levels.generated[NETWORK] >= experiment.evaluate.veto,
        "trusted": trusted,
        "carrier": np.array(carrier),
        "iou": each["iou"],
        "excess_removed": removed,
    }
    return {name: values.tolist() for name, values in columns.items()}


def attribution_rows(sample_events: list[int], found: attribute.Attribution) -> Columns:
    """The level of what is generated for each attributed event without each witness and group."""
    columns: Columns = {"event": [sample_events[k] for k in found.events]}
    columns |= {f"without {name}": found.level[:, v].tolist() for v, name in enumerate(found.variants)}
    return columns


# -- writing -----------------------------------------------------------------------------------------------------


def _write(
    directory: Path, result: dict[str, Any], rows: Columns, found: attribute.Attribution | None
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metrics.json").write_text(to_json(result))
    write_csv(directory / "events.csv", rows)
    pyarrow.parquet.write_table(pyarrow.table(rows), directory / "events.parquet")
    if found:
        write_csv(directory / "attribution.csv", attribution_rows(rows["event"], found))
    for name, figure in figures(result).items():
        figure.savefig(directory / f"{name}.png", dpi=110)
    say(summary(result))
    return directory


def to_json(value: Any) -> str:
    """JSON for people too: a line for each key, lists of numbers on one line."""
    text = json.dumps(value, indent=1, allow_nan=False)
    return re.sub(r"\[[^\[\]{}\"]*\]", lambda found: " ".join(found[0].split()), text)


def write_csv(path: Path, columns: Columns) -> None:
    """A line of names, then a line per row; six digits, but times in full."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*columns.values()):
            writer.writerow(
                f"{v:.6g}" if isinstance(v, float) and name != "gps" else v for name, v in zip(columns, row)
            )
