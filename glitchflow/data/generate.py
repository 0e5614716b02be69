"""Events -> Q-plots -> store: Ray tasks for the missing shards, for simulated and recorded events alike.

    1. the driver chooses the layout from the configuration and writes the store's metadata
    2. each task makes the events of a shard, their Q-plots, and writes the shard whole; of recorded data, where there
       are many, of some neighbouring shards
    3. the driver adds up the statistics in shard order and marks the store complete

A run that was stopped at any point goes on with the shards that have no done-marker.

Shapes: C channel, F frequency, T time, N sample, A frequency of an ASD.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.cluster import at_hand, joins, one_session
from glitchflow.config import Cluster, Experiment, Generate
from glitchflow.data.build import Job, over_tasks, run_tasks
from glitchflow.data.content import Content, content_of, differences
from glitchflow.data.gpu import sharing, told
from glitchflow.data.memory import Shape, making, refuse_oversize
from glitchflow.data.normalise import reduce_statistics, stored_loudness
from glitchflow.data.objects import Location
from glitchflow.data.provenance import provenance
from glitchflow.data.said import say_empty, say_missing, say_skipped
from glitchflow.data.shard_events import (
    Factory,
    dataset_asd,
    engine_of,
    make_block,
    make_factory,
    make_run,
    neighbours,
)
from glitchflow.data.store import (
    CHANGING,
    SPLITS,
    Array,
    Dataset,
    Design,
    Fixed,
    Layout,
    Writer,
    choose_layout,
    find_damage,
)
from glitchflow.errors import InputError, RunError
from glitchflow.progress import say
from glitchflow.signal.types import Recipe
from glitchflow.signal.whiten import asd_frequencies

DEVICES = "devices"  # that Q-plots were made on, in a note and then in the provenance
LITTLE = 2**26  # bytes of series or images that take a core some seconds: a Ray takes longer to start
FEW = 4  # tasks at most, where they read files: more may have long ones to decode, and other cores help


@joins
def generate(
    experiment: Experiment, overwrite: bool = False, shard: int | None = None, verify: bool = False
) -> Location:
    """Make the dataset of synthetic events; returns where it is.

    `shard`: make that shard alone, again. `verify`: check every shard first and make damaged ones again. More
    `simulate.events` than the store has extend it: what is there stays as it is.
    Raises `InputError` for a store made from other settings, `RunError` for a disk that refuses and where another
    driver is at work.
    """
    content = content_of(experiment, "simulate")
    return _make(
        experiment.dataset, content, experiment.generate, experiment.cluster, overwrite, shard, verify
    )


@joins
def ingest(
    experiment: Experiment, overwrite: bool = False, shard: int | None = None, verify: bool = False
) -> Location:
    """Make the dataset of recorded events, of another store's series, or of ready Q-plots; returns where it is.

    The list of events is the one found when the store was begun. Events that cannot be used are counted with
    their reasons, which the store keeps. Raises `InputError` besides for files that cannot be read.
    """
    content = content_of(experiment, "ingest")
    return _make(
        experiment.dataset, content, experiment.generate, experiment.cluster, overwrite, shard, verify
    )


@one_session()
def _make(
    path: Location,
    content: Content,
    settings: Generate,
    cluster: Cluster,
    overwrite: bool,
    shard: int | None,
    verify: bool,
) -> Location:
    if content.source == "ingest" and str(path) == content.ingest.series_from:
        raise InputError(f"ingest.series_from = {path}: is what would be written; choose another workdir")
    refuse_oversize(content)
    first = cache(partial(make_factory, content, over=over_tasks(cluster, "state")))
    with Writer.begin(path, lambda: _design(first()), partial(_agrees, content), overwrite) as writer:
        if "sampled" in writer.dataset.couplings:
            _same_draws(first().recipe, writer.dataset)
        _extend(writer, content)
        if shard is not None and not 0 <= shard < writer.layout.shards:
            raise InputError(f"--shard {shard}: the store has shards 0 to {writer.layout.shards - 1}")
        if verify:
            _forget_damaged(writer)
        missing = writer.missing()
        if 0 < len(missing) < writer.layout.shards:
            say(
                f"{path}: {writer.layout.shards - len(missing)} of {writer.layout.shards} shards are there already"
            )
        if shard is not None:
            writer.forget([shard])
        wanted = missing if shard is None else [shard]
        if wanted:
            runs = neighbours(wanted, content.reads_files)
            parts = {first: sum(sizes(writer.layout, [*run]).values()) for first, run in runs.items()}
            made = first().recipe if first.cache_info().currsize else None  # of a store that was begun now
            first.cache_clear()  # it would hold what it read until the end
            tasks = 0
            if not content.ingest.qplots_from:  # ready images are never transformed
                tasks = sharing(settings, cluster)
                if settings.device == "auto":
                    say(told(settings, tasks))
                before = writer.dataset.note(DEVICES) or (
                    [] if len(missing) == writer.layout.shards else ["unknown"]
                )
                writer.note(DEVICES, sorted({*before, "GPU" if tasks else "CPU"}))  # first: it may be killed
            run_tasks(_job(writer, runs, parts, cluster, made, tasks), parts, cluster, writer.check)
        if not writer.dataset.complete and not writer.missing():
            _finish(writer)
    return path


def _job(
    writer: Writer,
    runs: dict[int, range],
    parts: dict[int, int],
    cluster: Cluster,
    recipe: Recipe | None,
    tasks: int,
) -> Job:
    """What makes shards, in this process where that takes less than a Ray to start. recipe: of the first event; it is
    handed on if all events lie in what was read for that one: no file is decoded twice then. tasks: sharing a GPU."""
    content = writer.dataset.config
    shape = Shape.of(content, writer.arrays, writer.layout)
    here = not at_hand(cluster.address) and sum(parts.values()) * 8 * shape.channels * shape.samples <= LITTLE
    recipe = recipe if here and recipe and recipe.is_read() else None
    here &= recipe is not None or len(parts) <= FEW or not content.reads_files
    make = partial(make_run, writer.dataset, runs, recipe, tasks)
    memory = making(shape, content.reads_files, bool(tasks)).total
    return Job(make, "Q-plots", memory, accelerated=bool(tasks), here=here)


def sizes(layout: Layout, shards: list[int]) -> dict[int, int]:
    """How many events each of some shards has."""
    return {k: layout.span(k).stop - layout.span(k).start for k in shards}


# -- the driver's part -------------------------------------------------------------------------------------------


def _design(factory: Factory) -> Design:
    """What the store is to be. Raises `InputError` for what is wrong with it, before anything is replaced."""
    content, recipe = factory.content, factory.recipe
    given = content.whiten.given and not factory.ready  # else an event is whitened by its own
    asd = dataset_asd(factory) if given else None
    if given:
        if asd is None:
            raise InputError("whiten.asd = dataset: there is no usable train event to estimate it from")
        factory = replace(factory, engine=engine_of(content, recipe, asd))
    if factory.ready:
        says = {
            "fixed": "those of qplot.frange and qplot.span",
            "loudest": "counted from 0 by qplot.fres, qplot.tres",
        }
        say(
            f"{content.ingest.qplots_from}: does not tell the axes of its images; they are taken to be"
            f" {says[content.qplot.window]}"
        )
    _, skipped, _ = make_block(factory, range(1))
    if skipped and recipe.events == 1:
        raise InputError(skipped[0])
    arrays = store_arrays(factory)
    layout = choose_layout(recipe.events, arrays, content.store.chunk_mb, content.store.shard_mb)
    attributes = {
        "source": content.source,
        "recorded": recipe.recorded,
        "config": content.kept(),
        "seed": content.seed,
        "channels": recipe.channels,
        "labels": recipe.labels,
        "witnessed_labels": recipe.witnessed,
        "couplings": recipe.couplings,
        "provenance": provenance(),
        **recipe.attributes,
    }
    fixed = fixed_arrays(factory, asd if given or factory.ready else dataset_asd(factory))
    return Design(
        arrays,
        layout,
        attributes,
        fixed,
        content.store.compression,
        not recipe.recorded,
        recipe.notes,
    )


def store_arrays(factory: Factory) -> dict[str, Array]:
    """The per-event arrays that a dataset has."""
    content, recipe = factory.content, factory.recipe
    channels, (f, t), samples = len(recipe.channels), content.qplot.shape, content.series.samples
    energies = content.store.qplot
    arrays = {
        "qplot": Array(("channel", "frequency", "time"), (channels, f, t), energies),
        "gps": Array((), (), "float64", column=True),
        "q": Array(("channel",), (channels,), "float32", column=True),
        "label": Array((), (), "int16", column=True),
        "split": Array((), (), "int8", column=True),
        "snr": Array((), (), "float32", column=True),
        "valid": Array(("channel",), (channels,), "bool", column=True),
        "loudness": Array(("channel",), (channels,), "float64", column=True),
    }
    if content.qplot.window == "loudest" and not factory.ready:
        arrays |= {name: Array((), (), "float64", column=True) for name in ("frequency0", "time0")}
    if recipe.witnessed:
        arrays["witnessed"] = Array(("frequency", "time"), (f, t), energies)
    if content.store.series != "none" and not factory.ready:
        kept, kind = len(factory.kept_channels), content.store.series
        arrays["series"] = Array(("recorded_channel", "sample"), (kept, samples), kind)
        if recipe.witnessed:
            arrays["witnessed_series"] = Array(("sample",), (samples,), kind)
        if content.store.transients:
            arrays["transient_series"] = Array(("strain", "sample"), (1, samples), kind)
        if recipe.shared:
            arrays["shared_series"] = Array(("sample",), (samples,), kind)
    return arrays


def fixed_arrays(factory: Factory, asd: NDArray | None) -> Fixed:
    """The arrays without an event axis: coordinates, in Hz and s from the window's centre, `rows`, `asd` (C, A).

    Of crops that are ready nothing but the size of a pixel is known: they count from 0.
    """
    content, recipe, engine = factory.content, factory.recipe, factory.engine
    fixed: Fixed = {"channel": (("channel",), np.array(recipe.channels, dtype=object))}
    if factory.ready and content.qplot.window == "loudest":
        (f, t), qplot = content.qplot.shape, content.qplot
        fixed["frequency"] = (("frequency",), qplot.fres * np.arange(f))
        fixed["time"] = (("time",), qplot.tres * (np.arange(t) - t // 2))
    if content.qplot.window == "fixed":
        frequency = np.asarray(engine.frequencies)
        time = np.asarray(engine.times) - content.series.duration / 2
        fixed |= {"frequency": (("frequency",), frequency), "time": (("time",), time)}
        limits = np.full(len(recipe.channels), np.inf) if engine.limits is None else engine.limits.numpy()
        fixed["rows"] = (("channel", "frequency"), frequency <= limits[:, None])
    if asd is not None:
        frequencies = asd_frequencies(content.series.sample_rate, content.whiten.fftlength)
        fixed["asd"] = (("channel", "asd_frequency"), asd)
        fixed["asd_frequency"] = (("asd_frequency",), frequencies)
        if content.store.series != "none":
            names = np.array(factory.kept_channels, dtype=object)
            fixed["recorded_channel"] = (("recorded_channel",), names)
    return fixed


def _agrees(content: Content, dataset: Dataset) -> None:
    """Raise `InputError` for a store made from other settings; fewer events may become more."""
    if CHANGING in dataset.attributes:
        raise InputError(
            f"{dataset.path}: its splits are being assigned anew; finish that with ingest --split"
        )
    there, wanted = dataset.config.kept(), content.kept()
    events = content.simulate.events
    if content.source == "simulate" and there.get("simulate", {}).get("events", events) < events:
        there["simulate"] = there["simulate"] | {"events": events}
    differing = sorted(differences(there, wanted))
    if differing:
        raise InputError(
            f"{dataset.path}: was made with other settings ({'; '.join(differing[:4])}"
            f"{', ...' if len(differing) > 4 else ''}); choose another workdir or --overwrite it"
        )


def _same_draws(recipe: Recipe, dataset: Dataset) -> None:
    """Raise `InputError` where a store of draws was made anew since the first events took theirs from it."""
    if recipe.couplings.get("sampled") != dataset.couplings.get("sampled"):
        raise InputError(
            f"{dataset.path}: its events have draws that simulate.detector.families.sampled.path no longer holds;"
            " choose another workdir or --overwrite it"
        )


def _extend(writer: Writer, content: Content) -> None:
    """Make room for the events that the configuration asks for beyond those that are there."""
    events = content.simulate.events
    if content.source == "simulate" and writer.dataset.config.simulate.events < events:
        say(f"{writer.path}: extended from {len(writer.dataset)} to {events} events")
        writer.grow(events, {"config": content.kept()})


def _forget_damaged(writer: Writer) -> None:
    damaged, rest = find_damage(writer.dataset)
    if rest:
        raise RunError(f"{writer.path}: {rest[0]}, which no shard can mend; --overwrite makes the store anew")
    for k, reason in damaged.items():
        say(f"{writer.path}: shard {k}: {reason}; it is made again")
    writer.forget(damaged)


def _finish(writer: Writer) -> None:
    writer.collect()
    dataset, skipped = writer.dataset, dict[int, str]()

    def statistics() -> Iterator[dict[str, Any]]:
        for share in writer.shares():  # one pass: all of them are gigabytes
            skipped.update(share.skipped)
            yield share.statistics

    try:
        normalisation: dict[str, Any] | None = reduce_statistics(statistics())
    except ValueError:
        normalisation = None  # a handful of recorded events need not hold any for training
    if skipped or dataset.skipped:
        writer.note("skipped", sorted(skipped.items()))
    if skipped:
        say_skipped(writer.path, skipped, len(dataset))
        say_empty(dataset)
    train = dataset["split"][:] == SPLITS.index("train")
    say_missing(dataset)
    if normalisation is not None:
        normalisation["loudness"] = stored_loudness(dataset["loudness"], train)
    made = dataset.provenance | {DEVICES: dataset.note(DEVICES) or []}  # none of images that were ready
    writer.complete({"normalisation": normalisation, "provenance": made})
