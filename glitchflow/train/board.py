"""A run's metrics and figures as TensorBoard reads them.

Written where they are told: tensorboardX's own writer hands them to a thread, which ends with whatever it cannot write
(a disk that is full) or wait for (a clock that was set back by decades), and then a training waits for it for ever.
"""

import re
import socket
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import Summary, image, scalar


class Board:
    """Appends to a new file in a directory. first: the step from which on a resumed run takes back what was written."""

    def __init__(self, directory: Path, first: int | None = None) -> None:
        directory.mkdir(exist_ok=True)
        self.file, self.lock = RecordWriter(str(directory / _name(directory))), threading.Lock()
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if first is not None:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=first, session_log=start))

    def number(self, name: str, value: float, step: int) -> None:
        """Add a point to a curve."""
        self._add(scalar(name, value), step)

    def picture(self, name: str, value: NDArray[np.uint8], step: int) -> None:
        """Add an image (height, width, 3)."""
        self._add(image(name, value, dataformats="HWC"), step)

    def _add(self, summary: Summary, step: int) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Event) -> None:
        with self.lock:  # a figure is drawn in a thread
            self.file.write(event.SerializeToString())

    def flush(self) -> None:
        """Bring what was added to the disk."""
        with self.lock:
            self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.flush()
        self.file.close()


def _name(directory: Path) -> str:
    """A name that comes after those there are: TensorBoard reads a run's files in the order of their names, whatever a
    clock said that was set, and how soon a run is resumed."""
    found = (re.match(r"events\.out\.tfevents\.(\d{10})\.", path.name) for path in directory.iterdir())
    after = (int(name[1]) + 1 for name in found if name)
    return f"events.out.tfevents.{max(0, int(time.time()), *after):010d}.{socket.gethostname()}"
