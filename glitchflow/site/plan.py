"""What a dataset will cost before it is made: events, bytes, files, core-hours, wall time; and a training on it.

A few seconds of the real work on every CPU at once, since cores that share a memory are slower together.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from statistics import mean

import numpy as np

from glitchflow.cluster import available_cpus, one_session
from glitchflow.config import Cluster, Experiment, Store
from glitchflow.data.build import MIB, Job, on_every_cpu
from glitchflow.data.content import Content, Source, content_of
from glitchflow.data.generate import fixed_arrays, store_arrays
from glitchflow.data.memory import Memory, Shape, refuse_oversize
from glitchflow.data.shard_events import make_block, make_factory
from glitchflow.data.store import TRANSIENTS, Array, Layout, choose_layout
from glitchflow.data.store.pages import page_count
from glitchflow.errors import InputError
from glitchflow.online.memory import Kept
from glitchflow.site.memory import (
    WORKER,
    needs_of,
    of_processes,
    of_tasks,
    on_the_disk,
    refuse_what_does_not_fit,
)
from glitchflow.site.pace import Pace, Planned, hours, planned, timed
from glitchflow.train.memory import hosted, own

SECONDS = 5.0  # of calibration on every CPU


@dataclass(frozen=True)
class Size:
    """What a dataset takes."""

    events: int
    shards: int
    bytes: int
    files: int  # files and directories: what an inode quota counts
    shape: Shape
    channels: list[str]


@dataclass(frozen=True)
class Plan:
    """The cost of a dataset."""

    size: Size
    seconds_per_event: float  # of one core, when all work
    nodes: int
    cores: int  # per node
    tasks: Mapping[str, Memory] = field(default_factory=dict)  # that one holds, by stage
    processes: Mapping[str, Memory] = field(default_factory=dict)  # that one holds which works by itself
    kept: Kept | None = None  # on the disk by `watch`
    training: Planned | None = None  # where the dataset has what its network learns from
    pace: Pace | None = None

    @property
    def largest(self) -> int:
        """Bytes that a task of any stage holds at most."""
        return max(one.total for one in self.tasks.values())

    @property
    def core_hours(self) -> float:
        return self.size.events * self.seconds_per_event / 3600

    @property
    def hours(self) -> float:
        """Wall time: whole shards are shared out, so a core that has one more than the others decides."""
        rounds = -(-self.size.shards // (self.nodes * self.cores))
        return (
            min(rounds * self.size.events / self.size.shards, self.size.events)
            * self.seconds_per_event
            / 3600
        )


def costs(experiment: Experiment, nodes: int = 1, cores: int | None = None) -> str:
    """The stage: what the dataset of an experiment costs, in words. Raises `InputError` as `plan`."""
    return describe(experiment.store, plan(experiment, nodes=nodes, cores=cores))


def plan(
    experiment: Experiment, source: Source | None = None, nodes: int = 1, cores: int | None = None
) -> Plan:
    """Calibrate here and work out the rest. `source`: None is ingest where it has channels, else simulate.

    Raises `InputError` as the stage itself would.
    """
    if nodes < 1 or (cores is not None and cores < 1):
        raise InputError(f"--nodes {nodes} --cores {cores}: at least 1 each")
    content = content_to_plan(experiment, source)
    size = measure(content)
    tasks, processes = (of(experiment, content, size.shape, size.channels) for of in (of_tasks, of_processes))
    refuse_what_does_not_fit({**tasks, **processes})
    training = None
    if WORKER in processes:
        training = planned(experiment, size.events, needs_of(experiment, content, size.events, size.channels))
    job = Job(partial(_time_events, content), "calibration", next(iter(tasks.values())).total)
    with one_session():
        seconds = mean(on_every_cpu(job, experiment.cluster))  # of a core, all of them at work
        pace = _pace(training, own(processes[WORKER]), experiment.cluster) if training else None
    kept, host = on_the_disk(experiment, content), -(-experiment.train.range[1] // nodes) if training else 0
    if host > 1:
        processes[f"{host} workers of train on a node"] = hosted(processes[WORKER], host)
    return Plan(size, seconds, nodes, cores or available_cpus(), tasks, processes, kept, training, pace)


def measure(content: Content) -> Size:
    """What the dataset takes, without calibration. Raises `InputError` as the stage would."""
    refuse_oversize(content)
    factory = make_factory(content)
    arrays = store_arrays(factory)
    layout = choose_layout(factory.recipe.events, arrays, content.store.chunk_mb, content.store.shard_mb)
    size = layout.shards * layout.shard * sum(array.event_bytes for array in arrays.values())
    asd = None if factory.ready else np.zeros((len(factory.recipe.channels), 1))
    axes = [len(axes) for axes, _ in fixed_arrays(factory, asd).values()]
    axes += [1] * len(TRANSIENTS) if not factory.recipe.recorded else []
    notes = len(factory.recipe.notes) + (not factory.ready)  # that last one names the devices
    files = count_files(layout, arrays, axes) + notes + bool(notes)
    shape = Shape.of(content, arrays, layout)
    return Size(layout.events, layout.shards, size, files, shape, list(factory.recipe.channels))


def content_to_plan(experiment: Experiment, source: Source | None = None) -> Content:
    """The content of the dataset that an experiment is about: a recorded one where it names where to read it."""
    ingest = experiment.ingest
    recorded = ingest.channels or ingest.series_from or ingest.qplots_from
    return content_of(experiment, source or ("ingest" if recorded else "simulate"))


def count_files(layout: Layout, arrays: Mapping[str, Array], fixed: list[int]) -> int:
    """Files and directories of a finished store, itself included. fixed: the axes of each array without events."""
    files = 2 + 3 + page_count(layout)  # the store and its zarr.json; .done, all.json and statistics/
    for array in arrays.values():
        chunks = -(-layout.events // layout.column(array)) if array.column else layout.shards
        files += 3 + chunks * (1 + len(array.shape))  # name/, zarr.json, c/; c/7/0/0/0: an axis, a level
    return files + sum(3 + axes for axes in fixed)


def _pace(training: Planned, memory: int, cluster: Cluster) -> Pace:
    """What a step takes of a training, and a look at an event, with all cores at work."""
    job = Job(partial(_time_steps, training), "calibration", memory, smaller="loader.batch")
    paces = on_every_cpu(job, cluster)
    return Pace(mean(one.step for one in paces), mean(one.event for one in paces))


def _time_steps(training: Planned, part: int) -> Pace:
    """What a step takes; part 0 only imports."""
    return timed(training, SECONDS) if part else Pace(0, 0)


def _time_events(content: Content, part: int) -> float:
    """Seconds per event, made as a shard's are; part 0 only warms up."""
    factory = make_factory(content)
    count, started, events = 0, time.perf_counter(), factory.recipe.events
    while not count or time.perf_counter() - started < (SECONDS if part else 0):
        indices = range(count % events, min(count % events + factory.block, events))
        make_block(factory, indices)
        count += len(indices)
    return (time.perf_counter() - started) / count


