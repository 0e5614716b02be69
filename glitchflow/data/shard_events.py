"""One shard of a store: its events' Q-plots, made and written by one task.

    recipe -> events of a block -> Q-plots -> ... -> the whole shard -> store

What a shard holds depends on the experiment and the event indices alone.

Shapes: B event of a block, C channel, F frequency, T time, N sample.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.config import Experiment
from glitchflow.data.normalise import statistics
from glitchflow.data.reused_events import ready_qplots, stored_series
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError
from glitchflow.signal.qtransform import QTransform, build_engine
from glitchflow.signal.recorded.events import recorded
from glitchflow.signal.recorded.triggers import Trigger, find_triggers
from glitchflow.signal.simulation.recipe import build_recipe
from glitchflow.signal.streams import SPLIT, generator
from glitchflow.signal.types import Event, Recipe

BLOCK = 16  # events whose Q-plots are made at once: a task's memory does not depend on the shard's size


def make_shard(experiment_json: str, source: str, path: str, shard: int) -> None:
    """Make and write one shard of the store at `path`. Raises `InputError`, and `RunError` for a disk that refuses."""
    recipe, engine = prepare(experiment_json, source, path)
    experiment = _parse(experiment_json)
    dataset = store.open_store(path, complete=False)
    span, names = dataset.layout.span(shard), dataset.attributes["arrays"]
    values = {name: _empty(dataset, name, span) for name in names}
    skipped: dict[int, str] = {}
    for start in range(span.start, span.stop, BLOCK):
        indices = range(start, min(start + BLOCK, span.stop))
        block, reasons = make_block(experiment, recipe, engine, indices)
        skipped |= reasons
        for name in names:
            values[name][start - span.start : indices.stop - span.start] = block[name]
    train = values["split"] == store.SPLITS.index("train")
    store.write_shard(path, shard, values, statistics(values["qplot"][train]), skipped)


def make_block(
    experiment: Experiment, recipe: Recipe, engine: QTransform, indices: range
) -> tuple[dict[str, NDArray], dict[int, str]]:
    """The arrays of some events, and why any of them could not be used: those are zeros in no split."""
    events = [recipe.event(i) for i in indices]
    skipped = {i: event.skipped for i, event in zip(indices, events) if event.skipped}
    gps = np.array([event.gps for event in events])
    block: dict[str, Any] = {
        "gps": gps,
        "label": np.array([event.label for event in events], dtype=np.int8),
        "snr": np.array([event.snr for event in events]),
    }
    if experiment.ingest.qplots_from and recipe.recorded:
        block["qplot"] = np.stack([event.energy for event in events])  # type: ignore[misc]
        block["q"] = np.full(block["qplot"].shape[:2], np.nan)
    else:
        images, dead = _transform(experiment, recipe, engine, events, indices)
        skipped = dead | skipped
        block |= images
    split = [store.SKIPPED if i in skipped else split_of(experiment, recipe.split_key(i)) for i in indices]
    block["split"] = np.array(split, dtype=np.int8)
    for i in skipped:
        block["qplot"][i - indices.start] = 0
    return block, skipped


def _transform(
    experiment: Experiment, recipe: Recipe, engine: QTransform, events: list[Event], indices: range
) -> tuple[dict[str, Any], dict[int, str]]:
    """Q-plots of the events' series, and which events have a channel without any signal."""
    _check_shapes(events, indices, (len(recipe.channels), experiment.series.samples), bool(recipe.witnessed))
    series = np.stack([event.series for event in events])
    explained = np.stack([event.witnessed for event in events]) if recipe.witnessed else None  # type: ignore[misc]
    try:
        plot = engine(series, companion=explained)
    except ValueError as error:
        raise InputError(f"Q-plots of the events from {indices.start} on: {error}") from None
    block: dict[str, Any] = {"qplot": plot.energy.numpy(), "q": plot.q.numpy(), "series": series}
    if experiment.qplot.window == "loudest":
        start = np.array([event.gps for event in events]) - experiment.series.duration / 2
        block["frequency0"] = np.asarray(plot.frequencies)[:, 0]
        block["time0"] = np.asarray(plot.times)[:, 0] + start
    if explained is not None:
        block |= {"witnessed": plot.companion.numpy(), "witnessed_series": explained}
    dead = {}
    for row, channel in np.argwhere(~np.asarray(plot.valid)):
        dead[indices[int(row)]] = f"{recipe.channels[channel]}: dead, constant or without power in the band"
    return block, dead


def _check_shapes(events: list[Event], indices: range, wanted: tuple[int, int], witnessed: bool) -> None:
    """A recipe of a user's own may get them wrong."""
    for index, event in zip(indices, events):
        if event.series.shape != wanted:
            raise InputError(f"event {index}: series of shape {event.series.shape}, not {wanted}")
        if witnessed and (event.witnessed is None or event.witnessed.shape != wanted[1:]):
            raise InputError(
                f"event {index}: `witnessed` must be of shape {wanted[1:]}, as Recipe.witnessed says"
            )


def _empty(dataset: store.Dataset, name: str, span: slice) -> NDArray:
    array = dataset[name]
    return np.empty((span.stop - span.start, *array.shape[1:]), dtype=array.dtype)


def split_of(experiment: Experiment, key: int) -> int:
    """The split of an event, by its own random number: later events never change it."""
    # an event before the GPS epoch has a negative block of time, which no random stream has
    draw = generator(experiment.seed, SPLIT, abs(key)).random()
    test, validation = experiment.split.test, experiment.split.validation
    return store.SPLITS.index(
        "test" if draw < test else "validation" if draw < test + validation else "train"
    )


@lru_cache(maxsize=2)
def _parse(experiment_json: str) -> Experiment:
    return Experiment.model_validate_json(experiment_json)


@lru_cache(maxsize=2)
def prepare(experiment_json: str, source: str, path: str = "") -> tuple[Recipe, QTransform]:
    """The recipe and the engine of an experiment, built once per process.

    `path`: the store that is being made, which holds the list of recorded events as it was when it was begun.
    """
    experiment = _parse(experiment_json)
    settings = (experiment.series, experiment.qplot, experiment.whiten)
    if source == "simulate":
        made = build_recipe(experiment.simulate, experiment.series, experiment.derived, experiment.seed)
        return made, build_engine(*settings, "raise")
    ingest, series, seed = experiment.ingest, experiment.series, experiment.seed
    if ingest.series_from:
        recipe = stored_series(experiment)
    elif ingest.qplots_from:
        recipe = ready_qplots(experiment)
    else:
        listed = store.note(path, "triggers") if path else None
        nan = float("nan")
        if listed:
            triggers = [Trigger(gps, label, nan if snr is None else snr) for gps, label, snr in listed]
        else:
            triggers = find_triggers(ingest, series.duration, experiment.qplot.span, seed)
        recipe = recorded(ingest, series, experiment.derived, seed, experiment.split.block, triggers)
    return recipe, build_engine(*settings, "mask")
