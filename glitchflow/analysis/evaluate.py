"""Scores of a trained network on the test split, beside baselines and oracle, per family, with intervals.

Writes `evaluation/metrics.json` (every score), `events.csv` (a line per test event) and figures.

Shapes: E event of the test split, W witness, F frequency, T time.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.config import Experiment, InputError
from glitchflow.data import store
from glitchflow.data.loader import Loader, build_loader
from glitchflow.data.normalise import Normalisation, build_normalisation
from glitchflow.progress import say
from glitchflow.score import clusters, metrics, statistics
from glitchflow.score.baseline import BASELINES, fit

FIT_EVENTS = 4096  # events that baselines are fitted to at most; their loss is flat beyond
NETWORK = "network"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class TestSplit:
    """What is scored: energies of the test events and who generated what for them."""

    events: NDArray[np.int64]  # (E,) indices in the store
    label: NDArray[np.int8]
    gps: NDArray[np.float64]
    snr: NDArray[np.float32]
    recorded: Array  # (E, F, T)
    witnessed: Array | None  # (E, F, T), synthetic data only
    generated: dict[str, Array]  # by the network (first), untrained, baselines, oracle
    residual: dict[str, Array] = field(
        default_factory=dict
    )  # of those that do not clean by spectral subtraction

    def cleaned(self, name: str) -> Array:
        """Energies (E, F, T) that are left of the recorded ones."""
        found = self.residual.get(name)
        return metrics.subtract(self.recorded, self.generated[name]) if found is None else found


def evaluate(experiment: Experiment) -> Path:
    """Write `workdir/evaluation` and return its path. Raises `InputError` where a store is missing."""
    dataset, predictions = store.open_store(experiment.dataset), store.open_store(experiment.predictions)
    if predictions.layout != dataset.layout:
        raise InputError(f"{predictions.path}: is of another dataset than {dataset.path}; infer again")
    normalisation = build_normalisation(experiment.loader.normalise, dataset.attributes["normalisation"])
    split = collect(experiment, dataset, predictions, normalisation)
    areas = pixel_areas(dataset)
    strain = normalisation.channels([0])
    say(f"scoring {len(split.events)} test events")
    result = {
        "loss": loss_kind(experiment),
        "normalisation": experiment.loader.normalise,
        "events": len(split.events),
        "families": score_table(experiment, dataset, split, strain),
        "thresholds": threshold_table(experiment, split, cluster_levels(experiment, split, areas)),
    }
    directory = Path(experiment.workdir) / "evaluation"
    directory.mkdir(parents=True, exist_ok=True)
    result = plain(result)
    (directory / "metrics.json").write_text(json.dumps(result, indent=1, allow_nan=False))
    _write_events(directory / "events.csv", experiment, dataset, split, strain, areas)
    say(summary(result))
    return directory


def summary(result: dict[str, Any]) -> str:
    """What the scores come to, a line per family: the network beside the best baseline."""
    lines = [
        f"test split: {result['events']} events, loss {result['loss']} in {result['normalisation']} units"
    ]
    for family, entry in result["families"].items():
        scores = entry["scores"]
        best = min(
            (n for n in BASELINES if n in scores and n != "oracle"), key=lambda n: scores[n]["loss"]["value"]
        )
        gain = scores[best]["loss_above_network"]
        line = (
            f"  {family:<16} {entry['events']:>5} events  loss {scores[NETWORK]['loss']['value']:.4f},"
            f" {best} {gain['value']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
        )
        if entry["witnessed"]:
            line += f"  excess power removed {share(scores[NETWORK]['excess_removed'])}"
        lines.append(line)
    return "\n".join(lines)


def share(interval: dict[str, float | None]) -> str:
    """An interval of shares as percentages, and a dash where it is not defined."""
    value, low, high = (interval[key] for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "–"
    # adding 0 turns the -0.0 of a rounded share into 0.0
    value, low, high = (round(v, 3) + 0.0 for v in (value, low, high))
    return f"{value:.1%} [{low:.1%}, {high:.1%}]"


# -- collecting --------------------------------------------------------------------------------------------------


def collect(
    experiment: Experiment,
    dataset: store.Dataset,
    predictions: store.Dataset | None,
    normalisation: Normalisation,
) -> TestSplit:
    """The test split with its baselines, and with the network's predictions where there are any."""
    loader = build_loader(dataset, "test", experiment.loader, normalisation, experiment.seed)
    events = loader.events
    read = {name: read_events(dataset, name, events) for name in ("label", "gps", "snr", "qplot")}
    witnessed = read_events(dataset, "witnessed", events) if "witnessed" in dataset else None
    generated = {} if predictions is None else {NETWORK: read_events(predictions, "qplot", events)}
    if predictions is not None and "untrained" in predictions:
        generated["untrained"] = read_events(predictions, "untrained", events)
    inputs = loader.read(events)[:, 1:].numpy()
    generated |= dict(_baselines(experiment, dataset, normalisation, inputs, witnessed))
    recorded = np.maximum(read["qplot"][:, 0], 0)
    return TestSplit(events, read["label"], read["gps"], read["snr"], recorded, witnessed, generated)


