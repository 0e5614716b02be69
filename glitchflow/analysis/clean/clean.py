"""Cleaned strain and veto segments over the original time span: what the network generates is subtracted.

    1. each event's generated energies -> a gain mask -> what it removes from the strain, at the dataset's rate
    2. overlapping windows share what they remove, so that one fades into the next
    3. at the recorded file's own rate, tapered into the treated windows, subtracted in float64
    4. a file of cleaned strain for each file that was read (synthetic: for each event), and the vetoes

Shapes: E event, N sample of an event's series, M sample of a file, F frequency and T time of a Q-plot.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.analysis.clean import veto_segments as veto
from glitchflow.analysis.clean.subtraction import Twin, noise, open_twin
from glitchflow.config import Experiment
from glitchflow.config.sections import Source
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError, RunError
from glitchflow.progress import say, track
from glitchflow.score.mask import Shown, overlap_share, removal_mask, upsample
from glitchflow.signal.recorded.events import first_sample, read_channel
from glitchflow.signal.recorded.frames import pieces, read_stretch

Array = NDArray[np.float64]
SUFFIX = "_CLEAN"
FRAME = ".gwf"


@dataclass(frozen=True)
class Windows:
    """The events that are cleaned, by the time their Q-plots begin; all (E,), times in GPS s."""

    events: NDArray[np.int64]
    series: Array  # where the event's series begins
    start: Array  # where its Q-plot begins
    stop: Array


@dataclass(frozen=True)
class Stretch:
    """Strain without a gap, in the file it came from or as one event's series."""

    gps: float  # of the first sample
    sample_rate: float
    values: Array  # (M,)
    unit: str
    frame: bool  # whether it was read from GWF
    events: NDArray[np.int64]  # places among the windows of those that may reach into it