def describe(settings: Store, found: Plan) -> str:
    """The plan in words, with a warning for each quota that it passes."""
    size, gigabytes = found.size, found.size.bytes / 1e9
    lines = [
        f"{size.events} events in {size.shards} shards, {gigabytes:.2f} GB, {size.files} files and directories",
        f"{found.core_hours:.2f} core-hours ({found.seconds_per_event * 1e3:.1f} ms an event on a core)",
        f"{_duration(found.hours)} on {found.nodes} node(s) of {found.cores} core(s), each with"
        f" {found.largest / MIB:.0f} MiB",
        *(
            _trained(found.training, found.pace, found.seconds_per_event)
            if found.training and found.pace
            else []
        ),
        *(f"a task of {stage}: {one}" for stage, one in found.tasks.items()),
        *(f"{process}: {one}" for process, one in found.processes.items()),
        *([str(found.kept)] if found.kept else []),
    ]
    if settings.quota_gb is not None and gigabytes > settings.quota_gb:
        lines.append(f"warning: {gigabytes:.2f} GB is beyond store.quota_gb = {settings.quota_gb:g}")
    if settings.quota_files is not None and size.files > settings.quota_files:
        lines.append(
            f"warning: {size.files} files and directories are beyond store.quota_files = {settings.quota_files};"
            f" a larger store.shard_mb than {settings.shard_mb:g} makes fewer"
        )
    return "\n".join(lines)


def _trained(training: Planned, pace: Pace, drawn: float) -> list[str]:
    """What a training and its network's predictions will take, in words."""
    took = _duration(hours(training, pace, drawn))
    return [
        f"train, modelled: {took} for {training.epochs} epochs of {training.steps} steps, by {training.workers}"
        f" worker(s) on CPUs, a thread each: {pace.step * 1e3:.0f} ms a step of {training.share} events"
        + (f", and {drawn * 1e3:.0f} ms at most for each that is drawn anew" if training.fresh else "")
        + "; without its start and what workers wait for",
        f"infer, modelled: {pace.event * 1e3:.1f} ms of a core an event for the network alone",
    ]


def _duration(hours: float) -> str:
    seconds = hours * 3600
    return (
        f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min" if hours < 2 else f"{hours:.1f} h"
    )
