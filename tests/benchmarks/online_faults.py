"""What faults cost `watch`: `python tests/benchmarks/online_faults.py RUN [--faults kill disk ...] [--seconds 600]`.

RUN is a run of configs/online.yaml, with `later/frames` (the commands at its head). One thread; half a minute of CPU a
row. Each row is kept in `--record` when it is measured, and not measured again.

Faults of `replay`, in one file of `--every` at random, in simulated time; stall, which comes once, in runs of 40 s with
other seeds. And what happens to the process, `PLACES` times at random: kill -9 and SIGTERM, after which it begins
anew; a disk that takes no more in the middle of a frame or of the state (a limit on what files may hold), for some
seconds; the machine's clock set by up to an hour either way.

    places      files, or times, that met it
    out         seconds that came out
    lost        of those whose file came whole, and not later than `online.wait` allows: missing, or without data
    doubled     that were written once more after they were out
    changed     whose samples are not those of an undisturbed run bit for bit, but for those whose twin sees a second
                that came damaged, or not at all: from 1 s before to 6 s after it

Demanded: 20 places, and of the last three none.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from online import Row, judged, kept
from online_run import EDGE, WAIT, Feed, by_second, cleaned, post_of, seconds_of

from glitchflow.cluster import threads
from glitchflow.online import replay
from glitchflow.online.ending import ended
from glitchflow.online.line import NOTHING
from glitchflow.online.watch import follow
from glitchflow.signal.recorded.frames import Piece
from glitchflow.signal.recorded.samples import read_samples
from glitchflow.train import checkpoint

PLACES = 20
STALLED = 40  # s of a run with one stall
HURT = {"drop", "truncate", "flip", "nan", "missing"}  # what such a file had is not there, or not all
GONE = {"drop", "truncate", "flip"}  # nothing of it is there
BEFORE, AFTER = 1, 6  # s about such a second that a twin may say something else of
FULL = 60_000  # bytes that a file may hold on a full disk, at most: less than a frame, or than the state
POLL = 0.02  # s
HOUR = 3600.0


@dataclass
class Witness:
    """Remembers when each second that came out was written, and which were written again."""

    directory: Path
    written: dict[int, int] = field(default_factory=dict)  # ns
    again: set[int] = field(default_factory=set)

    def look(self) -> int:
        """Look at all that is there; return how many seconds these are."""
        for gps, file in by_second(self.directory).items():
            then = file.stat().st_mtime_ns
            if self.written.setdefault(gps, then) != then:
                self.again.add(gps)
                self.written[gps] = then
        return len(self.written)


@dataclass
class Watched(Feed):
    """A feed that looks at what comes out, too."""

    witness: Witness | None = None

    def wait(self, timeout: float) -> bool:
        if self.witness:
            self.witness.look()
        return super().wait(timeout)


@dataclass
class Disturbed(Watched):
    """Does something at random seconds, and undoes it after a few more."""

    places: set[int] = field(default_factory=set)
    do: Callable[[], None] = lambda: None
    undo: Callable[[], None] = lambda: None
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    until: float = 0.0

    def wait(self, timeout: float) -> bool:
        self.undo()  # what is fed is no part of it
        done = super().wait(timeout)
        if self.now in self.places:
            self.until = self.now + self.rng.integers(1, 5)
        if self.now < self.until:
            self.do()
        return done


# -- faults of a replay ------------------------------------------------------------------------------------------------


def replayed(into: Path, run: Path, name: str, pieces: Sequence[Piece], every: int, seed: int) -> Row:
    """A row of one replay with a fault."""
    settings = replay.Replay(into / "in", faults=(name,), every=every, seed=seed)
    settings.into.mkdir()
    deliveries = replay.plan(pieces, settings)
    post = post_of(run, settings.into, into / "out", 0.25, 0.25)
    witness = Witness(post.outbox.directory)
    feed = Watched(list(deliveries), settings, witness=witness)
    follow(post, feed, clock=lambda: feed.now)
    there = {one.start for one in deliveries}
    dropped = {round(one.start) for one in pieces} - there
    met = {one.start for one in deliveries if one.fault} | dropped
    origin = pieces[0].start
    late = {one.start for one in deliveries if one.due - (one.start + one.seconds - origin) > WAIT}
    late = late if name == "delay" else set()  # of all others everything comes later, or soon enough
    gone = (met if name in GONE else set()) | late
    hurt = (met if name in HURT else set()) | late
    return measured(run, witness, len(pieces), int(origin), 1 if name == "stall" else len(met), gone, hurt)


def stalled(into: Path, run: Path, pieces: Sequence[Piece]) -> Row:
    """A row of runs with one stall each."""
    rows = []
    for k in range(PLACES):
        room = into / str(k)
        room.mkdir()
        first = k * (len(pieces) - STALLED) // (PLACES - 1)
        rows.append(replayed(room, run, "stall", pieces[first : first + STALLED], 20, k))
        shutil.rmtree(room)
    return {what: sum(row[what] for row in rows) for what in rows[0]}


# -- what happens to the process ---------------------------------------------------------------------------------------


def disturbed(
    into: Path, run: Path, pieces: Sequence[Piece], do: Callable[[], None], undo: Callable[[], None]
) -> Row:
    """A row of one run in which something is done at random seconds."""
    settings = replay.Replay(into / "in")
    settings.into.mkdir()
    post = post_of(run, settings.into, into / "out", 0.25, 0.25)
    places = {int(x) for x in at_random(len(pieces))}
    witness = Witness(post.outbox.directory)
    feed = Disturbed(replay.plan(pieces, settings), settings, 0.0, 0, witness, places, do, undo)
    follow(post, feed, clock=lambda: feed.now)
    return measured(run, witness, len(pieces), int(pieces[0].start), len(places), set(), set())


def at_random(count: int) -> np.ndarray:
    """Places in so many seconds, ascending, none of them twice, and none among the first."""
    rng = np.random.default_rng(2)
    return np.sort(rng.choice(np.arange(EDGE, count - EDGE), PLACES, replace=False))


def full(into: Path, run: Path, pieces: Sequence[Piece]) -> Row:
    """A row of a disk that takes no more, again and again."""
    rng, (soft, hard) = np.random.default_rng(3), resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    return disturbed(into, run, pieces, lambda: limit(int(rng.integers(FULL))), lambda: limit(soft))


def clock(into: Path, run: Path, pieces: Sequence[Piece]) -> Row:
    """A row of a machine whose clock is set again and again."""
    rng, real, off = np.random.default_rng(4), time.time, 0.0

    def step() -> None:
        nonlocal off
        off = float(rng.uniform(-HOUR, HOUR))

    with patch("time.time", lambda: real() + off):
        return disturbed(into, run, pieces, step, lambda: None)


def ended_by(into: Path, run: Path, pieces: Sequence[Piece], number: signal.Signals) -> Row:
    """A row of a process that is ended by a signal, wherever it is, and begins anew on files that all lie there."""
    settings = replay.Replay(into / "in")
    settings.into.mkdir()
    for one in replay.plan(pieces, settings):
        replay._put(one, settings, 0)
    rng, witness = np.random.default_rng(5), Witness(into / "out")
    witness.directory.mkdir()
    last = pieces[-1].start - 1  # of the last second the end is never known
    for place in [*at_random(len(pieces)).tolist(), None]:
        child = os.fork()
        if not child:
            with ended() as stop:
                follow(post_of(run, settings.into, witness.directory, 0.25, 0.25), stop)
            os._exit(0)
        while witness.look() < place if place else last not in witness.written:
            time.sleep(POLL)
            witness.look()
        time.sleep(rng.uniform(0, 0.1))
        os.kill(child, number if place else signal.SIGTERM)
        os.waitpid(child, 0)
        witness.look()
    return measured(run, witness, len(pieces), int(pieces[0].start), PLACES, set(), set())


# -- the table ---------------------------------------------------------------------------------------------------------


def undisturbed(run: Path, pieces: Sequence[Piece]) -> Path:
    """What comes out of all files in time, which is made once."""
    made, hidden = run / f"undisturbed_{len(pieces)}", run / ".undisturbed"
    if not made.exists():
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir()
        post = post_of(run, hidden / "in", hidden / "out", 0.25, 0.25)
        cleaned(post, list(pieces)).rename(made)
    return made


def measured(
    run: Path, witness: Witness, count: int, first: int, places: int, gone: set[int], hurt: set[int]
) -> Row:
    """A row, of `count` seconds from `first` on."""
    witness.look()
    name = f"{checkpoint.find(run, str(run)).normalisation.channels[0]}"
    found, whole = by_second(witness.directory), undisturbed(run, seconds_of(run))
    known = by_second(whole)
    states = {gps: samples(file, [f"{name}_STATE"])[0] for gps, file in found.items()}
    wanted = set(range(first, first + count - 1)) - gone
    empty = {gps for gps, state in states.items() if (state & NOTHING).all()}
    near = {gps + k for gps in hurt for k in range(-BEFORE, AFTER + 1)}
    near |= set(range(first, first + EDGE)) if first > min(known) else set()
    channels = [f"{name}_{what}" for what in ("CLEAN", "NOISE", "STATE")]
    changed = [
        gps
        for gps in sorted(found.keys() - near)
        if any(map(differ, samples(found[gps], channels), samples(known[gps], channels)))
    ]
    return {
        "places": places,
        "out": len(found),
        "lost": len(wanted & (empty | (wanted - found.keys()))),
        "doubled": len(witness.again),
        "changed": len(changed),
    }


def samples(file: Path, names: list[str]) -> list[np.ndarray]:
    """Channels of a file."""
    read = read_samples(str(file), "", names)
    return [read[name].values for name in names]


def differ(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two series are not the same, bit for bit."""
    return a.tobytes() != b.tobytes()


