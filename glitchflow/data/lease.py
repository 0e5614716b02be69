"""One driver at a time: a lease on a store with its owner's heartbeat, taken over when the owner is dead or silent.

The lease is an object in the store itself, so that it works over every host that can reach the store.
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

import zarr

from glitchflow.config import RunError
from glitchflow.data import objects

NAME = ".lease.json"
BEAT = 5.0  # s between heartbeats
SILENT = 30.0  # s without one after which an owner counts as gone; clocks of hosts may differ by some of it


@contextlib.contextmanager
def hold(path: objects.Location) -> Iterator[Callable[[], None]]:
    """Hold the lease of a store for the length of the block; yields a check that it has not been taken over.

    Raises `RunError` where another driver holds it, and from the check where one has taken it.
    """
    group = objects.open_group(path, "r+")
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
            raise RunError(
                f"{path}: another driver has taken this store over, after {SILENT:g} s of silence from here"
            )

    try:
        yield check
    finally:
        stop.set()
        thread.join()
        if (objects.get(group, NAME) or {}).get("id") == mine["id"]:
            objects.delete(group, NAME)


def _take(path: objects.Location, group: zarr.Group, mine: dict[str, Any]) -> None:
    owner = objects.get(group, NAME)
    if owner is None:
        objects.put_new(group, NAME, mine | {"time": time.time()})
    elif _alive(owner):
        _refuse(path, owner)
    else:
        objects.put(group, NAME, mine | {"time": time.time()})
        time.sleep(0.2)  # another may be taking it over at this moment: the last to write has it
    owner = objects.get(group, NAME)
    if owner is None or owner["id"] != mine["id"]:
        _refuse(path, owner or mine)


def _refuse(path: objects.Location, owner: dict[str, Any]) -> None:
    age = max(0.0, time.time() - owner.get("time", time.time()))
    raise RunError(
        f"{path}: another driver is writing it (process {owner['pid']} on {owner['host']}, heard of {age:.0f} s ago);"
        f" wait for it, or end it: {SILENT:g} s after its last heartbeat this store can be taken over"
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


def _beat(group: zarr.Group, mine: dict[str, Any], stop: threading.Event, lost: threading.Event) -> None:
    while not stop.wait(BEAT):
        with contextlib.suppress(OSError):  # a file system that is away for a moment: the next beat will tell
            if (objects.get(group, NAME) or mine)["id"] != mine["id"]:
                lost.set()
                return
            objects.put(group, NAME, mine | {"time": time.time()})
