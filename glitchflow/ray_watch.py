"""Watches over the processes of a Ray that was started here, without which Ray ends this process and says nothing.

    GCS, raylet -> its two agents; the kernel tells at once when one of them has ended

Ray's own way is an exit within its C++ part, status 1, a quarter of a minute later or at once. No Python runs after
it, so that the line has to be said before it.
"""

import contextlib
import fcntl
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SIGNAL = 0.05  # s in which a signal to all processes of a job has reached this one too
LOOK = 0.2  # s between two looks for agents that have not begun yet, or not called themselves so
LATE = 120.0  # s after which none is looked for any more: a raylet has given up one that has not come by then
# what is in an agent's command line, as it is started and as it calls itself a moment later: its name
AGENTS = {
    "/dashboard/agent.py": "dashboard agent",
    "DashboardAgent": "dashboard agent",
    "/runtime_env/agent/": "runtime environment agent",
    "RuntimeEnvAgent": "runtime environment agent",
}


@contextlib.contextmanager
def watched(processes: dict[str, int], logs: Path, end: Callable[[], object]) -> Iterator[None]:
    """Within the block, end this process with status 1 and a line where one of its Ray's processes has ended.

    processes: process ids by name; a raylet's agents are found under its own. logs: named in the line. end: called
    after it, to end what is left of Ray. Where this process was told to end as well, as by a signal to all of a job, it
    is left to do so in order, with a last line of its own. Where the kernel has no process descriptors (Linux before
    5.3, macOS) nothing is watched.
    """
    if not hasattr(os, "pidfd_open"):
        yield
        return
    with contextlib.ExitStack() as opened:

        def kept(descriptor: int) -> int:
            if descriptor <= 2:  # the number of an output that is closed: what is written there is not for us
                high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
                os.close(descriptor)
                return kept(high)
            opened.callback(os.close, descriptor)
            return descriptor

        nothing = kept(os.open(os.devnull, os.O_WRONLY))
        (told, tell), (heard, hears) = map(kept, os.pipe()), map(kept, os.pipe())
        those = _Processes(processes, told, kept)

        def wait() -> None:
            name = those.first_to_end()
            if name is None or select.select([heard], [], [], 0)[0]:
                return
            with _last_word(name, logs, nothing):
                if not select.select([heard], [], [], SIGNAL)[0]:
                    with contextlib.suppress(Exception):  # half of it is gone
                        end()
                    os._exit(1)

        thread = threading.Thread(target=wait, daemon=True)
        before = _tell_signals(hears)
        if before is not None:
            opened.callback(signal.set_wakeup_fd, before)
        thread.start()
        try:
            yield
        finally:
            os.write(tell, b".")
            thread.join()


class _Processes:
    """A Ray's processes by name, its raylet's agents among them once they are there."""

    def __init__(self, processes: dict[str, int], told: int, kept: Callable[[int], int]) -> None:
        self.raylet, self.told, self.kept, self.poll = processes["raylet"], told, kept, select.poll()
        self.until = time.monotonic() + LATE
        self.found: dict[int, str] = {}  # by descriptor
        self.poll.register(told, select.POLLIN)
        self.add(processes | _agents(self.raylet))

    def add(self, there: dict[str, int]) -> None:
        """Wait for these too, process ids by name."""
        for name, pid in there.items():
            if name not in self.found.values():
                with contextlib.suppress(OSError):  # it has ended: Ray itself is about to say so
                    opened = self.kept(os.pidfd_open(pid))
                    self.found[opened] = name
                    self.poll.register(opened, select.POLLIN)

    def first_to_end(self) -> str | None:
        """Wait; the name of who has ended, or None where `told` can be read first."""
        while True:
            all_there = set(AGENTS.values()) <= set(self.found.values()) or time.monotonic() > self.until
            ready = [descriptor for descriptor, _ in self.poll.poll(None if all_there else 1000 * LOOK)]
            if self.told in ready:
                return None
            if ready:
                # a raylet ends at once after its agent, an agent seconds after its raylet: the cause is said
                ended = [self.found[descriptor] for descriptor in ready]
                return next((name for name in ended if name in AGENTS.values()), ended[0])
            self.add(_agents(self.raylet))  # on a busy machine an agent comes seconds after its raylet


def _tell_signals(pipe: int) -> int | None:
    """Have the number of each signal written as it comes, long before Python's handler runs in a busy main thread.

    Returns where they were written before; None in other threads, which Python lets ask for no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    os.set_blocking(pipe, False)
    return signal.set_wakeup_fd(pipe, warn_on_full_buffer=False)


def _agents(raylet: int) -> dict[str, int]:
    """The agents among a raylet's children, by what they are called."""
    agents: dict[str, int] = {}
    with contextlib.suppress(OSError):  # a kernel that lists no children
        for child in Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split():
            title = Path(f"/proc/{child}/cmdline").read_text(errors="replace")  # any bytes may be in it
            agents |= {name: int(child) for key, name in AGENTS.items() if key in title}
    return agents


@contextlib.contextmanager
def _last_word(name: str, logs: Path, nothing: int) -> Iterator[None]:
    """Say at once who has ended: Ray ends this process some milliseconds later, and on a busy machine each call that
    lets go of Python's lock takes as long. Nobody else says anything within the block, neither other threads nor Ray,
    which does so on standard output too.

    nothing: /dev/null.
    """
    line = f"glitchflow: Ray's {name} has ended (its logs: {logs}); the same command goes on\n".encode()
    with contextlib.ExitStack() as silent:
        _silence(2, nothing, silent, line)
        with contextlib.suppress(Exception):  # closed, or a pipe that nobody reads
            sys.stdout.flush()
        _silence(1, nothing, silent)
        yield


def _silence(number: int, nothing: int, until: contextlib.ExitStack, line: bytes = b"") -> None:
    """Have an output lead nowhere, if it is open, after a line to where it led."""
    with contextlib.suppress(OSError):  # closed, or a terminal that is gone
        copy = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)  # never the number of an output that is closed
        until.callback(os.close, copy)
        until.callback(os.dup2, copy, number)
        os.dup2(nothing, number)
        os.write(copy, line)
