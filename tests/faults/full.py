"""Disks that fill while a stage writes: a small tmpfs, which is then made larger."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults.cases import changed
from faults.interruptions import GIVEN, MORE, again, copy, essence, words
from helpers import run_here

BLOCK, ROOM = 4096, 64 << 20  # bytes: of a tmpfs, and of one that is large enough


@dataclass(frozen=True)
class Full:
    """A stage, and the share of what it writes for which there is room."""

    stage: str
    share: float

    @property
    def name(self) -> str:
        return f"{self.stage}: room for {self.share:.0%}"


FULL = [Full(stage, share) for stage in GIVEN for share in (0.02, 0.5)]


def judge(case: Full, places: dict[str, Path], whole: Path, directory: Path) -> str:
    """What is wrong with how a command meets a disk that fills; empty where nothing is.

    It ends with status 1 and a line, what it was given is as it was, and given again where there is room it leaves
    every file of a run that had room from the beginning.
    """
    given = size(copy(case.stage, places, directory / "given"))
    with disk(directory / "disk", given + int(case.share * (size(whole) - given))) as mounted:
        place = copy(case.stage, places, mounted / "place")
        before = essence(place)
        with contextlib.chdir(place):
            done = run_here(*words(case.stage))
        last = (done.stderr.splitlines() or [""])[-1]
        after = essence(place)
        if done.returncode != 1 or "Traceback" in done.stderr or not last.startswith("glitchflow: "):
            return f"status {done.returncode}, no line of ours: {done.stderr[-800:]}"
        if lost := changed(before, {name: after.get(name, "") for name in before}):
            return lost
        mount(mounted, ROOM, "remount,")
        if said := again(case.stage, place):
            return said
        after, end = essence(place), essence(whole)
        return changed(end, {n: value for n, value in after.items() if n in end or not MORE.search(n)})


def size(place: Path) -> int:
    """Bytes that a tmpfs needs for a place: whole blocks of files, nothing for directories; one for a lease."""
    sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
    return BLOCK * (1 + sum(-(-bytes_ // BLOCK) for bytes_ in sizes))


def mount(at: Path, room: int, how: str = "") -> None:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"{how}size={room}", "none", str(at)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr.strip()}")


@contextlib.contextmanager
def disk(at: Path, room: int) -> Iterator[Path]:
    """A file system of its own, with so many bytes."""
    at.mkdir()
    mount(at, room)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)
