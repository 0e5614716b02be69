"""How good each generator's Q-plots are, per family, with intervals: loss, excess power removed, overlap, likeness.

Shapes: E event that is scored, F frequency, T time.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.analysis.evaluate.scored import NETWORK, Array, Sample, apply, loss_kind
from glitchflow.config import Experiment
from glitchflow.data.normalise import Normalisation
from glitchflow.data.store import dataset as store
from glitchflow.methods.baselines import BASELINES
from glitchflow.score import metrics, statistics

MEANS = ("loss", "iou", "l1", "ssim")  # scores whose value for a family is the mean over its events


def event_scores(
    experiment: Experiment, sample: Sample, strain: Normalisation
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Per generator: the `MEANS` of each event, (E,)."""
    t = sample.recorded
    return {
        name: {
            "loss": _losses(experiment, strain, t, g),
            "iou": metrics.mask_iou(t, g, experiment.evaluate.mask),
            "l1": metrics.l1(t, g),
            "ssim": metrics.ssim(t, g),
        }
        for name, g in sample.generated.items()
    }


def excess_scores(sample: Sample) -> dict[str, metrics.Excess]:
    """Per generator: the excess power of each event before and after its subtraction."""
    return {
        name: metrics.residual_power(sample.recorded, sample.cleaned(name), sample.witnessed)
        for name in sample.generated
    }


def score_table(
    experiment: Experiment,
    sample: Sample,
    masks: dict[str, NDArray[np.bool_]],
    witnessed: list[str],
    scores: dict[str, dict[str, NDArray[np.float64]]],
    excess: dict[str, metrics.Excess],
    reference: str = NETWORK,
) -> dict[str, dict[str, Any]]:
    """Per family (see `families`), per generator: every score, and the distance of its loss to `reference`'s."""
    interval = (experiment.seed, experiment.evaluate.bootstrap)
    table: dict[str, dict[str, Any]] = {}
    for family, chosen in masks.items():
        rows: dict[str, Any] = {}
        for name, each in scores.items():
            row = {s: asdict(statistics.bootstrap_mean(each[s][chosen], *interval)) for s in MEANS}
            row["excess_removed"] = asdict(excess[name].of(chosen).removed(*interval))
            if name != reference and reference in scores:
                pair = each["loss"][chosen], scores[reference]["loss"][chosen]
                row[f"loss_above_{reference}"] = asdict(statistics.bootstrap_difference(*pair, *interval))
            rows[name] = row
        known = family == "witnessed" or family in witnessed
        table[family] = {"events": int(chosen.sum()), "witnessed": known, "scores": rows}
    return table


def families(dataset: store.Dataset, sample: Sample) -> dict[str, NDArray[np.bool_]]:
    """Masks over the events: each family that occurs, and all witnessed ones together where they are known."""
    masks = {name: sample.label == i for i, name in enumerate(dataset.labels)}
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
