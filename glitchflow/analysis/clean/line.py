"""Cleaning by a coherent twin: recorded files of any length, block by block along the time line.

    spans to be cleaned --> blocks on a grid of GPS time --recorded channels at the twin's rate, step.py--> y, w'
    --at a file's own rate, brought in at the ends of spans--> subtracted in float64, file by file

No sample outside of the spans changes. What comes out of a block does not depend on the files or the spans around it,
nor on the task that makes it: each begins as many blocks before its files as a block may know of.

Shapes: R recorded channel, n sample of a block, N sample at the twin's rate, M sample of a file.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from igwn_segments import segment, segmentlist
from scipy.signal import firwin, kaiserord, resample_poly

from glitchflow.analysis.clean.files import Stretch, read_piece, write
from glitchflow.analysis.clean.seconds import NOT_CHOSEN, Row, parts, rms, rows
from glitchflow.analysis.clean.tasks import Tasks, over
from glitchflow.config import Series, Source
from glitchflow.signal.recorded.frames import Piece, pieces
from glitchflow.signal.recorded.recording import Recording, cut, open_recording, whole_seconds
from glitchflow.signal.recorded.row import grid_offset
from glitchflow.signal.types import Array
from glitchflow.twin.front import EDGE
from glitchflow.twin.kind import Kind, together
from glitchflow.twin.step import Step, Stepper, run

ENDS = 0.25  # s over which treatment begins and ends, inside a span
RIPPLE = 100.0  # dB by which interpolation damps what is not in the band
STUCK = 0.125  # s, for a band from 10 Hz, of one value from which strain is none, as the 0 that is written without lock
LOT = 32  # blocks that are read together
SEEN = 8  # crops that the network sees side by side: half the time of one by one, and more bring no more


@dataclass(frozen=True)
class Line:
    """Holds a twin, the time that it cleans, and the recorded channels it reads."""

    steps: Stepper
    spans: segmentlist  # GPS s
    blocks: tuple[int, ...]  # numbers of the blocks that are made, ascending, counted from GPS 0
    recording: Recording  # whose windows are what comes in for each of these


def crops_together(kind: Kind, channels: int, crop: int) -> int:
    """Count the crops, of so many samples, that a network is shown at once: of many channels few have room."""
    return together(kind, channels, crop, SEEN)


def open_line(steps: Stepper, sources: Sequence[Source], spans: segmentlist) -> Line:
    """Lay blocks over the spans, with what has to come before and after them. sources: of the twin's channels."""
    trained = steps.trained
    steps = replace(steps, lot=crops_together(trained.kind, len(steps.front.channels), steps.crop))
    rate, block = steps.front.rate, steps.block
    before, found = steps.warm, set()
    for start, stop in spans:
        first, last = (
            math.floor(edge * rate / block) for edge in (start - reach(steps), stop + reach(steps))
        )
        found |= set(range(first - before, last + 1))
    blocks = tuple(sorted(found))
    series = Series(duration=block / rate, sample_rate=rate)
    starts = (np.array(blocks) * block + steps.settle) / rate
    return Line(steps, spans, blocks, open_recording(sources, series, starts, LOT))


def clean_line(
    line: Line, strain: Source, names: Sequence[str], form: str, directory: Path, tasks: Tasks
) -> segmentlist:
    """Write the files of the strain that spans reach into, cleaned, and what was removed second by second.

    names: of the cleaned channel, of the estimate beside it, and of its parts, where there are any. Returns the time
    that was cleaned.
    """
    found = [
        piece for piece in pieces(strain) if line.spans.intersects_segment(segment(piece.start, piece.stop))
    ]

    def clean(lot: range, where: Path) -> segmentlist:
        return _clean_files(line, strain, [found[place] for place in lot], names, form, where)

    spans = [(piece.start, piece.stop) for piece in found]
    return segmentlist(chain.from_iterable(over(clean, spans, directory, tasks))).coalesce()


def _clean_files(
    line: Line,
    strain: Source,
    files: Sequence[Piece],
    names: Sequence[str],
    form: str,
    directory: Path,
) -> segmentlist:
    """Write some neighbouring files, cleaned; returns the time that was."""
    said, held, cleaned = _said(line, files[0].start), deque[Step](), segmentlist()
    with rows(directory) as tell:
        for stretch in (read_piece(strain, piece) for piece in files):
            begin, end = stretch.gps - reach(line.steps), stretch.stop + reach(line.steps)
            for one in said:
                held.append(one)
                if _stop(line, one) >= end:
                    break
            while held and _stop(line, held[0]) < begin:
                held.popleft()
            weight = weight_of(line.spans, stretch)
            told = [[one.removed, one.estimate, *([] if one.parts is None else one.parts)] for one in held]
            removed, *witnessed = (
                weight * along(line.steps, list(held), [values[k] for values in told], stretch)
                for k in range(len(names))
            )
            channels = dict(zip(names, [stretch.values - removed, *witnessed], strict=True))
            write(channels, stretch, directory, form)
            tell(_seconds(line, list(held), stretch, weight, removed))
            cleaned |= (
                _treated(line, list(held)) & segmentlist([segment(stretch.gps, stretch.stop)]) & line.spans
            )
    return cleaned


def _said(line: Line, start: float) -> Iterator[Step]:
    """What the twin says of every block from a GPS time on, and of some before; it begins anew where blocks do not
    follow each other."""
    steps = line.steps
    wanted = math.floor((start - reach(steps)) * steps.front.rate / steps.block) - steps.past
    for piece in _runs(line.blocks):
        begins = max(piece.start, bisect_left(line.blocks, wanted))
        if begins < piece.stop:
            first = line.blocks[begins] * steps.block + steps.settle
            yield from run(steps, first, (_heard(line, k) for k in range(begins, piece.stop)))


