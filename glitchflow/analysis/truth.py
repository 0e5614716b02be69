"""What was done to a stretch whose truth is known: sums over all its live time, not over chosen events.

    1. a block of the strain as recorded and as treated, and of the truth, whitened by the strain's own ASD
    2. by second: what is left of the witnessed part, and the loudest trigger of a search, before and after
    3. plain sums over the live seconds: `residual`, `volume_time` and `veto`

A treatment is what cleaning wrote, or a method of evaluation. Live is what a window shows; where windows overlap, a
second counts once. Shapes: n second, I signal, N sample of a block, B template of a bank, V veto segment.
"""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from igwn_segments import segmentlist
from pydantic import BaseModel

from glitchflow.analysis.opened import Windows, strain_source
from glitchflow.config import Detector, Harm, Source
from glitchflow.data import objects
from glitchflow.data.store import Dataset
from glitchflow.errors import InputError
from glitchflow.score import matched, segments, subtraction
from glitchflow.score.made import Columns, Who
from glitchflow.score.search import loudest, whitened_series
from glitchflow.score.significance import poisson_significance
from glitchflow.score.statistics import UNDEFINED, Bootstrap, Interval, proportion
from glitchflow.score.volume_time import Search, volume_time
from glitchflow.signal.recorded.recording import Recording, event_start, open_recording, read_channel
from glitchflow.signal.simulation.families import inspiral
from glitchflow.signal.types import Array, Flags, Indices, Spectrum

BLOCK = 64  # s: an ASD from some thirty periodograms of 4 s, and little that is read twice
MARGIN = 8  # s on each side: what a filter with 0.25 Hz between its values spoils, and a signal's inspiral
GROUP = 8  # s that are drawn together: a glitch lasts less
APART = 2  # s from a signal at least is background
MASSES = 8  # templates, evenly in log chirp mass
PARTS = ("WITNESSED", "SHARED")
FRAMES = "*-*-*-*.*"  # files with the names that LIGO-T050017 asks for, and no tables

Span = tuple[int, int]  # GPS seconds
Treated = Callable[
    [Array, int], Mapping[str, Array]
]  # strain (N,) from a GPS second on -> what is left, by treatment


class _Simulate(BaseModel):
    detector: Detector


class _Config(BaseModel):
    seed: int
    simulate: _Simulate


class _Made(BaseModel):
    """What of `stretch.json` is needed; the rest passes."""

    config: _Config


@dataclass(frozen=True)
class Stretch:
    """Holds where a stretch and its truth are, and how they are looked at."""

    recorded: Source  # the strain
    truth: Path
    rate: float  # Hz that all are read at
    band: tuple[float, float]  # Hz
    masses: tuple[float, float]  # chirp masses of the bank, solar masses
    start: float  # Hz at which its templates fade in
    signals: Mapping[str, Array]  # the truth's table: gps, snr, witnessed, (I,) each
    glitches: Mapping[str, Array]
    families: tuple[list[str], list[str]]  # of each signal, of each glitch

    @property
    def parts(self) -> list[Source]:
        """Name the channels of the truth: what witnessed transients, and what shared noise put into the strain."""
        name, files = self.recorded.channel or self.recorded.name, [f"{self.truth}/{FRAMES}"]
        return [Source(name=f"{name}_{part}", files=files) for part in PARTS]


def open_truth(dataset: Dataset, channels: Sequence[Source], directory: str, signals: Harm) -> Stretch | None:
    """Read the tables of the truth (`evaluate.truth`) about the stretch that a dataset's windows are of; None without.

    channels: where the strain is, as the configuration says now. Raises `InputError` where the truth is missing, or the
    dataset's events are no windows of a stretch.
    """
    if not directory:
        return None
    recorded = strain_source(dataset, channels)
    if recorded is None:
        raise InputError(f"evaluate.truth = {directory}: is of a stretch, and {dataset.path} is of events")
    made, where = dataset.config, Path(directory)
    (chirps, drawn), (glitches, told) = (_table(where / f"{name}.csv") for name in ("signals", "glitches"))
    rate, band = made.series.sample_rate, made.qplot.frange
    return Stretch(recorded, where, rate, band, signals.mass, signals.start, chirps, glitches, (drawn, told))