def read_events(dataset: store.Dataset, name: str, events: NDArray[np.int64]) -> NDArray:
    """An array of the store at ascending event indices."""
    return np.concatenate([values for _, (values,) in dataset.blocks(events, name)])


def _baselines(
    experiment: Experiment,
    dataset: store.Dataset,
    normalisation: Normalisation,
    inputs: Array,
    witnessed: Array | None,
) -> Iterator[tuple[str, Array]]:
    """Energies (E, F, T) of each baseline, fitted on the train split to the loss of the training."""
    train: Loader = build_loader(dataset, "train", experiment.loader, normalisation, experiment.seed)
    chosen = train.events[:FIT_EVENTS]
    values = train.read(chosen).numpy()
    strain = normalisation.channels([0])
    known = read_events(dataset, "witnessed", chosen) if witnessed is not None else None
    zero = float(strain.apply(torch.zeros(1, 1, 1, 1)))
    for name in BASELINES:
        if name == "oracle" and known is None:
            continue
        baseline = fit(name, values[:, 1:], values[:, 0], loss_kind(experiment), known, zero)
        yield name, invert(strain, baseline.predict(inputs, witnessed))


def loss_kind(experiment: Experiment) -> str:
    """What baselines are fitted to and everybody is scored by: the pixelwise part of the training's loss."""
    return "l2" if experiment.train.loss == "l2" else "l1"


def invert(strain: Normalisation, value: Array) -> Array:
    """Normalised values (E, F, T) of the strain to energies."""
    return strain.invert(torch.from_numpy(np.ascontiguousarray(value))[:, None])[:, 0].numpy()


def apply(strain: Normalisation, energy: Array) -> Array:
    """Energies (E, F, T) of the strain to normalised values."""
    return strain.apply(torch.from_numpy(energy)[:, None])[:, 0].numpy()


def pixel_areas(dataset: store.Dataset) -> NDArray[np.float64]:
    """Area in s Hz of the pixels of each row."""
    if "frequency" in dataset:
        return clusters.pixel_areas(np.asarray(dataset["frequency"][:]), np.asarray(dataset["time"][:]))
    qplot = dataset.attributes["config"]["qplot"]  # a crop at the loudest pixel: evenly spaced
    return np.full(dataset["qplot"].shape[2], qplot["fres"] * qplot["tres"])


# -- scoring -----------------------------------------------------------------------------------------------------


def score_table(
    experiment: Experiment,
    dataset: store.Dataset,
    split: TestSplit,
    strain: Normalisation,
    reference: str = NETWORK,
) -> dict[str, dict[str, Any]]:
    """Per family (and all witnessed ones together), per generator: loss, its distance to `reference`'s, and more."""
    settings = experiment.evaluate
    loss = {name: _losses(experiment, strain, split.recorded, g) for name, g in split.generated.items()}
    excess = {n: metrics.residual_power(split.recorded, split.cleaned(n), split.witnessed) for n in loss}
    iou = {n: metrics.mask_iou(split.recorded, g, settings.mask) for n, g in split.generated.items()}
    table: dict[str, dict[str, Any]] = {}
    for family, chosen in families(dataset, split).items():
        rows = {}
        for name in split.generated:
            interval = (experiment.seed, settings.bootstrap)
            row: dict[str, Any] = {
                "loss": asdict(statistics.bootstrap_mean(loss[name][chosen], *interval)),
                "excess_removed": asdict(excess[name].of(chosen).removed(*interval)),
                "iou": asdict(statistics.bootstrap_mean(iou[name][chosen], *interval)),
            }
            if name != reference and reference in loss:
                gain = statistics.bootstrap_difference(loss[name][chosen], loss[reference][chosen], *interval)
                row[f"loss_above_{reference}"] = asdict(gain)
            rows[name] = row
        table[family] = {
            "events": int(chosen.sum()),
            "witnessed": family == "witnessed" or family in dataset.attributes["witnessed_labels"],
            "scores": rows,
        }
    return table


