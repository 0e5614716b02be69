"""One driver at a time: a lease on a store or a directory with its owner's heartbeat, taken over when the owner is
dead or silent.

The lease is an object beside what it guards, so that it is held before that is made or deleted, and works over every
host that can reach the place.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from glitchflow.data import objects
from glitchflow.errors import RunError
from glitchflow.progress import say

BEAT = 5.0  # s between heartbeats
WATCH = 0.5  # s between looks at another one's
SILENT = 30.0  # s without one after which an owner counts as gone


class Held(RunError):
    """Another driver is at it."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lease, as it lies there."""

    id: str
    host: str
    pid: int
    started: str | None  # of the process, see `_started`
    time: FiniteFloat  # s since 1970, of the last heartbeat


_OWNER = TypeAdapter(Owner)


@dataclass
class _Lease:
    """A lease as its owner knows it."""

    path: objects.Location  # what is guarded
    place: objects.Location  # where the lease lies
    name: str
    owner: Owner
    beaten: float = 0.0  # monotonic time of the last heartbeat that was written
    lost: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def read(self) -> Owner | None:
        """Who holds it; None where nobody does, or nobody can read what lies there."""
        return _read(objects.get(self.place, self.name))

    def content(self) -> bytes:
        return _OWNER.dump_json(replace(self.owner, time=time.time()))

    def is_mine(self, found: Owner | None) -> bool:
        return found is not None and found.id == self.owner.id

    def check(self) -> None:
        """Raise `Held` where the lease was taken over, and `RunError` where no heartbeat got through for `SILENT` and
        it cannot be taken again now, as on a disk that is full."""
        if not self.lost and time.monotonic() - self.beaten > SILENT:
            with objects.writing(self.path, "cannot be written"):
                self.again()
        if self.lost:
            raise Held(
                f"{self.path}: another run has taken it over, or may have, after {SILENT:g} s of silence from here"
            )

    def again(self) -> None:
        """Take it again after a silence, as others would: of all who try, the one that writes the claim has it."""
        claim = f"{self.name}.{self.owner.id}"
        if not objects.put_new(self.place, claim, self.content()):
            self.lost = True
            return
        try:
            self.lost = not self.is_mine(self.read())
            if not self.lost:
                objects.put(self.place, self.name, self.content())
                self.beaten = time.monotonic()
        finally:
            objects.delete(self.place, claim)

    def beat(self) -> None:
        """Write a heartbeat every `BEAT` seconds until told to stop, or another's lease lies there."""
        while not self.stop.wait(BEAT) and not self.lost:
            self.beat_once()

    def beat_once(self) -> None:
        """Write a heartbeat, unless another's lease lies there, or may lie there by now."""
        # whatever goes wrong, the next beat tries again; `check` knows how long none got through
        with contextlib.suppress(Exception):
            if not self.is_mine(self.read() or self.owner):
                self.lost = True
            elif time.monotonic() - self.beaten <= SILENT:  # later it may be another's: `check` asks
                objects.put(self.place, self.name, self.content())
                self.beaten = time.monotonic()


@contextlib.contextmanager
def hold(path: objects.Location) -> Iterator[Callable[[], None]]:
    """Hold the lease of a store or a directory for the length of the block; yields a check that it still is held.

    What is guarded need not be there yet. Of an owner on another host one heartbeat is awaited: after a power cut a
    job comes back sooner than its own lease falls silent.
    Raises `Held` where another driver holds it, and from the check, or in the place of another error, where one has
    taken it.
    """
    place, name = objects.parted(path)
    absent = _absent(place)
    pid = os.getpid()
    owner = Owner(uuid.uuid4().hex, socket.gethostname(), pid, _started(pid), time.time())
    mine = _Lease(path, place, f".{name}.lease.json", owner)
    with objects.writing(path, "cannot be written"):
        _take(mine)
    thread = threading.Thread(target=mine.beat, daemon=True)
    thread.start()
    try:
        yield mine.check
    except Held:
        raise
    except Exception:
        mine.check()  # whoever took it over has taken away what is missing here now
        raise
    finally:
        mine.stop.set()
        thread.join()
        with contextlib.suppress(OSError, RunError):  # a place that is gone has no lease to give back
            if mine.is_mine(mine.read()):
                objects.delete(place, mine.name)
            for (
                directory
            ) in absent:  # nothing was made in them: a mistake in the settings leaves nothing behind
                directory.rmdir()


