"""What a dataset will cost before it is made: events, bytes, files, core-hours, wall time.

A few seconds of the real work on every CPU at once, since cores that share a memory are slower together.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import mean

from glitchflow.cluster import available_cpus, threads
from glitchflow.config import Experiment
from glitchflow.data.generate import on_every_cpu, store_arrays
from glitchflow.data.shard_events import BLOCK, make_block, prepare
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError

SECONDS = 5.0  # of calibration on every CPU
COORDINATES = 3  # channel, frequency, time


@dataclass(frozen=True)
class Plan:
    """The cost of a dataset."""

    events: int
    shards: int
    bytes: int
    files: int  # files and directories: what an inode quota counts
    seconds_per_event: float  # of one core, when all work
    nodes: int
    cores: int  # per node

    @property
    def core_hours(self) -> float:
        return self.events * self.seconds_per_event / 3600

    @property
    def hours(self) -> float:
        """Wall time: whole shards are shared out, so a core that has one more than the others decides."""
        rounds = -(-self.shards // (self.nodes * self.cores))
        return min(rounds * self.events / self.shards, self.events) * self.seconds_per_event / 3600


def plan(experiment: Experiment, source: str = "", nodes: int = 1, cores: int | None = None) -> Plan:
    """Calibrate here and work out the rest. `source`: simulate or ingest; empty: ingest where it has channels.

    Raises `InputError` as the stage itself would.
    """
    if nodes < 1 or (cores is not None and cores < 1):
        raise InputError(f"--nodes {nodes} --cores {cores}: at least 1 each")
    layout, size, files = measure(experiment, source)
    return Plan(
        events=layout.events,
        shards=layout.shards,
        bytes=size,
        files=files,
        seconds_per_event=_calibrate(experiment, source or _source(experiment)),
        nodes=nodes,
        cores=cores or available_cpus(),
    )


def measure(experiment: Experiment, source: str = "") -> tuple[store.Layout, int, int]:
    """Layout, bytes and files of the dataset, without calibration. Raises `InputError` as the stage would."""
    recipe, _ = prepare(experiment.model_dump_json(), source or _source(experiment))
    arrays = store_arrays(experiment, recipe)
    layout = store.choose_layout(recipe.events, arrays, experiment.store.chunk_mb, experiment.store.shard_mb)
    size = layout.shards * layout.shard * sum(array.event_bytes for array in arrays.values())
    coordinates = 1 if experiment.qplot.window == "loudest" else COORDINATES
    return layout, size, count_files(layout, arrays, coordinates, recipe.notes)


def _source(experiment: Experiment) -> str:
    ingest = experiment.ingest
    return "ingest" if ingest.channels or ingest.series_from or ingest.qplots_from else "simulate"


def count_files(layout: store.Layout, arrays: dict[str, store.Array], coordinates: int, notes: object) -> int:
    """Files and directories of a finished store, itself included."""
    per_shard = sum(max(1, len(array.shape) + 1) for array in arrays.values())  # c/7/0/0/0: an axis, a level
    markers = layout.shards + 1
    fixed = 2 + 3 * len(arrays) + 4 * coordinates  # root and its zarr.json; name/, zarr.json, c/; a file c/0
    return layout.shards * per_shard + markers + fixed + (2 if notes else 0)


def _calibrate(experiment: Experiment, source: str) -> float:
    """Seconds a core needs for an event, all CPUs at work."""
    return mean(on_every_cpu(experiment.cluster, _time_events, experiment.model_dump_json(), source, SECONDS))


def _time_events(experiment_json: str, source: str, seconds: float) -> float:
    """Seconds per event, made as a shard's are."""
    threads(1)
    experiment = Experiment.model_validate_json(experiment_json)
    recipe, engine = prepare(experiment_json, source)
    count, started = 0, time.perf_counter()
    while not count or time.perf_counter() - started < seconds:
        indices = range(count % recipe.events, min(count % recipe.events + BLOCK, recipe.events))
        make_block(experiment, recipe, engine, indices)
        count += len(indices)
    return (time.perf_counter() - started) / count


def describe(experiment: Experiment, found: Plan) -> str:
    """The plan in words, with a warning for each quota that it passes."""
    gigabytes, settings = found.bytes / 1e9, experiment.store
    lines = [
        f"{found.events} events in {found.shards} shards, {gigabytes:.2f} GB, {found.files} files and directories",
        f"{found.core_hours:.2f} core-hours ({found.seconds_per_event * 1e3:.1f} ms an event on a core)",
        f"{_duration(found.hours)} on {found.nodes} node(s) of {found.cores} core(s)",
    ]
    if settings.quota_gb is not None and gigabytes > settings.quota_gb:
        lines.append(f"warning: {gigabytes:.2f} GB is beyond store.quota_gb = {settings.quota_gb:g}")
    if settings.quota_files is not None and found.files > settings.quota_files:
        lines.append(
            f"warning: {found.files} files and directories are beyond store.quota_files = {settings.quota_files};"
            f" a larger store.shard_mb than {settings.shard_mb:g} makes fewer"
        )
    return "\n".join(lines)


def _duration(hours: float) -> str:
    seconds = hours * 3600
    return (
        f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min" if hours < 2 else f"{hours:.1f} h"
    )
