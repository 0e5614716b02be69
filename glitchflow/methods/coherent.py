"""A coherent network as a method: its estimate is read, and its templates are fitted to the strain that it is shown.

Shapes: E event, W witness, N sample.
"""

from dataclasses import dataclass

import numpy as np

from glitchflow.methods.method import Block, Read, Removed
from glitchflow.twin.coherent import fitted
from glitchflow.twin.front import Front


@dataclass(frozen=True)
class Subtraction:
    """Subtracts what a coherent network estimated of a block's events, and the fit to what that leaves."""

    estimate: Read  # (E, N) in the strain's unit, from witnesses alone
    front: Front
    witnesses: list[str]  # of a block, in its order

    def removed(self, block: Block) -> Removed:
        """Return y + q for a block's strain."""
        assert block.strain is not None and block.witnesses is not None, "what has an estimate has series"
        places = [self.witnesses.index(name) for name in self.front.channels[1:]]
        series = np.concatenate([block.strain[:, None], block.witnesses[:, places]], axis=1)
        return Removed(series=fitted(self.front, series, self.estimate(block.events).astype(np.float64)))
