"""Cleaned strain and veto segments over the original time span: what the network generates is subtracted.

    recorded files, a coherent twin    --line.py--> the whole time line, block by block
    windows, whatever says what to do  --windows.py--> each event's window
    --files.py--> a file of cleaned strain for each file that was read (synthetic: for each event); and the vetoes

Shapes: M sample of a file.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from igwn_segments import segment, segmentlist

from glitchflow.analysis import truth
from glitchflow.analysis.clean import veto_segments as veto
from glitchflow.analysis.clean.groups import find_groups
from glitchflow.analysis.clean.line import clean_line, open_line
from glitchflow.analysis.clean.memory import along, by_masks, by_method, by_series, longest_file
from glitchflow.analysis.clean.removed import Job
from glitchflow.analysis.clean.seconds import summary
from glitchflow.analysis.clean.tasks import Tasks
from glitchflow.analysis.clean.verdict import judge, refuse
from glitchflow.analysis.clean.windows import clean_windows
from glitchflow.analysis.opened import (
    Opened,
    Windows,
    check_whole,
    open_run,
    sources_of,
    strain_source,
    windows_of,
)
from glitchflow.cluster import joins
from glitchflow.config import Clean, Evaluate, Experiment, Source
from glitchflow.data import lease, objects, store
from glitchflow.data.memory import Memory, Shape
from glitchflow.errors import InputError
from glitchflow.methods.compare import fit_method
from glitchflow.methods.method import Fit
from glitchflow.methods.table import NETWORK
from glitchflow.progress import say
from glitchflow.score import segments
from glitchflow.score.statistics import Bootstrap
from glitchflow.score.table import plain
from glitchflow.signal.recorded.frames import coverage
from glitchflow.signal.recorded.recording import open_recording, read_channel
from glitchflow.signal.recorded.segments import usable_time
from glitchflow.signal.types import Array
from glitchflow.train import checkpoint
from glitchflow.twin.estimate import estimator_of
from glitchflow.twin.step import stepper

SUFFIX, NOISE = "_CLEAN", "_NOISE"


@joins
def clean(experiment: Experiment, overwrite: bool = False, force: bool = False) -> Path:
    """Write `workdir/clean` and return its path.

    Raises `InputError` where a store or the strain is missing, where `clean` is there and not to be overwritten, and
    where validation says that the network does harm, unless that is forced.
    """
    directory, settings = Path(experiment.workdir) / "clean", experiment.clean
    if directory.exists() and not overwrite:
        raise InputError(f"{directory}: is there already; --overwrite it")
    interval = Bootstrap(experiment.seed, experiment.evaluate.bootstrap)
    run = open_run(experiment)
    estimator = estimator_of(run.dataset)  # raises for a dataset that never had a strain
    windows = find_windows(run, settings.split)
    source = strain_source(run.dataset, experiment.ingest.channels)
    if source is None and "series" not in run.dataset:
        raise InputError(f"{run.dataset.path}: has no series to clean; generate it with store.series=float32")
    # before hours of cleaning, not after
    known = truth.open_truth(
        run.dataset, experiment.ingest.channels, experiment.evaluate.truth, experiment.harm
    )
    series = run.dataset.config.series
    recording = open_recording([source], series, windows.series) if source else None
    method = _method(run, settings, experiment.evaluate)
    judged = None if method or force else judge(run, settings.threshold, experiment.evaluate, interval)
    refuse(judged, run.network)
    job = Job(run, estimator, windows, source, recording, settings.threshold, method)
    made = directory.with_name("clean.partial")  # beside the old one, whose place it takes at the end
    with lease.hold(directory) as still_mine:
        objects.wipe(made)  # what a run that was killed left
        objects.make_directory(made)
        treated = _written(job, experiment, made, still_mine)
        found = veto.find_vetoes(run, np.sort(windows.events), experiment.evaluate, experiment.veto)
        name = f"{run.dataset.channels[0].partition(':')[0]}:{experiment.veto.tag}:{experiment.veto.version}"
        veto.write_flag(found, name, made)
        facts = {
            **_about(run, settings, len(windows.events)),
            "treated": treated,
            **summary(made),
            "validation": judged and asdict(judged),
            "veto": {"flag": name, "threshold": experiment.evaluate.veto, "segments": len(found.active)},
            "deadtime": None if math.isnan(found.deadtime) else found.deadtime,
        }
        (made / "clean.json").write_text(json.dumps(facts, indent=1))
        if known:
            measured = {"stretch": plain(_measured(known, made, found, interval))}
            (made / "metrics.json").write_text(json.dumps(measured, indent=1))
        still_mine()
        objects.replace(made, directory)
    say(f"{treated} of {len(windows.events)} windows treated, deadtime of the vetoes {found.deadtime:.2%}")
    return directory


def _about(run: Opened, settings: Clean, windows: int) -> dict[str, Any]:
    """What is cleaned, by what."""
    return {
        "channel": run.dataset.channels[0] + SUFFIX,
        "method": settings.method,
        "mask": {"threshold": settings.threshold},
        "predictions": run.predictions.attributes["checkpoints"],
        "windows": windows,
    }


def _written(job: Job, experiment: Experiment, directory: Path, check: Callable[[], None]) -> int:
    """Write the files of cleaned strain; return how many windows lost anything."""
    settings, windows, channel = experiment.clean, job.windows, job.run.dataset.channels[0]
    share = partial(Tasks, experiment.cluster, check)
    if job.source is None or job.method or not job.run.subtracts:
        if settings.groups:
            raise InputError(
                "clean.groups = true: of a coherent network on recorded files alone parts are known"
            )
        needed, channels = _windows_memory(job)
        return clean_windows(job, channel + SUFFIX, settings.format, directory, share(needed.total, channels))
    trained = checkpoint.open_checkpoint(job.run.network).trained()
    steps = stepper(trained, settings.block, settings.settle, "clean")
    names = [channel + SUFFIX, channel + NOISE]
    if settings.groups:
        groups = find_groups(trained, experiment.evaluate.groups)
        steps = replace(steps, groups=torch.stack(list(groups.values())))
        names += [f"{channel}{NOISE}_{name}" for name in groups]
    sources = sources_of(job.run.dataset, experiment.ingest.channels, steps.front.channels)
    spans = segments.joined(np.stack([windows.start, windows.stop], axis=1))
    if settings.split == "all":
        covered = segmentlist(segment(*span) for span in coverage(job.source))
        ingest = experiment.ingest if experiment.ingest.channels else job.run.dataset.config.ingest
        spans = covered.coalesce() & usable_time(ingest)
    line = open_line(steps, sources, spans)
    times = steps.front.rate, steps.crop
    needed = along(settings, trained.kind, len(sources), times, longest_file(job.source), len(names) - 2)
    tasks = share(needed.total, len(sources))
    cleaned = clean_line(line, job.source, names, settings.format, directory, tasks)
    edges = segments.ends(cleaned)
    return int(sum(((windows.start < stop) & (windows.stop > start)).sum() for start, stop in edges))


def _windows_memory(job: Job) -> tuple[Memory, int]:
    """What a task holds that cleans window by window, and how many channels it reads for it."""
    shape = Shape.stored(job.run.dataset)
    longest = longest_file(job.source) if job.source else shape.samples
    if job.method:
        channels = 1 + len(job.method.witnesses)
        return by_method(shape, Memory({}), NETWORK, channels, longest), channels
    if job.run.subtracts:
        return by_series(shape, longest), 1
    return by_masks(shape, job.source is not None, longest), 1


def _method(run: Opened, settings: Clean, lengths: Evaluate) -> Fit | None:
    """What is subtracted in the network's place; None where that is the network's."""
    if settings.method == NETWORK:
        return None
    return fit_method(run.dataset, run.basis, settings.method, settings.threshold, lengths)


def _measured(
    stretch: truth.Stretch, directory: Path, found: veto.Vetoes, interval: Bootstrap
) -> dict[str, Any]:
    """What the files of cleaned strain, and the vetoes, did to a stretch."""
    cleaned = Source(name=stretch.recorded.name + SUFFIX, files=[f"{directory}/{truth.FRAMES}"])

    def left(strain: Array, first: int) -> dict[str, Array]:
        return {NETWORK: read_channel(cleaned, first, len(strain) / stretch.rate, stretch.rate)}

    spans = truth.spans_of(coverage(cleaned), found.known)
    columns = {span: truth.second_by_second(stretch, left, span) for span in spans}
    return truth.measure(stretch, columns, found.known, {NETWORK: found.active}, interval)[NETWORK]


def find_windows(run: Opened, chosen: str) -> Windows:
    """Find the usable events of `clean.split`, and their times.

    Raises `InputError` where there are none, or where nothing was predicted of some.
    """
    dataset = run.dataset
    if chosen in ("all", "train"):
        check_whole(run.predictions, f"clean.split = {chosen}", "; clean.split=test cleans what was scored")
    split = np.asarray(dataset["split"][:])
    wanted = split != store.SKIPPED if chosen == "all" else split == store.SPLITS.index(chosen)
    events = np.flatnonzero(wanted)
    if not len(events):
        raise InputError(f"clean.split = {chosen}: {dataset.path} has no usable event in it")
    return windows_of(dataset, events)
