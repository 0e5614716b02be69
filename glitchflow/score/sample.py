"""What was scored: some events, and the numbers that every method got for each of them.

Shapes: E event that is scored, W witness, T time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glitchflow.score.made import Columns, Who, families
from glitchflow.signal.types import Array


@dataclass(frozen=True)
class Scored:
    """Holds the events that were scored, with every method's numbers."""

    events: NDArray[np.int64]  # (E,) indices in the store
    label: NDArray[np.integer]
    gps: Array
    snr: NDArray[np.float32]
    loudness: Array  # (E, W) of the witnesses that the network sees
    columns: dict[str, Columns]  # by method, the network first
    covered: dict[str, NDArray[np.uint8]]  # (E, T) by method, and `levels.RECORDED`: where clusters lie

    def add(self, columns: Mapping[str, Columns]) -> None:
        """Adds columns by method to those that each has."""
        for name, more in columns.items():
            self.columns[name].update(more)

    def families(self, labels: list[str], witnessed: list[str], ratio: float | None) -> dict[str, Who]:
        """Returns the events of each family that occurs; see `made.families`.

        A glitch is one of which the strain shows something: transients in w of SNR 1 at least, or of a witnessed family
        where a store has no series.
        """
        first = next(iter(self.columns.values()))
        power = first.get("transients2", first.get("witnessed2"))
        seen = np.ones(len(self.label), bool) if power is None else power >= 1
        return families(self.label, labels, witnessed, seen, ratio)


def join(parts: Sequence[Columns]) -> Columns:
    """Returns the columns of all events of consecutive parts."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
