"""Tiles of one Q plane on a device: energies, medians, loudest tile, complex coefficients and their inverse.

Shapes: B series, K bins of an rfft, R rows of a group (the same number of tiles n each), W window bins.
Units: times s from the series' start, frequencies Hz; a tile's energy is gwpy's, before normalisation, in squared
units of the series (of a whitened one: dimensionless).
"""

from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from glitchflow.signal.batch_invariant import (
    argmax,
    complex_of,
    count_below,
    ifft,
    median,
    squared_modulus,
    take,
)
from glitchflow.signal.qtransform import tiling
from glitchflow.signal.qtransform.qplot import Peak

NEARLY = 1 + 1e-5  # rows that are beaten by less than rounding are ranked


class Rows(nn.Module):
    """Computes the tiles of rows of equal tile count."""

    bins: Tensor
    window: Tensor
    frequencies: Tensor
    phase: Tensor

    def __init__(self, rows: tiling.RowGroup, duration: float, samples: int, dtype: torch.dtype):
        super().__init__()
        self.tiles, self.count, self.step = rows.tiles, len(rows.frequencies), duration / rows.tiles
        # gwpy's spectrum is 2 / samples times the rfft
        window = torch.from_numpy(rows.window * (2 / samples)).to(dtype)
        self.register_buffer("bins", torch.from_numpy(rows.bins), persistent=False)
        self.register_buffer("window", window, persistent=False)
        widths = 2 * rows.half + 1
        self.spans = list(zip(rows.bins[:, 0].tolist(), widths.tolist()))  # first bin and bins of each row
        self.register_buffer("frequencies", torch.from_numpy(rows.frequencies), persistent=False)
        turns = rows.half[:, None] * np.arange(rows.tiles) % rows.tiles / rows.tiles
        phase = torch.from_numpy(np.exp(2j * np.pi * turns)).to(complex_of(dtype))
        self.register_buffer("phase", phase, persistent=False)  # to make it takes longer than the transform

    def forward(self, spectrum: Tensor) -> Tensor:
        """Turns an rfft (B, K) into tiles (B, R, n), up to a phase of each."""
        block = take(spectrum, self.bins)
        block *= self.window
        return ifft(block, self.tiles)

    def energies(self, spectrum: Tensor) -> Tensor:
        """Turns an rfft (B, K) into energies of tiles (B, R, n), before normalisation."""
        return squared_modulus(self(spectrum))

    def coefficients(self, spectrum: Tensor) -> Tensor:
        """Turns an rfft (B, K) into complex tiles (B, R, n); a signal at the row's frequency stands still."""
        return self(spectrum) * self.phase.conj()

    def windowed(self, coefficients: Tensor) -> Tensor:
        """Turns complex tiles (B, R, n) into windowed spectra (B, R, W), windowed again for the inverse."""
        block = torch.fft.fft(coefficients * self.phase)
        return block[..., : self.window.shape[1]] * self.window


