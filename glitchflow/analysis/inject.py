"""Draws of a generative twin in recorded strain, at GPS times: what `sample` writes where `sample.into` names some.

    white draw --the twin's own filter, backwards--> strain --to the files' rate--> added to the files that it meets

Files are written as `clean` writes them, beside `injected.csv`, which says what went where.

Shapes: n sample of a draw.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
from scipy.signal import lfilter, resample_poly

from glitchflow.analysis.clean.files import read_piece, write
from glitchflow.config import Source
from glitchflow.data import lease, objects
from glitchflow.data.store import Dataset
from glitchflow.errors import InputError
from glitchflow.progress import say
from glitchflow.signal.recorded.frames import Piece, pieces
from glitchflow.signal.simulation.timeline import add
from glitchflow.signal.types import Array
from glitchflow.twin.front import PAST
from glitchflow.twin.white import White

SUFFIX = "_INJECTED"
AROUND = (
    4 * PAST
)  # s beside a draw: what the filter, backwards, rings on for, and what a change of rate needs
COLUMNS = ("gps", "family", "snr", "draw", "files")


@dataclass(frozen=True)
class Injection:
    """Says which times the first draws go to, in which strain, and where that is written."""

    times: Sequence[float]  # GPS s of their centres
    source: Source  # the strain
    form: str  # clean.format
    directory: Path


def check(injection: Injection, twin: White, count: int, overwrite: bool) -> None:
    """Raise `InputError` before anything is drawn: where draws will hold noise of their own, or are fewer than the
    times; where no file covers a time, the one that does has a lower rate than the draws, or no number there; and where
    the directory is there and not to be overwritten."""
    if not twin.clean:
        raise InputError(
            "sample.into: this twin learned from recorded strain and draws glitch and noise; one that learned from a"
            " store made with store.transients draws glitches alone, which can be injected"
        )
    if len(injection.times) > count:
        raise InputError(f"sample.into: {len(injection.times)} times; sample.count = {count} draws no more")
    there = pieces(injection.source)
    for gps in injection.times:
        covering = [piece for piece in there if piece.start <= gps < piece.stop]
        if not covering:
            raise InputError(f"sample.into = {gps:.3f}: no file of {injection.source.name} covers it")
        stretch = read_piece(injection.source, covering[0])
        _fits(stretch.sample_rate, twin.rate, covering[0])
        if not np.isfinite(stretch.values[int((gps - stretch.gps) * stretch.sample_rate)]):
            raise InputError(f"sample.into = {gps:.3f}: {covering[0].path} has no number there")
    if injection.directory.exists() and not overwrite:
        raise InputError(f"{injection.directory}: is there already; --overwrite it")


def inject(samples: Dataset, injection: Injection) -> None:
    """Write each file of the strain that a draw meets: the first draw at the first time, and so on; and a table.

    Raises `InputError` where a file's rate is below that of the draws.
    """
    directory = injection.directory
    made = directory.with_name(f"{directory.name}.partial")
    with lease.hold(directory) as still_mine:
        objects.wipe(made)
        objects.make_directory(made)
        rows = _written(samples, injection, made)
        with (made / "injected.csv").open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
        still_mine()
        objects.replace(made, directory)
    say(f"{directory}: {len(rows)} draws in the strain of {injection.source.name}, listed in injected.csv")


def _written(samples: Dataset, injection: Injection, made: Path) -> list[tuple[str, str, str, int, str]]:
    """Writes the files; the rows of the table."""
    times, source = injection.times, injection.source
    draws = samples["series"][: len(times)]
    names: list[list[str]] = [[] for _ in times]
    half = draws.shape[1] / samples.attributes["sample_rate"] / 2 + AROUND
    for piece in pieces(source):
        meeting = [i for i, gps in enumerate(times) if _meets(piece, gps, half)]
        if not meeting:
            continue
        stretch = read_piece(source, piece)
        start = round(stretch.gps * stretch.sample_rate)
        for i in meeting:
            series = strain_of(samples, draws[i], stretch.sample_rate, piece)
            first = round(times[i] * stretch.sample_rate) - series.size // 2
            add(stretch.values, start, series, first)
            names[i].append(Path(piece.path).name)
        write({f"{source.name}{SUFFIX}": stretch.values}, stretch, made, injection.form)
    labels, label, snr = samples.labels, samples["label"][:], samples["snr"][:]
    return [
        (f"{gps:.6f}", labels[label[i]], f"{snr[i]:.3f}", i, " ".join(names[i]))
        for i, gps in enumerate(times)
    ]


def _meets(piece: Piece, gps: float, half: float) -> bool:
    return piece.start < gps + half and piece.stop > gps - half


def strain_of(samples: Dataset, white: Array, rate: float, piece: Piece) -> Array:
    """Return a draw (n,) in the strain's unit, at a file's rate in Hz, `AROUND` longer on either side.

    Raises `InputError` where that rate is below the draws'.
    """
    own = samples.attributes["sample_rate"]
    _fits(rate, own, piece)
    around = round(AROUND * own)
    strain = lfilter([1.0], samples.attributes["taps"], np.pad(np.asarray(white, np.float64), around))
    up, down = int(rate), int(own)
    common = gcd(up, down)
    return strain if up == down else resample_poly(strain, up // common, down // common)


def _fits(rate: float, own: float, piece: Piece) -> None:
    """Raise `InputError` where a file's rate is below that of draws, or one of them is no whole number of Hz."""
    if rate < own or rate != round(rate) or own != round(own):
        raise InputError(
            f"{piece.path}: has {rate:g} Hz; draws of {own:g} Hz need as much at least, in whole Hz"
        )
