"""One driver at a time: a lease on a store or a directory with its owner's heartbeat, taken over when the owner is
dead or silent.

The lease is an object in the place itself, so that it works over every host that can reach the place.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from glitchflow.data import objects
from glitchflow.errors import RunError
from glitchflow.progress import say

NAME = ".lease.json"
BEAT = 5.0  # s between heartbeats
WATCH = 0.5  # s between looks at another one's
SILENT = 30.0  # s without one after which an owner counts as gone; clocks of hosts may differ by some of it


class Held(RunError):
    """Another driver is at it."""


@contextlib.contextmanager
def hold(path: objects.Location, place: objects.Place | None = None) -> Iterator[Callable[[], None]]:
    """Hold the lease of a store for the length of the block; yields a check that it has not been taken over.

    `place`: where the lease is kept, if `path` is not a store. Of an owner on another host one heartbeat is awaited:
    after a power cut a job comes back sooner than its own lease falls silent.
    Raises `Held` where another driver holds it, `RunError` from the check where one has taken it.
    """
    group = place or objects.open_group(path, "r+")
    mine = {
        "id": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }
    with objects.writing(path, "cannot be written"):
        _take(path, group, mine)
    stop, lost = threading.Event(), threading.Event()
    thread = threading.Thread(target=_beat, args=(group, mine, stop, lost), daemon=True)
    thread.start()

    def check() -> None:
        if lost.is_set():
            raise RunError(f"{path}: another run has taken it over, after {SILENT:g} s of silence from here")

    try:
        yield check
    finally:
        stop.set()
        thread.join()
        if (objects.get(group, NAME) or {}).get("id") == mine["id"]:
            objects.delete(group, NAME)


def _take(path: objects.Location, group: objects.Place, mine: dict[str, Any]) -> None:
    owner = objects.get(group, NAME)
    if owner is None:
        objects.put_new(group, NAME, mine | {"time": time.time()})
    else:
        _wait_for(path, group, owner)
        objects.put(group, NAME, mine | {"time": time.time()})
        time.sleep(0.2)  # another may be taking it over at this moment: the last to write has it
    owner = objects.get(group, NAME)
    if owner is None or owner["id"] != mine["id"]:
        _refuse(path, owner or mine)


def _wait_for(path: objects.Location, group: objects.Place, owner: dict[str, Any]) -> None:
    """Return when the owner is gone; refuse where its heart beats, which of a process of this host is known at once."""
    said = False
    while _alive(owner):
        latest = objects.get(group, NAME) or {"time": 0.0}
        if owner["host"] == socket.gethostname() or latest["time"] > owner["time"]:
            _refuse(path, owner)
        if not latest["time"]:  # given back meanwhile
            return
        if not said:
            say(f"{path}: waiting for a sign of life of process {owner['pid']} on {owner['host']}")
            said = True
        time.sleep(WATCH)


def _refuse(path: objects.Location, owner: dict[str, Any]) -> None:
    age = max(0.0, time.time() - owner.get("time", time.time()))
    raise Held(
        f"{path}: another run is writing it (process {owner['pid']} on {owner['host']}, heard of {age:.0f} s ago);"
        f" wait for it, or end it: {SILENT:g} s after its last heartbeat it can be taken over"
    )


def _alive(owner: dict[str, Any]) -> bool:
    if time.time() - owner["time"] > SILENT:
        return False
    if owner["host"] != socket.gethostname():
        return True
    return _started(owner["pid"]) == owner["started"] is not None


def _started(pid: int) -> str | None:
    """When a process of this host began, in ticks since boot: a process id alone may have been used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def _beat(group: objects.Place, mine: dict[str, Any], stop: threading.Event, lost: threading.Event) -> None:
    while not stop.wait(BEAT):
        with contextlib.suppress(OSError):  # a file system that is away for a moment: the next beat will tell
            if (objects.get(group, NAME) or mine)["id"] != mine["id"]:
                lost.set()
                return
            objects.put(group, NAME, mine | {"time": time.time()})