def _runs(blocks: Sequence[int]) -> Iterator[range]:
    """Places of ascending numbers that follow each other."""
    ends = np.flatnonzero(np.diff(blocks) != 1) + 1
    for start, stop in pairwise([0, *ends.tolist(), len(blocks)]):
        yield range(start, stop)


def _heard(line: Line, k: int) -> Array:
    """The samples (R, n) of block k, NaN where there are none, or where they say nothing."""
    values, gaps = cut(line.recording, k)
    values[[c for c, source in enumerate(line.recording.sources) if source.name in gaps]] = np.nan
    return usable(values, line.steps.front.unit)


def usable(values: Array, unit: float) -> Array:
    """Take out of a block (R, n) what says nothing, a channel with gaps or one that is stuck: NaN.

    unit: samples in what is a second for a band from 10 Hz (`Front.unit`).
    """
    silent = ~np.isfinite(values).all(axis=1) | (np.ptp(values, axis=1) == 0)
    silent[0] |= _longest_run(values[0]) > STUCK * unit
    return np.where(silent[:, None], np.nan, values)


def _longest_run(values: Array) -> int:
    """Count the samples of the longest run of one value in (n,)."""
    edges = np.flatnonzero(np.concatenate([[True], np.diff(values) != 0, [True]]))
    return int(np.diff(edges).max())


def _stop(line: Line, one: Step) -> float:
    return (one.start + line.steps.block) / line.steps.front.rate


def _treated(line: Line, said: Sequence[Step]) -> segmentlist:
    """The time of the blocks that something is removed of."""
    rate = line.steps.front.rate
    return segmentlist(segment(one.start / rate, _stop(line, one)) for one in said if one.treated).coalesce()


# -- from the twin's rate to a file's ------------------------------------------------------------------------------


def reach(steps: Stepper) -> float:
    """Return the s on either side of a sample that its interpolation takes samples of."""
    return math.ceil(_order(steps) / 2 + 1) / steps.front.rate


def _order(steps: Stepper) -> int:
    """The samples at the twin's rate that a filter spans which keeps its band, edges too, and damps its images."""
    high = steps.front.band[1] * (1 + EDGE)
    return kaiserord(RIPPLE, 2 * (1 - 2 * high / steps.front.rate))[0]


@lru_cache(maxsize=8)
def _filter(up: int, down: int, order: int) -> Array:
    return firwin(order * up | 1, 1 / max(up, down), window=("kaiser", kaiserord(RIPPLE, 0.5)[1]))


def along(steps: Stepper, said: Sequence[Step], values: Sequence[Array], stretch: Stretch) -> Array:
    """Bring what was said to the samples (M,) of a file, by the values (n,) of each step; 0 where nothing was."""
    rate, whole = steps.front.rate, whole_seconds(steps.front.rate)
    begin = math.floor((stretch.gps - reach(steps)) / whole) * whole
    end = math.ceil((stretch.stop + reach(steps)) / whole) * whole
    first, series = round(begin * rate), np.zeros(round((end - begin) * rate))
    for one, value in zip(said, values, strict=True):
        low, high = max(one.start, first), min(one.start + steps.block, first + len(series))
        if low < high:
            series[low - first : high - first] = value[low - one.start : high - one.start]
    ratio = Fraction(stretch.sample_rate / rate).limit_denominator(2**16)
    up, down = ratio.numerator, ratio.denominator
    if (up, down) != (1, 1):
        series = resample_poly(series, up, down, window=_filter(up, down, _order(steps)))
    place = round((stretch.gps - grid_offset(stretch.gps, stretch.sample_rate) - begin) * stretch.sample_rate)
    return series[place : place + len(stretch.values)]


def weight_of(spans: segmentlist, stretch: Stretch) -> Array:
    """Weigh what is said at the samples (M,) of a file: 1 inside of spans, with ramps inside their ends, 0 outside."""
    middle = (
        stretch.gps + (np.arange(len(stretch.values)) + 0.5) / stretch.sample_rate
    )  # of each sample's time
    found = np.zeros(len(middle))
    for start, stop in spans:
        if start < stretch.stop and stop > stretch.gps:
            inside = np.minimum(middle - start, stop - middle) / min(ENDS, (stop - start) / 2)
            found = np.maximum(found, np.sin(np.pi / 2 * np.clip(inside, 0, 1)) ** 2)
    return found


# -- what is told of it --------------------------------------------------------------------------------------------


def _seconds(
    line: Line, said: Sequence[Step], stretch: Stretch, weight: Array, removed: Array
) -> Iterator[Row]:
    """Rows of `seconds.csv`."""
    rate = line.steps.front.rate
    for second, part in parts(stretch):
        blocks = [one for one in said if one.start / rate < second + 1 and _stop(line, one) > second]
        treated = all(one.treated for one in blocks)
        whole = bool((weight[part] > 0).all()) and treated
        why = _why(blocks) if treated else "a gap in the strain"
        yield second, int(whole), rms(removed[part]), why if weight[part].any() else NOT_CHOSEN


def _why(blocks: Sequence[Step]) -> str:
    """Without which witnesses these blocks are, and what they pass through."""
    silent = sorted({name for one in blocks for name in one.silent})
    passed = sorted({band for one in blocks for band in one.passed})
    words = [f"without {' '.join(silent)}"] * bool(silent)
    words += ["witnesses alone heard a burst"] * any(one.alone for one in blocks)
    return ", ".join([*words, *(f"{low:.3g}-{high:.3g} Hz would be louder" for low, high in passed)])
