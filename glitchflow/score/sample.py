"""What is scored: the energies of some events, and what each method made of them.

Shapes: E event that is scored, W witness, F frequency, T time.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glitchflow.score import metrics
from glitchflow.signal.types import Energies


@dataclass(frozen=True)
class Sample:
    """Holds the events that are scored, with what every method generated for them."""

    events: NDArray[np.int64]  # (E,) indices in the store
    label: NDArray[np.int8]
    gps: NDArray[np.float64]
    snr: NDArray[np.float32]
    loudness: NDArray[np.float64]  # (E, W) of the witnesses that the network sees
    recorded: Energies  # (E, F, T)
    witnessed: Energies | None  # (E, F, T), synthetic data only
    generated: dict[str, Energies]  # by method, the network first
    residual: dict[str, Energies] = field(
        default_factory=dict
    )  # of those that do not clean by spectral subtraction

    def cleaned(self, name: str) -> Energies:
        """Returns the energies (E, F, T) that a method leaves of the recorded ones."""
        found = self.residual.get(name)
        return metrics.subtract(self.recorded, self.generated[name]) if found is None else found

    def families(self, labels: list[str], witnessed: list[str]) -> dict[str, NDArray[np.bool_]]:
        """Returns masks (E,) of each family that occurs, and of all `witnessed` ones together where there are several.

        labels: names by number, as the store has them.
        """
        masks = {name: self.label == i for i, name in enumerate(labels)}
        together = [masks[name] for name in witnessed]
        if len(together) > 1:
            masks["witnessed"] = np.logical_or.reduce(together)
        return {name: mask for name, mask in masks.items() if mask.any()}
