"""Which twin is asked: a checkpoint as `watch` runs it, copies of those that took over, and which one it was.

online/twins/0123456789abcdef/    of a twin that took over, or gave way: what it takes to ask it again
online/twins.csv                  a line when another one begins: number in NAME_TWIN, SHA-256, checkpoint, GPS s
"""

import csv
import hashlib
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from glitchflow.analysis.clean.line import crops_together
from glitchflow.analysis.evaluate import chance
from glitchflow.config import Ingest, Online
from glitchflow.data import objects
from glitchflow.errors import InputError
from glitchflow.online import drift
from glitchflow.online.line import Line
from glitchflow.train import checkpoint
from glitchflow.twin import coherent
from glitchflow.twin.step import stepper

LEAST = 16  # Hz of a twin: frames of a second hold enough of a channel to resample it
COPIES, TABLE = "twins", "twins.csv"
COPIED = 8  # twins whose copies are kept: a loop that learns for ever fills no disk
HEAD = ["twin", "sha256", "checkpoint", "from"]


@dataclass(frozen=True)
class Twin:
    """Holds a checkpoint as it is run, and what tells it from others."""

    line: Line
    digest: str  # SHA-256 of its weights
    path: Path

    @property
    def number(self) -> int:
        """Return what stands in NAME_TWIN: the first 32 bits of that."""
        return int(self.digest[:8], 16)


def open_twin(found: checkpoint.Checkpoint, settings: Online, ingest: Ingest) -> Twin:
    """Prepare a checkpoint for being run. Raises `InputError` where it cannot be."""
    digest = hashlib.sha256(found.content(checkpoint.WEIGHTS)).hexdigest()
    run = found.path.absolute().parent.parent.parent
    known = chance.read(run / "evaluation", digest) or chance.read(found.path, digest)
    line = replace(_line(found, settings, ingest), chance=known)
    return Twin(replace(line, range=drift.trusted(line.steps.front, found.meta.levels)), digest, found.path)


def _line(found: checkpoint.Checkpoint, settings: Online, ingest: Ingest) -> Line:
    """The twin, and what says that the detector is in science mode."""
    if found.kind.name != coherent.KIND.name:
        raise InputError(
            f"{found.path}: is of kind {found.kind.name}; `watch` takes one of kind {coherent.KIND.name}"
        )
    steps = stepper(found.trained(), settings.block, settings.settle, "online")
    if steps.front.rate != round(steps.front.rate) or steps.front.rate < LEAST:
        raise InputError(
            f"{found.path}: is of {steps.front.rate:g} Hz; `watch` takes whole Hz, {LEAST} at least"
        )
    # as many crops side by side as come with a second of frames
    most = crops_together(found.kind, len(steps.front.channels), steps.crop)
    steps = replace(steps, lot=min(most, math.ceil(1 / settings.block)))
    wanted = ingest.segments
    if wanted.file or wanted.gps:
        raise InputError("ingest.segments: nobody knows beforehand; `watch` takes ingest.segments.channel")
    for bit in wanted.bits:
        if isinstance(bit, str):
            raise InputError(f"ingest.segments.bits = {bit}: frames do not name their bits; give its number")
    return Line(steps, wanted.channel, sum(1 << int(bit) for bit in set(wanted.bits)))


def copy_of(directory: Path, digest: str) -> Path:
    """Say where the copy of a twin lies, if it has one."""
    return directory / COPIES / digest[:16]


def keep(directory: Path, twin: Twin) -> None:
    """Copy what it takes to ask a twin again, also when its run is gone."""
    copy = copy_of(directory, twin.digest)
    if copy.exists():
        return
    hidden = copy.with_name(f".new.{copy.name}")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    calibrated = twin.path.absolute().parent.parent.parent / "evaluation" / chance.FILE
    for path in (twin.path / checkpoint.WEIGHTS, twin.path / checkpoint.META, calibrated):
        if path.exists():
            shutil.copy(path, hidden)
            objects.sync(hidden / path.name)
    hidden.replace(copy)
    objects.sync(copy.parent)


def tidy(directory: Path) -> None:
    """Delete the copies of all but the last twins that were asked."""
    last = list(dict.fromkeys(row[1] for row in reversed(_rows(directory))))[:COPIED]
    spared = {copy_of(directory, digest) for digest in last}
    for copy in (directory / COPIES).iterdir():
        if copy not in spared:
            shutil.rmtree(copy, ignore_errors=True)


def note(directory: Path, twin: Twin, gps: int) -> None:
    """Enter which twin it is from a GPS second on, where that is news. Earlier tables have no such column."""
    rows = _rows(directory)
    if not rows or rows[-1][1] != twin.digest:
        with (directory / TABLE).open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEAD] * (not rows) + [[twin.number, twin.digest, twin.path, gps]])


def before(directory: Path, digest: str) -> Path | None:
    """Find the copy of the twin that was asked before the one of these weights; None where there is none."""
    others = [row[1] for row in _rows(directory) if row[1] != digest]
    copies = [copy_of(directory, other) for other in reversed(others)]
    return next((copy for copy in copies if copy.exists()), None)


def _rows(directory: Path) -> list[list[str]]:
    """The lines of the table, without its head."""
    if not (directory / TABLE).exists():
        return []
    with (directory / TABLE).open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]
