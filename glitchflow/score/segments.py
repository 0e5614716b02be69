"""Veto segments of generated Q-plots, and the time they take.

Their algebra is igwn_segments', LIGO's own: a `segmentlist` here is always coalesced, apart and ascending, in GPS s.

Shapes: E event, F frequency, T time, S span; spans are (S, 2) of GPS start and stop in s, in any order.
"""

import numpy as np
from igwn_segments import segment, segmentlist
from numpy.typing import NDArray
from scipy.ndimage import label

from glitchflow.score.clusters import NEIGHBOURS


def joined(spans: NDArray[np.float64]) -> segmentlist:
    """Returns the segments (S, 2) of GPS s sorted, with those that touch or overlap made one."""
    return segmentlist(segment(start, stop) for start, stop in spans.tolist()).coalesce()


def cluster_spans(
    energy: NDArray[np.float32], threshold: float, areas: NDArray[np.float64], minimum_area: float
) -> NDArray[np.int64]:
    """Finds every cluster at a threshold: (S, 3) of its event, its first column and the one after its last.

    Clusters are those of `clusters.py`: 8-connected pixels of at least `minimum_area` s Hz, inside one event.
    Shapes: energy (E, F, T), dimensionless; areas (F,) of a pixel in s Hz.
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
    return spans[
        area >= minimum_area * (1 - 1e-9)
    ]  # sums of areas that ought to be equal differ in the last digit


def veto_segments(
    spans: NDArray[np.float64], known: segmentlist, padding: float, minimum: float
) -> segmentlist:
    """Makes veto segments of the spans of clusters, (S, 2) in GPS s, within the analysed time `known`.

    Each gets `padding` s at either end, is widened about its middle to `minimum` s, joined with those it touches and
    clipped to the analysed time, so that vetoed seconds over analysed ones are a share.
    """
    middle = spans.mean(axis=1)
    half = np.maximum((spans[:, 1] - spans[:, 0]) / 2 + padding, minimum / 2)
    return joined(np.stack([middle - half, middle + half], axis=1)) & known


def deadtime(active: segmentlist, known: segmentlist) -> float:
    """Returns vetoed seconds over analysed seconds, or NaN where nothing was analysed."""
    return float(abs(active) / abs(known)) if known else float("nan")
