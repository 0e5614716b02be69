"""The scores before those of `table.py`, until nothing asks for them: what they need, and how they are printed.

evaluate, baseline, report and tune read `SCORES`; a new score is one function and one row.

Shapes: E event, F frequency, T time.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch

from glitchflow.data.normalise import Normalisation
from glitchflow.score import metrics
from glitchflow.score.sample import Sample
from glitchflow.score.statistics import Bootstrap, Interval, bootstrap_difference, bootstrap_mean
from glitchflow.score.table import number, share
from glitchflow.signal.types import Array, Energies, Flags


@dataclass(frozen=True)
class Unit:
    """Names what methods are fitted to and scored by: the pixelwise part of the training's loss, normalised."""

    loss: Literal["l1", "l2"]
    strain: Normalisation

    @classmethod
    def of(cls, loss: str, strain: Normalisation) -> Self:
        """Returns the unit of a `train.loss`: only `l2` is a square, l1+ssim and a user's own are compared by l1."""
        return cls("l2" if loss == "l2" else "l1", strain)

    def normalise(self, energy: Energies) -> Energies:
        """Returns the normalised values (E, F, T) of energies of the strain."""
        return self.strain.apply(torch.from_numpy(energy)[:, None])[:, 0].numpy()

    def energy(self, value: Energies) -> Energies:
        """Returns the energies (E, F, T), at least 0, of normalised values."""
        return self.strain.invert(torch.from_numpy(np.ascontiguousarray(value))[:, None])[:, 0].numpy()


@dataclass(frozen=True)
class Made:
    """Holds what one method made of the events of a sample, and how it is judged."""

    recorded: Energies  # (E, F, T) energies, as the others
    generated: Energies
    residual: Energies
    witnessed: Energies | None
    unit: Unit
    mask: float  # energy at which masks are compared


@dataclass(frozen=True)
class Score:
    """Describes one score: numbers of each event from what a method made, and one with its interval over events."""

    name: str
    words: str  # its column's title
    of: Callable[[Made], Any]  # values per event: (E,), or an Excess
    over: Callable[[Any, Flags, int, int], Interval]  # (values, events, seed, resamples)
    better: Literal["lower", "higher"]
    form: Callable[[Mapping[str, Any]], str]
    needs: frozenset[str] = frozenset({"energies"})  # of energies, series, witnessed
    paired: bool = False  # whether its distance to a reference method is shown too, event by event


def loss(made: Made) -> Array:
    """Returns the training's loss of each event (its pixelwise part), in normalised units: (E,)."""
    difference = made.unit.normalise(made.recorded) - made.unit.normalise(made.generated)
    value = np.square(difference) if made.unit.loss == "l2" else np.abs(difference)
    return value.mean(axis=(1, 2), dtype=np.float64)


def _iou(made: Made) -> Array:
    return metrics.mask_iou(made.recorded, made.generated, made.mask)


def _ssim(made: Made) -> Array:
    return metrics.ssim(made.recorded, made.generated)


def _excess(made: Made) -> metrics.Excess:
    return metrics.residual_power(made.recorded, made.residual, made.witnessed)


def _mean(values: Array, events: Flags, seed: int, resamples: int) -> Interval:
    return bootstrap_mean(values[events], seed, resamples)


def _removed(values: metrics.Excess, events: Flags, seed: int, resamples: int) -> Interval:
    return values.of(events).removed(seed, resamples)


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("loss", "loss", loss, _mean, "lower", partial(number, form=".4f"), paired=True),
        Score("iou", "IoU", _iou, _mean, "higher", partial(number, form=".2f")),
        Score("l1", "L1", lambda m: metrics.l1(m.recorded, m.generated), _mean, "lower", number),
        Score("ssim", "SSIM", _ssim, _mean, "higher", partial(number, form=".2f")),
        Score("excess_removed", "excess power removed", _excess, _removed, "higher", share),
    )
}

Values = dict[str, dict[str, Any]]  # by method, by score: what `Score.of` gives


def score_events(sample: Sample, unit: Unit, mask: float) -> Values:
    """Computes every score's values per event of every method, for those scores whose needs the sample meets."""
    there = {"energies"} | ({"witnessed"} if sample.witnessed is not None else set())
    scores = [score for score in SCORES.values() if score.needs <= there]
    found: Values = {}
    for name, generated in sample.generated.items():
        made = Made(sample.recorded, generated, sample.cleaned(name), sample.witnessed, unit, mask)
        found[name] = {score.name: score.of(made) for score in scores}
    return found


def score_table(
    values: Values,
    families: Mapping[str, Flags],
    witnessed: list[str],
    interval: Bootstrap,
    reference: str,
) -> dict[str, dict[str, Any]]:
    """Tabulates by family and method every score with its interval, and its distance to a `reference` method's.

    families: masks (E,) by name; witnessed: the families that some witness sees; interval: how intervals are made.
    """
    table: dict[str, dict[str, Any]] = {}
    for family, events in families.items():
        rows: dict[str, Any] = {}
        for name, mine in values.items():
            row = {s: asdict(SCORES[s].over(v, events, *interval)) for s, v in mine.items()}
            for score in [s for s in mine if SCORES[s].paired and name != reference and reference in values]:
                pair = mine[score][events], values[reference][score][events]
                row[f"{score}_above_{reference}"] = asdict(bootstrap_difference(*pair, *interval))
            rows[name] = row
        known = family == "witnessed" or family in witnessed
        table[family] = {"events": int(events.sum()), "witnessed": known, "scores": rows}
    return table
