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
from glitchflow.signal.types import Energies

# A tenth of a time-frequency cell (1 s Hz): single noisy pixels do not make a cluster, the core of a glitch does.
MINIMUM_AREA = 0.1
# Neighbours in frequency and time, diagonals too, but never in the next event.
NEIGHBOURS = np.zeros((3, 3, 3), dtype=bool)
NEIGHBOURS[1] = True


def pixel_areas(frequency: ArrayLike, time: ArrayLike) -> NDArray[np.float64]:
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


def cluster_level(
    energy: Any, areas: NDArray[np.float64], minimum_area: float = MINIMUM_AREA
) -> NDArray[np.float64]:
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
            mask = block >= ordered[events, middle][:, None, None]
            found = np.zeros(len(block), dtype=bool)
            found[_regions(mask, checked, minimum_area)[0]] = True
            low, high = np.where(found, middle, low), np.where(found, high, middle)
            middle = np.where(high - low > 1, (low + high) // 2, low)
        return ordered[events, low].astype(np.float64)

    return per_event(score, energy)


def _regions(
    mask: NDArray[np.bool_], areas: NDArray[np.float64], minimum_area: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns event and area (s Hz) of the connected regions of a mask (event, frequency, time) if large enough."""
    labels, count = label(mask, NEIGHBOURS)
    pixels = np.flatnonzero(mask)
    region = labels.ravel()[pixels] - 1
    row = pixels // mask.shape[2]
    event = np.empty(count, np.int64)
    event[region] = row // mask.shape[1]
    area = np.bincount(region, areas[row % mask.shape[1]], minlength=count).astype(np.float64)
    large = area >= minimum_area * (1 - 1e-9)  # a sum of pixels must not miss its own value by rounding
    return event[large], area[large]


def _checked(areas: NDArray[np.float64], block: Energies, minimum_area: float) -> NDArray[np.float64]:
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

    score: NDArray[np.float64]  # descending, the first is infinite: nothing vetoed
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
