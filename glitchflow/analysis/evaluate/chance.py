"""p(glitch), calibrated: how often the strain has a glitch in a sixteenth of a second, by how loud a twin says it is.

    predictions `removed` --white--> SNR of each sixteenth; the strain's Q-plot --clusters--> is there a glitch

Fitted on validation, looked at on the events that are scored. `evaluation/chance.json` is what `watch` reads.

Shapes: E event, n slot of its Q-plot's span, N sample, T column.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, TypeAdapter, ValidationError

from glitchflow.analysis.opened import Opened
from glitchflow.data.view import column_edges
from glitchflow.errors import InputError
from glitchflow.score import chance, clusters
from glitchflow.score.chance import SLOT, Chance
from glitchflow.score.levels import Rule
from glitchflow.signal.types import Array, Flags, Indices
from glitchflow.twin.estimate import shown_of
from glitchflow.twin.front import Front

BLOCK = 64  # events at once
FILE = "chance.json"


def calibrate(run: Opened, known: Indices, events: Indices, rule: Rule) -> dict[str, Any] | None:
    """Fit p(glitch) to validation events, and say how reliable it is of others; ascending, both.

    rule: what a cluster is, `evaluate.veto` its energy. None where the network predicts no series, or validation
    events have no glitch, or nothing else.
    """
    if "removed" not in run.predictions or not len(known):
        return None
    found = chance.fit(*_slots(run, known, rule))
    if found is None:
        return None
    loud, truth = _slots(run, events, rule)
    about = {"checkpoint": run.predictions.attributes["checkpoints"]["qplot"], "energy": rule.veto}
    return {**about, **asdict(found), "reliability": chance.reliability(found.of(loud), truth)}


def _slots(run: Opened, events: Indices, rule: Rule) -> tuple[Array, Flags]:
    """How loud the network says each slot is, and whether the strain has a cluster there: (E n,) each."""
    front = TypeAdapter(Front).validate_python(run.predictions.attributes["network"]["normalisation"])
    loud, there = [], []
    for first in range(0, len(events), BLOCK):
        some = events[first : first + BLOCK]
        image = run.dataset.events("qplot", some, [0])[:, 0]
        covered = (
            clusters.cluster_columns(np.maximum(image, 0), np.array([rule.veto]), rule.areas, rule.area) > 0
        )
        edges = column_edges(run.dataset, some)
        white = front.strain(torch.from_numpy(run.predictions.events("removed", some).astype(np.float64)))
        for series, shown, columns, edge in zip(
            white.numpy(), shown_of(run.dataset, some), covered, edges - edges[:, :1]
        ):
            start, count = round(shown.start * front.rate), int((shown.stop - shown.start) * SLOT + 1e-9)
            found = chance.slots(series[start : start + round(count / SLOT * front.rate)], front.rate)
            loud.append(found)
            there.append(_covered(columns, edge, len(found)))
    return np.concatenate(loud), np.concatenate(there)


def _covered(columns: Flags, edges: Array, count: int) -> Flags:
    """Whether a covered column reaches into each slot: (T,) and (T + 1,) s from the first slot on -> (n,)."""
    found = np.zeros(count, bool)
    for start, stop in zip(edges[:-1][columns] * SLOT, edges[1:][columns] * SLOT):
        found[int(start + 1e-6) : int(np.ceil(stop - 1e-6))] = True
    return found


class _Written(BaseModel):
    """What is read of `chance.json`."""

    checkpoint: dict[str, Any]
    snr: list[float]
    p: list[float]


def read(directory: Path, weights: str) -> Chance | None:
    """Read the calibration of the network of these weights (their SHA-256) from `evaluation/`; None where there is
    none, or another network's.

    Raises `InputError` where it cannot be read.
    """
    path = directory / FILE
    if not path.exists():
        return None
    try:
        known = _Written.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise InputError(f"{path}: cannot be read; `glitchflow evaluate` makes it again") from None
    told = known.checkpoint.get("weights")  # as many of its digits as predictions keep
    return Chance(known.snr, known.p) if told and weights.startswith(told) else None
