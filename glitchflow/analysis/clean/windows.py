"""Cleaning window by window: what each event's window removes, at the rate of the file that it was cut from.

    1. masks, estimated series, or a method's --removed.py--> what windows remove, at the dataset's rate
    2. windows that overlap share what they remove, so that one fades into the next
    3. at the recorded file's own rate, tapered into the treated windows, subtracted in float64

Shapes: E event, N sample of an event's series, M sample of a file.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from glitchflow.analysis.clean.files import Stretch, read_piece, write
from glitchflow.analysis.clean.removed import Job, removed_of, strain_of
from glitchflow.analysis.clean.seconds import NOT_CHOSEN, Row, parts, rms, rows
from glitchflow.analysis.clean.tasks import Tasks, over
from glitchflow.score.mask import upsample
from glitchflow.signal.recorded.frames import Piece, pieces
from glitchflow.signal.recorded.row import grid_offset
from glitchflow.signal.types import Array, Indices
from glitchflow.twin.estimate import Shown, shown_of


def clean_windows(job: Job, channel: str, form: str, directory: Path, tasks: Tasks) -> int:
    """Write every file that windows lie in, cleaned; return how many windows lost anything."""
    files = _reached(job) if job.source else []
    order = np.argsort(job.windows.series, kind="stable")  # of synthetic events

    def clean(lot: range, where: Path) -> set[int]:
        some = slice(lot.start, lot.stop)
        stretches = _recorded(job, files[some]) if job.source else _events(job, order[some])
        return _clean_stretches(job, stretches, channel, form, where)

    begin = job.windows.series[order]
    made = np.stack([begin, begin + job.run.dataset.config.series.duration], axis=1).tolist()
    spans = [(piece.start, piece.stop) for piece in files] if job.source else made
    return len(set[int]().union(*over(clean, spans, directory, tasks)))


def _clean_stretches(
    job: Job, stretches: Iterable[Stretch], channel: str, form: str, directory: Path
) -> set[int]:
    """Write some stretches, cleaned; returns the places of the windows that lost anything."""
    treated, block = set[int](), job.estimator.block
    with rows(directory) as tell:
        for stretch in stretches:
            values = stretch.values.copy()
            for first in range(0, len(stretch.places), block):
                treated |= _subtract(job, stretch.places[first : first + block], stretch, values)
            write({channel: values}, stretch, directory, form)
            tell(_seconds(job, stretch, stretch.values - values))
    return treated


def _seconds(job: Job, stretch: Stretch, removed: Array) -> Iterator[Row]:
    """Rows of `seconds.csv`."""
    start, stop = (times[stretch.places] for times in (job.windows.start, job.windows.stop))
    for second, part in parts(stretch):
        shown = np.minimum(stop, second + 1) - np.maximum(start, second)
        taken = bool(removed[part].any())
        why = "" if taken else "nothing to remove" if (shown > 0).any() else NOT_CHOSEN
        yield second, int(taken), rms(removed[part]), why


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


def _reached(job: Job) -> list[Piece]:
    """The files that a window reaches into."""
    assert job.source is not None
    return [piece for piece in pieces(job.source) if len(_inside(job, piece))]


def _inside(job: Job, piece: Piece) -> Indices:
    """The places of the windows that may reach into a file."""
    windows, settle = job.windows, job.estimator.settle
    return np.flatnonzero((windows.start - settle < piece.stop) & (windows.stop + settle > piece.start))


def _recorded(job: Job, files: Iterable[Piece]) -> Iterator[Stretch]:
    """The strain of some files, with the windows in each."""
    assert job.source is not None
    for piece in files:
        yield read_piece(job.source, piece, _inside(job, piece))


def _events(job: Job, some: Indices) -> Iterator[Stretch]:
    """The series of synthetic events at some places; read by as many as a chunk of the store holds."""
    size, rate = job.run.dataset.layout.chunk, job.run.dataset.config.series.sample_rate
    for first in range(0, len(some), size):
        places = some[first : first + size]
        places = places[np.argsort(job.windows.events[places])]
        for place, values in zip(places.tolist(), strain_of(job, places)):
            gps = float(job.windows.series[place])
            yield Stretch(gps, rate, values, "strain", False, places=np.array([place]))
