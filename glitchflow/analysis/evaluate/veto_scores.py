"""From energies to decisions: vetoes at every threshold, what they catch and what they cost, ROC.

Shapes: E event that is scored, V veto segment, S threshold, F frequency, T time.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from igwn_segments import segmentlist

from glitchflow.config import Evaluate, Veto
from glitchflow.data.store import Dataset
from glitchflow.data.view import axes, column_edges, slides
from glitchflow.score import clusters, segments, vetoes
from glitchflow.score.levels import Levels, Rule, confusion
from glitchflow.score.made import Columns
from glitchflow.score.statistics import RESOLVABLE_EVENTS, Bootstrap, bootstrap_mean
from glitchflow.signal.types import Array, Indices

POINTS = 256  # of an ROC curve that are kept for drawing, at most
PARTS = 10  # of a reliability curve: some 90 events each where 900 are scored
# Costs at which efficiency is quoted: hveto's, then iDQ's; in percent as scores are named, and as shares
COSTS = ("deadtime", "false_alarm_probability")
QUOTED = {"0.1": 0.001, "1": 0.01}


def cluster_rule(dataset: Dataset, settings: Evaluate) -> Rule:
    """Say what a cluster is, and at which thresholds vetoes are tried: `vetoes.THRESHOLDS` and `evaluate.veto`."""
    tried = np.unique(np.append(vetoes.THRESHOLDS, settings.veto))
    areas = clusters.pixel_areas(*axes(dataset, 0))  # pixels are of one size in all events
    return Rule(areas, settings.area, settings.veto, tried)


@dataclass(frozen=True)
class Judged:
    """Holds the events of a split as vetoes are judged on them."""

    watch: vetoes.Watch
    levels: Levels


def judge(dataset: Dataset, events: Indices, levels: Levels) -> Judged:
    """Prepare the events of a split: their windows, the glitch in each, and which are quiet.

    Quiet is the background of separate events, and what has no recorded cluster where windows slide over a stretch.
    Recorded neighbours, within `split.block` s, are not independent.
    """
    edges = column_edges(dataset, events)
    loudest, place = levels.loudest, np.arange(len(events))
    there, middle = loudest >= 0, (edges[place, loudest] + edges[place, loudest + 1]) / 2
    quiet = ~there if slides(dataset) else dataset.events("label", events) == 0
    block = dataset.config.split.block if dataset.recorded else 0.0
    watch = vetoes.Watch(edges, np.where(there, middle, np.nan), levels.clusters > 0, quiet, block)
    return Judged(watch, levels)


def veto_table(
    test: Judged, validation: Judged | None, rule: Rule, settings: Veto, interval: Bootstrap
) -> tuple[dict[str, Any], dict[str, Columns]]:
    """Compute what each method's vetoes catch and cost: at every threshold tried, at `evaluate.veto`, and at those that
    the validation events choose for the `QUOTED` deadtimes and false alarm probabilities; none without such events.

    Returned beside it, by method, are `caught_0.1` and `caught_1`, (E,): whether an event's glitch is caught at that
    deadtime; not a number where there is none. Without a threshold there is no column.
    """
    methods, caught = {}, {}
    for name, level in test.levels.generated.items():
        here = cut(test, name, rule, settings)
        before = None if validation is None else cut(validation, name, rule, settings)
        curves = vetoes.figures(here.tallies, *interval)
        chosen = [] if before is None else list(_chosen(before))
        points = [_point(here, curves, i, rule, test.watch) | row for i, row in chosen]
        methods[name] = {
            "curves": {figure: _lists(curve) for figure, curve in curves.items()},
            "segments": here.counts,
            "at_veto": _point(
                here, curves, int(np.searchsorted(rule.thresholds, rule.veto)), rule, test.watch
            ),
            "chosen": points,
            "confusion": confusion(test.levels.recorded, level, rule.veto),
            "rank": None if validation is None else rank_table(validation, test, name),
        }
        caught[name] = {
            f"caught_{row['percent']}": _caught(here.segments(i), test.watch.glitch)
            for i, row in chosen
            if row["cost"] == COSTS[0]
        }
    table = {
        "truth": rule.veto,
        "thresholds": rule.thresholds.tolist(),
        "glitches": int(np.isfinite(test.watch.glitch).sum()),
        "analysed_seconds": float(abs(test.watch.known)),
        "quiet_seconds": float(np.diff(test.watch.own, axis=1)[test.watch.quiet].sum()),
        "methods": methods,
    }
    return table, caught


@dataclass(frozen=True)
class Cut:
    """Holds what a method's vetoes take out of a split at each threshold tried, S of them."""

    segments: Callable[
        [int], Array
    ]  # (V, 2) at the i-th threshold, made anew: all of 10^6 events are too many
    counts: list[int]  # V
    tallies: list[vetoes.Tally]


