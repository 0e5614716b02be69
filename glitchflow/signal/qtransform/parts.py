"""Parts of the strain, seen as the strain itself was: through its whitening filter, in its plane and its units.

What a glitch adds to the strain, what a method takes out of it, and what is left can then be compared, as whitened
series and as energies.

Shapes: E event, P part of an event's strain, N sample, F frequency, T time of a Q-plot. Energies are dimensionless.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glitchflow.signal.qtransform.transform import QTransform
from glitchflow.signal.types import Array, Energies
from glitchflow.signal.whiten import Filter


@dataclass(frozen=True)
class Seen:
    """Knows how a transform saw the strain of some events."""

    engine: QTransform
    white: Array  # (E, N) of the strain
    filters: Filter | None  # that made it so
    scale: Tensor  # (E,) that spectra are divided by
    plane: Tensor  # (E,) that is shown
    first: Tensor | None  # (E, 2) pixel that a crop begins at
    units: Tensor  # (E, rows) that energies are divided by

    @torch.no_grad()
    def whiten(self, parts: Array) -> Array:
        """Returns parts (E, P, N), in the strain's unit, as the strain's own filters whiten them."""
        values = torch.from_numpy(np.ascontiguousarray(parts, np.float64))
        return (values if self.filters is None else self.filters(values)).numpy()

    @torch.no_grad()
    def energies(self, white: Array) -> Energies:
        """Returns the energies (E, P, F, T), at least 0, of whitened parts (E, P, N)."""
        events, parts, samples = white.shape
        place = torch.arange(events).repeat_interleave(parts)
        values = torch.from_numpy(white).reshape(events * parts, samples)
        step, _ = self.engine._piece(events * parts, 1)
        images: list[Tensor] = []
        for some in place.split(step):
            begin = len(images) * step
            spectrum = self.engine._spectrum(values[begin : begin + len(some)], self.scale[some])
            first = None if self.first is None else self.first[some]
            images.append(self.engine._draw(spectrum, self.plane[some], first, self.units[some]).image)
        drawn = torch.cat(images).clamp_min(0).unflatten(0, (events, parts))
        return drawn.float().numpy()


@torch.no_grad()
def look(engine: QTransform, strain: Array) -> Seen:
    """Looks at the strain (E, N) of some events, in its unit, as an engine does that draws it alone.

    Raises ValueError for a dead strain, unless the engine masks those.
    """
    series, filters, _ = engine._condition(torch.from_numpy(strain)[:, None], 0)
    scale = engine._scale(series)
    spectrum = engine._spectrum(series, scale)
    plane = engine._choose(spectrum)
    _, _, crop, units = engine._draw_events(spectrum, plane)
    mine = None if filters is None else filters.channel(slice(0, 1))
    first = None if crop is None else crop.first
    return Seen(engine, series[:, 0].numpy(), mine, scale[:, 0], plane[:, 0], first, units)
