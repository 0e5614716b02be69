"""How what goes on for days is told to stop: after what is in hand, with nothing torn in between."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from glitchflow.signals import heard


class Stop(Protocol):
    """What a `threading.Event` is, as far as it is needed."""

    def is_set(self) -> bool:
        """Say whether to stop."""

    def wait(self, timeout: float) -> bool:
        """Wait for that, for so many s at most."""


@contextmanager
def ended() -> Iterator[threading.Event]:
    """Give what is set by SIGTERM, SIGUSR1 or Ctrl-C, which stop nothing in between."""
    event = threading.Event()
    with heard(lambda *_: event.set()):
        yield event