def frames_of(stretch: Stretch, dataset: Dataset) -> Recording:
    """Prepare to cut the truth about each event of a dataset, as the event's series were cut.

    Raises `InputError` where the store kept no series, which it is compared with.
    """
    if "series" not in dataset:
        raise InputError(
            f"evaluate.truth = {stretch.truth}: {dataset.path} has no series to measure by it; ingest it with"
            " store.series=float32"
        )
    series = dataset.config.series
    starts = [event_start(series, gps) for gps in np.asarray(dataset["gps"][:]).tolist()]
    return open_recording(stretch.parts, series, starts, dataset.layout.shard)


def detector_of(stretch: Stretch) -> tuple[Detector, int] | None:
    """Read which detector, with which seed, a stretch was made from; None where the truth does not say."""
    found = objects.read(stretch.truth, "stretch.json", _Made)
    return found and (found.config.simulate.detector, found.config.seed)


def families(stretch: Stretch) -> tuple[list[str], list[str]]:
    """Name the families that a stretch holds, background first, and those of them that a witness sees."""
    witnessed = {family for _, _, family, seen in _listed(stretch) if seen}
    return ["background", *sorted({family for _, _, family, _ in _listed(stretch)})], sorted(witnessed)


def name_events(stretch: Stretch, windows: Windows) -> Indices:
    """Name each window, (E,) by ascending event into `families`, by the loudest glitch or signal whose centre it shows:
    background where there is none."""
    labels, label = families(stretch)[0], np.zeros(len(windows.events), np.int64)
    for _, gps, family, _ in sorted(_listed(stretch)):  # the loudest is last to give its name
        label[(windows.start <= gps) & (gps < windows.stop)] = labels.index(family)
    return label[np.argsort(windows.events)]


def _listed(stretch: Stretch) -> Iterator[tuple[float, float, str, bool]]:
    """SNR, GPS time, family of every glitch and signal, and whether a witness sees it."""
    for table, named in zip((stretch.signals, stretch.glitches), stretch.families):
        yield from zip(table["snr"], table["gps"], named, table["witnessed"] > 0)


# -- second by second ----------------------------------------------------------------------------------------------