def demands(rows: Iterable[Row]) -> dict[str, bool]:
    """What is demanded of all rows."""
    rows = list(rows)
    asked = {f"at least {PLACES} places": all(row["places"] >= PLACES for row in rows)}
    return asked | {
        f"{what} 0": not any(row[what] for row in rows) for what in ("lost", "doubled", "changed")
    }


def cases(every: int) -> Iterator[tuple[str, Callable[..., Row]]]:
    """How each row is measured, (directory, run, pieces) -> row."""
    for name in replay.FAULTS:
        more = {"name": name, "every": every, "seed": 1}
        yield name, stalled if name == "stall" else partial(replayed, **more)
    yield "kill", partial(ended_by, number=signal.SIGKILL)
    yield "term", partial(ended_by, number=signal.SIGTERM)
    yield from (("disk", full), ("clock", clock))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=int, default=600, help="of frames behind each row")
    parser.add_argument("--faults", nargs="*", help="rows that are measured; without: all")
    parser.add_argument("--every", type=int, default=20, help="files, of which one meets a fault")
    parser.add_argument(
        "--record", type=Path, default=Path("runs/online_faults.json"), help="rows that were measured"
    )
    asked = parser.parse_args()
    threads(1)
    pieces = seconds_of(asked.run)[: asked.seconds]
    rows = {
        f"{asked.run}, {name}, {asked.seconds} s": partial(measure, run=asked.run, pieces=pieces)
        for name, measure in cases(asked.every)
        if not asked.faults or name in asked.faults
    }
    judged(demands(kept(asked.record, rows).values()))


if __name__ == "__main__":
    main()
