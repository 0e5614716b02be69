"""Windows of many recorded channels at one rate, cut from stretches that are read once.

    1. windows that are near each other -> one stretch of time to read
    2. each file of the stretch is opened once for all its channels, and kept while there is room
    3. each channel is resampled over the stretch, and the windows are cut from it

A sample depends on the recorded samples within the length of a filter around it and on nothing else: not on the
stretch, the files it came in, or the windows beside it.

Shapes: E window, C channel, N sample of a window, M sample of a stretch, R recorded sample of a stretch.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from glitchflow.config import Series, Source
from glitchflow.errors import InputError
from glitchflow.signal.recorded.frames import Piece, joined, pieces
from glitchflow.signal.recorded.row import Row, tell_offset
from glitchflow.signal.recorded.samples import Samples, read_samples
from glitchflow.signal.types import Array

_MIB = 2**20
STRETCH = 64 * _MIB  # bytes of a stretch, all channels at the common rate; the newest is kept
RAW = 64 * _MIB  # bytes of recorded samples that are worked on at once, and of decoded files that are kept
UNKNOWN = 16384.0  # Hz that a channel is taken to have before it was read: the fastest there are
SLOWEST = 8.0  # Hz; of a trend once a second or a minute no series of seconds can be made
TREND = 16  # times slower than the common rate, where that is slow itself: below it a channel is one of its trends
LOT = 64  # windows that are read together where nobody says
AGAIN = 0.1  # s until a file that could not be read is read once more
MARGIN = 16  # samples of the slowest rate read beyond each end of a stretch: more than half a filter


class Gap(InputError):
    """Says that the recording has no usable data at a time that was asked for."""


@dataclass(frozen=True)
class Stretch:
    """Holds all channels over a stretch of time. first: of its samples, counted from GPS 0 at the common rate."""

    first: int
    values: Array  # (C, M), NaN where there is nothing
    unread: dict[
        str, list[tuple[float, float, str]]
    ]  # by channel: GPS times that files would cover, and why not

    def holds(self, first: int, last: int) -> bool:
        """Whether the samples from `first` up to `last` lie in it."""
        return self.first <= first and last <= self.first + self.values.shape[1]


@dataclass(frozen=True)
class Recording:
    """Holds channels and the windows that are to be cut from them; what was read last is kept.

    starts: (E,) GPS time of each window's first sample. lot: windows that one task reads; what is read for them is not
    stretched to the windows of others.
    """

    sources: tuple[Source, ...]
    series: Series
    files: tuple[tuple[Piece, ...], ...]  # of each source
    starts: Array
    lot: int
    rates: dict[str, float] = field(default_factory=dict)  # Hz, of the channels that were read already
    decoded: "OrderedDict[tuple[str, str], _Decoded]" = field(default_factory=OrderedDict)  # by path, channel
    kept: list[Stretch] = field(default_factory=list)


@dataclass(frozen=True)
class _Decoded:
    """What came of a channel when a file was asked for some GPS times: samples, or why there are none."""

    start: float
    stop: float
    found: Samples | str


def open_recording(
    sources: Sequence[Source],
    series: Series,
    starts: Sequence[float] | Array,
    lot: int = 0,
    rates: Mapping[str, float] | None = None,
) -> Recording:
    """Lists the files of channels. lot: see `Recording`; 0: nobody knows yet. rates: Hz of the channels, where they are
    known: files are opened for as many channels at once as there is room for, and each is taken to be fast else.

    Raises `InputError` where a pattern matches no file.
    """
    found: dict[tuple[str, ...], tuple[Piece, ...]] = {}
    for source in sources:
        if tuple(source.files) not in found:  # hundreds of channels lie in the same files
            found[tuple(source.files)] = pieces(source)
    files = tuple(found[tuple(source.files)] for source in sources)
    return Recording(tuple(sources), series, files, np.asarray(starts, float), lot or LOT, dict(rates or {}))


def event_start(series: Series, gps: float) -> float:
    """Returns the GPS time of an event's first sample: one of the common rate, so that all channels start together."""
    return round((gps - series.duration / 2) * series.sample_rate) / series.sample_rate


def cut(recording: Recording, window: int) -> tuple[Array, dict[str, str]]:
    """Cuts one window: (C, N) float64, zeros for a channel without data there, and why, by channel.

    A file that cannot be read is a gap, as one that is not there.
    """
    series = recording.series
    first = round(recording.starts[window] * series.sample_rate)
    last = first + series.samples
    if not any(stretch.holds(first, last) for stretch in recording.kept):
        recording.kept.clear()  # before the next is read: there is room for one
        recording.kept.append(_read(recording, *stretch_of(recording, window)))
    stretch = recording.kept[0]
    values = stretch.values[:, first - stretch.first : last - stretch.first].copy()
    bad = ~np.isfinite(values).all(axis=1)
    gaps = {
        recording.sources[c].name: _reason(recording, stretch.unread, c, first, values[c])
        for c in np.flatnonzero(bad).tolist()
    }
    values[bad] = 0
    return values, gaps