def spans_of(covered: list[tuple[float, float]], known: segmentlist) -> list[Span]:
    """Share out the analysed time, as far as files cover it with a margin, as blocks on a grid of whole GPS seconds."""
    found, analysed = [], segments.ends(known)
    for start, stop in covered:
        first, last = math.ceil(start) + MARGIN, math.floor(stop) - MARGIN
        for k in range(first // BLOCK, -(-last // BLOCK)):
            begin, end = max(first, k * BLOCK), min(last, (k + 1) * BLOCK)
            if begin < end and ((analysed[:, 0] < end) & (analysed[:, 1] > begin)).any():
                found.append((begin, end))
    return found


def second_by_second(stretch: Stretch, treated: Treated, span: Span) -> dict[str, Columns]:
    """Sum squares over each second (n,) of a span, and find its loudest triggers `before` and `after`, by treatment."""
    first, rate = span[0] - MARGIN, int(stretch.rate)
    read = partial(read_channel, start=first, duration=span[1] + MARGIN - first, sample_rate=rate)
    strain, (transients, shared) = read(stretch.recorded), (read(part) for part in stretch.parts)
    # without lock the strain is 0; where pieces meet, the median leaves out what leaks
    locked = np.repeat(strain.reshape(-1, rate).any(axis=1), rate)
    psd = matched.noise_psd(strain[locked] if locked.any() else strain, rate, samples=len(strain))
    white = partial(matched.whitened, psd=psd, sample_rate=rate, band=stretch.band)
    time = np.arange(len(strain)) / rate - len(strain) / rate / 2
    masses = np.geomspace(*stretch.masses, MASSES)
    waves = np.stack([inspiral(time, mass, 0.0, stretch.start) for mass in masses])
    bank = white(np.roll(waves, -(len(strain) // 2), axis=-1))
    kept = slice(MARGIN, -MARGIN)

    def sums(spectra: Spectrum) -> Array:
        return np.square(whitened_series(spectra)).reshape(-1, rate).sum(axis=1)[kept]

    recorded, witnessed = white(strain), white(transients + shared)
    before = loudest(recorded, bank, rate)[kept]
    same = {
        "witnessed2": sums(witnessed),
        "transients2": sums(white(transients)),
        "strain2": sums(recorded),
        "before": before,
    }
    columns = {}
    for name, left in treated(strain, first).items():
        removed = strain - left
        taken = white(removed)
        after = loudest(recorded - taken, bank, rate)[kept] if removed.any() else before
        columns[name] = same | {"residual2": sums(witnessed - taken), "after": after}
    return columns


# -- sums ----------------------------------------------------------------------------------------------------------


def measure(
    stretch: Stretch,
    found: Mapping[Span, dict[str, Columns]],
    known: segmentlist,
    vetoed: Mapping[str, segmentlist],
    interval: Bootstrap,
) -> dict[str, Any]:
    """Measure what treatments, and vetoes, did in the analysed time `known`: by treatment.

    found: what `second_by_second` found in each of `spans_of`; vetoed: by treatment, where that has any.
    Returns `residual` and `noise_added` (score/subtraction.py; quiet: seconds without witnessed transients),
    `volume_time` of treating and of vetoing (score/volume_time.py), `veto` against the table of glitches, and what they
    are over.
    Raises `InputError` where no second of the stretch was treated.
    """
    seconds = np.concatenate([np.zeros(0), *(np.arange(*span, dtype=np.float64) for span in found)])
    live = _inside(segments.ends(known), seconds) > 1 - 1e-6
    if not live.any():
        raise InputError(
            f"evaluate.truth = {stretch.truth}: no second of what was analysed lies in its stretch"
        )
    seconds = seconds[live]
    treated = segments.joined(np.stack([seconds, seconds + 1], axis=1))
    table = {}
    for name in next(iter(found.values())):
        parts = [columns[name] for columns in found.values()]
        columns = {key: np.concatenate([part[key] for part in parts])[live] for key in parts[0]}
        spent = vetoed.get(name)
        table[name] = {
            "live": float(len(seconds)),
            **_subtracted(seconds, columns, interval),
            "volume_time": _volume_times(seconds, columns, stretch.signals, spent, interval),
            "veto": None if spent is None else _veto(treated, spent & treated, stretch.glitches),
        }
    return table


def _inside(spans: Array, seconds: Array) -> Array:
    """How much of each GPS second (n,) lies in segments (S, 2), apart and ascending."""
    return segments.seconds_before(spans, seconds + 1) - segments.seconds_before(spans, seconds)


def _subtracted(seconds: Array, columns: Columns, interval: Bootstrap) -> dict[str, Any]:
    """What is left, over all live seconds, and what is added, over those without witnessed transients."""
    squares = {name: columns[name] for name in ("residual2", "witnessed2", "strain2")}
    _, first = np.unique(seconds // GROUP, return_index=True)
    grouped = {name: np.add.reduceat(values, first) for name, values in squares.items()}
    every = np.ones(len(grouped["strain2"]), bool)
    found = subtraction.residual({"": grouped}, "", Who(every, every, ~every, None), interval)
    quiet = _away(seconds, seconds[columns["transients2"] >= 1], APART)
    none = np.zeros(len(seconds), bool)
    added = subtraction.noise_added({"": squares}, "", Who(none, none, quiet, None), interval)
    return {"residual": asdict(found), "noise_added": asdict(added), "quiet": int(quiet.sum())}


def _away(seconds: Array, times: Array, distance: float) -> Flags:
    """Which seconds (n,) begin further than `distance` s from every time, ascending."""
    padded = np.concatenate([[-np.inf], np.sort(times), [np.inf]])
    after = np.searchsorted(padded, seconds)
    return np.minimum(seconds - padded[after - 1], padded[after] - seconds) > distance


def _volume_times(
    seconds: Array,
    columns: Columns,
    signals: Mapping[str, Array],
    spent: segmentlist | None,
    interval: Bootstrap,
) -> dict[str, Any]:
    """Of cleaning, and of vetoing instead, over doing nothing. A distance is in units of that of SNR 1."""
    vetoed = segments.ends(spent or segmentlist())
    times = signals["gps"]
    place = np.searchsorted(seconds, np.floor(times))
    there = (place < len(seconds)) & (seconds[np.minimum(place, len(seconds) - 1)] == np.floor(times))
    distance, quiet = 1 / signals["snr"][there], _away(seconds, times, APART)
    lost = _inside(vetoed, seconds)
    before, after = (
        Search(columns[name][place[there]], columns[name][quiet], float(len(seconds)))
        for name in ("before", "after")
    )
    caught = segments.segment_at(vetoed, times[there]) >= 0
    without = replace(
        before,
        injections=np.where(caught, np.nan, before.injections),
        background=columns["before"][quiet & (lost == 0)],
        live=before.live - float(lost.sum()),
    )
    return {
        "signals": int(there.sum()),
        "background": int(quiet.sum()),
        "cleaned": asdict(volume_time(distance, after, before, interval)),
        "vetoed": asdict(UNDEFINED if spent is None else volume_time(distance, without, before, interval)),
    }


def _veto(analysed: segmentlist, spent: segmentlist, glitches: Mapping[str, Array]) -> dict[str, Any]:
    """Hveto's figures of merit (Smith et al. 2011) against the glitches that are known to be there."""
    live, vetoed = segments.ends(analysed), segments.ends(spent)
    inside = segments.segment_at(live, glitches["gps"]) >= 0
    held = segments.segment_at(vetoed, glitches["gps"])[inside]
    caught, analysed, lost = held >= 0, float(np.diff(live).sum()), float(np.diff(vetoed).sum())
    deadtime = lost / analysed
    witnessed = glitches["witnessed"][inside] > 0
    used = proportion(len(np.unique(held[caught])), len(vetoed))
    return {
        "efficiency": _share(caught),
        "efficiency_witnessed": _share(caught[witnessed]),
        "deadtime": deadtime,
        "efficiency_over_deadtime": float(caught.mean() / deadtime) if deadtime and len(caught) else math.nan,
        "use_percentage": asdict(Interval(float(used.value), float(used.low), float(used.high))),
        "significance": float(poisson_significance(caught.sum(), deadtime * len(caught))),
        "glitches": len(caught),
        "segments": len(vetoed),
    }


def _share(flags: Flags) -> dict[str, float]:
    found = proportion(flags.sum(), len(flags))
    return asdict(Interval(float(found.value), float(found.low), float(found.high)))


def _table(path: Path) -> tuple[dict[str, Array], list[str]]:
    """The columns of numbers of a table of the truth (gps, snr, witnessed), and each row's family."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {name: np.array([float(row[name]) for row in rows]) for name in ("gps", "snr")}
        columns |= {"witnessed": np.array([float(row["witnessed"] == "True") for row in rows])}
        return columns, [row.get("label", "") for row in rows]
    except (OSError, KeyError, ValueError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) else f"no table of gps, snr and witnessed ({error})"
        )
        raise InputError(f"evaluate.truth = {path.parent}: {path.name}: {reason}") from None
