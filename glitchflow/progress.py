"""Progress of a stage: a bar on a terminal, plain lines elsewhere; nothing where `QUIET` is in the environment."""

import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

QUIET = "GLITCHFLOW_QUIET"  # in the environment, so that what a stage starts keeps to it too: anything but empty or 0


def said(name: str) -> bool:
    """Whether a variable of the environment says yes."""
    return os.environ.get(name, "") not in ("", "0")


@contextlib.contextmanager
def track(
    total: int, label: str, unit: str, done: int = 0, every: float = 5.0
) -> Iterator[Callable[[int], None]]:
    """Yield `advance(count)`. Where there is no terminal, a line at most `every` seconds and one at the end.

    The speed is that since the first parts came: workers that have yet to start say nothing of how long the rest takes.
    """
    if sys.stderr.isatty() and not said(QUIET):
        with tqdm(total=total, initial=done, desc=label, unit=f" {unit}") as bar:
            yield lambda count: bar.update(count) and None
        return
    start = last = time.monotonic()
    count, first = done, (0.0, 0)  # when the first part came, and how much there was then

    def advance(more: int) -> None:
        nonlocal count, last, first
        count += more
        now = time.monotonic()
        first = first if first[1] else (now, count)
        if now - last < every and count != total:
            return
        last, line = now, f"{label}: {count}/{total} {unit}"
        since, before = (start, done) if count == total else first
        if count > before:
            rate = (count - before) / max(now - since, 1e-9)
            line += f", {rate:.1f} {unit}/s, {(total - count) / rate:.0f} s left"
        say(line)

    yield advance


def say(line: str) -> None:
    """One line of what a stage is doing, on standard error: standard output is for results."""
    if said(QUIET):
        return
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def said_once() -> Callable[[object, str], None]:
    """What takes the lines that parts of a stage return: of each it says the first, and of an empty one nothing."""
    heard = functools.cache(say)
    return lambda _part, line: heard(line) if line else None


def log(path: Path, line: str) -> None:
    """Append one line to a log that several processes share."""
    with path.open("a") as file:
        file.write(line + "\n")


@contextlib.contextmanager
def follow(path: Path, every: float = 0.5) -> Iterator[None]:
    """Show the lines that others append to a log while the block runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    stop = threading.Event()
    with path.open() as file:
        file.seek(0, 2)

        def show() -> None:
            last = False
            while not last:
                last = stop.wait(every)  # after the end, once more for the last lines
                for line in file:
                    say(line.rstrip("\n"))

        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
