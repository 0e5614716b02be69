"""Whether witnesses are still as loud as they were when the twin was trained, while it runs.

    the last seconds, anew once all of them are other ones --levels.py--> a level a channel --median of a minute-->
    outside of what nearly all train events had: said once, and once more when a whole minute is inside again

Shapes: R recorded channel, K window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from glitchflow.analysis.drift import trusted_range
from glitchflow.online.line import Line
from glitchflow.signal.types import Array, Flags
from glitchflow.twin.front import Front
from glitchflow.twin.levels import levels
from glitchflow.twin.step import State

BEYOND = 0.001  # share of train events beyond each end of a range, as `evaluate.drift` has it
SPARE = 0.1  # of a level by which it may be further out: what hours of noise wander by is no news
WINDOWS = 13  # a minute of them


@dataclass(frozen=True)
class Outside:
    """Holds a witness that left what the twin was trained on."""

    level: float  # now; 1 is that of quiet time, of a slow channel its rms
    low: float
    high: float

    def __str__(self) -> str:
        """Say where it is."""
        return f"level {self.level:.3g}, trained on {self.low:.3g} to {self.high:.3g}"


@dataclass
class Drift:
    """Knows the levels of the last minute, and which witnesses are outside of their range."""

    line: Line | None = None  # of the twin that they are held against
    end: int = 0  # number of the sample after the last window
    levels: tuple[Array, ...] = ()  # (R,) each
    outside: dict[str, Outside] = field(default_factory=dict)


def trusted(front: Front, quantiles: Sequence[Sequence[float]] | None) -> tuple[Array, Array] | None:
    """Return the lowest and highest level (R,) of each channel that a twin knows; None where its checkpoint does not
    say."""
    if quantiles is None or len(quantiles) != len(front.channels):
        return None
    low, high = trusted_range(np.array(quantiles), BEYOND)
    return low * (1 - SPARE), high * (1 + SPARE)


def look(drift: Drift, line: Line, state: State) -> list[str]:
    """Look at what is remembered, where it is all new; say which witnesses left their range, or came back into it."""
    if drift.line is not line:
        drift.line, drift.end, drift.levels, drift.outside = line, state.end, (), {}
    if line.range is None or state.end < drift.end + line.steps.reach:
        return []
    there: Flags = np.asarray(np.isfinite(state.recent).all(axis=1))
    found = levels(line.steps.front, torch.from_numpy(np.where(there[:, None], state.recent, 0.0))[None])[0]
    drift.end, drift.levels = state.end, (*drift.levels, np.where(there, found, np.nan))[-WINDOWS:]
    return _told(drift, line.steps.front.channels, line.range) if len(drift.levels) == WINDOWS else []


def _told(drift: Drift, channels: Sequence[str], trusted: tuple[Array, Array]) -> list[str]:
    """What is news of the last minute."""
    words, seen = [], np.stack(drift.levels)  # (K, R)
    for place, name in enumerate(channels):
        known = seen[np.isfinite(seen[:, place]), place]
        low, high = (float(limit[place]) for limit in trusted)
        if not place or not len(known):
            continue
        now = Outside(float(np.median(known)), low, high)
        if name in drift.outside and ((low <= known) & (known <= high)).all():
            del drift.outside[name]
            words.append(f"{name}: is again as the twin was trained on it")
        elif name in drift.outside or not low <= now.level <= high:
            if name not in drift.outside:
                words.append(f"{name}: left what the twin was trained on: {now}")
            drift.outside[name] = now
    return words
