"""The table of all events: its columns, and the choice of those that are drawn in the page.

The script in the page sorts, filters and decides what is a veto at the threshold s that its reader chooses: an event
is vetoed where the generated energy has a cluster at s, rightly where the recorded one has.

Shapes: E event of the table, S scored event (the test split).
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.analysis.report import images
from glitchflow.analysis.report.run import Run
from glitchflow.data import store


@dataclass(frozen=True)
class Column:
    """Describes one column of the table: a number of so many decimals, or a word."""

    key: str
    title: str
    words: str
    decimals: int | None = None


SPLIT_WORDS = {**dict(enumerate(store.SPLITS)), store.UNSPLIT: "none", store.SKIPPED: "not used"}
COLUMNS = (
    Column("event", "event", "index in the store", 0),
    Column("gps", "GPS [s]", "time of the window's centre", 3),
    Column("family", "family", "what was injected, or what the trigger's list says"),
    Column("split", "split", "the network learned from train, was chosen on validation, is scored on test"),
    Column("snr", "SNR", "matched-filter signal-to-noise ratio in the strain", 1),
    Column("outcome", "veto", "decision at s against the recorded energy"),
    Column("recorded_level", "recorded", "highest s at which the recorded energy has a cluster", 1),
    Column("generated_level", "generated", "highest s at which the generated energy has a cluster", 1),
    Column("residual_level", "residual", "highest s at which a cluster is left after subtraction", 1),
    Column("left", "left", "share of the power of the witnessed part that is left", 2),
    Column("iou", "IoU", "overlap of the recorded and the generated mask", 2),
    Column("nll", "NLL", "mean of log G + T / G per pixel", 3),
    Column("carrier", "carrier", "the witness without which there is no veto"),
    Column("trusted", "trusted", "no: a witness is out of the range the network was trained on"),
    Column("why", "figure", "why its figure is in this page"),
)
OUTCOMES = {
    "caught": "vetoed, and the recorded energy has a cluster",
    "missed": "not vetoed although the recorded energy has a cluster; grey: rightly, no witness sees the family",
    "false": "vetoed although the recorded energy has no cluster",
    "quiet": "neither",
}
WORDS = {"": None, "True": "yes", "False": "no"}  # of a CSV file, and of the page
WHY = {
    "best": "vetoed rightly, and the least is left after subtraction",
    "worst": "vetoed rightly, and the most is left after subtraction",
    "missed": "the loudest of those that were not vetoed, first those that a witness sees",
    "false": "the loudest generated where nothing was recorded",
    "loudest": "the highest signal-to-noise ratio",
    "gallery": "shown in the gallery above",
}


def table(run: Run, drawn: dict[int, str]) -> dict[str, Any]:
    """Fill the columns (E,) of the events listed: all of the store, or as many as `report.events` allows, scored ones
    first."""
    dataset, most = run.dataset, run.settings.events
    scored = run.scores.get("event", np.empty(0)).astype(np.int64)
    others = np.setdiff1d(np.arange(len(dataset)), scored)
    listed = np.sort(np.concatenate([scored, others])[:most])
    columns: dict[str, Any] = {"event": listed.tolist(), **_stored(dataset, listed)}
    place = np.searchsorted(scored, listed).clip(max=max(0, len(scored) - 1))
    there = scored[place] == listed if len(scored) else np.zeros(len(listed), bool)
    for column in COLUMNS:
        if column.key in run.scores and column.key not in columns:
            values = run.scores[column.key][place]
            columns[column.key] = [_value(v, column) if t else None for v, t in zip(values, there)]
    columns["why"] = [drawn.get(event) for event in columns["event"]]
    return columns


def _stored(dataset: store.Dataset, listed: NDArray[np.int64]) -> dict[str, Any]:
    labels, splits = np.asarray(dataset["label"][:])[listed], np.asarray(dataset["split"][:])[listed]
    columns: dict[str, Any] = {
        "gps": [round(float(v), 6) for v in np.asarray(dataset["gps"][:])[listed]],
        "family": [dataset.labels[i] for i in labels],
        "split": [SPLIT_WORDS[i] for i in splits],
    }
    if "snr" in dataset:
        snr = np.asarray(dataset["snr"][:])[listed]
        columns["snr"] = [round(float(v), 2) if np.isfinite(v) else None for v in snr]
    return columns


def _value(value: Any, column: Column) -> Any:
    if column.decimals is None:
        return WORDS.get(str(value), str(value))
    return float(f"{value:.5g}") if np.isfinite(value) else None


def command(run: Run) -> str:
    """Write the command that draws the figure of any event; `{event}` stands for its index."""
    path = run.dataset.path if run.predictions is None else run.predictions.path
    shown = path if "://" in path else Path(path)
    return f"glitchflow inspect {shlex.quote(str(shown))} --event {{event}} --figure event-{{event}}.png"


def choose(run: Run) -> dict[int, str]:
    """Choose the most telling events, at most `report.figures` of them, each with the reason; see WHY."""
    groups = _telling(run) if "recorded_level" in run.scores else {}
    ranked = {name: list(order) for name, order in groups.items()}
    ranked["loudest"] = _loudest(run)
    chosen: dict[int, str] = {}
    # a turn of each in order, so that none crowds out the others
    turns = [[(int(event), name) for event in order] for name, order in ranked.items()]
    for turn in chain.from_iterable(zip_longest(*turns)):
        if turn is not None and len(chosen) < run.settings.figures:
            chosen.setdefault(*turn)
    return chosen


def _telling(run: Run) -> dict[str, NDArray[np.int64]]:
    """Scored events by why they tell something, the most telling first."""
    s, events = run.threshold, run.scores["event"].astype(np.int64)
    recorded, generated, residual = (
        run.scores[f"{name}_level"] for name in ("recorded", "generated", "residual")
    )
    truth, veto = recorded >= s, generated >= s
    left = residual / np.maximum(recorded, 1e-9)
    best, worst = _halves(np.flatnonzero(truth & veto)[np.argsort(left[truth & veto], kind="stable")])
    missed, false = np.flatnonzero(truth & ~veto), np.flatnonzero(veto & ~truth)
    unseen = np.isin(np.asarray(run.dataset["label"][:])[events], unwitnessed(run.dataset))
    return {
        "best": events[best],
        "worst": events[worst[::-1]],
        "missed": events[missed[np.lexsort((-recorded[missed], unseen[missed]))]],
        "false": events[false[np.argsort(-generated[false], kind="stable")]],
    }


def unwitnessed(dataset: store.Dataset) -> list[int]:
    """List the labels of the families that are known to be seen by no witness; none where nothing is known of it."""
    known = dataset.witnessed_labels
    return [i for i, name in enumerate(dataset.labels) if known and i and name not in known]


def _halves(order: NDArray) -> tuple[NDArray, NDArray]:
    """No event is among the best and the worst."""
    middle = -(-len(order) // 2)
    return order[:middle], order[middle:]


def _loudest(run: Run) -> list[int]:
    """Where scores say nothing: each family's loudest in turn, of the test split where there is one."""
    dataset = run.dataset
    if "recorded_level" in run.scores or "snr" not in dataset:
        return []
    among = _unchosen(dataset)
    label, snr = (np.asarray(dataset[name][:])[among] for name in ("label", "snr"))
    order = np.argsort(-np.nan_to_num(snr, nan=-1), kind="stable")
    families = [among[order][label[order] == i] for i in range(len(dataset.labels))]
    return [int(event) for turn in zip_longest(*families) for event in turn if event is not None]


def _unchosen(dataset: store.Dataset) -> NDArray[np.int64]:
    """The test split, or all usable events where there is none."""
    test = dataset.indices("test")
    return test if len(test) else np.flatnonzero(dataset["split"][:] != store.SKIPPED)


def gallery(run: Run) -> Iterator[tuple[str, list[int]]]:
    """Choose the first events of each family in the test split, or anywhere where there is none: not chosen by any
    score."""
    dataset = run.dataset
    events = _unchosen(dataset)
    labels = np.asarray(dataset["label"][:])[events]
    for i, name in enumerate(dataset.labels):
        found = events[labels == i][: run.settings.gallery]
        if len(found):
            yield name, [int(event) for event in found]


def figures(run: Run, drawn: dict[int, str], shown: set[int]) -> dict[str, Any]:
    """Make the figure of each event of `drawn` by its index; those of `shown` with what the untrained network made."""
    return {str(event): images.response(run, event, event in shown) for event in sorted(drawn)}
