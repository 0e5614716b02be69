"""The classical subtraction beside the network: multichannel Wiener filters of the witnesses' series.

A filter uses the witnesses' phase, which no image has: on families that couple linearly it may beat any network that
sees images alone. It needs stores that kept their `series`.

Shapes: E event, W witness, C channel, F frequency, T time, N sample, N' sample of the part that is fitted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from glitchflow.analysis.evaluate.scored import Array, Basis, Sample, apply, invert, loss_kind, read_events
from glitchflow.config import Experiment, parse, upgrade
from glitchflow.data.store import dataset as store
from glitchflow.methods.baselines import fit
from glitchflow.progress import say
from glitchflow.signal.qtransform import QTransform, build_engine
from glitchflow.signal.wiener import Wiener, fit_wiener

SEGMENT = 1.0  # s of a segment, and of a filter
WIENER_EVENTS = 1024  # train events that the filters are fitted to at most
BLOCK = 32  # events whose series are in memory at once
CURVE_EVENTS = 256  # that the energies' curve is fitted to: 4096 pixels each at 64 x 64


def add_wiener(experiment: Experiment, dataset: store.Dataset, basis: Basis, sample: Sample) -> None:
    """Add the filters to a sample: of the recorded witnesses, and of all channels there are.

    Nothing is added where the series of the events, or of what the network was trained on, were not kept.
    The residual is the cleaned strain's Q-plot, in the recorded strain's own whitening, plane and units; generated
    is the loss-optimal function of the predicted strain's energy, as the oracle is of the witnessed part's.
    """
    training = basis.training
    if training is None or "series" not in training or "series" not in dataset:
        return
    chosen = _train_events(experiment, training)
    if not len(chosen):
        return
    say(f"Wiener filters: fitted to the train split, applied to {len(sample.events)} events")
    made = parse(upgrade(training.attributes["config"]), training.path)
    engine = build_engine(made.series, made.qplot, made.whiten)
    derived = {item.name for item in made.derived}
    names = basis.channels[1:]
    recorded = [name for name in names if name not in derived]
    for name, channels in (("wiener", recorded), ("wiener + derived", names)):
        if not channels or (channels == recorded and name != "wiener"):
            continue
        there, here = ([d.channels.index(channel) for channel in channels] for d in (training, dataset))
        wiener = _fit_series(training, made, chosen, there)
        some = chosen[:CURVE_EVENTS]
        predicted, _ = _energies(training, engine, wiener, some, there)
        target = apply(basis.strain, np.maximum(read_events(training, "qplot", some)[:, 0], 0))
        curve = fit("oracle", target[:, None], target, loss_kind(experiment), predicted)
        predicted, sample.residual[name] = _energies(dataset, engine, wiener, sample.events, here)
        sample.generated[name] = invert(basis.strain, curve.predict(predicted[:, None], predicted))


def _energies(
    dataset: store.Dataset, engine: QTransform, wiener: Wiener, events: NDArray[np.int64], places: list[int]
) -> tuple[Array, Array]:
    """Energies (E, F, T) of the strain that the witnesses predict, and of what is left without it."""
    parts: list[list[Array]] = [[], []]
    for _, series in _read_series(dataset, events):
        predicted = wiener.predict(series[:, places])
        for part, value in zip(parts, (predicted, series[:, 0] - predicted)):
            companion = engine(series[:, :1], companion=value).companion
            assert companion is not None
            part.append(np.maximum(companion.numpy(), 0))
    predicted_energy, left = (np.concatenate(part).astype(np.float32) for part in parts)
    return predicted_energy, left


def _train_events(experiment: Experiment, dataset: store.Dataset) -> NDArray[np.int64]:
    """The train events that filters are fitted to, spread over the split."""
    train = dataset.indices("train")[: experiment.loader.subset.train]
    return train[:: max(1, len(train) // WIENER_EVENTS)][:WIENER_EVENTS]


def _fit_series(
    dataset: store.Dataset, made: Experiment, events: NDArray[np.int64], places: list[int]
) -> Wiener:
    """The filters of the channels at `places`; `made`: the configuration of the dataset."""
    length = 2 * round(SEGMENT * made.series.sample_rate / 2)
    blocks = _stretches(dataset, events, places, made)
    return fit_wiener(blocks, length, made.series.sample_rate, made.qplot.frange)


def _read_series(
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
    for _, series in _read_series(dataset, events):
        shown = series[:, :, middle - half : middle + half]
        yield shown[:, 0], shown[:, places]
