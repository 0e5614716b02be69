"""Tiles of one Q plane on a device: energies, medians, loudest tile, complex coefficients and their inverse.

Shapes: B series, K bins of an rfft, R rows of a group (the same number of tiles n each), W window bins.
Units: times s from the series' start, frequencies Hz; a tile's energy is gwpy's, before normalisation, in squared
units of the series (of a whitened one: dimensionless).
"""

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from glitchflow.signal.batch_invariant import argmax, ifft, mean, median, squared_modulus, take
from glitchflow.signal.qtransform import tiling
from glitchflow.signal.qtransform.qplot import Peak


class Rows(nn.Module):
    """Computes the tiles of rows of equal tile count; `search` (s) is where the loudest is sought."""

    bins: Tensor
    window: Tensor
    reach: Tensor
    frequencies: Tensor

    def __init__(
        self,
        rows: tiling.RowGroup,
        duration: float,
        samples: int,
        search: tuple[float, float] | None,
        dtype: torch.dtype,
    ):
        super().__init__()
        self.tiles, self.count, self.step = rows.tiles, len(rows.frequencies), duration / rows.tiles
        self.search = slice(0, rows.tiles)
        if search is not None:
            first, last = (int(edge // self.step) for edge in search)
            self.search = slice(first, rows.tiles if search[1] >= duration else max(last, first + 1))
        # gwpy's spectrum is 2 / samples times the rfft
        window = torch.from_numpy(rows.window * (2 / samples)).to(dtype)
        self.register_buffer("bins", torch.from_numpy(rows.bins), persistent=False)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("reach", torch.from_numpy(rows.half), persistent=False)
        self.register_buffer("frequencies", torch.from_numpy(rows.frequencies), persistent=False)

    def forward(self, spectrum: Tensor, tiles: int | None = None) -> Tensor:
        """Turns an rfft (B, K) into tiles (B, R, n), up to a phase of each; or into more than n."""
        block = take(spectrum, self.bins)
        block *= self.window
        return ifft(block, tiles or self.tiles)

    def energies(self, spectrum: Tensor) -> Tensor:
        """Turns an rfft (B, K) into energies of tiles (B, R, n), before normalisation."""
        return squared_modulus(self(spectrum))

    def coefficients(self, spectrum: Tensor, tiles: int) -> Tensor:
        """Turns an rfft (B, K) into complex tiles (B, R, tiles); a signal at the row's frequency stands still."""
        return self(spectrum, tiles) * self._phase(tiles).conj() * (tiles / self.tiles)

    def windowed(self, coefficients: Tensor) -> Tensor:
        """Turns complex tiles (B, R, tiles) into windowed spectra (B, R, W), windowed again for the inverse."""
        tiles = coefficients.shape[-1]
        block = torch.fft.fft(coefficients * self._phase(tiles) * (self.tiles / tiles))
        return block[..., : self.window.shape[1]] * self.window

    def _phase(self, tiles: int) -> Tensor:
        turns = self.reach[:, None] * torch.arange(tiles, device=self.reach.device) % tiles / tiles
        phase = torch.polar(torch.ones_like(turns, dtype=torch.float64), 2 * np.pi * turns.double())
        return phase.to(torch.complex64 if self.window.dtype == torch.float32 else torch.complex128)


class Plane(nn.Module):
    """Computes the tiles of all rows of one Q."""

    def __init__(
        self,
        plane: tiling.Plane,
        duration: float,
        samples: int,
        search: tuple[float, float] | None,
        norm: str,
        dtype: torch.dtype,
    ):
        super().__init__()
        self.q, self.norm = plane.q, norm
        self.frequencies = plane.frequencies
        self.groups = nn.ModuleList(Rows(group, duration, samples, search, dtype) for group in plane.groups)

    def rows(self) -> Iterator[Rows]:
        """Yields the groups of rows, lowest frequencies first."""
        return (cast(Rows, rows) for rows in self.groups)

    def loudest_energy(self, spectrum: Tensor) -> Tensor:
        """Returns the normalised energy (B,) of the loudest tile in the search window, from an rfft (B, K)."""
        found = []
        for rows in self.rows():
            energy = rows.energies(spectrum)
            found.append(energy[..., rows.search].amax(-1) * self._unit(energy))
        return torch.cat(found, 1).amax(1)

    def measure(self, spectrum: Tensor, units: Tensor | None = None) -> tuple[list[Tensor], Tensor, Peak]:
        """Turns an rfft (B, K) into energies (B, R, n) of each group, units (B, rows), and the loudest tile.

        An energy times its row's unit is normalised.
        `units` (B, rows) replaces the series' own, for a part of another series.
        """
        energies = [rows.energies(spectrum) for rows in self.rows()]
        if units is None:
            units = torch.cat([self._unit(energy) for energy in energies], 1)
        peaks = [e[..., rows.search].amax(-1) for e, rows in zip(energies, self.rows(), strict=True)]
        loudest, row = (torch.cat(peaks, 1) * units).max(1)
        time, done = torch.zeros_like(loudest, dtype=torch.float64), 0
        for energy, rows in zip(energies, self.rows(), strict=True):
            here = ((row >= done) & (row < done + rows.count)).nonzero()[:, 0]
            if len(here):
                line = energy[here, row[here] - done]
                time[here] = (argmax(line[:, rows.search]) + rows.search.start).double() * rows.step
            done += rows.count
        frequency = torch.cat([rows.frequencies for rows in self.rows()])[row]
        return energies, units, Peak(loudest, time, frequency)

    def _unit(self, energy: Tensor) -> Tensor:
        """Returns one over each row's median or mean, (B, R, n) -> (B, R); zero for a row without energy."""
        if self.norm == "none":
            return torch.ones_like(energy[..., 0])
        unit = median(energy) if self.norm == "median" else mean(energy)[..., 0]
        return torch.where(unit > 0, 1 / unit, torch.zeros_like(unit))

    def coefficients(self, spectrum: Tensor, equal: bool) -> list[Tensor]:
        """Turns an rfft (B, K) into complex tiles (B, R, n) of each group; `equal`: n of the highest row in all."""
        most = max(rows.tiles for rows in self.rows())
        return [rows.coefficients(spectrum, most if equal else rows.tiles) for rows in self.rows()]

    def inverse(self, coefficients: list[Tensor], bins: int) -> Tensor:
        """Turns complex tiles (B, R, n) of each group back into an rfft (B, K), zero where no window reaches.

        The windows are narrower than the number of tiles, so the tiling is a painless frame (Daubechies,
        Grossmann and Meyer 1986): its inverse is the windowed spectra's sum over the sum of squared windows.
        """
        total = coefficients[0].new_zeros(len(coefficients[0]), bins)
        weight = torch.zeros(bins, dtype=torch.float64, device=total.device)
        for rows, values in zip(self.rows(), coefficients, strict=True):
            blocks = rows.windowed(values)
            for row, reach in enumerate(rows.reach.tolist()):
                width, start = 2 * reach + 1, int(rows.bins[row, 0])
                total[:, start : start + width] += blocks[:, row, :width]
                weight[start : start + width] += rows.window[row, :width].double().square()
        return total * torch.where(weight > 0, 1 / weight, torch.zeros_like(weight)).to(total.real.dtype)
