"""A stretch of the simulated detector -> frame files, with the truth beside them.

    frames/S-SIM_GLITCHFLOW-1400000000-64.gwf    strain, witnesses at their own rates, state: what a user would have
    frames/truth/S-SIM_TRUTH-1400000000-64.gwf   what is in the strain beside its noise
    frames/truth/glitches.csv, signals.csv, bursts.csv, science.csv, faults.csv
    frames/truth/frames/1400000000.json          of each frame: checksums of its samples, its rows of these tables
    frames/truth/stretch.json                    what it was made from, and whether it is complete

    1. the driver shares the missing frames out: those without a JSON file beside them
    2. each task makes some neighbouring ones, writes both files, then the JSON
    3. the driver puts the tables together

Shapes: n = rate x length, one for each channel.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from glitchflow.cluster import joins
from glitchflow.config import Cluster, Experiment, Stretch
from glitchflow.data import lease, objects
from glitchflow.data.build import BASE_MEMORY, Job, run_tasks
from glitchflow.data.content import differences
from glitchflow.data.frames import frame_name, write_frame
from glitchflow.data.memory import Memory
from glitchflow.data.store.schema import digest
from glitchflow.errors import InputError
from glitchflow.progress import say
from glitchflow.signal.simulation.stretch import (
    BLOCK,
    PARTS,
    REACH,
    SCIENCE,
    STATE_RATE,
    WHOLE,
    Span,
    State,
    StretchMaker,
    draw_stretch,
    make_spans,
)

TASK = 4 * BLOCK  # s at least of a task: a few seconds of work, and few blocks that two tasks make
ROOT = "stretch.json"
TABLES = {
    "glitches": ("gps", "label", "snr", "witnessed"),
    "signals": ("gps", "label", "snr", "witnessed"),
    "bursts": ("gps", "label", "subsystem"),  # which never reach the strain
    "science": ("start", "end"),
    "faults": ("start", "end", "channel", "kind"),
}
COLOURING = 4  # copies of one channel's block: white, spectrum, product, coloured
WRITING = 2  # copies of a frame: of the precision that is written, gwpy's, the library's


class Made(BaseModel):
    """What is kept of a frame that was written: it stands for a whole file."""

    sha256: dict[str, str]  # by channel, of its samples
    glitches: list[tuple[float, str, float, bool]]
    signals: list[tuple[float, str, float, bool]]
    bursts: list[tuple[float, str, str]]
    science: list[tuple[float, float]]
    faults: list[tuple[float, float, str, str]]


class Root(BaseModel):
    """What a stretch was made from, and whether all of it is there."""

    config: dict[str, Any]
    complete: bool = False


@dataclass(frozen=True)
class Frames:
    """Where the frames of a stretch lie, and what they are cut from."""

    path: Path
    maker: StretchMaker

    @property
    def truth(self) -> Path:
        """Where no pattern for the frames looks."""
        return self.path / "truth"

    def name(self, description: str, start: int) -> str:
        """The name of the frame that begins at a GPS second."""
        settings, strain = self.maker.stretch, self.maker.names[0]
        return frame_name(strain, description, start, self.stop(start) - start, settings.format)

    def stop(self, start: int) -> int:
        """Where the frame that begins there ends: the last one may be shorter."""
        return min(start + self.maker.stretch.frame, self.maker.stretch.stop)


@joins
def stretch(experiment: Experiment, overwrite: bool = False) -> Path:
    """Write `workdir/frames`, or what is missing of it, and return its path.

    A longer `stretch.duration` than before extends it. Raises `InputError` where what is there was made from other
    settings, `RunError` for a disk that refuses and where another driver is at work.
    """
    simulate, settings = experiment.simulate, experiment.stretch
    if simulate.recipe != "detector":
        raise InputError(f"simulate.recipe = {simulate.recipe}: a stretch is made by the recipe detector")
    rate, seed = experiment.series.sample_rate, experiment.seed
    config = {
        "seed": seed,
        "series": {"sample_rate": rate},
        "simulate": {"detector": simulate.detector.model_dump(mode="json")},
        "stretch": settings.model_dump(mode="json"),
    }
    maker = draw_stretch(simulate.detector, settings, rate, seed)
    return _write(Path(experiment.workdir) / "frames", config, maker, experiment.cluster, overwrite)


def _write(
    path: Path, config: dict[str, Any], maker: StretchMaker, cluster: Cluster, overwrite: bool
) -> Path:
    with lease.hold(path) as check:
        frames = Frames(_begin(path, config, overwrite), maker)
        starts = range(maker.stretch.start, maker.stretch.stop, maker.stretch.frame)
        missing = [start for start in starts if not _is_there(frames, start)]
        if 0 < len(missing) < len(starts):
            say(f"{path}: {len(starts) - len(missing)} of {len(starts)} frames are there already")
        needed = framing(maker.rates, sum(map(len, maker.shared)), maker.stretch)
        job = Job(partial(make_frames, frames), "frames", needed.total, "s", smaller="stretch.frame")
        run_tasks(job, _parts(missing, frames), cluster, check)
        check()
        with objects.writing(path, "cannot be finished"):
            _write_tables(frames, list(starts))
            _put_root(frames.path, Root(config=config, complete=True))
            if frames.path != path:
                objects.replace(frames.path, path)
    return path


def framing(rates: Sequence[int], shared: int, settings: Stretch) -> Memory:
    """Project what a task holds whose channels have these rates in Hz; shared: how often one hears noise that others
    hear too."""
    frame, fastest = min(settings.frame, settings.duration), max(rates)
    inside = (
        BLOCK % settings.frame == 0 == settings.start % settings.frame
    )  # no frame is joined of two blocks
    return Memory(
        {
            "Python and libraries": BASE_MEMORY,
            "filters": 8 * WHOLE * (sum(rates) + shared * rates[0]),
            "windows of transients": 8 * 2 * REACH * rates[0] * len(rates),
            "a block": 8 * BLOCK * (sum(rates) + len(PARTS) * rates[0]),
            "a channel at work": COLOURING * 8 * WHOLE * fastest,
            "frames": (WRITING + (not inside)) * 8 * frame * sum(rates),
        }
    )


# -- a task ------------------------------------------------------------------------------------------------------


def make_frames(frames: Frames, part: tuple[int, int]) -> None:
    """Make and write the frames between two GPS seconds, one after the other."""
    start, stop = part
    step = frames.maker.stretch.frame
    for span in make_spans(frames.maker, [*range(start, stop, step), stop]):
        shown, truth = channels_of(frames.maker, span)
        for path, description, series in (
            (frames.truth, "TRUTH", truth),
            (frames.path, "GLITCHFLOW", shown),
        ):
            name, form = frames.name(description, span.start), frames.maker.stretch.format
            write_frame(path / name, span.start, span.stop - span.start, series, form, "stretch.format")
        rows = [(row.part, (row.gps, row.family, row.snr, row.witnessed)) for row in span.rows if row.snr]
        made = Made(
            sha256={name: digest(values) for name, values in (shown | truth).items()},
            glitches=[row for part, row in rows if part != "signals"],
            signals=[row for part, row in rows if part == "signals"],
            bursts=[(row.gps, row.family, row.subsystem) for row in span.rows if row.subsystem],
            science=_science(span.state, span.start),
            faults=[(one.start, one.end, one.channel, one.kind) for one in span.faults],
        )
        with objects.writing(frames.path, "cannot be written"):
            objects.put(frames.truth, _marker(span.start), made.model_dump_json().encode())


def channels_of(maker: StretchMaker, span: Span) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """The channels (n,) of a frame and of its truth, by name: the strain in float64, witnesses in float32."""
    strain, *witnesses = maker.names
    shown: dict[str, NDArray] = {strain: span.channels[0]}
    shown |= {name: values.astype(np.float32) for name, values in zip(witnesses, span.channels[1:])}
    shown[f"{strain.partition(':')[0]}:GLITCHFLOW_STATE"] = span.state
    return shown, {f"{strain}_{part.upper()}": span.parts[part] for part in ("witnessed", "shared")}


def _science(state: State, start: int) -> list[tuple[float, float]]:
    """The segments of science mode in a state channel (n,) that begins at a GPS second."""
    on = np.diff(np.concatenate([[0], (state & SCIENCE).astype(np.int8), [0]]))
    edges = start + np.stack([np.flatnonzero(on == 1), np.flatnonzero(on == -1)], axis=1) / STATE_RATE
    return [(float(a), float(b)) for a, b in edges]


# -- the driver's part -------------------------------------------------------------------------------------------


def _begin(path: Path, config: dict[str, Any], overwrite: bool) -> Path:
    """The directory to write to: what is to be overwritten stays until its successor, beside it, is complete."""
    target = path.with_name(f"{path.name}.new") if overwrite and path.exists() else path
    root = objects.read(target / "truth", ROOT, Root)
    if target.exists() and root is None and target is path:
        raise InputError(f"{path}: is there and holds no stretch; move it away, or choose another workdir")
    differing = list(differences(_comparable(root.config, config), config)) if root else []
    if differing and target is path:
        raise InputError(
            f"{path}: was made from other settings: {'; '.join(sorted(differing)[:3])}; --overwrite it, or choose"
            " another workdir"
        )
    if differing or root is None:
        objects.wipe(target)
    objects.make_directory(target / "truth")
    objects.clear_partials(target)
    with objects.writing(path, "cannot be written"):
        _put_root(target, Root(config=config))
    return target


def _comparable(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The settings of a stretch that is there, with the new length where that is no shorter and begins no new frame
    inside an old one."""
    try:
        was, now = Stretch(**old["stretch"]), Stretch(**new["stretch"])
    except ValidationError:  # of another version's limits
        return old
    grows = now.duration >= was.duration and was.duration % was.frame == 0
    return {**old, "stretch": {**old["stretch"], "duration": now.duration if grows else was.duration}}