def clean(experiment: Experiment, overwrite: bool = False) -> Path:
    """Write `workdir/clean` and return its path.

    Raises `InputError` where a store or the strain is missing, and where `clean` is there and not to be overwritten.
    """
    directory = Path(experiment.workdir) / "clean"
    if directory.exists() and not overwrite:
        raise InputError(f"{directory}: is there already; --overwrite it")
    twin = open_twin(experiment)
    windows = find_windows(experiment, twin)
    partial = directory.with_name("clean.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    treated = _clean_strain(experiment, twin, windows, partial)
    found = veto.find_vetoes(experiment, twin, np.sort(windows.events))
    name = f"{twin.dataset.channels[0].partition(':')[0]}:{experiment.veto.tag}:{experiment.veto.version}"
    veto.write_flag(veto.as_flag(found, name), partial)
    facts = {
        "channel": twin.dataset.channels[0] + SUFFIX,
        "mask": {"threshold": experiment.clean.threshold},
        "windows": len(windows.events),
        "treated": treated,
        "veto": {"flag": name, "threshold": experiment.evaluate.veto, "segments": len(found.active)},
        "deadtime": None if math.isnan(found.deadtime) else found.deadtime,
        "predictions": twin.predictions.attributes["checkpoints"],
    }
    (partial / "clean.json").write_text(json.dumps(facts, indent=1))
    if directory.exists():
        shutil.rmtree(directory)
    partial.rename(directory)
    say(f"{treated} of {len(windows.events)} windows treated, deadtime of the vetoes {found.deadtime:.2%}")
    return directory


def find_windows(experiment: Experiment, twin: Twin) -> Windows:
    """The usable events of `clean.split`, and when they are. Raises `InputError` where there are none."""
    split, chosen = np.asarray(twin.dataset["split"][:]), experiment.clean.split
    wanted = split != store.SKIPPED if chosen == "all" else split == store.SPLITS.index(chosen)
    events = np.flatnonzero(wanted)
    if not len(events):
        raise InputError(f"clean.split = {chosen}: {twin.dataset.path} has no usable event in it")
    series = np.asarray(twin.dataset["gps"][:])[events] - twin.made.series.duration / 2
    shown = twin.shown(int(events[0]))
    edges = np.array([[shown.start, shown.stop]] * len(events))
    if "time0" in twin.dataset:
        edges = np.array([[s.start, s.stop] for s in map(twin.shown, events.tolist())])
    start, stop = edges.T + series
    order = np.argsort(start, kind="stable")
    return Windows(events[order], series[order], start[order], stop[order])


def _clean_strain(experiment: Experiment, twin: Twin, windows: Windows, directory: Path) -> int:
    """Write every cleaned stretch; returns how many windows lost anything."""
    treated: set[int] = set()
    with track(len(windows.events), "cleaning", "windows") as advance:
        for stretch in _stretches(experiment, twin, windows):
            values = stretch.values.copy()
            for first in range(0, len(stretch.events), twin.block):
                places = stretch.events[first : first + twin.block]
                treated |= _subtract(experiment, twin, windows, places, stretch, values)
                advance(len(places))
            _write(experiment, twin.dataset.channels[0] + SUFFIX, stretch, values, directory)
    return len(treated)


def _subtract(
    experiment: Experiment,
    twin: Twin,
    windows: Windows,
    places: NDArray[np.int64],
    stretch: Stretch,
    values: Array,
) -> set[int]:
    """Subtract from the values (M,) of a stretch what the windows at `places` remove; those that remove anything."""
    order = np.argsort(windows.events[places])
    places = places[order]
    events = windows.events[places]
    mask = removal_mask(twin.generated(events), experiment.clean.threshold)
    busy = mask.any(axis=(1, 2))
    places, events, mask = places[busy], events[busy], mask[busy]
    if not len(events):
        return set()
    shown = [twin.shown(event) for event in events.tolist()]
    for i, (place, one) in enumerate(zip(places.tolist(), shown)):
        mask[i] *= overlap_share(windows.start, windows.stop, place, one.time + windows.series[place])
    strain = np.stack([_strain(experiment, twin, windows, place) for place in places.tolist()])
    for place, one, removed in zip(places.tolist(), shown, noise(twin, events, strain, mask)):
        _place(experiment, twin, windows, place, one, removed, stretch, values)
    return set(places.tolist())


def _strain(experiment: Experiment, twin: Twin, windows: Windows, place: int) -> Array:
    """The strain (N,) of an event as its Q-plot was made from it."""
    series = twin.made.series
    if "series" in twin.dataset:
        return twin.strain(int(windows.events[place]))
    source = _source(experiment, twin)
    return read_channel(source, float(windows.series[place]), series.duration, series.sample_rate)


def _place(
    experiment: Experiment,
    twin: Twin,
    windows: Windows,
    place: int,
    shown: Shown,
    removed: Array,
    stretch: Stretch,
    values: Array,
) -> None:
    """Subtract what one window removes, (N,) at the dataset's rate, at the samples of a stretch."""
    series, settle = twin.made.series, twin.made.whiten.settle
    begin = float(windows.series[place])
    if twin.dataset.attributes["recorded"] and stretch.sample_rate != series.sample_rate:
        begin = first_sample(_source(experiment, twin), begin, series.duration, series.sample_rate)
    first = math.ceil((begin - stretch.gps) * stretch.sample_rate - 1e-3)  # of the stretch, in the series
    delay = stretch.gps + first / stretch.sample_rate - begin
    fine = upsample(removed, series.duration, stretch.sample_rate, delay)
    fine = fine * shown.taper(np.arange(len(fine)) / stretch.sample_rate + delay, settle)
    low, high = max(first, 0), min(first + len(fine), len(values))
    inside = np.flatnonzero(fine[low - first : high - first])
    if len(inside):
        touched = slice(low + inside[0], low + inside[-1] + 1)
        values[touched] -= fine[touched.start - first : touched.stop - first]


# -- the strain as it was recorded -------------------------------------------------------------------------------


def _stretches(experiment: Experiment, twin: Twin, windows: Windows) -> Iterator[Stretch]:
    """Every stretch of strain that a window lies in."""
    dataset, series = twin.dataset, twin.made.series
    if not dataset.attributes["recorded"]:
        if "series" not in dataset:
            raise InputError(f"{dataset.path}: has no series to clean; generate it with store.series=float32")
        for place in range(len(windows.events)):
            values = _strain(experiment, twin, windows, place)
            where = float(windows.series[place])
            yield Stretch(where, series.sample_rate, values, "strain", False, np.array([place]))
        return
    source, settle = _source(experiment, twin), twin.made.whiten.settle
    for piece in pieces(source):
        reach = (windows.start - settle < piece.stop) & (windows.stop + settle > piece.start)
        if reach.any():
            data = read_stretch(source, piece.start, piece.stop)
            yield Stretch(
                float(data.t0.value),
                float(data.sample_rate.value),
                np.asarray(data.value, dtype=np.float64),
                str(data.unit),
                piece.path.endswith(FRAME),
                np.flatnonzero(reach),
            )


def _source(experiment: Experiment, twin: Twin) -> Source:
    """Where the strain was recorded: as the configuration says now, files may have moved."""
    name = twin.dataset.channels[0]
    for source in (*experiment.ingest.channels, *twin.made.ingest.channels):
        if source.name == name:
            return source
    raise InputError(f"ingest.channels: does not name {name}, the strain of {twin.dataset.path}")


def _write(experiment: Experiment, channel: str, stretch: Stretch, values: Array, directory: Path) -> None:
    """One file of cleaned strain, named as LIGO-T010150 asks: detector, description, GPS start, whole seconds."""
    from gwpy.timeseries import TimeSeries

    frame = stretch.frame if not experiment.clean.format else experiment.clean.format == "gwf"
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
    try:
        series.write(path, **options)
    except ImportError as error:
        raise RunError(
            f"{path}: no library here writes GWF ({error}); install the extra [gwf], or clean.format=hdf5"
        ) from None
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error}") from None
