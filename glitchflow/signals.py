"""The signals by which a run is told to end."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# SIGUSR1: what Slurm is asked to send before the walltime
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@contextmanager
def heard(hear: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Within the block they call `hear`; outside the main thread, which Python delivers none to, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, hear) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
