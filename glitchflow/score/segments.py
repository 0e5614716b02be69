"""Veto segments of generated Q-plots, and the time they take.

Shapes: E event, F frequency, T time, S segment; segments are (S, 2) of GPS start and stop in s, apart and ascending.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from glitchflow.score.clusters import NEIGHBOURS

Segments = NDArray[np.float64]


def join(segments: Segments) -> Segments:
    """Segments in any order, those that touch or overlap joined."""
    joined: list[list[float]] = []
    for start, stop in segments[np.argsort(segments[:, 0], kind="stable")].tolist():
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], stop)
        else:
            joined.append([start, stop])
    return np.array(joined).reshape(-1, 2)


def clip(segments: Segments, known: Segments) -> Segments:
    """The parts of segments that lie inside the known ones; both apart and ascending."""
    inside = [(max(a, start), min(b, stop)) for start, stop in known for a, b in _near(segments, start, stop)]
    return np.array(inside).reshape(-1, 2)


def _near(segments: Segments, start: float, stop: float) -> Segments:
    """Those that overlap [start, stop]."""
    return segments[
        np.searchsorted(segments[:, 1], start, "right") : np.searchsorted(segments[:, 0], stop, "left")
    ]


def cluster_spans(
    energy: NDArray[np.float32], threshold: float, areas: NDArray[np.float64], minimum_area: float
) -> NDArray[np.int64]:
    """First column and the one after the last of every cluster at a threshold: (S, 3) with the event in front.

    Clusters as in `clusters.py`: 8-connected pixels of at least `minimum_area` s Hz, inside one event; areas (F,).
    """
    labels, count = label(energy >= threshold, NEIGHBOURS)
    event, row, column = np.nonzero(labels)
    region = labels[event, row, column] - 1
    area = np.bincount(region, areas[row], minlength=count)
    spans = np.empty((count, 3), np.int64)
    spans[region, 0] = event
    spans[:, 1], spans[:, 2] = energy.shape[2], 0
    np.minimum.at(spans[:, 1], region, column)
    np.maximum.at(spans[:, 2], region, column + 1)
    return spans[area >= minimum_area * (1 - 1e-9)]


def veto_segments(spans: Segments, known: Segments, padding: float, minimum: float) -> Segments:
    """Spans of clusters, `padding` s added at each end, widened about their middle to `minimum` s, joined, and clipped
    to the analysed time, so that vetoed seconds over analysed ones are a share."""
    middle = spans.mean(axis=1)
    half = np.maximum((spans[:, 1] - spans[:, 0]) / 2 + padding, minimum / 2)
    return clip(join(np.stack([middle - half, middle + half], axis=1)), known)


def deadtime(active: Segments, known: Segments) -> float:
    """Vetoed seconds over analysed seconds; NaN where nothing was analysed."""
    analysed = np.diff(known).sum()
    return float(np.diff(active).sum() / analysed) if analysed else float("nan")