class Plane(nn.Module):
    """Computes the tiles of all rows of one Q."""

    unweighted: Tensor

    def __init__(self, plane: tiling.Plane, duration: float, samples: int, dtype: torch.dtype):
        super().__init__()
        self.q, self.frequencies = plane.q, plane.frequencies
        self.groups = nn.ModuleList(Rows(group, duration, samples, dtype) for group in plane.groups)
        self.register_buffer("unweighted", self._unweighted(samples // 2 + 1, dtype), persistent=False)

    def rows(self) -> Iterator[Rows]:
        """Yields the groups of rows, lowest frequencies first."""
        return (cast(Rows, rows) for rows in self.groups)

    def loudest_energy(self, spectrum: Tensor, known: Tensor, limit: Tensor | None = None) -> Tensor:
        """Returns the normalised energy (B,) of the loudest tile, from an rfft (B, K), up to a `limit` (B,) in Hz, or
        what is `known` (B,) already, if that is more.

        A median costs more than the transform. So the row that is loudest before it is normalised comes first, and of
        the others only those whose median is small enough to beat it are ranked: counting tells which.
        """
        every = torch.arange(len(spectrum), device=spectrum.device)
        for rows in self.rows():
            energy = rows.energies(spectrum)
            loudest = energy.amax(-1)
            if limit is not None:
                loudest = loudest * (rows.frequencies <= limit[:, None])
            first = loudest.argmax(1)
            known = torch.maximum(known, loudest[every, first] * _unit(energy[every, first]))
            # of a silent series nothing is known, and no row's loudest tile is more than 0
            enough = loudest * (NEARLY / torch.where(known > 0, known, torch.inf))[:, None]
            may = count_below(energy, enough) >= rows.tiles // 2
            may[every, first] = False
            series, row = may.nonzero(as_tuple=True)
            found = loudest[series, row] * _unit(energy[series, row])
            known = known.scatter_reduce(0, series, found, "amax")
        return known

    def measure(self, spectrum: Tensor, units: Tensor | None = None) -> tuple[list[Tensor], Tensor, Peak]:
        """Turns an rfft (B, K) into energies (B, R, n) of each group, units (B, rows), and the loudest tile.

        An energy times its row's unit is normalised.
        `units` (B, rows) replaces the series' own, for a part of another series.
        """
        energies = [rows.energies(spectrum) for rows in self.rows()]
        if units is None:
            units = torch.cat([_unit(energy) for energy in energies], 1)
        loudest, row = (torch.cat([energy.amax(-1) for energy in energies], 1) * units).max(1)
        time, done = torch.zeros_like(loudest, dtype=torch.float64), 0
        for energy, rows in zip(energies, self.rows(), strict=True):
            here = ((row >= done) & (row < done + rows.count)).nonzero()[:, 0]
            if len(here):
                time[here] = argmax(energy[here, row[here] - done]).double() * rows.step
            done += rows.count
        frequency = torch.cat([rows.frequencies for rows in self.rows()])[row]
        return energies, units, Peak(loudest, time, frequency)

    def inverse(self, coefficients: list[Tensor]) -> Tensor:
        """Turns complex tiles (B, R, n) of each group back into an rfft (B, K), zero where no window reaches.

        The windows are narrower than the number of tiles, so the tiling is a painless frame (Daubechies,
        Grossmann and Meyer 1986): its inverse is the windowed spectra's sum over the sum of squared windows.
        """
        total = coefficients[0].new_zeros(len(coefficients[0]), len(self.unweighted))
        for rows, values in zip(self.rows(), coefficients, strict=True):
            blocks = rows.windowed(values)
            for row, (start, width) in enumerate(rows.spans):
                total[:, start : start + width] += blocks[:, row, :width]
        return total * self.unweighted

    def _unweighted(self, bins: int, dtype: torch.dtype) -> Tensor:
        """One over the sum of squared windows (K,); zero where no window reaches."""
        weight = np.zeros(bins)
        for rows in self.rows():
            for window, (start, width) in zip(rows.window.double().numpy(), rows.spans):
                weight[start : start + width] += np.square(window[:width])
        return torch.from_numpy(np.divide(1, weight, where=weight > 0, out=np.zeros(bins))).to(dtype)


def loudest_plane(planes: Iterable[Plane], spectrum: Tensor, limit: Tensor | None = None) -> Tensor:
    """Returns which of several planes (B,) has the loudest tile of an rfft (B, K), up to a `limit` (B,) in Hz."""
    loudest = torch.zeros_like(spectrum[:, 0].real)
    found = torch.zeros_like(loudest, dtype=torch.int64)
    for index, plane in enumerate(planes):
        energy = plane.loudest_energy(spectrum, loudest, limit)
        found, loudest = torch.where(energy > loudest, index, found), energy
    return found


def _unit(energy: Tensor) -> Tensor:
    """One over each row's median, (B, R, n) -> (B, R); zero for a row without energy."""
    unit = median(energy)
    return torch.where(unit > 0, 1 / unit, torch.zeros_like(unit))