def cut(judged: Judged, method: str, rule: Rule, settings: Veto) -> Cut:
    """Veto a split's events by a method, at each threshold tried."""
    watch, covered = judged.watch, judged.levels.covered[method]

    def segments_at(i: int) -> Array:
        return watch.vetoed(covered > i, settings.padding, settings.minimum)

    counts, tallies = [], []
    for i in range(len(rule.thresholds)):
        vetoed = segments_at(i)
        counts.append(len(vetoed))
        tallies.append(vetoes.tally(vetoed, watch))
    return Cut(segments_at, counts, tallies)


def at_veto(judged: Judged, rule: Rule, settings: Veto) -> tuple[segmentlist, dict[str, segmentlist]]:
    """Give the time that a split's events cover, and what of it each method's vetoes at `evaluate.veto` take."""
    i, watch = int(np.searchsorted(rule.thresholds, rule.veto)), judged.watch
    vetoed = {
        name: segments.joined(watch.vetoed(covered > i, settings.padding, settings.minimum))
        for name, covered in judged.levels.covered.items()
    }
    return watch.known, vetoed


def _chosen(before: Cut) -> Iterator[tuple[int, dict[str, Any]]]:
    """The thresholds that a split's events choose for each cost that is quoted, and how well they are known."""
    for cost, (percent, most) in itertools.product(COSTS, QUOTED.items()):
        i = vetoes.lowest_threshold(before.tallies, cost, most)
        if i is not None:
            resolvable = before.counts[i] >= RESOLVABLE_EVENTS
            yield i, {"cost": cost, "percent": percent, "resolvable": resolvable}


def _point(
    here: Cut, curves: dict[str, vetoes.Curve], i: int, rule: Rule, watch: vetoes.Watch
) -> dict[str, Any]:
    """hveto's and iDQ's figures at the i-th threshold."""
    return {
        "threshold": float(rule.thresholds[i]),
        "segments": here.counts[i],
        **{figure: asdict(curve.at(i)) for figure, curve in curves.items()},
        "chance": asdict(vetoes.chance(here.segments(i), watch)),
    }


def _lists(curve: vetoes.Curve) -> dict[str, list[float]]:
    return {part: values.tolist() for part, values in vars(curve).items()}


def _caught(vetoed: Array, glitch: Array) -> Array:
    """Whether veto segments (V, 2) hold each glitch, (E,); not a number where there is none."""
    return np.where(np.isnan(glitch), np.nan, segments.segment_at(vetoed, glitch) >= 0)


def rank_table(validation: Judged, test: Judged, name: str) -> dict[str, Any] | None:
    """Calibrate a method's level, iDQ's rank, to pglitch on validation events, and say how well it holds on the test.

    The Brier score is the mean square of pglitch less the truth; that of the prior alone is `prior_brier`.
    `reliability` has, in equal parts of the test events by their pglitch, its mean and the share of glitches. None
    where the validation events are all glitches, or none is.
    """
    known, truth = (np.isfinite(judged.watch.loudest) for judged in (validation, test))
    found = vetoes.calibrate(validation.levels.generated[name], known)
    if found is None:
        return None
    p, loglike = (of(test.levels.generated[name]) for of in (found.pglitch, found.loglike))
    parts = [part for part in np.array_split(np.argsort(p, kind="stable"), PARTS) if len(part)]
    return {
        "prior": found.prior,
        "brier": float(np.square(p - truth).mean()),
        "prior_brier": float(np.square(found.prior - truth).mean()),
        "loglike": {
            words: float(loglike[some].mean()) if some.any() else None
            for words, some in (("glitch", truth), ("clean", ~truth))
        },
        "reliability": [
            {"pglitch": float(p[part].mean()), "glitches": float(truth[part].mean()), "events": len(part)}
            for part in parts
        ],
    }


def left_table(levels: Levels, veto: float, interval: Bootstrap) -> dict[str, Any]:
    """Say by method what clusters cleaning leaves at `evaluate.veto`, over all events: those that it makes count too.

    residual_area: their mean area in an event, s Hz; cleaned: share of events without any.
    """
    return {
        name: {
            "residual_area": asdict(bootstrap_mean(area, *interval)),
            "cleaned": asdict(bootstrap_mean((levels.residual[name] < veto).astype(np.float64), *interval)),
        }
        for name, area in levels.area.items()
    }


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
