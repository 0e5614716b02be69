"""What every method is handed and what it hands back: `fit(train) -> fitted`, `fitted.removed(block) -> Removed`.

A method that works on images (energies normalised as for the network) generates the strain's; one that works on
series predicts the strain's. Both say what they generate as energies, and what is left of the strain without it.

Shapes: E event, W witness, F frequency, T time, N sample.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from glitchflow.data.store import Dataset
from glitchflow.score.former_table import Unit
from glitchflow.signal.types import Array, Energies, Flags, Indices

Read = Callable[[Indices], Energies]  # energies (E, F, T) of ascending event indices


@dataclass(frozen=True)
class Series:
    """Points to the series of the train split, where the store kept them."""

    dataset: Dataset
    events: Indices  # ascending indices
    witnesses: list[str]  # those of a block, in its order
    recorded: list[int]  # places among them of those that are not derived from others


@dataclass(frozen=True)
class Train:
    """Holds the events that methods are fitted to: the first ones of the train split; none where there is no such
    split."""

    inputs: Energies  # (E, W, F, T) normalised images of the witnesses
    target: Energies  # (E, F, T) normalised images of the strain
    witnessed: Energies | None  # (E, F, T) energies of what the witnesses explain of it, synthetic data only
    unit: Unit
    series: Series | None = None
    predictions: Mapping[str, Read] = field(default_factory=dict)  # of networks, by method


@dataclass(frozen=True)
class Block:
    """Holds some events as a method may see them."""

    events: Indices  # (E,) indices in the store
    gps: Array  # (E,) of the middle of the series, s
    images: Energies  # (E, W, F, T) of the witnesses, normalised
    strain: Array | None  # (E, N) in the strain's unit; None where the store kept no series
    witnesses: Array | None  # (E, W, N), each in its own unit
    valid: Flags  # (E, W): False where a witness was missing or dead, its image is 0 then
    rate: float  # Hz, of the series
    witnessed: Energies | None = (
        None  # (E, F, T) the truth, which is handed to no method but those that ask for it
    )


@dataclass(frozen=True)
class Removed:
    """Says what a method takes out of the strain of some events."""

    generated: Energies  # (E, F, T) energies that it says are noise
    left: Energies | None = (
        None  # (E, F, T) energies of the strain without them; None: by spectral subtraction
    )


class Fitted(Protocol):
    """Is what `fit` returns: a method that is ready for any event."""

    def removed(self, block: Block) -> Removed:
        """Return what the method takes out of the strain of a block's events."""


@dataclass(frozen=True)
class Method:
    """Is a row of the table of methods."""

    fit: Callable[[Train], Fitted]
    needs: frozenset[str] = frozenset()  # of network, untrained, train, witnessed, series, recorded, derived
    blind: bool = False  # it looks at no witness
    truth: bool = False  # it is handed what no real method can know: no baseline, but a bound
