"""Cleaned strain and veto segments over the original time span: what the network generates is subtracted.

    1. each event's generated energies -> a gain mask -> what it removes from the strain, at the dataset's rate
    2. overlapping windows share what they remove, so that one fades into the next
    3. at the recorded file's own rate, tapered into the treated windows, subtracted in float64
    4. a file of cleaned strain for each file that was read (synthetic: for each event), and the vetoes

Shapes: E event, N sample of an event's series, M sample of a file, F frequency and T time of a Q-plot.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from glitchflow.analysis import truth
from glitchflow.analysis.clean import veto_segments as veto
from glitchflow.analysis.clean.removed import Job, Stretch, removed_of, strain_of
from glitchflow.analysis.opened import Opened, Windows, open_run, strain_source, windows_of
from glitchflow.config import Clean, Evaluate, Experiment, Source
from glitchflow.data import lease, objects, store
from glitchflow.data.build import BASE_MEMORY
from glitchflow.data.frames import said
from glitchflow.data.memory import ENCODING, Memory, Shape
from glitchflow.errors import InputError
from glitchflow.methods.compare import fit_method
from glitchflow.methods.method import Fit
from glitchflow.methods.table import NETWORK
from glitchflow.progress import say, track
from glitchflow.score.mask import upsample
from glitchflow.score.statistics import Bootstrap
from glitchflow.score.table import plain
from glitchflow.signal.recorded.frames import coverage, pieces, read_file
from glitchflow.signal.recorded.recording import RAW, STRETCH, open_recording, read_channel
from glitchflow.signal.recorded.row import grid_offset
from glitchflow.signal.recorded.samples import read_samples
from glitchflow.signal.types import Array, Indices
from glitchflow.twin.estimate import PIECE, Shown, estimator_of, shown_of

SUFFIX = "_CLEAN"
FRAME = ".gwf"
COPIES = 5  # of a file's strain: as read, cleaned, and what writing it makes of it
TILES = (
    24  # numbers for each sample of the windows at work: complex tiles of all rows, masked, and their inverse
)


def clean(experiment: Experiment, overwrite: bool = False) -> Path:
    """Write `workdir/clean` and return its path.

    Raises `InputError` where a store or the strain is missing, and where `clean` is there and not to be overwritten.
    """
    directory, settings = Path(experiment.workdir) / "clean", experiment.clean
    if directory.exists() and not overwrite:
        raise InputError(f"{directory}: is there already; --overwrite it")
    interval = Bootstrap(experiment.seed, experiment.evaluate.bootstrap)
    run = open_run(experiment)
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
    job = Job(run, estimator_of(run.dataset), windows, source, recording, settings.threshold, method)
    partial = directory.with_name("clean.partial")  # beside the old one, whose place it takes at the end
    with lease.hold(directory) as still_mine:
        objects.wipe(partial)  # what a run that was killed left
        objects.make_directory(partial)
        treated = _clean_strain(job, settings.format, partial)
        found = veto.find_vetoes(run, np.sort(windows.events), experiment.evaluate, experiment.veto)
        name = f"{run.dataset.channels[0].partition(':')[0]}:{experiment.veto.tag}:{experiment.veto.version}"
        veto.write_flag(found, name, partial)
        facts = {
            "channel": run.dataset.channels[0] + SUFFIX,
            "method": settings.method,
            "mask": {"threshold": settings.threshold},
            "windows": len(windows.events),
            "treated": treated,
            "veto": {"flag": name, "threshold": experiment.evaluate.veto, "segments": len(found.active)},
            "deadtime": None if math.isnan(found.deadtime) else found.deadtime,
            "predictions": run.predictions.attributes["checkpoints"],
        }
        (partial / "clean.json").write_text(json.dumps(facts, indent=1))
        if known:
            measured = {"stretch": plain(_measured(known, partial, found, interval))}
            (partial / "metrics.json").write_text(json.dumps(measured, indent=1))
        still_mine()
        objects.replace(partial, directory)
    say(f"{treated} of {len(windows.events)} windows treated, deadtime of the vetoes {found.deadtime:.2%}")
    return directory


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


def cleaning(shape: Shape, recorded: bool, longest: int) -> Memory:
    """Project what cleaning holds, which works by itself: file after file, some windows at once.

    longest: samples of the strain's longest file; of synthetic events, of one.
    """
    read = STRETCH + 2 * RAW if recorded and not shape.kept_samples else 0
    return Memory(
        {
            "Python and libraries": BASE_MEMORY,
            "windows as recorded": read + (shape.read("series", 1) if shape.kept_samples else 0),
            "predictions": 4 * ENCODING * shape.shard * shape.image,
            "a file": COPIES * 8 * longest,
            "windows at work": TILES * 8 * PIECE,
        }
    )


def longest_file(source: Source) -> int:
    """Count the samples of the longest file of a channel. Raises `InputError` where it cannot be read."""
    piece = max(pieces(source), key=lambda piece: piece.stop - piece.start)
    name = source.channel or source.name
    found = read_samples(piece.path, source.format, [name], piece.start, piece.start + 1)[name]
    if isinstance(found, str):
        raise InputError(f"ingest.channels {source.name}: {piece.path} cannot be read: {found}")
    return round(found.rate * (piece.stop - piece.start))


def find_windows(run: Opened, chosen: str) -> Windows:
    """Find the usable events of `clean.split`, and their times. Raises `InputError` where there are none."""
    dataset = run.dataset
    split = np.asarray(dataset["split"][:])
    wanted = split != store.SKIPPED if chosen == "all" else split == store.SPLITS.index(chosen)
    events = np.flatnonzero(wanted)
    if not len(events):
        raise InputError(f"clean.split = {chosen}: {dataset.path} has no usable event in it")
    return windows_of(dataset, events)


def _clean_strain(job: Job, form: str, directory: Path) -> int:
    """Write every cleaned stretch; returns how many windows lost anything."""
    treated: set[int] = set()
    channel, block = job.run.dataset.channels[0] + SUFFIX, job.estimator.block
    with track(len(job.windows.events), "cleaning", "windows") as advance:
        for stretch in _stretches(job):
            values = stretch.values.copy()
            for first in range(0, len(stretch.places), block):
                places = stretch.places[first : first + block]
                treated |= _subtract(job, places, stretch, values)
                advance(len(places))
            frame = form == "gwf" if form else stretch.frame
            _write(channel, stretch, values, directory, frame)
    return len(treated)


def _subtract(job: Job, places: Indices, stretch: Stretch, values: Array) -> set[int]:
    """Subtract from the values (M,) of a stretch what the windows at `places` remove; those that remove anything."""
    windows = job.windows
    places = places[np.argsort(windows.events[places])]
    shown = shown_of(job.run.dataset, windows.events[places])
    treated = set()
    for place, one, removed in zip(places.tolist(), shown, removed_of(job, places, shown, stretch)):
        if removed.any():
            _place(job, place, one, removed, stretch, values)
            treated.add(place)
    return treated


def _place(job: Job, place: int, shown: Shown, removed: Array, stretch: Stretch, values: Array) -> None:
    """Subtract what one window removes, (N,) at the dataset's rate, at the samples of a stretch."""
    series, settle = job.run.dataset.config.series, job.estimator.settle
    begin = float(job.windows.series[place])
    if job.source:
        begin += grid_offset(stretch.gps, stretch.sample_rate)
    # of the stretch, in the series; a thousandth of a sample is what GPS times in double precision may be off by
    first = math.ceil((begin - stretch.gps) * stretch.sample_rate - 1e-3)
    delay = stretch.gps + first / stretch.sample_rate - begin
    fine = upsample(removed, series.duration, stretch.sample_rate, delay)
    fine = fine * shown.taper(np.arange(len(fine)) / stretch.sample_rate + delay, settle)
    low, high = max(first, 0), min(first + len(fine), len(values))
    inside = np.flatnonzero(fine[low - first : high - first])
    if len(inside):
        touched = slice(low + inside[0], low + inside[-1] + 1)
        values[touched] -= fine[touched.start - first : touched.stop - first]