def families(dataset: store.Dataset, split: TestSplit) -> dict[str, NDArray[np.bool_]]:
    """Masks over the test events: each family that occurs, and all witnessed ones together where they are known."""
    masks = {name: split.label == i for i, name in enumerate(dataset.labels)}
    together = [masks[name] for name in dataset.attributes["witnessed_labels"]]
    if len(together) > 1:
        masks["witnessed"] = np.logical_or.reduce(together)
    return {name: mask for name, mask in masks.items() if mask.any()}


def _losses(
    experiment: Experiment, strain: Normalisation, recorded: Array, generated: Array
) -> NDArray[np.float64]:
    """The training loss of each event (its pixelwise part), in normalised units."""
    difference = apply(strain, recorded) - apply(strain, generated)
    value = np.square(difference) if loss_kind(experiment) == "l2" else np.abs(difference)
    return value.mean(axis=(1, 2), dtype=np.float64)


@dataclass(frozen=True)
class Levels:
    """The highest threshold at which each test event has a cluster, (E,): recorded, and per generator."""

    recorded: NDArray[np.float64]
    generated: dict[str, NDArray[np.float64]]
    residual: dict[str, NDArray[np.float64]]
    difference: dict[str, NDArray[np.float64]]  # of |T - G|


def cluster_levels(experiment: Experiment, split: TestSplit, areas: NDArray[np.float64]) -> Levels:
    """The levels of every generator, from which shares at all thresholds follow."""

    def level(energy: Array) -> NDArray[np.float64]:
        return clusters.cluster_level(energy, areas, experiment.evaluate.area)

    return Levels(
        recorded=level(split.recorded),
        generated={name: level(g) for name, g in split.generated.items()},
        residual={name: level(split.cleaned(name)) for name in split.generated},
        difference={name: level(np.abs(split.recorded - g)) for name, g in split.generated.items()},
    )


def threshold_table(
    experiment: Experiment, split: TestSplit, levels: Levels, chosen: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """At every threshold: accuracy of the veto, efficiency, share cleaned, and what noise alone does.

    Of all test events, or of those `chosen` (E,).
    """
    thresholds = experiment.evaluate.thresholds
    some = np.ones(len(split.events), bool) if chosen is None else chosen
    quiet = split.label[some] == 0
    table: dict[str, Any] = {"thresholds": thresholds}
    for name in split.generated:
        veto = clusters.veto(levels.recorded[some], levels.generated[name][some], quiet, thresholds)
        table[name] = {
            "accuracy": _shares(veto.accuracy),
            "efficiency": _shares(veto.efficiency),
            "background_veto_fraction": _shares(veto.background_veto_fraction),
            "cleaned": _shares(clusters.without_cluster(levels.residual[name][some], thresholds)),
            "cleaned_difference": _shares(
                clusters.without_cluster(levels.difference[name][some], thresholds)
            ),
        }
        table["noise_only"] = _shares(veto.noise_only)
    return table


def _shares(value: statistics.Proportion) -> dict[str, list[Any]]:
    return {
        "value": value.value.tolist(),
        "low": value.low.tolist(),
        "high": value.high.tolist(),
        "hits": value.hits.tolist(),
        "events": value.trials.tolist(),
        "resolvable": value.resolvable.tolist(),
    }


def _write_events(
    path: Path,
    experiment: Experiment,
    dataset: store.Dataset,
    split: TestSplit,
    strain: Normalisation,
    areas: NDArray[np.float64],
) -> None:
    """One line per test event: who it is, how loud recorded and generated, and the network's scores."""
    generated = split.generated[NETWORK]
    residual = metrics.subtract(split.recorded, generated)
    columns: dict[str, Any] = {
        "event": split.events,
        "gps": split.gps,
        "family": [dataset.labels[i] for i in split.label],
        "snr": split.snr,
        "loss": _losses(experiment, strain, split.recorded, generated),
    }
    for name, energy in (("recorded", split.recorded), ("generated", generated), ("residual", residual)):
        columns[f"{name}_level"] = clusters.cluster_level(energy, areas, experiment.evaluate.area)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*columns.values()):
            writer.writerow(
                [f"{v:.6g}" if isinstance(v, np.floating) and i != 1 else v for i, v in enumerate(row)]
            )


def plain(value: Any) -> Any:
    """The same for JSON, which has no numpy numbers and no NaN: null instead."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
