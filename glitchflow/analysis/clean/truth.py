"""What cleaning did to a stretch whose truth is known: sums over all its live time, not over chosen events.

    1. a block of the recorded strain, the cleaned one and the truth, whitened by the strain's own ASD
    2. by second: what is left of the witnessed part, and the loudest trigger of a search, before and after
    3. plain sums over the live seconds: `residual`, `volume_time` and `veto`

Live is what a window shows. Shapes: n second, I signal, N sample of a block, B template of a bank.
"""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from igwn_segments import segmentlist

from glitchflow.config import Source
from glitchflow.errors import InputError
from glitchflow.score import matched, segments, subtraction
from glitchflow.score.made import Columns, Who
from glitchflow.score.search import loudest, whitened_series
from glitchflow.score.significance import poisson_significance
from glitchflow.score.statistics import Bootstrap, Interval, proportion
from glitchflow.score.volume_time import Search, volume_time
from glitchflow.signal.recorded.frames import coverage
from glitchflow.signal.recorded.recording import read_channel
from glitchflow.signal.simulation.families import inspiral
from glitchflow.signal.types import Array, Flags

BLOCK = 64  # s: an ASD from some thirty periodograms of 4 s, and little that is read twice
MARGIN = 8  # s on each side: what a filter with 0.25 Hz between its values spoils, and a signal's inspiral
GROUP = 8  # s that are drawn together: a glitch lasts less
APART = 2  # s from a signal at least is background
MASSES = 8  # templates, evenly in log chirp mass
PARTS = ("WITNESSED", "SHARED")
FRAMES = "*-*-*-*.*"  # files with the names that LIGO-T050017 asks for, and no tables


@dataclass(frozen=True)
class Stretch:
    """Holds the strain before and after, and where its truth is."""

    recorded: Source
    cleaned: Source
    truth: Path
    rate: float  # Hz that all are read at
    band: tuple[float, float]  # Hz
    masses: tuple[float, float]  # chirp masses of the bank, solar masses
    start: float  # Hz at which its templates fade in


def measure(stretch: Stretch, known: segmentlist, vetoed: segmentlist, interval: Bootstrap) -> dict[str, Any]:
    """Measure what cleaning and vetoes did in the analysed time `known`.

    Returns `residual` and `noise_added` (score/subtraction.py; quiet: seconds without witnessed transients),
    `volume_time` of cleaning and of vetoing (score/volume_time.py), `veto` against the table of glitches, and what they
    are over.
    Raises `InputError` where the truth is missing.
    """
    signals, glitches = tables(stretch.truth)
    seconds, columns = _seconds(stretch, segments.ends(known))
    if not len(seconds):
        raise InputError(f"clean.truth = {stretch.truth}: no second of what was cleaned lies in its stretch")
    live = segments.joined(np.stack([seconds, seconds + 1], axis=1))
    return {
        "live": float(len(seconds)),
        **_subtracted(seconds, columns, interval),
        "volume_time": _volume_times(seconds, columns, signals, segments.ends(vetoed), interval),
        "veto": _veto(segments.ends(live), segments.ends(vetoed & live), glitches),
    }


# -- second by second ----------------------------------------------------------------------------------------------


def _seconds(stretch: Stretch, known: Array) -> tuple[Array, Columns]:
    """The live GPS seconds (n,) with their sums and triggers (n,)."""
    columns: list[Columns] = []
    found: list[Array] = []
    for start, stop in _blocks(coverage(stretch.cleaned), known):
        seconds = np.arange(start, stop, dtype=np.float64)
        live = _inside(known, seconds) > 1 - 1e-6
        if live.any():
            made = _measured(stretch, start, stop)
            columns.append({name: values[live] for name, values in made.items()})
            found.append(seconds[live])
    if not found:
        return np.zeros(0), {}
    return np.concatenate(found), {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}


def _inside(spans: Array, seconds: Array) -> Array:
    """How much of each GPS second (n,) lies in segments (S, 2), apart and ascending."""
    return segments.seconds_before(spans, seconds + 1) - segments.seconds_before(spans, seconds)


