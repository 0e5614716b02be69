"""Clusters of each event and method: the level of every image, and what shares of events follow from it.

The level is one number per event and image: the highest threshold at which it has a cluster.

Shapes: E event that is scored, S threshold, F frequency, T time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from glitchflow.score import clusters
from glitchflow.score.made import Columns, Made
from glitchflow.score.statistics import proportion
from glitchflow.signal.types import Array, Energies, Flags, Indices

RECORDED = "recorded"  # beside the methods, in what says where clusters lie


@dataclass(frozen=True)
class Rule:
    """Says what a cluster is."""

    areas: Array  # (F,) of a pixel in each row, s Hz
    area: float  # the smallest of a cluster, s Hz
    veto: float  # energy at which events are vetoed
    thresholds: Array  # (S,) ascending, at which vetoes are tried


@dataclass(frozen=True)
class Levels:
    """Holds the clusters of the events that are scored: of what is recorded, and by method; (E,) unless said."""

    recorded: Array  # the highest threshold at which an event has a cluster
    loudest: Indices  # column of the loudest clustered pixel; -1 where there is no cluster at `Rule.veto`
    generated: dict[str, Array]  # levels, of those that expect an energy
    clusters: NDArray[np.uint8]  # (E, T): 1 where a recorded cluster at `Rule.veto` lies over a column
    covered: dict[str, NDArray[np.uint8]]  # (E, T) by method: thresholds of the rule at which a cluster does
    residual: dict[str, Array] = field(default_factory=dict)
    difference: dict[str, Array] = field(default_factory=dict)  # of |T - G|
    area: dict[str, Array] = field(default_factory=dict)  # s Hz, of the clusters that are left at `Rule.veto`

    @classmethod
    def of(cls, values: Mapping[str, Columns], covered: dict[str, NDArray[np.uint8]]) -> Self:
        """Returns what is among the columns of every method, and among `covered`, by method and `RECORDED`."""
        recorded = next(iter(values.values()))
        methods = {name: where for name, where in covered.items() if name != RECORDED}
        names = ("generated_level", "residual_level", "difference_level", "residual_area")
        generated, *left = ({n: c[name] for n, c in values.items() if name in c} for name in names)
        return cls(
            recorded["recorded_level"],
            recorded["recorded_loudest"].astype(np.int64),
            generated,
            covered[RECORDED],
            methods,
            *left,
        )


def recorded_columns(energy: Energies, rule: Rule) -> tuple[Columns, NDArray[np.uint8]]:
    """Returns the level of each event's recorded energies (E, F, T), the column of its loudest clustered pixel, and
    where in time its clusters lie at `Rule.veto`: (E, T), 1 there."""
    level = clusters.cluster_level(energy, rule.areas, rule.area)
    loudest = clusters.loudest_columns(energy, rule.veto, rule.areas, rule.area)
    covered = clusters.cluster_columns(energy, np.array([rule.veto]), rule.areas, rule.area)
    return {"recorded_level": level, "recorded_loudest": loudest.astype(np.float64)}, covered


def generated_columns(energy: Energies, rule: Rule) -> tuple[Columns, NDArray[np.uint8]]:
    """Returns the level of each event's generated energies (E, F, T), and where in time their clusters lie.

    The latter is (E, T): at how many of the rule's thresholds a cluster lies over a column.
    """
    # a baseline that generates the same for every event is looked at once
    same = len(energy) > 1 and bool((energy[1:] == energy[:1]).all())
    some, copies = (energy[:1], len(energy)) if same else (energy, 1)
    level = clusters.cluster_level(some, rule.areas, rule.area)
    covered = clusters.cluster_columns(some, rule.thresholds, rule.areas, rule.area)
    return {"generated_level": np.repeat(level, copies)}, np.repeat(covered, copies, axis=0)


def cleaned_columns(made: Made, rule: Rule) -> Columns:
    """Returns the levels of what is left of a block, of |T - G| where energies are generated, and the area left."""
    found = {
        "residual_level": clusters.cluster_level(made.cleaned, rule.areas, rule.area),
        "residual_area": clusters.cluster_areas(made.cleaned, rule.veto, rule.areas, rule.area),
    }
    if made.generated is None:
        return found
    difference = np.abs(made.recorded - made.generated)
    return found | {"difference_level": clusters.cluster_level(difference, rule.areas, rule.area)}


def threshold_table(
    levels: Levels, quiet: Flags, thresholds: list[float], some: Flags | None = None
) -> dict[str, Any]:
    """Tells at every threshold the veto's accuracy, the share cleaned, and what noise alone does.

    quiet (E,): the background events. It is of all events, or of `some` (E,). An event is vetoed where the generated
    energy has a cluster, rightly where the recorded energy has one at the same threshold.
    """
    chosen = np.ones(len(quiet), bool) if some is None else some
    s, background, events = np.asarray(thresholds)[:, None], quiet[chosen], int(chosen.sum())
    truth = levels.recorded[chosen] >= s
    noise = _shares(truth & background, background.sum())
    table: dict[str, Any] = {"thresholds": thresholds, "noise_only": noise}
    for name, left in levels.residual.items():
        table[name] = {"cleaned": _shares(left[chosen] < s, events)}
        if name in levels.generated:
            table[name] |= {
                "accuracy": _shares((levels.generated[name][chosen] >= s) == truth, events),
                "cleaned_difference": _shares(levels.difference[name][chosen] < s, events),
            }
    return table


def confusion(recorded: Array, generated: Array, veto: float) -> dict[str, int]:
    """Counts the events by decision and truth, a cluster at `veto` in the generated and in the recorded energy.

    recorded, generated: levels (E,). caught, missed, false and quiet are what is elsewhere called true positives, false
    negatives, false positives and true negatives.
    """
    truth, vetoed = recorded >= veto, generated >= veto
    pairs = {"caught": truth & vetoed, "missed": truth & ~vetoed, "false": ~truth & vetoed}
    return {name: int(which.sum()) for name, which in (pairs | {"quiet": ~truth & ~vetoed}).items()}


def _shares(hits: Flags, trials: Any) -> dict[str, list[Any]]:
    """Shares of the trials, with their intervals, at each threshold; hits (S, E)."""
    value = proportion(hits.sum(axis=1), trials)
    return {
        "value": value.value.tolist(),
        "low": value.low.tolist(),
        "high": value.high.tolist(),
        "hits": value.hits.tolist(),
        "events": value.trials.tolist(),
        "resolvable": value.resolvable.tolist(),
    }
