"""A run's metrics and figures as TensorBoard reads them.

Written where they are told: tensorboardX's own writer hands them to a thread, which ends with whatever it cannot write
(a disk that is full) or wait for (a clock that was set back by decades), and then a training waits for it for ever.
"""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import Summary, image, scalar


class Board:
    """Appends to a new file in a directory. first: the step from which on a resumed run takes back what was written."""

    def __init__(self, directory: Path, first: int | None = None) -> None:
        directory.mkdir(exist_ok=True)
        self.file = EventsWriter(str(directory / "events"))
        if first is not None:
            start = SessionLog(status=SessionLog.START)
            self.file.write_event(Event(wall_time=time.time(), step=first, session_log=start))

    def number(self, name: str, value: float, step: int) -> None:
        """Add a point to a curve."""
        self._add(scalar(name, value), step)

    def picture(self, name: str, value: NDArray[np.uint8], step: int) -> None:
        """Add an image (height, width, 3)."""
        self._add(image(name, value, dataformats="HWC"), step)

    def _add(self, summary: Summary, step: int) -> None:
        self.file.write_event(Event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Bring what was added to the disk."""
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()