def is_read(recording: Recording) -> bool:
    """Says whether every window lies in the stretch that was read last."""
    first, last = np.round(
        recording.series.sample_rate * np.array([recording.starts.min(), recording.starts.max()])
    )
    return any(kept.holds(first, last + recording.series.samples) for kept in recording.kept)


def read_channel(source: Source, start: float, duration: float, sample_rate: float) -> Array:
    """Reads `duration` seconds of one channel from GPS `start`, at `sample_rate` in Hz: (N,) float64.

    For one window alone: `open_recording` and `cut` give the same samples and read what lies together once.
    Raises `Gap` where the files do not cover the time, cannot be read, or have NaN in it.
    """
    series = Series(duration=duration, sample_rate=sample_rate)
    values, gaps = cut(open_recording([source], series, [start]), 0)
    if gaps:
        raise Gap(gaps[source.name])
    return values[0]


def recorded_rates(recording: Recording) -> dict[str, float]:
    """Returns the rate in Hz that each channel was recorded at, from a file that can be read.

    Raises `InputError` for a channel that is in none of its first, middle and last file, or is too slow.
    """
    cut(recording, 0)  # which will be wanted next, and tells most of them
    for source, files in zip(recording.sources, recording.files):
        tries, reason = (files[0], files[len(files) // 2], files[-1]), ""
        beside = [s for s, f in zip(recording.sources, recording.files) if f == files]
        for piece in tries:
            if source.name not in recording.rates:
                lot = [source, *(s for s in beside if s.name not in recording.rates and s is not source)]
                room = max(1, int(RAW / (8 * UNKNOWN * max(1.0, piece.stop - piece.start))))
                found = _decode(recording, piece, lot[:room], piece.start, piece.stop)[0]
                reason = reason or (f"{piece.path} cannot be read: {found}" if isinstance(found, str) else "")
        rate = recording.rates.get(source.name)
        if rate is None:
            raise InputError(f"ingest.channels {source.name}: {reason}")
        slowest = slowest_rate(recording.series)
        if rate < slowest:
            raise InputError(
                f"ingest.channels {source.name}: was recorded at {rate:.4g} Hz, a trend, of which there are no"
                f" Q-plots; leave it out (at least {slowest:g} Hz)"
            )
    return dict(recording.rates)


# -- stretches ---------------------------------------------------------------------------------------------------


def stretch_of(recording: Recording, window: int) -> tuple[int, int]:
    """Returns the first sample and the end, counted from GPS 0, of the stretch that a window is read with.

    The windows of its lot are joined, in the order of time, as long as they lie no further apart than a file is long,
    and so are the files of the strain that they begin and end in, as far as there is room, but for so much of their
    ends that a filter would reach into the next file, which nothing else asks for.
    """
    series, files = recording.series, recording.files[0]
    rate, size = series.sample_rate, series.samples
    lot = slice(window // recording.lot * recording.lot, (window // recording.lot + 1) * recording.lot)
    starts = np.sort(np.round(recording.starts[lot] * rate).astype(np.int64))
    mine = round(recording.starts[window] * rate)
    reach = max(piece.stop - piece.start for piece in files) * rate
    room = max(size, STRETCH // (8 * len(recording.sources)))
    first = last = int(starts[0])
    for start in starts.tolist():
        if start > last + size + reach or start + size - first > room:
            if mine <= last:
                break
            first = start
        last = start
    last += size
    margin = MARGIN / slowest_rate(series)
    begins, ends = {piece.start for piece in files}, {piece.stop for piece in files}
    inside = [p for p in files if p.start * rate < last and p.stop * rate > first]
    wide = (
        min([first, *(math.ceil((p.start + margin * (p.start in ends)) * rate) for p in inside)]),
        max([last, *(math.floor((p.stop - margin * (p.stop in begins)) * rate) for p in inside)]),
    )
    return wide if wide[1] - wide[0] <= room else (first, last)


def _read(recording: Recording, first: int, last: int) -> Stretch:
    """All channels over one stretch."""
    rate, whole = recording.series.sample_rate, whole_seconds(recording.series.sample_rate)
    slowest = slowest_rate(recording.series)
    begin = math.floor((first / rate - MARGIN / slowest) / whole) * whole
    end = math.ceil((last / rate + MARGIN / slowest) / whole) * whole
    values = np.full((len(recording.sources), last - first), np.nan)
    unread: dict[str, list[tuple[float, float, str]]] = {}
    for lot in _lots(recording, end - begin):
        some, rows = [recording.sources[c] for c in lot], dict[int, Row]()
        for piece in recording.files[lot[0]]:
            if piece.start >= end or piece.stop <= begin:
                continue
            for c, source, found in zip(lot, some, _decode(recording, piece, some, begin, end)):
                if isinstance(found, str):
                    reason = f"{piece.path} cannot be read: {found}"
                elif found.rate < slowest:
                    reason = f"{piece.path}: {found.rate:.4g} Hz is too slow"
                elif found.rate != (known := recording.rates[source.name]):
                    reason = f"{piece.path} is sampled at {found.rate:g} Hz, other files at {known:g} Hz"
                else:
                    if c not in rows:
                        # begin where both rates have a sample: a second of 12.5 Hz need not
                        both = math.lcm(whole, whole_seconds(found.rate))
                        rows[c] = Row.empty(begin // both * both, end, found.rate)
                    rows[c].put(found)
                    continue
                unread.setdefault(source.name, []).append((piece.start, piece.stop, reason))
        for c in list(rows):
            values[c] = rows.pop(c).resampled(first, last, rate)
    return Stretch(first, values, unread)


def slowest_rate(series: Series) -> float:
    """Returns the slowest rate in Hz that a channel may have: 8 Hz, or less where the common rate is so slow."""
    return min(SLOWEST, series.sample_rate / TREND)


def whole_seconds(rate: float) -> int:
    """Returns the shortest time in whole seconds that is a whole number of samples at `rate` in Hz."""
    return Fraction(rate).limit_denominator(1000).denominator


def _lots(recording: Recording, seconds: float) -> Iterator[list[int]]:
    """Channels that lie in the same files, as many at once as there is room for."""
    together: dict[tuple[Piece, ...], list[int]] = {}
    for c, files in enumerate(recording.files):
        together.setdefault(files, []).append(c)
    for files, members in together.items():
        longest = max(seconds, *(piece.stop - piece.start for piece in files))
        lot: list[int] = []
        held = 0.0
        for c in members:
            held += (size := 8 * _rate(recording, recording.sources[c]) * longest)
            if lot and held > RAW:
                yield lot
                lot, held = [], size
            lot.append(c)
        yield lot


def _rate(recording: Recording, source: Source) -> float:
    return recording.rates.get(source.name, UNKNOWN)


def _decode(
    recording: Recording, piece: Piece, sources: Sequence[Source], begin: float, end: float
) -> list[Samples | str]:
    """What a file holds of channels over GPS [begin, end) at least, or why it cannot be read.

    The file is opened once for all that are not there yet, and read whole where there is room for that.
    """
    size = 8 * (piece.stop - piece.start) * sum(_rate(recording, source) for source in sources)
    low, high = (piece.start, piece.stop) if size <= RAW else (max(begin, piece.start), min(end, piece.stop))
    there = {s.name: recording.decoded.get((piece.path, s.name)) for s in sources}
    missing = [s for s in sources if (d := there[s.name]) is None or d.start > low or d.stop < high]
    fresh: dict[str, Samples | str] = {}
    for form in dict.fromkeys(source.format for source in missing):
        names = {s.name: s.channel or s.name for s in missing if s.format == form}
        whole = (low, high) == (piece.start, piece.stop)
        wanted = (piece.path, form, [*dict.fromkeys(names.values())], *(() if whole else (low, high)))
        read = read_samples(*wanted)
        if all(
            isinstance(one, str) for one in read.values()
        ):  # the file: its file system may be away for a moment
            time.sleep(AGAIN)
            read = read_samples(*wanted)
        fresh |= {name: read[channel] for name, channel in names.items()}
    for name, one in fresh.items():
        recording.decoded[piece.path, name] = _Decoded(low, high, one)
        if isinstance(one, Samples):
            tell_offset(name, one.start, one.rate)
            recording.rates.setdefault(name, one.rate)
    found = [recording.decoded[piece.path, source.name].found for source in sources]
    _make_room(recording)
    return found


def _make_room(recording: Recording) -> None:
    """Forget the files that were decoded first, as far as there is no room for them."""
    held = {
        key: one.found.values.nbytes if isinstance(one.found, Samples) else 0
        for key, one in recording.decoded.items()
    }
    total = sum(held.values())
    for key, size in held.items():
        if total <= RAW:
            return
        del recording.decoded[key]
        total -= size


def _reason(
    recording: Recording, unread: dict[str, list[tuple[float, float, str]]], c: int, first: int, values: Array
) -> str:
    """Why a channel has no usable data in the window (N,) from sample `first` on."""
    name, rate = recording.sources[c].name, recording.series.sample_rate
    start, stop = first / rate, (first + len(values)) / rate
    covered = joined(recording.files[c])
    if not any(a <= start + 1e-6 and stop - 1e-6 <= b for a, b in covered):
        spans = ", ".join(f"{a:.3f}-{b:.3f}" for a, b in covered[:3]) or "nothing"
        return f"ingest.channels {name}: its files cover GPS {spans}, not {start:.3f}-{stop:.3f}"
    for a, b, reason in unread.get(name, []):
        if a < stop and b > start:
            return f"ingest.channels {name}: {reason}"
    bad = (first + np.flatnonzero(~np.isfinite(values))[0]) / rate
    return f"ingest.channels {name}: not a number at GPS {bad:.4f}"
