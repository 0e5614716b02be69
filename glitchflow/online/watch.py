"""The twin beside the detector: one second of frames after the other is cleaned, until it is told to stop.

    online/S-SIM_GLITCHFLOW-1400000000-1.gwf    one for each second: see sink.py
    online/state                                 what goes on from after a kill
    online/twins.csv                             which checkpoint the number in NAME_TWIN is of

Files are looked for ten times a second: notifications do not tell what another node writes on a shared file system.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from glitchflow.config import Experiment, Ingest, Online
from glitchflow.data import lease, objects
from glitchflow.errors import InputError, RunError
from glitchflow.online import drift, shadow, sink, twins
from glitchflow.online.drift import Drift
from glitchflow.online.ending import Stop, ended
from glitchflow.online.hours import Log
from glitchflow.online.line import Cleaned, Line, Memory, advance, start
from glitchflow.online.monitor import Monitor, served
from glitchflow.online.shadow import Understudy
from glitchflow.online.sink import Outbox
from glitchflow.online.source import Inbox, Second, awaited, heard, holds, listed, look, oldest, take
from glitchflow.online.twins import Twin, open_twin
from glitchflow.progress import say
from glitchflow.train import checkpoint

POLL = 0.1  # s between looks for new files
AGAIN = 1.0  # s after which a disk that refused is tried again
HOUR = 3600
NAMED = 6  # channels at most, in a line


@dataclass(frozen=True)
class Post:
    """Holds what is run where: a twin, the frames that come in, those that go out, and who may take over."""

    line: Line
    inbox: Inbox
    outbox: Outbox
    keep: float  # s
    monitor: Monitor
    understudy: Understudy | None = None
    drift: Drift = field(default_factory=Drift)


def watch(experiment: Experiment) -> Path:
    """Clean the frames that appear in `online.source` until SIGTERM or Ctrl-C; return `workdir/online`.

    Raises `InputError` for settings that do not fit the twin, and `RunError` where nothing can be written there, or
    another one is at work.
    """
    workdir, settings, ingest = Path(experiment.workdir), experiment.online, experiment.ingest
    checkpoints, directory = workdir / "train" / "checkpoints", workdir / "online"
    model, uri = experiment.model.name, experiment.mlflow.uri

    def opens(name: str) -> Twin:
        return open_twin(checkpoint.find(checkpoints, name, uri).as_named(model), settings, ingest)

    if not Path(settings.source).is_dir() or not settings.source:
        raise InputError(f"online.source = {settings.source}: no such directory")
    checkpoint.find(checkpoints, experiment.infer.checkpoint, uri)
    objects.make_directory(directory)
    with contextlib.ExitStack() as kept:
        still_mine, stop = kept.enter_context(lease.hold(directory)), kept.enter_context(ended())
        kept.enter_context(served(monitor := Monitor(), settings.port))  # a twin takes seconds to open
        twin = opens(experiment.infer.checkpoint)
        copy = twins.copy_of(directory, sink.asked(directory))
        if copy.exists() and copy != twins.copy_of(directory, twin.digest):
            twin = opens(str(copy))
            say(f"{copy}: twin {twin.number} took over and goes on; delete it to begin with infer.checkpoint")
        outbox, monitor.strain = _outbox(twin, directory, settings), twin.line.strain
        _begins(twin, settings.source)
        post = Post(
            twin.line,
            _inbox(twin.line, settings, ingest),
            outbox,
            settings.keep * HOUR,
            monitor,
            Understudy(directory, twin, opens, settings.next, settings.better),
        )
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
    memory, log, told, written = left.memory, left.log, "", left.written
    place = memory.second if memory else written
    awaited(post.inbox, clock())
    while not stop.is_set():
        post.monitor.turned = time.monotonic()
        look(post.inbox, place, now := clock())
        first = oldest(post.inbox, place)
        if first is not None and first - place > post.keep:  # what would be written of it is not kept
            if memory:
                say(f"GPS {memory.written} to {first} is left out: longer than online.keep")
            memory, place = None, first
            if post.understudy:
                shadow.forget(post.understudy)
        second = take(post.inbox, place, now)
        _silent(post, second, place, now)
        if second is None:
            stop.wait(POLL)
            continue
        place += 1
        if memory is None and post.line.strain not in second.found:  # it begins with a second of strain
            told = _lacking(told, second, post.line.strain)
            continue
        memory, found = advance(post.line, memory or start(post.line, second), second)
        post, memory, found = _shadowed(post, memory, found, second, written, now)
        for words in drift.look(post.drift, post.line, memory.state):
            say(f"GPS {memory.written}: {words}")
        if found:
            after = _committed(post, (memory, log, found), stop, still_mine)
            if after is None:
                return
            log, written = after, found[-1].gps + 1
            post.monitor.twin = post.outbox.twin
            post.monitor.drifted(post.drift.outside, len(found))
            post.monitor.note(post.inbox, memory, log, found, post.line.steps, clock())
            told = _tell(told, second, found[-1])


def _committed(
    post: Post, known: tuple[Memory, Log, list[Cleaned]], stop: Stop, still_mine: Callable[[], None]
) -> Log | None:
    """Put out what was found, as soon as the disk takes it; None where it is to stop before."""
    (memory, log, found), monitor = known, post.monitor
    while True:
        try:
            still_mine()
            if post.understudy and monitor.twin != post.outbox.twin:
                twins.note(post.understudy.directory, post.understudy.now, found[0].gps)
            log = sink.commit(post.outbox, memory, log, found)
            break
        except lease.Held:
            raise
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


def _silent(post: Post, second: Second | None, place: int, now: float) -> None:
    """Say once that the source brings no strain any more, or again, and which channels no file has."""
    inbox, monitor = post.inbox, post.monitor
    if inbox.unknown and inbox.holds:
        there = set().union(*inbox.holds.values())
        inbox.unknown = [name for name in inbox.unknown if inbox.channels[name] not in there]
        if inbox.unknown:
            say(_unknown(post))
        inbox.unknown.clear()
    if second and post.line.strain in second.found:
        heard(inbox, post.line.strain, now, second.gps)
        if monitor.source:
            say(f"{inbox.directory}: GPS {second.gps} has {post.line.strain} again")
            monitor.source = ""
    elif now > inbox.due and not monitor.source:
        if any(holds(inbox, piece, post.line.strain, place) for piece in inbox.seen):
            return  # it is there, and others are waited for
        since = f"from GPS {inbox.last + 1} on" if inbox.last else "yet"
        monitor.source = f"{inbox.directory}: no {post.line.strain} has come {since}; waiting for it"
        say(monitor.source)


def _unknown(post: Post) -> str:
    """Name the channels that no file had so far, and what could have been meant."""
    inbox, state = post.inbox, post.line.state
    there, told = sorted(set().union(*inbox.holds.values())), []
    for name in inbox.unknown:
        near = get_close_matches(inbox.channels[name], there)
        told.append(inbox.channels[name] + f" (near: {' '.join(near)})" * bool(near))
    keys = ["ingest.channels"] * (inbox.unknown != [state]) + ["ingest.segments.channel"] * (
        state in inbox.unknown
    )
    return f"{', '.join(keys)}: no file in {inbox.directory} has {_few(told)}; they hold {_few(there)}"


def _few(names: list[str]) -> str:
    """Name the first of them."""
    return ", ".join(names[:NAMED]) + f" and {len(names) - NAMED} more" * (len(names) > NAMED)


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
    # of the files it is the second that has come, not the one before, whose frame it makes
    gps = second.gps if "without" in now or "without" in before else cleaned.gps
    if now != before:
        say(f"GPS {gps}: {now or 'all there'}")
    return now


def _begins(twin: Twin, source: str) -> None:
    """Say what it begins with, and what of that is not there."""
    if twin.line.range is None:
        say(f"{twin.path}: does not say how loud witnesses were: no drift is seen; train again for it")
    if twin.line.chance is None:
        say(f"p(glitch) is not a number: {twin.path} was not calibrated; `glitchflow evaluate` does that")
    say(f"{twin.path}: twin {twin.number}, follows {source}")
    with contextlib.suppress(OSError):  # it cannot be listed just now: the loop looks again
        if not any(listed(Path(source))):
            say(f"{source}: holds no file yet named as S-DESCRIPTION-GPS-SECONDS.gwf or .h5; waiting for one")


# -- who is asked ----------------------------------------------------------------------------------------------------


def _shadowed(
    post: Post, memory: Memory, found: list[Cleaned], second: Second, written: int, now: float
) -> tuple[Post, Memory, list[Cleaned]]:
    """Let the twin in the shadow take the same second, and take over where it is due: it goes on with the second that
    comes out next, and none comes out twice."""
    under = post.understudy
    if under is None:
        return post, memory, found
    shadow.look(under, now)
    shadow.follow(under, second, written)
    shadow.compare(under, memory, found)
    if under.minutes:
        post.monitor.shadow.set(under.minutes[-1][0])
    if shadow.due(under):
        memory, found = shadow.take(under, written)
        post = replace(post, line=under.now.line, outbox=of_twin(post.outbox, under.now))
    return post, memory, [one for one in found if one.gps >= written]


# -- what is run -----------------------------------------------------------------------------------------------------


def _inbox(line: Line, settings: Online, ingest: Ingest) -> Inbox:
    """What is read: the twin's channels, under the names that they have in the files, and the state."""
    inside = {source.name: source.channel or source.name for source in ingest.channels}
    names = {name: inside.get(name, name) for name in line.steps.front.channels}
    state = {line.state: line.state} if line.state else {}
    return Inbox(Path(settings.source), {**names, **state}, settings.wait)


def _outbox(twin: Twin, directory: Path, settings: Online) -> Outbox:
    """Where it goes. Raises `RunError` where no frame can be written there."""
    empty = Outbox(directory, twin.line.strain, settings.format, 0, {})
    outbox = of_twin(empty, twin)
    sink.try_out(outbox)
    return outbox


def of_twin(outbox: Outbox, twin: Twin) -> Outbox:
    """Return the same for what a twin makes: a state goes with its weights and its settings."""
    steps = twin.line.steps
    identity = {
        "twin": twin.digest,
        "channels": steps.front.channels,
        "block": steps.block,
        "settle": steps.settle,
        "state": twin.line.state,
    }
    return replace(outbox, twin=twin.number, identity=identity)
