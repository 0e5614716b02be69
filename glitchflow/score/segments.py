"""Veto segments of generated Q-plots, and the time they take.

Their algebra is igwn_segments', LIGO's own: a `segmentlist` here is always coalesced, apart and ascending, in GPS s.

Shapes: E event, T time, S span; spans are (S, 2) of GPS start and stop in s, in any order.
"""

import numpy as np
from igwn_segments import segment, segmentlist

from glitchflow.signal.types import Array, Flags, Indices

BLOCK = 16384  # events whose columns are looked at together


def joined(spans: Array) -> segmentlist:
    """Returns the segments (S, 2) of GPS s sorted, with those that touch or overlap made one."""
    return segmentlist(segment(start, stop) for start, stop in spans.tolist()).coalesce()


def covered_spans(covered: Flags, edges: Array) -> Array:
    """Turns the columns that clusters cover, (E, T), into the spans of time they cover, (S, 2) in GPS s.

    edges: (E, T + 1) of the columns in GPS s. A span ends where its window ends.
    """
    found = [np.zeros((0, 2))]
    for start in range(0, len(covered), BLOCK):  # steps of 10^6 events whole would be 500 MB
        some = slice(start, start + BLOCK)
        step = np.diff(np.pad(covered[some], ((0, 0), (1, 1))).astype(np.int8), axis=1)
        (event, first), (_, stop) = np.nonzero(step == 1), np.nonzero(step == -1)
        found.append(np.stack([edges[some][event, first], edges[some][event, stop]], axis=1))
    return np.concatenate(found)


def veto_segments(spans: Array, known: segmentlist, padding: float, minimum: float) -> segmentlist:
    """Makes veto segments of the spans of clusters, (S, 2) in GPS s, within the analysed time `known`.

    Each gets `padding` s at either end, is widened about its middle to `minimum` s, joined with those it touches and
    clipped to the analysed time, so that vetoed seconds over analysed ones are a share.
    """
    middle = spans.mean(axis=1)
    half = np.maximum((spans[:, 1] - spans[:, 0]) / 2 + padding, minimum / 2)
    return joined(np.stack([middle - half, middle + half], axis=1)) & known


def ends(segments: segmentlist) -> Array:
    """Returns the segments as an array (S, 2) of GPS s."""
    return np.array(segments, np.float64).reshape(-1, 2)


def seconds_before(spans: Array, time: Array) -> Array:
    """Counts the seconds of segments (S, 2), apart and ascending, that lie before each GPS time; as `time`."""
    if not len(spans):
        return np.zeros(time.shape)
    total = np.cumsum(np.diff(spans, axis=1))
    return np.interp(time, spans.ravel(), np.repeat(np.append(0.0, total), 2)[1:-1])


def segment_at(spans: Array, time: Array) -> Indices:
    """Finds the segment [start, stop), of (S, 2) apart and ascending, that holds each GPS time; as `time`.

    It is -1 where none does, and where the time is not a number.
    """
    place = np.searchsorted(spans.ravel(), time, side="right")
    return np.where((place % 2 == 1) & ~np.isnan(time), place // 2, -1)


def deadtime(active: segmentlist, known: segmentlist) -> float:
    """Returns the deadtime: vetoed seconds over analysed seconds, or NaN where nothing was analysed."""
    return float(abs(active) / abs(known)) if known else float("nan")
