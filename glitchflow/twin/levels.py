"""How loud witnesses are, as a coherent twin sees them: what one was trained on, and whether that is still so.

    what the bank takes    rms of the white witness within the band, by its median: bursts are no drift
    slow channels          rms of the motion that templates and products are made of, about its mean

A checkpoint keeps the quantiles of these over train events, and a `watch` holds the last seconds against them. The
Q-plots of analysis/drift.py are in units of their own medians and say nothing of a sensor whose gain has changed.

Shapes: B event, R recorded channel (the strain first), N sample, Q quantile.
"""

import numpy as np
from torch import Tensor

from glitchflow.data.normalise import loudness_quantiles
from glitchflow.data.store.dataset import Dataset
from glitchflow.signal.types import Array
from glitchflow.twin.crops import CROP, MARGIN
from glitchflow.twin.front import Front, read

JUDGED = 128  # train events that a range is of
NORMAL = 0.6745  # median of |x| over the rms of x that is normal


def levels(front: Front, series: Tensor) -> Array:
    """Compute the level of each channel (B, R) of recorded series (B, R, N), float64.

    NaN of one that gives nothing, and of the strain.
    """
    slow = {one.slow for one in front.products} | {one.motion for one in front.scatters}
    fast = {*front.inputs, *(one.fast for one in front.products)}
    found = np.full(series.shape[:2], np.nan)
    for place in range(1, len(front.channels)):
        given = series[:, place]
        if place in slow - fast:
            level = front.slow(given).std(dim=1)
        else:
            level = (
                front.witness(given, place)[:, len(front.taps[place]) - 1 :].abs().median(1).values / NORMAL
            )
        found[:, place] = np.where(level > 0, level, np.nan)
    return found


def known(front: Front, dataset: Dataset) -> list[list[float]]:
    """Find the quantiles (R, Q) of the level of each channel over train events, of as much time as `watch` looks at."""
    train = dataset.indices("train")
    events = train[:: max(1, len(train) // JUDGED)][:JUDGED]
    last = round((CROP + MARGIN) * front.unit)
    found = [levels(front, series[..., -last:].nan_to_num()) for series in read(front, dataset, events)]
    return loudness_quantiles(np.concatenate(found))
