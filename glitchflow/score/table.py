"""The scores, one row each: who wins them, what they need, and how they are printed.

evaluate, baseline, report and tune read `SCORES`; a new score is one function and one row. Two steps, so that a task
returns columns only: `measure` turns what a method made of a block of events into numbers per event, `score_table`
numbers per event into scores of families, with intervals.

Shapes: E event.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from glitchflow.score import metrics, power, skill, subtraction, survival
from glitchflow.score.made import Columns, Made, Measured, Who
from glitchflow.score.statistics import UNDEFINED, Bootstrap, Interval, bootstrap_mean


@dataclass(frozen=True)
class Score:
    """Describes one score: how it follows from numbers per event, and how it is read."""

    name: str
    words: str  # its column's title
    over: Callable[[Measured, str, Who, Bootstrap], Interval]  # (columns by method, method, events, interval)
    better: Literal["lower", "higher"]
    form: Callable[[Mapping[str, Any] | None], str]
    needs: frozenset[str]  # columns without which it has no value


def likeness(made: Made) -> Columns:
    """Returns `iou` (of loud pixels), `l1` and `ssim` (E,) of what is generated: to compare with published curves."""
    if made.generated is None:
        return {}
    t, g = made.recorded, made.generated
    return {
        "iou": metrics.mask_iou(t, g, metrics.RECORDED_LEVEL),
        "l1": metrics.l1(t, g),
        "ssim": metrics.ssim(t, g),
    }


MEASURES: tuple[Callable[[Made], Columns], ...] = (
    subtraction.series_sums,
    subtraction.energy_sums,
    power.powers,
    skill.likelihood,
    likeness,
)


def measure(made: Made) -> Columns:
    """Returns the columns (E,) that follow from what a method made of some events, by name.

    Raises ValueError where shapes differ or energies are not finite.
    """
    parts = [{name: v for one in MEASURES for name, v in one(part).items()} for part in made.blocks()]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def number(interval: Mapping[str, Any] | None, form: str = ".3f") -> str:
    """Prints an interval in a format, and a dash where it is not defined."""
    if interval is None or interval["value"] is None:
        return "–"
    value, low, high = (f"{interval[key]:{form}}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def share(interval: Mapping[str, Any] | None) -> str:
    """Prints an interval of shares as percentages, and a dash where it is not defined."""
    if interval is None or any(interval[key] is None for key in ("value", "low", "high")):
        return "–"
    # adding 0 turns the -0.0 of a rounded share into 0.0
    value, low, high = (round(interval[key], 3) + 0.0 for key in ("value", "low", "high"))
    return f"{value:.1%} [{low:.1%}, {high:.1%}]"


def _mean(column: str, measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    return bootstrap_mean(measured[method][column][who.family], *interval)


_SERIES, _PIXELS = (
    frozenset({"residual2", "witnessed2", "strain2"}),
    frozenset({"off", "before", "harm", "quietly"}),
)
_POWER = frozenset({"power_left"})
_LIKELIHOOD, _SIGNALS = frozenset({"nll"}), frozenset({"kept"})
_ONE, _TWO, _FOUR = (partial(number, form=form) for form in (".1f", ".2f", ".4f"))

SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("residual", "residual", subtraction.residual, "lower", number, _SERIES),
        Score("left", "left of glitches", subtraction.left, "lower", number, _SERIES),
        Score("left_below_12", "left, SNR < 12", subtraction.left_below_12, "lower", number, _SERIES),
        Score("left_12_20", "left, SNR 12-20", subtraction.left_12_20, "lower", number, _SERIES),
        Score("left_20_35", "left, SNR 20-35", subtraction.left_20_35, "lower", number, _SERIES),
        Score("left_above_35", "left, SNR > 35", subtraction.left_above_35, "lower", number, _SERIES),
        Score("noise_added", "noise added", subtraction.noise_added, "lower", share, _SERIES),
        Score("noise_above_3", "quiet, SNR > 3 added", subtraction.noise_above_3, "lower", share, _SERIES),
        Score("noise_above_5", "quiet, SNR > 5 added", subtraction.noise_above_5, "lower", share, _SERIES),
        Score("snr_left_median", "SNR left, median", subtraction.snr_left_median, "lower", _ONE, _SERIES),
        Score("snr_left_p90", "SNR left, 90 %", subtraction.snr_left_p90, "lower", _ONE, _SERIES),
        Score("power_left", "power left", power.power_left, "lower", number, _POWER),
        Score("power_left_median", "power left, median", power.power_left_median, "lower", number, _POWER),
        Score("power_left_gated", "power left, gated", power.power_left_gated, "lower", number, _POWER),
        Score("made_worse", "windows made worse", power.made_worse, "lower", share, _POWER),
        Score("skill", "skill", skill.skill, "higher", number, _LIKELIHOOD),
        Score("nll", "NLL per pixel", skill.mean_nll, "lower", number, _LIKELIHOOD),
        Score("removed", "removed", subtraction.removed, "higher", share, _PIXELS),
        Score("destroyed", "destroyed", subtraction.destroyed, "lower", share, _PIXELS),
        Score(
            "efficiency_0.1",
            "efficiency at deadtime 0.1 %",
            partial(_mean, "caught_0.1"),
            "higher",
            share,
            frozenset({"caught_0.1"}),
        ),
        Score(
            "efficiency_1",
            "efficiency at deadtime 1 %",
            partial(_mean, "caught_1"),
            "higher",
            share,
            frozenset({"caught_1"}),
        ),
        Score("snr_kept_median", "SNR kept, median", survival.snr_kept_median, "higher", share, _SIGNALS),
        Score("snr_kept_p1", "SNR kept, 1 %", survival.snr_kept_p1, "higher", share, _SIGNALS),
        Score("bias_time", "signal's time off, s", survival.bias_time, "lower", _FOUR, _SIGNALS),
        Score("bias_phase", "signal's phase off, rad", survival.bias_phase, "lower", number, _SIGNALS),
        Score("bias_mass", "signal's mass off", survival.bias_mass, "lower", share, _SIGNALS),
        Score("chi2", "chi² added", survival.chi2, "lower", number, _SIGNALS),
        Score("iou", "IoU", partial(_mean, "iou"), "higher", _TWO, frozenset({"iou"})),
        Score("l1", "L1", partial(_mean, "l1"), "lower", number, frozenset({"l1"})),
        Score("ssim", "SSIM", partial(_mean, "ssim"), "higher", _TWO, frozenset({"ssim"})),
    )
}


def score_table(
    measured: Measured, families: Mapping[str, Who], witnessed: list[str], interval: Bootstrap
) -> dict[str, dict[str, Any]]:
    """Tabulates every score with its interval, by family and method: `families` of evaluation/metrics.json.

    measured: columns (E,) by method; witnessed: the families that some witness sees. A family's entry is {events,
    glitches, witnessed, scores -> METHOD -> SCORE -> {value, low, high}}; a score without a value holds NaN, which
    `plain` makes null.
    """

    def scores(method: str, who: Who) -> dict[str, Any]:
        there = measured[method].keys()
        return {
            name: asdict(score.over(measured, method, who, interval) if score.needs <= there else UNDEFINED)
            for name, score in SCORES.items()
        }

    return {
        family: {
            "events": int(who.family.sum()),
            "glitches": int(who.glitch.sum()),
            "witnessed": family == "witnessed" or family in witnessed,
            "scores": {method: scores(method, who) for method in measured},
        }
        for family, who in families.items()
    }


def plain(value: Any) -> Any:
    """Returns the same for JSON, which has no numpy numbers and no NaN: null instead. Six digits are enough."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if np.isfinite(value) else None
