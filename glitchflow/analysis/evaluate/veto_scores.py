"""From energies to decisions: clusters at every threshold, vetoes and what they cost, ROC.

All of it follows from one number per event and image: the highest threshold at which it has a cluster, its level.

Shapes: E event that is scored, S threshold, F frequency, T time.
"""

from dataclasses import asdict
from typing import Any

import numpy as np

from glitchflow.config import Evaluate
from glitchflow.data import store
from glitchflow.score import clusters, statistics
from glitchflow.score.deadtime import Deadtime, deadtime
from glitchflow.score.levels import Levels
from glitchflow.score.sample import Scored
from glitchflow.score.statistics import RESOLVABLE_EVENTS, Proportion
from glitchflow.score.table import Bootstrap
from glitchflow.signal.types import Array, Flags, Indices

POINTS = 256  # of an ROC curve that are kept for drawing, at most
STEPS = 100  # between the thresholds of a curve of efficiency against cost
QUOTED = (0.001, 0.01, 0.05, 0.1)  # background veto fractions or deadtimes at which efficiency is quoted


def roc_table(levels: Levels, threshold: float) -> dict[str, Any]:
    """Compute, by method as its threshold sinks, the shares of events rightly and wrongly vetoed, and the area under
    it.

    Truth is a cluster in the recorded energy at `threshold`.
    """
    truth = levels.recorded >= threshold
    table = {}
    for name, level in levels.generated.items():
        curve = clusters.roc(level, truth)
        points = _thinned(curve.false.hits + curve.efficiency.hits)
        table[name] = {
            "truth": threshold,
            "threshold": curve.score[points].tolist(),  # the first is infinite, null in JSON: nothing vetoed
            "false_positive": curve.false.value[points].tolist(),
            "true_positive": curve.efficiency.value[points].tolist(),
            "auc": asdict(clusters.roc_area(level, truth)),
            "positives": int(truth.sum()),
            "negatives": int((~truth).sum()),
        }
    return table


def _thinned(counts: Indices) -> Indices:
    """Places of at most `POINTS` points of a curve, the ends among them, evenly spread over its events."""
    wanted = np.linspace(0, counts[-1], POINTS)
    return np.unique(np.searchsorted(counts, wanted).clip(0, len(counts) - 1))


def veto_table(
    dataset: store.Dataset, scored: Scored, levels: Levels, settings: Evaluate, interval: Bootstrap
) -> dict[str, Any]:
    """Compute efficiency against what it costs, by method, at every threshold of the generated energy and some between.

    Efficiency: share vetoed of the events with a recorded cluster at `evaluate.veto`. Cost: where the store slides
    over a stretch, `deadtime` = vetoed seconds / analysed seconds; else the share of the background events vetoed.
    """
    truth, stretch = levels.recorded >= settings.veto, window(dataset)
    quiet = scored.label == 0 if stretch is None else ~truth
    table: dict[str, Any] = {"kind": "background veto fraction" if stretch is None else "deadtime"}
    for name, level in levels.generated.items():
        thresholds = _steps(settings.thresholds, level[quiet])
        vetoed = level >= thresholds[:, None]
        efficiency = statistics.proportion((vetoed & truth).sum(axis=1), truth.sum())
        entry: dict[str, Any] = {"truth": settings.veto, "threshold": thresholds.tolist()}
        entry |= _named("efficiency", efficiency)
        if stretch is None:
            cost = statistics.proportion((vetoed & quiet).sum(axis=1), quiet.sum())
            entry |= _named("cost", cost) | {"resolvable": cost.resolvable.tolist()}
        else:
            block = dataset.config.split.block  # s, within which neighbours are not independent
            entry |= _dead(deadtime(scored.gps, stretch, vetoed, truth, block, *interval), vetoed)
        table[name] = entry | {"quoted": quoted(entry)}
    return table


def _steps(thresholds: list[float], level: Array) -> Array:
    """The thresholds, and at most `STEPS` of the levels that quiet events have: where the cost changes."""
    some = np.quantile(level, np.linspace(0, 1, STEPS), method="nearest") if len(level) else level
    return np.unique(np.concatenate([thresholds, some]))


def window(dataset: store.Dataset) -> float | None:
    """Return the length in s of the windows of a store that slides over a stretch; None for a store of separate
    events."""
    slides = dataset.recorded and dataset.config.ingest.times.end is not None
    return dataset.config.qplot.span if slides else None


def _named(name: str, value: Proportion) -> dict[str, list[Any]]:
    ends = {"": value.value, "_low": value.low, "_high": value.high, "_hits": value.hits}
    return {name + end: values.tolist() for end, values in ends.items()} | {
        f"{name}_events": np.broadcast_to(value.trials, value.hits.shape).tolist()
    }


def _dead(found: Deadtime, vetoed: Flags) -> dict[str, Any]:
    """Deadtime at each threshold, with efficiency / deadtime, and their intervals. vetoed (S, E)."""
    return {
        "cost": found.share.value.tolist(),
        "cost_low": found.share.low.tolist(),
        "cost_high": found.share.high.tolist(),
        "vetoed_seconds": found.vetoed.tolist(),
        "analysed_seconds": found.analysed,
        "analysed_windows": vetoed.shape[1],
        "efficiency_over_deadtime": found.ratio.value.tolist(),
        "efficiency_over_deadtime_low": found.ratio.low.tolist(),
        "efficiency_over_deadtime_high": found.ratio.high.tolist(),
        "resolvable": (vetoed.sum(axis=1) >= RESOLVABLE_EVENTS).tolist(),
    }


def quoted(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Find the highest efficiency that each of the `QUOTED` costs buys; null where fewer than 10 events would decide
    it."""
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
