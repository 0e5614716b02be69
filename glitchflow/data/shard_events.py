"""One shard of a dataset: its events' Q-plots, made and written by one task.

    recipe -> events of a block -> Q-plots -> ... -> the whole shard -> store

What a shard holds depends on the content of the dataset and the event indices alone.

Shapes: B event of a block, C channel (the strain first), R recorded channel, F frequency, T time, N sample,
A frequency of an ASD.
"""

import itertools
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.cluster import trim
from glitchflow.data.content import Content
from glitchflow.data.event_truth import check_shapes, transient_series
from glitchflow.data.gpu import to_gpu
from glitchflow.data.normalise import mean_log, measure, statistics
from glitchflow.data.reused_events import ready_qplots, stored_series
from glitchflow.data.splits import Splits, assign, own_split
from glitchflow.data.store import SKIPPED, SPLITS, Dataset, write_shard
from glitchflow.data.store.half import packed, unpacked
from glitchflow.errors import InputError
from glitchflow.signal.derive import band_limits, spread_invalid
from glitchflow.signal.qtransform import QTransform, build_engine, read_asd
from glitchflow.signal.recorded.events import recorded, refuse_silent
from glitchflow.signal.recorded.triggers import Trigger, find_triggers
from glitchflow.signal.simulation.recipe import build_recipe
from glitchflow.signal.types import Event, Over, Recipe, Transient
from glitchflow.signal.whiten import asd_frequencies, estimate_asd

# events whose Q-plots are made at once, at most: a task's memory does not depend on the shard's size; and a GPU is
# better asked seldom, and for much
BLOCK, GPU_BLOCK = 16, 256
BLOCK_BYTES = 64 * 2**20  # of their series in float64, or one event's
RUN = 8  # neighbouring shards of a task at most: half a minute of a core
TASKS = 64  # there are at least, before one makes several shards
ASD_EVENTS = 64  # background events that a dataset's ASD is the median of
ASD_BYTES = 192 * 2**20  # of what is kept of them: of many channels at a high rate they are fewer
ASD_SEARCH = 512  # train events made at most to find them, where a recipe does not know labels beforehand


@dataclass(frozen=True)
class Factory:
    """What makes a dataset's events, and their Q-plots of them."""

    content: Content
    recipe: Recipe
    engine: QTransform
    splits: Splits | None = None  # (E,); None: each event has its own
    sharing: int = 0  # tasks on the GPU that the engine is on; 0: it is on a CPU

    def split(self, event: int) -> int:
        """The split of an event that can be used."""
        if self.splits is not None:
            return int(self.splits[event])
        return own_split(self.content.split, self.content.seed, self.recipe.split_key(event))

    @property
    def ready(self) -> bool:
        """Whether the recipe has Q-plots and no series."""
        return self.recipe.recorded and bool(self.content.ingest.qplots_from)

    @property
    def kept_channels(self) -> list[str]:
        """The R channels whose series are kept."""
        derived = {item.name for item in self.content.derived}
        return [name for name in self.recipe.channels if name not in derived]

    @property
    def block(self) -> int:
        """How many events are made at once."""
        return block_events(len(self.recipe.channels), self.content.series.samples, bool(self.sharing))