# -- the strain as it was recorded -------------------------------------------------------------------------------


def _stretches(job: Job) -> Iterator[Stretch]:
    """Every stretch of strain that a window lies in."""
    windows, settle = job.windows, job.estimator.settle
    if job.source is None:
        yield from _events(job)
        return
    for piece in pieces(job.source):
        reach = (windows.start - settle < piece.stop) & (windows.stop + settle > piece.start)
        if reach.any():
            data = read_file(job.source, piece.path)
            yield Stretch(
                data.start,
                data.rate,
                data.values.astype(np.float64, copy=False),
                data.unit,
                piece.path.endswith(FRAME),
                np.flatnonzero(reach),
            )


def _events(job: Job) -> Iterator[Stretch]:
    """The series of every synthetic event; read by as many as a chunk of the store holds."""
    size, rate = job.run.dataset.layout.chunk, job.run.dataset.config.series.sample_rate
    for first in range(0, len(job.windows.events), size):
        places = np.arange(first, min(first + size, len(job.windows.events)))
        places = places[np.argsort(job.windows.events[places])]
        for place, values in zip(places.tolist(), strain_of(job, places)):
            gps = float(job.windows.series[place])
            yield Stretch(gps, rate, values, "strain", False, np.array([place]))


def _write(channel: str, stretch: Stretch, values: Array, directory: Path, frame: bool) -> None:
    """One file of cleaned strain, named as LIGO-T010150 asks: detector, description, GPS start, whole seconds."""
    from gwpy.timeseries import TimeSeries

    start = math.floor(stretch.gps)
    seconds = math.ceil(stretch.gps + len(values) / stretch.sample_rate - 1e-6) - start
    described = channel.replace(":", "_").replace("-", "_")
    path = directory / f"{channel[0]}-{described}-{start}-{seconds}{FRAME if frame else '.hdf5'}"
    series = TimeSeries(
        values,
        t0=stretch.gps,
        sample_rate=stretch.sample_rate,
        unit=stretch.unit,
        name=channel,
        channel=channel,
    )
    options: dict[str, Any] = {"format": "gwf"} if frame else {"format": "hdf5", "path": channel}
    with said(path, "clean.format"):
        series.write(path, **options)
