"""Another twin in the shadow of the one that is asked: it sees the same seconds, and may take over between two of them.

    a checkpoint in `online.next` --opened, or refused--> runs beside --better by `online.better`, or told to--> asked
    online/take_over    is made by hand: the one in the shadow takes over
    online/take_back    is made by hand: the one before comes back, once it has seen enough

Nothing stops meanwhile: what comes out changes from one second to the next, and each second comes out once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from glitchflow.errors import InputError
from glitchflow.online import twins
from glitchflow.online.line import Cleaned, Memory, advance, start
from glitchflow.online.source import Second
from glitchflow.online.twins import Twin
from glitchflow.progress import say
from glitchflow.train import checkpoint

OVER, BACK = "take_over", "take_back"
AGAIN = 10.0  # s between looks for another checkpoint
MINUTE = 60  # s of data behind a comparison
TRIAL = 10  # of these have to be there before one takes over


@dataclass
class Understudy:
    """Knows the twin that is asked, the one in its shadow, and how the two compare."""

    directory: Path
    now: Twin
    opens: Callable[[str], Twin]  # of a run's directory or a checkpoint; raises `InputError`
    source: str = ""  # where checkpoints are looked for; empty: nowhere
    better: float | None = None  # share of the power left by which one has to be better; None: it is told to
    next: Twin | None = None
    memory: Memory | None = None
    held: list[Cleaned] = field(default_factory=list)  # what it made of seconds that are not out yet
    seen: int = 0  # s
    back: bool = False  # whether it is one that comes back
    minutes: list[tuple[float, float]] = field(default_factory=list)  # power left by next and now
    refused: set[str] = field(default_factory=set)  # digests, and what was said of what cannot be opened
    looked: float = -math.inf
    there: tuple[Path, int] | None = None  # the checkpoint that was seen last, and when it was made

    @property
    def warm(self) -> bool:
        """Say whether all that it hears of was there before."""
        assert self.next is not None, "asked of one that is there"
        steps = self.next.line.steps
        return self.seen > math.ceil(steps.reach / steps.front.rate) + 1


def look(under: Understudy, now: float) -> None:
    """Look for another checkpoint, and for what somebody asks for, at monotonic time `now`."""
    if (wanted := under.directory / BACK).exists():
        wanted.unlink()
        copy = twins.before(under.directory, under.now.digest)
        if copy is None:
            say(f"{wanted}: no twin was asked before twin {under.now.number}")
        elif twin := _opened(under, str(copy)):
            under.refused.add(under.now.digest)
            _begin(under, twin, back=True)
    if under.source and not under.back and now >= under.looked + AGAIN:
        under.looked = now
        _look_in(under)
    if under.next is None and (wanted := under.directory / OVER).exists():
        wanted.unlink()
        say(f"{wanted}: no other twin runs in the shadow of twin {under.now.number}")


def _look_in(under: Understudy) -> None:
    """Begin with the checkpoint that is in the watched place now, where it is another and fits."""
    try:
        path = checkpoint.find(Path(under.source), under.source).path
        there = (path, path.stat().st_mtime_ns)
    except (InputError, OSError) as error:
        _refuse(under, str(error), f"online.next: {error}")
        return
    if there == under.there:
        return
    under.there, found = there, _opened(under, str(path))
    known = {one.digest for one in (under.now, under.next) if one} | under.refused
    if found is None or found.digest in known:
        return
    others = set(found.line.steps.front.channels) - set(under.now.line.steps.front.channels)
    if found.line.strain != under.now.line.strain or others:
        what = f"{found.path}: is for {found.line.strain} by {' '.join(sorted(others)) or 'other witnesses'}"
        _refuse(under, found.digest, f"online.next: {what}, which this watch does not read")
        return
    _begin(under, found)


def _opened(under: Understudy, name: str) -> Twin | None:
    """A twin; None where it cannot be run, which is said."""
    try:
        return under.opens(name)
    except InputError as error:
        _refuse(under, str(error), str(error))
        return None


def _refuse(under: Understudy, key: str, words: str) -> None:
    """Say it once."""
    if key not in under.refused:
        say(f"{words}; twin {under.now.number} goes on")
    under.refused.add(key)


def _begin(under: Understudy, twin: Twin, back: bool = False) -> None:
    under.next, under.back = twin, back
    forget(under)
    uncalibrated = "" if twin.line.chance else "; p(glitch) by it is not a number: it was not calibrated"
    say(f"{twin.path}: twin {twin.number} runs in the shadow of twin {under.now.number}{uncalibrated}")


def forget(under: Understudy) -> None:
    """Let the one in the shadow begin anew, as after a time that is left out."""
    under.memory, under.held, under.seen, under.minutes = None, [], 0, []


def follow(under: Understudy, second: Second, written: int) -> None:
    """Let the one in the shadow take the next second; those before `written` are out."""
    if under.next is None or (under.memory is None and under.next.line.strain not in second.found):
        return
    line = under.next.line
    under.memory, found = advance(line, under.memory or start(line, second), second)
    under.held = [one for one in (*under.held, *found) if one.gps >= written]
    under.seen += 1


def compare(under: Understudy, memory: Memory, found: Sequence[Cleaned]) -> None:
    """Note what both make of the last minute, where one is over; memory: of the one that is asked, which made these."""
    if under.next is None or under.memory is None:
        return
    if memory.written // MINUTE != (memory.written - len(found)) // MINUTE and under.seen >= 2 * MINUTE:
        under.minutes = [*under.minutes, (_left(under.memory), _left(memory))][-TRIAL:]


def _left(memory: Memory) -> float:
    """Power after over before, over the last minute and all bands."""
    before, after = memory.state.heard.sum(axis=(0, 2))
    return float(after / before) if before else 1.0


def due(under: Understudy) -> bool:
    """Say whether the one in the shadow takes over now."""
    if under.next is None or not under.warm or under.memory is None:
        return False
    told = (under.directory / OVER).exists()
    if under.better is None or len(under.minutes) < TRIAL:
        return told or under.back
    mine, others = np.mean(under.minutes, axis=0)
    return told or under.back or bool(mine <= (1 - under.better) * others)


def take(under: Understudy, written: int) -> tuple[Memory, list[Cleaned]]:
    """Let it take over at GPS second `written`: give what it remembers, and seconds that it made and nobody put out."""
    assert under.next is not None and under.memory is not None, "it is due"
    (under.directory / OVER).unlink(missing_ok=True)
    for twin in (under.now, under.next):
        twins.keep(under.directory, twin)
    twins.note(under.directory, under.next, written)
    twins.tidy(under.directory)
    say(f"GPS {written}: twin {under.next.number} is asked from here on, in place of twin {under.now.number}")
    memory, held = under.memory, [one for one in under.held if one.gps >= written]
    under.now, under.next, under.back = under.next, None, False
    forget(under)
    return memory, held
