"""Clusters of loud pixels, and the decisions made from them: is an event clean, is it to be vetoed.

A cluster at threshold s: 8-connected pixels with energy >= s inside one event, covering at least a minimum area
in s Hz. Shapes: energies (event, frequency, time); areas of a pixel (frequency,); decisions (threshold, event).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata

from glitchflow.score.metrics import per_event
from glitchflow.score.statistics import Interval, Proportion, proportion
from glitchflow.signal.types import Array, Energies, Indices

# A tenth of a time-frequency cell (1 s Hz): single noisy pixels do not make a cluster, the core of a glitch does.
MINIMUM_AREA = 0.1
# Neighbours in frequency and time, diagonals too, but never in the next event.
NEIGHBOURS = np.zeros((3, 3, 3), dtype=bool)
NEIGHBOURS[1] = True


def pixel_areas(frequency: ArrayLike, time: ArrayLike) -> Array:
    """Returns the area of a pixel in each row, s Hz: its height is half the distance of the rows around it.

    So any axis will do, a logarithmic one too.

    Shapes: frequency (frequency,) in Hz, time (time,) in s -> (frequency,). Raises ValueError for an axis that
    does not ascend.
    """
    f, t = np.asarray(frequency, np.float64), np.asarray(time, np.float64)
    for name, axis in (("frequency", f), ("time", t)):
        if axis.ndim != 1 or len(axis) < 2 or not (np.diff(axis) > 0).all():
            raise ValueError(f"the {name} axis must ascend and have at least 2 pixels")
    return np.gradient(f) * (t[-1] - t[0]) / (len(t) - 1)


def cluster_level(energy: Any, areas: Array, minimum_area: float = MINIMUM_AREA) -> Array:
    """Finds the highest threshold at which each event still has a cluster: one number that answers for all.

    Pixels above a threshold only grow in number as it sinks, so an event has a cluster at s exactly where its
    level is >= s. It is found by bisection over each event's own sorted energies.

    Shapes: (event, frequency, time), areas (frequency,) -> (event,). Raises ValueError for a minimum area
    beyond the whole image.
    """

    def score(block: Energies) -> NDArray:
        checked = _checked(areas, block, minimum_area)
        if minimum_area <= checked.min():
            return block.max(axis=(1, 2)).astype(np.float64)
        events = np.arange(len(block))
        ordered = np.sort(block.reshape(len(block), -1), axis=1)
        low, high = (
            np.zeros(len(block), np.int64),
            np.full(len(block), ordered.shape[1]),
        )  # yes at low, no at high
        # first near the top, where the level nearly always is: sparse masks are labelled faster
        middle = high - np.maximum(1, high // 16)
        while (high - low).max(initial=0) > 1:
            found = np.zeros(len(block), dtype=bool)
            found[clustered(block, ordered[events, middle][:, None, None], checked, minimum_area)[0]] = True
            low, high = np.where(found, middle, low), np.where(found, high, middle)
            middle = np.where(high - low > 1, (low + high) // 2, low)
        return ordered[events, low].astype(np.float64)

    return per_event(score, energy)


def cluster_columns(
    energy: Energies, thresholds: Array, areas: Array, minimum_area: float = MINIMUM_AREA
) -> NDArray[np.uint8]:
    """Counts at how many of the thresholds a cluster lies over each column of time: all that vetoes need of an image.

    What clusters cover only shrinks as the threshold rises, so a column is covered at the i-th threshold exactly where
    its count is above i, and an event without a cluster is not looked at again. A byte a column keeps 10^6 events of
    64 columns in 64 MB.

    Shapes: energy (event, frequency, time), thresholds (threshold,) ascending, at most 255 of them -> (event, time).
    Raises ValueError where thresholds do not ascend or are more.
    """
    if len(thresholds) > 255 or not (np.diff(thresholds) > 0).all():
        raise ValueError(f"at most 255 thresholds that ascend are needed, not {len(thresholds)}")

    def count(block: Energies) -> NDArray[np.uint8]:
        counts, some = np.zeros((len(block), block.shape[2]), np.uint8), np.arange(len(block))
        for threshold in thresholds.tolist():
            event, _, column = clustered(block[some], threshold, areas, minimum_area)
            covered = np.zeros((len(some), block.shape[2]), bool)
            covered[event, column] = True
            counts[some] += covered
            some = some[covered.any(axis=1)]
            if not len(some):
                break
        return counts

    return per_event(count, energy)


def cluster_areas(
    energy: Energies, threshold: float, areas: Array, minimum_area: float = MINIMUM_AREA
) -> Array:
    """Sums the area of each event's clusters at a threshold, s Hz: of what is left of a glitch, its residual area.

    Shapes: energy (event, frequency, time), areas (frequency,) -> (event,).
    """

    def total(block: Energies) -> Array:
        event, row, _ = clustered(block, threshold, areas, minimum_area)
        return np.bincount(event, areas[row], minlength=len(block)).astype(np.float64)

    return per_event(total, energy)


def loudest_columns(
    energy: Energies, threshold: float, areas: Array, minimum_area: float = MINIMUM_AREA
) -> Indices:
    """Finds the column of the loudest pixel of each event's clusters at a threshold; -1 where it has no cluster.

    Shapes: energy (event, frequency, time), areas (frequency,) -> (event,).
    """

    def find(block: Energies) -> Indices:
        event, row, column = clustered(block, threshold, areas, minimum_area)
        ascending = np.argsort(-block[event, row, column], kind="stable")[::-1]
        found = np.full(len(block), -1)
        found[event[ascending]] = column[ascending]  # the last one stays: the loudest, the first of equals
        return found

    return per_event(find, energy)


def clustered(
    energy: Energies, threshold: Any, areas: Array, minimum_area: float
) -> tuple[Indices, Indices, Indices]:
    """Finds the pixels that lie in a cluster at a threshold: event, row and column of each, in the order of memory.

    Shapes: energy (event, frequency, time), threshold a number or (event, 1, 1), areas (frequency,) of a pixel in s Hz
    -> (pixel,) each. Raises ValueError for a minimum area beyond the whole image.
    """
    areas = _checked(areas, energy, minimum_area)
    mask = energy >= threshold
    labels, count = label(mask, NEIGHBOURS)
    pixels = np.flatnonzero(mask)
    region, row = labels.ravel()[pixels], pixels // energy.shape[2] % energy.shape[1]
    area = np.bincount(region, areas[row], minlength=count + 1)
    large = area >= minimum_area * (1 - 1e-9)  # a sum of pixels must not miss its own value by rounding
    some = large[region]
    event, column = np.divmod(pixels[some], energy[0].size)
    return event, row[some], column % energy.shape[2]


def _checked(areas: Array, block: Energies, minimum_area: float) -> Array:
    areas = np.asarray(areas, np.float64)
    if areas.shape != block.shape[1:2]:
        raise ValueError(f"areas {areas.shape}: one per frequency row is needed, {block.shape[1]} of them")
    whole = areas.sum() * block.shape[2]
    if minimum_area > whole * (1 - 1e-9):
        raise ValueError(f"minimum_area={minimum_area} s Hz is not below the whole image's {whole:.4g} s Hz")
    return areas


@dataclass(frozen=True)
class Roc:
    """Holds a receiver operating characteristic: both shares as the threshold sinks, a point per distinct score."""

    score: Array  # descending, the first is infinite: nothing vetoed
    efficiency: Proportion
    false: Proportion


def roc(score: ArrayLike, positive: ArrayLike, negative: ArrayLike | None = None) -> Roc:
    """Computes the ROC of a score per event.

    `negative` defaults to the events that are not positive; for efficiency against background veto fraction give the
    background events.

    Shapes: (event,) each -> (point,). Raises ValueError where shapes differ.
    """
    values, yes = np.asarray(score, np.float64), np.asarray(positive, bool)
    no = ~yes if negative is None else np.asarray(negative, bool)
    if not values.shape == yes.shape == no.shape:
        raise ValueError(f"one score and one truth per event, not {values.shape}, {yes.shape}, {no.shape}")
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(ordered) else np.empty(0, int)
    hits = [np.concatenate([[0], np.cumsum(which[order])[last]]) for which in (yes, no)]
    efficiency, false = (proportion(h, which.sum()) for h, which in zip(hits, (yes, no)))
    return Roc(np.concatenate([[np.inf], ordered[last]]), efficiency, false)


def roc_area(score: ArrayLike, positive: ArrayLike, confidence: float = 0.95) -> Interval:
    """Estimates the area under the ROC: the chance that a positive event outscores a negative one, ties half.

    Its interval is that of DeLong et al. 1988 (doi:10.2307/2531595), on the logit scale, through midranks as Sun & Xu
    2014 (doi:10.1109/LSP.2014.2337313). Where the scores separate the classes completely that variance is 0: then
    Wilson's interval of as many trials as the smaller class has events. NaN without positives or negatives.

    Shapes: (event,) each.
    """
    values, yes = np.asarray(score, np.float64), np.asarray(positive, bool)
    many, few = values[yes], values[~yes]
    m, n = len(many), len(few)
    if not m or not n:
        return Interval(np.nan, np.nan, np.nan)
    ranks = rankdata(np.concatenate([many, few]))
    above = (ranks[:m] - rankdata(many)) / n  # of each positive: share of the negatives below it
    below = 1 - (ranks[m:] - rankdata(few)) / m
    area = float(above.mean())
    variance = sum(part.var(ddof=1) / len(part) for part in (above, below) if len(part) > 1)
    if area in (0.0, 1.0):
        one = proportion(round(area * min(m, n)), min(m, n), confidence)
        return Interval(area, min(area, float(one.low)), max(area, float(one.high)))
    half = float(ndtri(0.5 + confidence / 2) * np.sqrt(variance)) / (area * (1 - area))
    return Interval(area, float(expit(logit(area) - half)), float(expit(logit(area) + half)))