def _blocks(covered: list[tuple[float, float]], known: Array) -> Iterator[tuple[int, int]]:
    """The whole seconds of blocks on a grid of GPS time that cleaned files cover with a margin, near what is known."""
    for start, stop in covered:
        first, last = math.ceil(start) + MARGIN, math.floor(stop) - MARGIN
        for k in range(first // BLOCK, -(-last // BLOCK)):
            begin, end = max(first, k * BLOCK), min(last, (k + 1) * BLOCK)
            if begin < end and ((known[:, 0] < end) & (known[:, 1] > begin)).any():
                yield begin, end


def _measured(stretch: Stretch, start: int, stop: int) -> Columns:
    """Of the seconds (n,) between two GPS times: sums of squares, and the loudest triggers `before` and `after`."""
    first, rate = start - MARGIN, int(stretch.rate)
    read = partial(read_channel, start=first, duration=stop + MARGIN - first, sample_rate=rate)
    strain, cleaned = read(stretch.recorded), read(stretch.cleaned)
    name, files = stretch.recorded.channel or stretch.recorded.name, [f"{stretch.truth}/{FRAMES}"]
    parts = [read(Source(name=f"{name}_{part}", files=files)) for part in PARTS]
    witnessed = parts[0] + parts[1]
    # without lock the strain is 0; where pieces meet, the median leaves out what leaks
    locked = np.repeat(strain.reshape(-1, rate).any(axis=1), rate)
    psd = matched.noise_psd(strain[locked] if locked.any() else strain, rate, samples=len(strain))
    white = partial(matched.whitened, psd=psd, sample_rate=rate, band=stretch.band)
    time = np.arange(len(strain)) / rate - len(strain) / rate / 2
    masses = np.geomspace(*stretch.masses, MASSES)
    waves = np.stack([inspiral(time, mass, 0.0, stretch.start) for mass in masses])
    bank = white(np.roll(waves, -(len(strain) // 2), axis=-1))
    kept = slice(MARGIN, -MARGIN)

    def sums(series: Array) -> Array:
        return np.square(whitened_series(white(series))).reshape(-1, rate).sum(axis=1)[kept]

    return {
        "residual2": sums(witnessed - (strain - cleaned)),
        "witnessed2": sums(witnessed),
        "transients2": sums(parts[0]),
        "strain2": sums(strain),
        "before": loudest(white(strain), bank, rate)[kept],
        "after": loudest(white(cleaned), bank, rate)[kept],
    }


# -- sums ----------------------------------------------------------------------------------------------------------


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
    seconds: Array, columns: Columns, signals: Mapping[str, Array], vetoed: Array, interval: Bootstrap
) -> dict[str, Any]:
    """Of cleaning, and of vetoing instead, over doing nothing. A distance is in units of that of SNR 1."""
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
    found = {
        name: volume_time(distance, search, before, interval)
        for name, search in (("cleaned", after), ("vetoed", without))
    }
    return {"signals": int(there.sum()), "background": int(quiet.sum())} | {
        name: asdict(value) for name, value in found.items()
    }


def _veto(live: Array, vetoed: Array, glitches: Mapping[str, Array]) -> dict[str, Any]:
    """Hveto's figures of merit (Smith et al. 2011) against the glitches that are known to be there."""
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


def tables(directory: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Read a truth's tables of signals and glitches. Raises `InputError` where one is missing."""
    signals, glitches = (_table(directory / f"{name}.csv") for name in ("signals", "glitches"))
    return signals, glitches


def _table(path: Path) -> dict[str, Array]:
    """The columns of numbers of a table of the truth: gps, snr, witnessed. Raises `InputError` where it is missing."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {name: np.array([float(row[name]) for row in rows]) for name in ("gps", "snr")}
        return columns | {"witnessed": np.array([float(row["witnessed"] == "True") for row in rows])}
    except (OSError, KeyError, ValueError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) else f"no table of gps, snr and witnessed ({error})"
        )
        raise InputError(f"clean.truth = {path.parent}: {path.name}: {reason}") from None
