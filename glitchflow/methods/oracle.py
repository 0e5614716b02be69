"""The perfect mask: the true energy of what the witnesses explain, plus the noise's own.

No image method can do better, and it too takes what else is in the strain there, a signal say.

Shapes: E event, F frequency, T time.
"""

from dataclasses import dataclass

import numpy as np

from glitchflow.methods.method import Block, Removed, Train
from glitchflow.signal.types import Array


@dataclass(frozen=True)
class Oracle:
    """Expects W + r, the mean of the recorded energy given the witnessed one."""

    floor: Array  # (F,)

    def removed(self, block: Block) -> Removed:
        """Return the energies that are expected of a block, from its truth."""
        assert block.truth is not None, "the table of methods says that the oracle needs it"
        return Removed(block.truth.energies + self.floor.astype(np.float32)[:, None])


def fit(train: Train) -> Oracle:
    """Take the noise's energies from the train split."""
    return Oracle(train.floor)
