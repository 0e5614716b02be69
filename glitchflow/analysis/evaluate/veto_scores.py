"""From energies to decisions: clusters at every threshold, vetoes and what they cost, ROC.

All of it follows from one number per event and image: the highest threshold at which it has a cluster, its level.

Shapes: E event that is scored, S threshold, F frequency, T time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.analysis.evaluate.scored import Array, Sample
from glitchflow.config import Experiment
from glitchflow.data.store import dataset as store
from glitchflow.score import clusters, deadtime, statistics
from glitchflow.score.statistics import RESOLVABLE_EVENTS, Proportion

POINTS = 256  # of an ROC curve that are kept for drawing, at most
STEPS = 100  # between the thresholds of a curve of efficiency against cost
QUOTED = (0.001, 0.01, 0.05, 0.1)  # background veto fractions or deadtimes at which efficiency is quoted

Level = NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """The highest threshold at which each event has a cluster, (E,): recorded, and per generator."""

    recorded: Level
    generated: dict[str, Level]
    residual: dict[str, Level]
    difference: dict[str, Level]  # of |T - G|


def cluster_levels(experiment: Experiment, sample: Sample, areas: NDArray[np.float64]) -> Levels:
    """The levels of every generator, from which shares at all thresholds follow."""

    def level(energy: Array) -> Level:
        return clusters.cluster_level(energy, areas, experiment.evaluate.area)

    return Levels(
        recorded=level(sample.recorded),
        generated={name: _generated_level(level, g) for name, g in sample.generated.items()},
        residual={name: level(sample.cleaned(name)) for name in sample.generated},
        difference={name: level(np.abs(sample.recorded - g)) for name, g in sample.generated.items()},
    )


def _generated_level(level: Any, generated: Array) -> Level:
    """A baseline that generates the same for every event is looked at once."""
    same = len(generated) > 1 and bool((generated[1:] == generated[:1]).all())
    return np.repeat(level(generated[:1]), len(generated)) if same else level(generated)


def threshold_table(
    experiment: Experiment, sample: Sample, levels: Levels, chosen: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """At every threshold: accuracy of the veto, efficiency, share cleaned, and what noise alone does.

    Of all events, or of those `chosen` (E,). Truth is a cluster in the recorded energy at the same threshold.
    """
    thresholds = experiment.evaluate.thresholds
    some = np.ones(len(sample.events), bool) if chosen is None else chosen
    quiet = sample.label[some] == 0
    table: dict[str, Any] = {"thresholds": thresholds}
    for name in sample.generated:
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


def _shares(value: Proportion) -> dict[str, list[Any]]:
    return {
        "value": value.value.tolist(),
        "low": value.low.tolist(),
        "high": value.high.tolist(),
        "hits": value.hits.tolist(),
        "events": value.trials.tolist(),
        "resolvable": value.resolvable.tolist(),
    }


def roc_table(experiment: Experiment, levels: Levels) -> dict[str, Any]:
    """Per generator, as its threshold sinks: the shares of events rightly and wrongly vetoed, and the area under it.

    Truth is a cluster in the recorded energy at `evaluate.veto`.
    """
    truth = levels.recorded >= experiment.evaluate.veto
    table = {}
    for name, level in levels.generated.items():
        curve = clusters.roc(level, truth)
        points = _thinned(curve.false.hits + curve.efficiency.hits)
        table[name] = {
            "truth": experiment.evaluate.veto,
            "threshold": curve.score[points].tolist(),  # the first is infinite, null in JSON: nothing vetoed
            "false_positive": curve.false.value[points].tolist(),
            "true_positive": curve.efficiency.value[points].tolist(),
            "auc": asdict(clusters.roc_area(level, truth)),
            "positives": int(truth.sum()),
            "negatives": int((~truth).sum()),
        }
    return table


def _thinned(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of at most `POINTS` points of a curve, the ends among them, evenly spread over its events."""
    wanted = np.linspace(0, counts[-1], POINTS)
    return np.unique(np.searchsorted(counts, wanted).clip(0, len(counts) - 1))


