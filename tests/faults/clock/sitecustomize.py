"""The clock of a process and of all Python that it starts, as many s ahead as a file says that GLITCHFLOW_CLOCK names.

Python imports this by itself where its directory is on PYTHONPATH. What `time.time` says is set, and what waits is not,
as where somebody sets a machine's clock.
"""

import os
import time
from pathlib import Path

FILE, real = Path(os.environ["GLITCHFLOW_CLOCK"]), time.time


def now() -> float:
    """The time by that clock, in s since 1970."""
    return real() + float(FILE.read_text())


time.time, time.time_ns = now, lambda: int(now() * 1e9)
