"""The scores of a family as lines of text: a line per method, the best in the headline first."""

from collections.abc import Mapping
from typing import Any

from glitchflow.score.table import SCORES

RANKS = (
    "residual",
    "power_left",
    "nll",
)  # the first that a method has: truth is known, or not, or there are no series
# what a terminal has room for; a column of two is one number with its price
COLUMNS = (("residual",), ("left", "noise_added"), ("skill",), ("removed", "destroyed"), ("nll",))
# of recorded data, of which nobody knows what is to go; deleting everything wins the first: its price beside it
RECORDED = (
    ("power_left", "snr_kept_median"),
    ("power_left_median",),
    ("power_left_gated",),
    ("made_worse",),
    ("nll",),
)
SHARES = ("noise_added", "removed", "destroyed", "made_worse", "snr_kept_median")
NAME, WIDTH = 20, 10  # characters of a method's name, and of a column at least


def ranked(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns the methods by the residual, the best first; those without it, by the power left of recorded data, after
    them; and those without that by NLL."""

    def place(name: str) -> list[float]:
        return [of["value"] if _known(of) else float("inf") for of in (scores[name][rank] for rank in RANKS)]

    return sorted(scores, key=place)


def method_lines(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a line of titles and a line for each method, by `ranked`, of the scores of a family."""
    recorded = any(_known(of["power_left"]) for of in scores.values())
    columns = RECORDED if recorded else COLUMNS
    titles = [" / ".join(SCORES[score].words for score in column) for column in columns]
    widths = [2 + max(WIDTH, len(title)) for title in titles]
    rows = [("", titles)]
    for name in ranked(scores):
        rows.append(
            (name, [" / ".join(_short(scores[name][score], score) for score in column) for column in columns])
        )
    lines = [f"{n:<{NAME}}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths)) for n, cells in rows]
    return [line.rstrip() for line in lines]


def _known(interval: Mapping[str, Any]) -> bool:
    value = interval["value"]
    return value is not None and value == value


def by_residual(stretch: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns what was done to a stretch by method, the best residual first."""

    def place(row: tuple[str, Mapping[str, Any]]) -> float:
        return row[1]["residual"]["value"] if _known(row[1]["residual"]) else float("inf")

    return sorted(stretch.items(), key=place)


def stretch_lines(stretch: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a line of titles and a line for each method, the best residual first, of what was done to a stretch."""
    rows = [("", ["residual", "noise added", "volume x time", "vetoed", "efficiency / deadtime"])]
    for name, found in by_residual(stretch):
        sizes = [_short(found["volume_time"][way], way) for way in ("cleaned", "vetoed")]
        veto = found["veto"]
        caught = f"{veto['efficiency']['value']:.1%} / {veto['deadtime']:.2%}" if veto else "–"
        left = [_short(found[score], score) for score in ("residual", "noise_added")]
        rows.append((name, [*left, *sizes, caught]))
    widths = [2 + max(WIDTH, len(title)) for title in rows[0][1]]
    return [f"{n:<{NAME}}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths)) for n, cells in rows]


def _short(interval: Mapping[str, Any], score: str) -> str:
    value = interval["value"]
    if not _known(interval):
        return "–"
    return f"{value:.1%}" if score in SHARES else f"{value:.3f}"
