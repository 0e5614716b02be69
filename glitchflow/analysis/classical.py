"""The Wiener filter of a store: fitted to the series of its train split; see `score/wiener.py`.

Shapes: E event, W witness, C channel, N sample, N' sample of the part that is fitted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from glitchflow.config import Experiment
from glitchflow.data import store
from glitchflow.score.wiener import Wiener, fit_wiener

SEGMENT = 1.0  # s of a segment, and of a filter
WIENER_EVENTS = 1024  # train events that the filters are fitted to at most
BLOCK = 32  # events whose series are in memory at once


def train_events(experiment: Experiment, dataset: store.Dataset) -> NDArray[np.int64]:
    """The train events that filters are fitted to, spread over the split."""
    train = dataset.indices("train")[: experiment.loader.subset.train]
    return train[:: max(1, len(train) // WIENER_EVENTS)][:WIENER_EVENTS]


def fit_series(
    dataset: store.Dataset, made: Experiment, events: NDArray[np.int64], places: list[int]
) -> Wiener:
    """The filters of the channels at `places`; `made`: the configuration of the dataset."""
    length = 2 * round(SEGMENT * made.series.sample_rate / 2)
    blocks = _stretches(dataset, events, places, made)
    return fit_wiener(blocks, length, made.series.sample_rate, made.qplot.frange)


def read_series(
    dataset: store.Dataset, events: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Series (E, C, N) of ascending events, some at a time, with their indices."""
    for start in range(0, len(events), BLOCK):
        yield from ((i, values) for i, (values,) in dataset.blocks(events[start : start + BLOCK], "series"))


def _stretches(
    dataset: store.Dataset, events: NDArray[np.int64], places: list[int], made: Experiment
) -> Iterator[tuple[NDArray, NDArray]]:
    """Strain (E, N') and witnesses (E, W, N') of the part of the series that Q-plots show, and half a segment more:
    averaged over the long quiet rest, a filter would mostly learn the noise."""
    span = made.qplot.span if made.qplot.window == "fixed" else made.series.duration
    half = round(min(span + SEGMENT, made.series.duration) * made.series.sample_rate / 2)
    middle = made.series.samples // 2
    for _, series in read_series(dataset, events):
        shown = series[:, :, middle - half : middle + half]
        yield shown[:, 0], shown[:, places]
