"""How what goes on for days is told to stop: after what is in hand, with nothing torn in between."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Stop(Protocol):
    """What a `threading.Event` is, as far as it is needed."""

    def is_set(self) -> bool:
        """Say whether to stop."""

    def wait(self, timeout: float) -> bool:
        """Wait for that, for so many s at most."""


@contextmanager
def ended() -> Iterator[threading.Event]:
    """Give what is set by SIGTERM, SIGUSR1 or Ctrl-C, which stop nothing in between."""
    event, before = threading.Event(), {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            before[number] = signal.signal(number, lambda *_: event.set())
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
