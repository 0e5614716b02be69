"""Clusters at every threshold: the level of each event and method, and what shares of events follow from it.

The level is one number per event and image: the highest threshold at which it has a cluster.

Shapes: E event that is scored, S threshold, F frequency, T time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from glitchflow.score import clusters
from glitchflow.score.made import Columns, Made
from glitchflow.score.statistics import proportion
from glitchflow.signal.types import Array, Energies, Flags


@dataclass(frozen=True)
class Levels:
    """Holds the highest threshold at which each event has a cluster, (E,): recorded, and by method."""

    recorded: Array
    generated: dict[str, Array]  # of those that expect an energy
    residual: dict[str, Array]
    difference: dict[str, Array]  # of |T - G|

    @classmethod
    def of(cls, values: Mapping[str, Columns]) -> Self:
        """Returns the levels among the columns of every method."""
        recorded = next(iter(values.values()))["recorded_level"]
        kinds = ("generated", "residual", "difference")
        return cls(
            recorded,
            *({n: c[f"{kind}_level"] for n, c in values.items() if "generated_level" in c} for kind in kinds),
        )


def columns(made: Made, areas: Array, area: float) -> Columns:
    """Returns the levels of a block; without generated energies only those of what is recorded and left.

    areas: (F,) of a pixel in each row, area: the smallest of a cluster, both in s Hz.
    """

    def level(energy: Energies) -> Array:
        # a baseline that generates the same for every event is looked at once
        same = len(energy) > 1 and bool((energy[1:] == energy[:1]).all())
        found = clusters.cluster_level(energy[:1] if same else energy, areas, area)
        return np.repeat(found, len(energy)) if same else found

    found = {"recorded_level": level(made.recorded), "residual_level": level(made.cleaned)}
    if made.generated is None:
        return found
    difference = np.abs(made.recorded - made.generated)
    return found | {"generated_level": level(made.generated), "difference_level": level(difference)}


def threshold_table(
    levels: Levels, quiet: Flags, thresholds: list[float], some: Flags | None = None
) -> dict[str, Any]:
    """Tells at every threshold the veto's accuracy, efficiency, share cleaned, and what noise alone does.

    quiet (E,): the background events. It is of all events, or of `some` (E,). An event is vetoed where the generated
    energy has a cluster, rightly where the recorded energy has one at the same threshold.
    """
    chosen = np.ones(len(quiet), bool) if some is None else some
    s, background = np.asarray(thresholds)[:, None], quiet[chosen]
    truth = levels.recorded[chosen] >= s
    events, glitches, silent = len(background), truth.sum(axis=1), background.sum()
    table: dict[str, Any] = {"thresholds": thresholds}
    for name, generated in levels.generated.items():
        veto = generated[chosen] >= s
        table[name] = {
            "accuracy": _shares(veto == truth, events),
            "efficiency": _shares(veto & truth, glitches),
            "background_veto_fraction": _shares(veto & background, silent),
            "cleaned": _shares(levels.residual[name][chosen] < s, events),
            "cleaned_difference": _shares(levels.difference[name][chosen] < s, events),
        }
        table["noise_only"] = _shares(truth & background, silent)
    return table


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
