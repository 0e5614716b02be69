"""What one method made of some events, and which events a score is over.

Shapes: E event, F frequency, T time, N sample of `qplot.span`. Energies are of the strain, dimensionless, through
its own whitening, plane and row medians; series are of the whitened strain.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glitchflow.score import metrics
from glitchflow.signal.types import Array, Energies, Flags

Columns = dict[str, Array]  # by name, a number per event (E,), float64; NaN where it is not defined
BLOCK = (
    64  # events measured at once: of 64 x 128 pixels 2 MB an array, so that a processor's cache holds them
)
ENERGIES = ("recorded", "generated", "cleaned", "wanted", "witnessed")
SERIES = ("strain", "truth", "removed", "transients")


@dataclass(frozen=True)
class Made:
    """Holds what one method made of a block of events, beside what was recorded and what is true."""

    recorded: Energies  # T (E, F, T)
    # G: energies that the method says the strain has; None for one that generates none, as the gate
    generated: Energies | None
    # R: of the strain that is left, series and all; where a store has no series T r / max(G, r)
    cleaned: Energies
    # R*: of s - w; without series `metrics.wanted(T, W, r)`; None where nobody knows the truth
    wanted: Energies | None
    witnessed: Energies | None  # W
    strain: Array | None  # s (E, N); None where the store has no series, as the two below
    truth: Array | None  # w (E, N): transients and shared noise that the witnesses see
    removed: Array | None  # w' (E, N)
    floor: Array  # r (F,): see `skill.floor`
    seeing: bool  # whether G was made without a look at the strain: else its likelihood says nothing
    # (E, N) of w the transients; None where they are all of it: no witness shares stationary noise with the strain
    transients: Array | None = None
    # (E, 2) power of the strain in a band over the window, as recorded and what is left; None where the truth is known
    power: Array | None = None

    def blocks(self) -> Iterator["Made"]:
        """Yields the same, some `BLOCK` events at a time, energies clamped at 0.

        Raises ValueError where shapes differ or energies are not finite.
        """
        arrays = ((name, getattr(self, name)) for name in (*ENERGIES, *SERIES, "power"))
        given = {name: value for name, value in arrays if value is not None}
        for group in (ENERGIES, SERIES):
            shapes = {value.shape for name, value in given.items() if name in group}
            if len(shapes) > 1:
                raise ValueError(f"{', '.join(group)} differ in shape: {sorted(shapes)}")
        for start in range(0, max(1, len(self.recorded)), BLOCK):
            part = {name: value[start : start + BLOCK] for name, value in given.items()}
            part |= {name: metrics.energies(part[name]) for name in ENERGIES if name in part}
            yield replace(self, **part)


@dataclass(frozen=True)
class Who:
    """Says which events a row of scores is over: (E,) each."""

    family: Flags  # the events of a family, or of all witnessed ones together
    glitch: Flags  # those of them whose transients' w has SNR >= 1 in the span
    quiet: Flags  # those in which a method should remove nothing but shared noise
    # seconds of quiet time beside a glitch / span; None on a stretch: as many as there are
    ratio: float | None


Measured = Mapping[str, Columns]  # by method


def families(
    label: NDArray[np.integer], labels: list[str], witnessed: list[str], glitch: Flags, ratio: float | None
) -> dict[str, Who]:
    """Returns the families that occur, by name, and all `witnessed` ones together where there are several.

    The quiet events of a witnessed family are the background; where windows lie as they come (no ratio), as far as no
    glitch reaches into it. Those of one that no witness sees (background itself, blips, chirps) are its own, since
    there is as little to remove from them.

    label: (E,) into `labels`, whose first is background; glitch: (E,) whether w of the transients has SNR >= 1.
    """

    background = label == 0 if ratio is not None else (label == 0) & ~glitch
    masks = {name: label == i for i, name in enumerate(labels)}
    found = {
        n: Who(m, m & glitch & (n in witnessed), background if n in witnessed else m, ratio)
        for n, m in masks.items()
    }
    if len(witnessed) > 1:
        together = np.logical_or.reduce([masks[name] for name in witnessed])
        found["witnessed"] = Who(together, together & glitch, background, ratio)
    return {name: who for name, who in found.items() if who.family.any()}
