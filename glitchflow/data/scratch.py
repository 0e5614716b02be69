"""Numbers of many events that memory need not hold: a large array lies in a file without a name."""

import math
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOM = 2**20  # bytes of an array that stays in memory: an evaluation has some forty


def scratch(shape: tuple[int, ...], dtype: Any = np.float64) -> NDArray:
    """Return an array of zeros that goes with its last reference.

    Beyond `ROOM` bytes it lies in a file under TMPDIR, whose pages the machine writes out where it wants the memory.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= ROOM:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="glitchflow-") as file:
        return np.asarray(np.memmap(file, dtype, "w+", shape=shape))  # which keeps the file