def _read(content: bytes | None) -> Owner | None:
    with contextlib.suppress(ValidationError):
        return None if content is None else _OWNER.validate_json(content)
    return None


def _absent(place: objects.Location) -> list[Path]:
    """The directories that are made for a lease, the innermost first."""
    if objects.is_url(place):
        return []
    return [directory for directory in (Path(place), *Path(place).parents) if not directory.exists()]


def _take(mine: _Lease) -> None:
    """Write the lease where there is none, or where its owner is gone. Raises `Held`."""
    mine.beaten = time.monotonic()
    if objects.put_new(mine.place, mine.name, mine.content()):
        return
    owner = mine.read()
    if owner is not None:
        _wait_for(mine, owner)
    elif objects.put_new(mine.place, mine.name, mine.content()):  # it was given back at this moment
        return
    else:
        _wait_for_one_to_read(mine)
    # of several that find the owner gone, the one that writes this object first takes the lease
    claim = f"{mine.name}.{owner.id if owner else 'none'}"
    if not objects.put_new(mine.place, claim, mine.content()):
        _refuse_claimed(mine, claim)
    try:
        found = mine.read()  # whoever it was may have taken it again meanwhile
        if found is not None and (owner is None or found.id != owner.id or found.time != owner.time):
            _refuse(mine.path, 0.0, found)
        mine.beaten = time.monotonic()
        objects.put(mine.place, mine.name, mine.content())
    finally:
        objects.delete(mine.place, claim)


def _refuse_claimed(mine: _Lease, claim: str) -> None:
    """Refuse where another is taking the lease over; one that died while it did is forgotten."""
    content = objects.get(mine.place, claim)
    other = _read(content) or mine.owner
    age = time.time() - other.time
    # a claim stands for the moment that it takes to write a lease: one of the future is as dead as an old one
    if content is not None and (_ended(other) or abs(age) > SILENT or other.id == mine.owner.id):
        objects.delete(mine.place, claim)
    _refuse(mine.path, max(0.0, age), other)


def _wait_for_one_to_read(mine: _Lease) -> None:
    """Give who may hold a lease that nobody can read, as a power cut leaves one, the time to write it anew."""
    until, said = time.monotonic() + 2 * BEAT, False
    while mine.read() is None and time.monotonic() < until:
        if not said:
            say(
                f"{mine.path}: nobody can read its lease {mine.name}; taken over in {2 * BEAT:g} s if that stays so"
            )
            said = True
        time.sleep(WATCH)


def _wait_for(mine: _Lease, owner: Owner) -> None:
    """Return when the owner is gone; refuse where its heart beats, which of a process of this host is known at once.

    Clocks are set, and hosts' differ: a heartbeat is another time than the one that was there, and silence is counted
    by a clock that nobody sets. What is old already, or of the future, is watched for less, or for as long as any.
    """
    age = time.time() - owner.time
    if _ended(owner):
        return
    if owner.host == socket.gethostname() and 0 <= age <= SILENT:
        _refuse(mine.path, age, owner)
    # a moment longer than that: an owner that was asleep believes in its own lease for all of `SILENT`
    until = time.monotonic() + min(SILENT, max(SILENT - age, 2 * BEAT)) + WATCH
    said = False
    while time.monotonic() < until:
        latest = mine.read()
        if latest is None or _ended(owner):  # given back meanwhile, or killed
            return
        if latest.time != owner.time:
            _refuse(mine.path, 0.0, latest)
        if not said:
            say(f"{mine.path}: waiting for a sign of life of process {owner.pid} on {owner.host}")
            said = True
        time.sleep(WATCH)


def _refuse(path: objects.Location, age: float, owner: Owner) -> NoReturn:
    raise Held(
        f"{path}: another run is writing it (process {owner.pid} on {owner.host}, heard of {age:.0f} s ago);"
        f" wait for it, or end it: {SILENT:g} s after its last heartbeat it can be taken over"
    )


def _ended(owner: Owner) -> bool:
    """Whether it is a process of this host that is there no more."""
    if owner.host != socket.gethostname():
        return False
    started = _started(owner.pid)
    return started is None or started != owner.started


def _started(pid: int) -> str | None:
    """When a process of this host began, in ticks since boot: a process id alone may have been used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None