def block_events(channels: int, samples: int, gpu: bool = False) -> int:
    """How many events of so many channels and samples are made at once. On a CPU no byte of them depends on it."""
    return min(GPU_BLOCK if gpu else BLOCK, max(1, BLOCK_BYTES // (8 * channels * samples)))


def make_factory(
    content: Content, dataset: Dataset | None = None, over: Over = map, recipe: Recipe | None = None
) -> Factory:
    """The recipe and the engine of a dataset's content.

    dataset: the store that is being made, which holds the list of recorded events as it was when it was begun, and the
    ASD to whiten by. over: what shares out the reading of a state channel. recipe: where there is one already. Raises
    `InputError` for what cannot be made.
    """
    given = dataset is not None and content.whiten.given and "asd" in dataset
    recipe = recipe or _recipe(content, dataset, over)
    asd = dataset["asd"][:] if dataset is not None and given else None
    splits = assign(content.split, content.seed, content.series.duration, recipe)
    return Factory(content, recipe, engine_of(content, recipe, asd), splits)


def engine_of(content: Content, recipe: Recipe, asd: NDArray[np.float64] | None = None) -> QTransform:
    """The Q-transform of a dataset's content: a dead channel is masked, and so is what its own rate does not hold."""
    limits = band_limits(recipe.channels, recipe.attributes.get("rates", {}), content.derived)
    return build_engine(content.series, content.qplot, content.whiten, "mask", asd, limits)


def _recipe(content: Content, dataset: Dataset | None, over: Over) -> Recipe:
    ingest, series, seed = content.ingest, content.series, content.seed
    if content.source == "simulate":
        return build_recipe(content.simulate, series, content.derived, seed)
    if ingest.series_from:
        return stored_series(content)
    if ingest.qplots_from:
        return ready_qplots(ingest, content.qplot.shape)
    listed, nan = dataset.note("triggers") if dataset is not None else None, float("nan")
    if listed:
        triggers = [Trigger(gps, label, nan if snr is None else snr) for gps, label, snr in listed]
    else:
        triggers = find_triggers(ingest, series.duration, content.qplot.span, seed, over)
    lot = dataset.layout.shard if dataset is not None else 0
    rates = dataset.note("rates") if dataset is not None else None
    recipe = recorded(ingest, series, content.derived, seed, triggers, lot, rates)
    if dataset is None:
        refuse_silent(recipe.notes["rates"], content.derived, content.qplot.frange)
    return recipe if dataset is None else replace(recipe, attributes={"rates": dataset.attributes["rates"]})


def neighbours(shards: list[int], reads_files: bool) -> dict[int, range]:
    """The ascending shards that a task makes one after the other, by the first of them.

    Shards of recorded data are pieces of the time line, and where the pieces of two tasks meet both read the files
    there: of many shards a task makes some neighbours.
    """
    longest = min(RUN, max(1, len(shards) // TASKS)) if reads_files else 1
    runs: dict[int, range] = {}
    run = range(0)
    for shard in shards:
        run = (
            range(run.start, shard + 1)
            if shard == run.stop and 0 < len(run) < longest
            else range(shard, shard + 1)
        )
        runs[run.start] = run
    return runs


def make_run(
    dataset: Dataset, runs: Mapping[int, range], recipe: Recipe | None, sharing: int, first: int
) -> None:
    """Make and write the shards of a store that a task makes which begins with `first`. Raises as `make_shard`."""
    for shard in runs[first]:
        make_shard(dataset, shard, recipe, sharing)


def make_shard(dataset: Dataset, shard: int, recipe: Recipe | None = None, sharing: int = 0) -> None:
    """Make and write one shard of a store, by a recipe that is there or, in a task, its own; on a GPU that so many
    tasks are sharing, or on a CPU.

    Raises `InputError`, and `RunError` for a disk that refuses.
    """
    factory = _factory(
        _Key(json.dumps([dataset.path, dataset.attributes["config"]]), sharing, dataset, recipe)
    )
    span = dataset.layout.span(shard)
    values = {
        name: np.empty((span.stop - span.start, *array.shape), array.dtype)
        for name, array in dataset.known.arrays.items()
        if array is not None
    }
    skipped: dict[int, str] = {}
    measured: list[dict[str, NDArray]] = []
    transients: list[tuple[int, int, float, float, bool]] = []
    for start in range(span.start, span.stop, factory.block):
        indices = range(start, min(start + factory.block, span.stop))
        block, reasons, rows = make_block(factory, indices)
        skipped |= reasons
        transients += rows
        block["qplot"] = unpacked(packed(block["qplot"], values["qplot"].dtype))  # as it will be read
        measured.append(measure(block["qplot"]))
        # of an image without data there is no loudness, and NaN is what quantiles leave out
        block["loudness"] = np.where(block["valid"], np.round(mean_log(measured[-1]), 6), np.nan)
        for name, array in values.items():
            array[start - span.start : indices.stop - span.start] = packed(block[name], array.dtype)
        del block  # before the next one is made, or the shard encoded
    trim()
    train = values["split"] == SPLITS.index("train")
    sums = {name: np.concatenate([one[name] for one in measured])[train] for name in measured[0]}
    write_shard(dataset, shard, values, statistics(sums), skipped, transients)


@dataclass(frozen=True)
class _Key:
    """A dataset, told from others by its content: each task gets a copy of its own."""

    content: str
    sharing: int
    dataset: Dataset = field(compare=False)
    recipe: Recipe | None = field(compare=False)


@lru_cache(maxsize=1)
def _factory(key: _Key) -> Factory:
    """The factory of a store that is being made, built once per process."""
    factory = make_factory(key.dataset.config, key.dataset, recipe=key.recipe)
    if not key.sharing:
        return factory
    return replace(factory, engine=to_gpu(factory.engine, key.sharing), sharing=key.sharing)


def make_block(
    factory: Factory, indices: range
) -> tuple[dict[str, NDArray], dict[int, str], list[tuple[int, int, float, float, bool]]]:
    """The arrays of some events, why any of them could not be used, and their transients.

    An event that could not be used is all zeros, in no split. A witness without data costs the witness: its image is 0
    and `valid` says so.
    """
    recipe = factory.recipe
    events = [recipe.event(i) for i in indices]
    skipped = {i: event.skipped for i, event in zip(indices, events) if event.skipped}
    block: dict[str, Any] = {
        "gps": np.array([event.gps for event in events]),
        "label": np.array([event.label for event in events], dtype=np.int16),
        "snr": np.array([event.snr for event in events]),
    }
    if factory.ready:
        block["qplot"] = np.stack([event.energy for event in events])  # type: ignore[misc]
        block["q"] = np.full(block["qplot"].shape[:2], np.nan)
        block["valid"] = block["qplot"].any((2, 3))
    else:
        block |= _transform(factory, events, indices)
    for i, valid in zip(indices, block["valid"]):
        if not valid[0]:
            skipped.setdefault(i, f"{recipe.channels[0]}: dead, constant or without power in the band")
    split = [SKIPPED if i in skipped else factory.split(i) for i in indices]
    block["split"] = np.array(split, dtype=np.int8)
    for i in skipped:
        block["valid"][i - indices.start] = False
    block["qplot"][~block["valid"]] = 0
    return block, skipped, [] if recipe.recorded else list(_transients(recipe, events, indices))


def _transients(
    recipe: Recipe, events: list[Event], indices: range
) -> Iterator[tuple[int, int, float, float, bool]]:
    """Rows of the table: event, family, GPS s, SNR in the strain, whether a witness sees it."""
    witnessed = {recipe.labels.index(name) for name in recipe.witnessed}
    for index, event in zip(indices, events):
        there = event.transients
        if event.label and not there:  # a recipe that does not tell: one, at the event's time
            there = (Transient(event.label, event.gps, event.snr, event.label in witnessed),)
        yield from ((index, one.label, one.gps, one.snr, one.witnessed) for one in there)


def _transform(factory: Factory, events: list[Event], indices: range) -> dict[str, Any]:
    """Q-plots of the events' series."""
    recipe, content = factory.recipe, factory.content
    check_shapes(events, indices, (len(recipe.channels), content.series.samples), bool(recipe.witnessed))
    # one event may be all that fits
    series = np.stack([event.series for event in events]) if len(events) > 1 else events[0].series[None]
    explained = np.stack([event.witnessed for event in events]) if recipe.witnessed else None  # type: ignore[misc]
    try:
        plot = factory.engine(series, companion=explained).cpu()
    except ValueError as error:
        raise InputError(f"Q-plots of the events from {indices.start} on: {error}") from None
    valid = plot.valid.numpy().astype(bool)
    for row, event in zip(valid, events):
        row &= True if event.valid is None else event.valid
    spread_invalid(valid, recipe.channels, content.derived)
    block: dict[str, Any] = {"qplot": plot.energy.numpy(), "q": plot.q.numpy(), "valid": valid}
    if content.store.series != "none":
        block["series"] = kept_series(factory, series)
        if content.store.transients:
            block["transient_series"] = transient_series(events, indices)
    if content.qplot.window == "loudest":
        start = np.array([event.gps for event in events]) - content.series.duration / 2
        block["frequency0"] = np.asarray(plot.frequencies)[:, 0]
        block["time0"] = np.asarray(plot.times)[:, 0] + start
    if recipe.shared:
        block["shared_series"] = np.stack([event.shared for event in events])  # type: ignore[misc]
    if explained is not None:
        assert plot.companion is not None
        block |= {"witnessed": plot.companion.numpy(), "witnessed_series": explained}
    return block


def kept_series(factory: Factory, series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Those of (B, C, N) series that a store keeps, (B, R, N): 0 where there is NaN, or whoever adds them up would have
    nothing else; `valid` says so already."""
    count = len(factory.kept_channels)  # derived channels come last
    kept = series[:, :count]
    bad = ~(np.isfinite(kept.min(-1)) & np.isfinite(kept.max(-1)))
    return np.where(bad[..., None], 0, kept) if bad.any() else kept


def dataset_asd(factory: Factory) -> NDArray[np.float64] | None:
    """One amplitude spectral density per channel (C, A), in series units / sqrt(Hz): the median over background events.

    Over the first `ASD_EVENTS` of the train split, or as many as there are and `ASD_BYTES` hold; where there is none,
    over the first train events. 0 for a channel that had no data in them; None where no train event can be used. With
    `whiten.asd: file`, what the file says.
    """
    recipe, content = factory.recipe, factory.content
    if content.whiten.asd == "file":
        one = read_asd(content.whiten.file, content.series.sample_rate, content.whiten.fftlength)
        if one.ndim > 1 and len(one) != len(recipe.channels):
            raise InputError(
                f"whiten.file = {content.whiten.file}: {len(one)} columns of 1/sqrt(Hz) for"
                f" {len(recipe.channels)} channels"
            )
        return np.array(np.broadcast_to(one, (len(recipe.channels), one.shape[-1])))
    split = SPLITS.index("train")
    train = (i for i in range(recipe.events) if factory.split(i) == split)
    candidates = list(train if recipe.label else itertools.islice(train, ASD_SEARCH))
    if recipe.label:
        candidates = [i for i in candidates if recipe.label(i) == 0] or candidates[:ASD_EVENTS]
    quiet: list[NDArray] = []
    loud: list[NDArray] = []
    wanted = (len(recipe.channels), content.series.samples)
    frequencies = asd_frequencies(content.series.sample_rate, content.whiten.fftlength)
    most = min(ASD_EVENTS, max(1, ASD_BYTES // (8 * len(recipe.channels) * len(frequencies))))
    for index in candidates:
        event = recipe.event(index)
        check_shapes([event], range(index, index + 1), wanted, bool(recipe.witnessed))
        found = quiet if event.label == 0 else loud
        if not event.skipped and len(found) < most:
            found.append(_own_asd(content, event.series))
        del event  # before the next one is made
        if len(quiet) == most:
            break
    if not quiet and not loud:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a channel that is NaN in all
        each = (np.nanmedian(rows, axis=0) for rows in zip(*(quiet or loud)))  # of a channel
        return np.nan_to_num(np.stack(list(each)))


def _own_asd(content: Content, series: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ASD of each channel (C, A) of an event's series (C, N), one after the other; NaN where one is constant."""
    rate, fftlength = content.series.sample_rate, content.whiten.fftlength
    rows = (torch.from_numpy(np.ascontiguousarray(row)) for row in series)
    asd = torch.stack([estimate_asd(row, rate, fftlength) for row in rows]).numpy()
    asd[~np.ptp(series, axis=1).astype(bool)] = np.nan
    return asd