def veto_table(
    experiment: Experiment, dataset: store.Dataset, sample: Sample, levels: Levels
) -> dict[str, Any]:
    """Efficiency against what it costs, per generator, at every threshold of the generated energy and some between.

    Efficiency: share vetoed of the events with a recorded cluster at `evaluate.veto`. Cost: where the store slides
    over a stretch, `deadtime` = vetoed seconds / analysed seconds; else the share of the background events vetoed.
    """
    truth, stretch = levels.recorded >= experiment.evaluate.veto, window(dataset)
    quiet = sample.label == 0 if stretch is None else ~truth
    table: dict[str, Any] = {"kind": "background veto fraction" if stretch is None else "deadtime"}
    for name, level in levels.generated.items():
        thresholds = _steps(experiment.evaluate.thresholds, level[quiet])
        vetoed = level >= thresholds[:, None]
        efficiency = statistics.proportion((vetoed & truth).sum(axis=1), truth.sum())
        entry: dict[str, Any] = {"truth": experiment.evaluate.veto, "threshold": thresholds.tolist()}
        entry |= _named("efficiency", efficiency)
        if stretch is None:
            cost = statistics.proportion((vetoed & quiet).sum(axis=1), quiet.sum())
            entry |= _named("cost", cost) | {"resolvable": cost.resolvable.tolist()}
        else:
            entry |= _dead(experiment, sample.gps, stretch, vetoed, truth)
        table[name] = entry | {"quoted": quoted(entry)}
    return table


def _steps(thresholds: list[float], level: Level) -> Level:
    """The thresholds, and at most `STEPS` of the levels that quiet events have: where the cost changes."""
    some = np.quantile(level, np.linspace(0, 1, STEPS), method="nearest") if len(level) else level
    return np.unique(np.concatenate([thresholds, some]))


def window(dataset: store.Dataset) -> float | None:
    """Length in s of the windows of a store that slides over a stretch; None for a store of separate events."""
    config = dataset.attributes["config"]
    times = config.get("ingest", {}).get("times", {})
    return None if times.get("end") is None else float(config["qplot"]["span"])


def _named(name: str, value: Proportion) -> dict[str, list[Any]]:
    ends = {"": value.value, "_low": value.low, "_high": value.high, "_hits": value.hits}
    return {name + end: values.tolist() for end, values in ends.items()} | {
        f"{name}_events": np.broadcast_to(value.trials, value.hits.shape).tolist()
    }


def _dead(
    experiment: Experiment,
    gps: NDArray[np.float64],
    length: float,
    vetoed: NDArray[np.bool_],
    truth: NDArray[np.bool_],
) -> dict[str, Any]:
    """Deadtime at each threshold (S,), with efficiency / deadtime, and intervals over blocks of time."""
    found = deadtime.deadtime(
        gps, length, vetoed, truth, experiment.split.block, experiment.seed, experiment.evaluate.bootstrap
    )
    return {
        "cost": found.share.value.tolist(),
        "cost_low": found.share.low.tolist(),
        "cost_high": found.share.high.tolist(),
        "vetoed_seconds": found.vetoed.tolist(),
        "analysed_seconds": found.analysed,
        "analysed_windows": len(gps),
        "efficiency_over_deadtime": found.ratio.value.tolist(),
        "efficiency_over_deadtime_low": found.ratio.low.tolist(),
        "efficiency_over_deadtime_high": found.ratio.high.tolist(),
        "resolvable": (vetoed.sum(axis=1) >= RESOLVABLE_EVENTS).tolist(),
    }


def quoted(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The highest efficiency that each of the `QUOTED` costs buys; null where fewer than 10 events would decide it."""
    cost = np.array(entry["cost"], np.float64)
    trials = entry["cost_events"][0] if "cost_events" in entry else entry["analysed_windows"]
    found = []
    for most in QUOTED:
        allowed = np.flatnonzero(cost <= most)
        resolvable = most * trials >= RESOLVABLE_EVENTS and len(allowed) > 0
        best = int(allowed[np.argmax(np.array(entry["efficiency"])[allowed])]) if resolvable else None
        keys = ("threshold", "efficiency", "efficiency_low", "efficiency_high")
        row = {key: entry[key][best] if best is not None else None for key in keys}
        found.append({"cost": most, "resolvable": bool(resolvable), **row})
    return found
