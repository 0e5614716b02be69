"""The twin beside the detector: one second of frames after the other is cleaned, until it is told to stop.

    online/S-SIM_GLITCHFLOW-1400000000-1.gwf    one for each second: see sink.py
    online/state                                 what goes on from after a kill
    online/twins.csv                             which checkpoint the number in NAME_TWIN is of

Files are looked for ten times a second: notifications do not tell what another node writes on a shared file system.
"""

import csv
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from glitchflow.analysis.clean.line import crops_together
from glitchflow.analysis.evaluate import chance
from glitchflow.config import Experiment, Ingest, Online
from glitchflow.data import lease, objects
from glitchflow.errors import InputError, RunError
from glitchflow.online import sink
from glitchflow.online.ending import Stop, ended
from glitchflow.online.hours import Log
from glitchflow.online.line import Cleaned, Line, Memory, advance, start
from glitchflow.online.monitor import Monitor, served
from glitchflow.online.sink import Outbox
from glitchflow.online.source import Inbox, Second, look, oldest, take
from glitchflow.progress import say
from glitchflow.train import checkpoint
from glitchflow.twin import coherent, guard
from glitchflow.twin.step import stepper

POLL = 0.1  # s between looks for new files
AGAIN = 1.0  # s after which a disk that refused is tried again
HOUR = 3600
LEAST = 16  # Hz of a twin: frames of a second hold enough of a channel to resample it


@dataclass(frozen=True)
class Post:
    """Holds what is run where: a twin, the frames that come in, and those that go out."""

    line: Line
    inbox: Inbox
    outbox: Outbox
    keep: float  # s
    monitor: Monitor


def watch(experiment: Experiment) -> Path:
    """Clean the frames that appear in `online.source` until SIGTERM or Ctrl-C; return `workdir/online`.

    Raises `InputError` for settings that do not fit the twin, and `RunError` where nothing can be written there, or
    another one is at work.
    """
    workdir, settings = Path(experiment.workdir), experiment.online
    found = checkpoint.find(workdir / "train" / "checkpoints", experiment.infer.checkpoint)
    line = _line(found, settings, experiment.ingest)
    digest = hashlib.sha256(found.content(checkpoint.WEIGHTS)).hexdigest()
    line = replace(line, chance=chance.read(workdir / "evaluation", digest))
    if line.chance is None:
        say(f"p(glitch) is not a number: {found.path} was not calibrated; `glitchflow evaluate` does that")
    directory = workdir / "online"
    if not Path(settings.source).is_dir() or not settings.source:
        raise InputError(f"online.source = {settings.source}: no such directory")
    objects.make_directory(directory)
    with lease.hold(directory) as still_mine, ended() as stop:
        inbox = _inbox(line, settings, experiment.ingest)
        outbox = _outbox(line, found.path, digest, directory, settings)
        say(f"{found.path}: twin {outbox.twin}, follows {settings.source}")
        post = Post(line, inbox, outbox, settings.keep * HOUR, Monitor(line.strain))
        with served(post.monitor, settings.port):
            follow(post, stop, still_mine)
    return directory


def follow(
    post: Post,
    stop: Stop,
    still_mine: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Take one second after the other, and put out what that makes known, until `stop` is set.

    still_mine: raises where another one has taken over. clock: in s, of which only differences count.
    """
    left = sink.recover(post.outbox)
    memory, log, told = left.memory, left.log, ""
    place = memory.second if memory else left.written
    limits = guard.edges(post.line.steps.front.band).tolist()
    while not stop.is_set():
        post.monitor.turned = time.monotonic()
        look(post.inbox, place, now := clock())
        first = oldest(post.inbox, place)
        if first is not None and first - place > post.keep:  # what would be written of it is not kept
            if memory:
                say(f"GPS {memory.written} to {first} is left out: longer than online.keep")
            memory, place = None, first
        second = take(post.inbox, place, now)
        if second is None:
            stop.wait(POLL)
            continue
        place += 1
        if memory is None and post.line.strain not in second.found:  # it begins with a second of strain
            told = _lacking(told, second, post.line.strain)
            continue
        memory, found = advance(post.line, memory or start(post.line, second), second)
        if found:
            still_mine()
            after = _committed(post, memory, log, found, stop)
            if after is None:
                return
            log = after
            post.monitor.note(post.inbox, memory, found, limits, clock())
            told = _tell(told, second, found[-1])


def _committed(post: Post, memory: Memory, log: Log, found: list[Cleaned], stop: Stop) -> Log | None:
    """Put out what was found, as soon as the disk takes it; None where it is to stop before."""
    monitor = post.monitor
    while True:
        try:
            log = sink.commit(post.outbox, memory, log, found)
            break
        except (RunError, OSError) as error:
            if not monitor.disk:
                say(f"{error}; waiting for it")
            monitor.disk, monitor.turned = str(error), time.monotonic()
        if stop.wait(AGAIN):
            return None
    if monitor.disk:
        say(f"{post.outbox.directory}: can be written again")
        monitor.disk = ""
    if memory.written // 60 != (memory.written - len(found)) // 60:
        try:
            sink.prune(post.outbox, memory.written - post.keep)
        except OSError as error:
            say(f"{post.outbox.directory}: what is older than online.keep stays: {error.strerror}")
    return log


def _lacking(before: str, second: Second, strain: str) -> str:
    """Say that there is no strain to begin with, where that was not said before."""
    now = f"no {strain}: {second.missing[strain]}"
    if now != before:
        say(f"GPS {second.gps}: {now}")
    return now


def _tell(before: str, second: Second, cleaned: Cleaned) -> str:
    """Say what is missing, or passed through, where that is not what was said before."""
    words = [
        f"without {' '.join(sorted(second.missing))} ({why})"
        for why in sorted({*second.missing.values()})[:1]
    ]
    words += [f"{low:.3g}-{high:.3g} Hz passed through" for low, high in cleaned.passed]
    now = ", ".join(words)
    if now != before:
        say(f"GPS {cleaned.gps}: {now or 'all there'}")
    return now


# -- what is run -----------------------------------------------------------------------------------------------------


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


def _inbox(line: Line, settings: Online, ingest: Ingest) -> Inbox:
    """What is read: the twin's channels, under the names that they have in the files, and the state."""
    inside = {source.name: source.channel or source.name for source in ingest.channels}
    names = {name: inside.get(name, name) for name in line.steps.front.channels}
    state = {line.state: line.state} if line.state else {}
    return Inbox(Path(settings.source), {**names, **state}, settings.wait)


def _outbox(line: Line, path: Path, digest: str, directory: Path, settings: Online) -> Outbox:
    """Where it goes, of a checkpoint and the SHA-256 of its weights. Raises `RunError` where no frame can be written
    there."""
    identity = {
        "twin": digest,
        "channels": line.steps.front.channels,
        "block": settings.block,
        "settle": settings.settle,
        "state": line.state,
    }
    outbox = Outbox(directory, line.strain, settings.format, int(digest[:8], 16), identity)
    sink.try_out(outbox)
    table = directory / "twins.csv"
    row = [str(outbox.twin), digest, str(path)]
    with table.open("a+", newline="", encoding="utf-8") as file:
        file.seek(0)
        rows = list(csv.reader(file))
        writer = csv.writer(file)
        if not rows:
            writer.writerow(["twin", "sha256", "checkpoint"])
        if row not in rows:
            writer.writerow(row)
    return outbox