def _put_root(path: Path, root: Root) -> None:
    objects.put(path / "truth", ROOT, root.model_dump_json(indent=1).encode())


def _marker(start: int) -> str:
    return f"frames/{start}.json"


def _is_there(frames: Frames, start: int) -> bool:
    files = (
        frames.truth / _marker(start),
        frames.truth / frames.name("TRUTH", start),
        frames.path / frames.name("GLITCHFLOW", start),
    )
    return all(file.exists() for file in files)


def _parts(missing: list[int], frames: Frames) -> dict[tuple[int, int], int]:
    """Neighbouring missing frames, `TASK` s of them or one, with their seconds."""
    parts: list[tuple[int, int]] = []
    for start in missing:
        first, stop = parts[-1] if parts else (start, -1)
        if stop == start and start - first < TASK:
            parts[-1] = (first, frames.stop(start))
        else:
            parts.append((start, frames.stop(start)))
    return {part: part[1] - part[0] for part in parts}


def _write_tables(frames: Frames, starts: list[int]) -> None:
    """The tables of all frames, in the order of time; one frame's rows are in memory at once."""
    for table, columns in TABLES.items():
        temporary = frames.truth / f"{table}.csv.partial"
        with temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            rows = _rows(frames, starts, table)
            writer.writerows(_meeting(rows) if columns[0] == "start" else rows)
        temporary.replace(frames.truth / f"{table}.csv")


def _rows(frames: Frames, starts: list[int], table: str) -> Iterator[tuple]:
    for start in starts:
        yield from getattr(objects.read(frames.truth, _marker(start), Made), table)


def _meeting(rows: Iterator[tuple]) -> Iterator[tuple]:
    """Rows of begin, end and what it is, ascending, of which those that meet or overlap are joined; by their end."""
    going: dict[tuple, tuple[float, float]] = {}
    for start, stop, *what in rows:
        begin, end = going.get(tuple(what), (start, start))
        if start > end:
            yield begin, end, *what
            begin = start
        going[tuple(what)] = begin, max(end, stop)
    for key, (begin, end) in sorted(going.items(), key=lambda item: item[1]):
        yield begin, end, *key
