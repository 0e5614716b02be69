"""The Q-transform of a batch of series, with the numbers of gwpy's `TimeSeries.q_transform`.

For a given (duration, rate, qrange, frange, output grid) everything but the data is a constant, built once:

    series (E, C, N) --whiten--> --rfft--> spectrum --gather, window, inverse FFT, |.|^2--> energies of tiles
    --divide by each row's median, choose the plane of the loudest tile--> --splines--> Q-plot

Shapes: E events, C channels (0 is the strain), N samples; B series (some of E x C), K bins of an rfft; R rows of a
group, W window bins, n tiles of a row; F, T the output's frequencies and times.
Units: energies are dimensionless (norm "median": 1 is a row's median), times s from the series' start, Hz.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from glitchflow.signal.spline import SplineMap
from glitchflow.signal.tiling import RowGroup, build_tiling
from glitchflow.signal.whiten import WhiteningFilter, design_filter, estimate_asd, rfft

NORMS = ("median", "mean", "none")


@dataclass(frozen=True)
class Peak:
    """The loudest tile of each series' plane, each (E, C): normalised energy, s from the start, Hz."""

    energy: Tensor
    time: Tensor
    frequency: Tensor


@dataclass(frozen=True)
class QPlot:
    """A batch of Q-plots.

    energy: (E, C, F, T), unclamped: splines undershoot below zero. q: (E, C) of the plane shown.
    frequencies, times: (F,) Hz and (T,) s from the series' start; (E, F) and (E, T) where a crop moves with the event.
    valid: (E, C), False where the series was dead and its energies are zeros (`invalid="mask"`).
    companion: (E, F, T), energies of a part of the strain in the strain's own units, where one was given.
    """

    energy: Tensor
    q: Tensor
    frequencies: Tensor
    times: Tensor
    peak: Peak
    valid: Tensor
    companion: Tensor | None = None


@dataclass(frozen=True)
class _Shown:
    """What a scan found: per series (B,) plane index and loudest tile, and (B, rows) medians of that plane."""

    plane: Tensor
    energy: Tensor
    time: Tensor
    frequency: Tensor
    median: Tensor


class _Rows(nn.Module):
    """Constants of one RowGroup on the device: gather, window, and the tiles of the peak search."""

    bins: Tensor
    window: Tensor
    frequencies: Tensor

    def __init__(
        self, rows: RowGroup, duration: float, scale: float, search: tuple[float, float] | None, dtype
    ):
        super().__init__()
        self.tiles, self.count, self.step = rows.tiles, len(rows.frequencies), duration / rows.tiles
        self.search = slice(0, rows.tiles)
        if search is not None:
            self.search = slice(int(search[0] // self.step), max(int(search[1] // self.step), 1))
        self.register_buffer("bins", torch.from_numpy(rows.bins), persistent=False)
        self.register_buffer("window", torch.from_numpy(rows.window * scale).to(dtype), persistent=False)
        self.register_buffer("frequencies", torch.from_numpy(rows.frequencies), persistent=False)

    def forward(self, spectrum: Tensor) -> Tensor:
        """(B, K) spectra -> (B, R, n) complex tiles, up to a phase."""
        block = torch.view_as_real(spectrum[:, self.bins]) * self.window[..., None]
        return torch.fft.ifft(torch.view_as_complex(block), n=self.tiles)

    def energies(self, spectrum: Tensor) -> Tensor:
        """(B, K) spectra -> (B, R, n) energies, not normalised."""
        tiles = self(spectrum)
        return tiles.real.square() + tiles.imag.square()


class QTransform(nn.Module):
    """Q-plots of (event, channel, sample) series; see `forward`. gwpy's names, meanings and defaults.

    duration (s) and sample_rate (Hz) of every series. qrange: lowest and highest Q, or one fixed `q`. frange: Hz.
    mismatch: largest loss between tiles. norm: "median", "mean" or "none" (then float64, as gwpy).
    Grid: tres (s, default a thousandth of outseg), fres (Hz, default 0.5; with logf the number of rows, default
    500), outseg (start, stop) in s from the series' start, or `shape` (F, T): F rows over frange (geometric with
    logf), T columns evenly over outseg. crop: N or (F, T) pixels around the strain's loudest pixel, moved inside.
    select: "strain": every channel shows the plane of the strain's loudest tile; "channel": each its own.
    gps, search: choose the plane by tiles within search / 2 of gps (s from the start) only.
    whiten: True, False, or an ASD (A,) or (C, A) on 0 ... Nyquist; fduration, highpass, fftlength, overlap,
    asd_method: see `whiten.py`. invalid: "raise" or "mask" dead series. dtype: of everything after whitening.

    Raises ValueError for a Q below sqrt(11) and for geometries that cannot be tiled (see `tiling.py`).
    """

    def __init__(
        self,
        duration: float,
        sample_rate: float,
        qrange: tuple[float, float] = (4, 64),
        q: float | None = None,
        frange: tuple[float, float] = (0, float("inf")),
        mismatch: float = 0.2,
        norm: str | None = "median",
        tres: float | None = None,
        fres: float | None = None,
        logf: bool = False,
        outseg: tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
        select: str = "strain",
        crop: int | tuple[int, int] | None = None,
        gps: float | None = None,
        search: float = 0.5,
        whiten: bool | Tensor = True,
        fduration: float = 2.0,
        highpass: float | None = None,
        fftlength: float | None = None,
        overlap: float | None = None,
        asd_method: str = "median",
        invalid: str = "raise",
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.samples = round(duration * sample_rate)
        self.duration, self.sample_rate = self.samples / sample_rate, float(sample_rate)
        self.norm = norm or "none"
        self.select, self.invalid, self.dtype = select, invalid, dtype
        self.whiten, self.fduration, self.highpass = whiten, fduration, highpass
        self.asd_options = (fftlength, overlap, asd_method)
        for name, value, allowed in (
            ("norm", self.norm, NORMS),
            ("select", select, ("strain", "channel")),
            ("invalid", invalid, ("raise", "mask")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} {value!r} is not one of {', '.join(allowed)}")
        tiling = build_tiling(self.duration, self.sample_rate, (q, q) if q else qrange, frange, mismatch)
        self.frange = tiling.frange
        self.qs = tuple(plane.q for plane in tiling.planes)
        window = None
        if gps is not None:
            window = (max(gps - search / 2, 0.0), min(gps + search / 2, self.duration))
        self.planes = nn.ModuleList(
            nn.ModuleList(
                _Rows(group, self.duration, 2 / self.samples, window, dtype) for group in plane.groups
            )
            for plane in tiling.planes
        )
        times, frequencies = _grid(
            self.duration, self.frange, tres, fres, logf, outseg, shape, self.norm == "none"
        )
        self.crop = (crop, crop) if isinstance(crop, int) else crop
        self.register_buffer("times", torch.from_numpy(times), persistent=False)
        self.register_buffer("frequencies", torch.from_numpy(frequencies), persistent=False)
        counts = {group.tiles for plane in tiling.planes for group in plane.groups}
        self.in_time = nn.ModuleDict(
            {
                str(n): SplineMap(np.arange(n) * (self.duration / n), times, clamp=False, dtype=dtype)
                for n in sorted(counts)
            }
        )
        self.in_frequency = nn.ModuleList(
            SplineMap(plane.frequencies, frequencies, clamp=True, dtype=dtype) for plane in tiling.planes
        )

    @torch.no_grad()
    def forward(self, series: Tensor | np.ndarray, companion: Tensor | np.ndarray | None = None) -> QPlot:
        """Q-plots of (E, C, N) series in any units; companion: (E, N), a part of the strain in the strain's units.

        Raises ValueError for a wrong shape, and for dead series (constant, or not finite) unless masked.
        """
        series = self._check(series, 3, "(event, channel, sample)")
        part = None if companion is None else self._check(companion, 2, "(event, sample)")
        with torch.autocast(series.device.type, enabled=False):
            return self._transform(series, part)

    def _check(self, series: Tensor | np.ndarray, dims: int, axes: str) -> Tensor:
        series = torch.as_tensor(series, device=self.times.device).to(torch.float64)
        if series.ndim != dims or series.shape[-1] != self.samples:
            raise ValueError(
                f"series of shape {tuple(series.shape)}: {axes} with {self.samples} samples "
                f"({self.duration:g} s at {self.sample_rate:g} Hz) are needed"
            )
        return series

    def _transform(self, series: Tensor, part: Tensor | None) -> QPlot:
        events, channels = series.shape[:2]
        valid = self._valid(series)
        series = torch.where(valid[..., None], series, torch.zeros_like(series))
        series, filters = self._whiten(series)
        exponent = torch.frexp(series.abs().amax(-1)).exponent  # scale by powers of two: energies fit float32
        spectrum = self._spectrum(series, exponent).flatten(0, 1)
        shown = self._choose(spectrum, channels)
        medians = shown.median
        planes = shown.plane
        if part is not None:
            if filters is not None:
                part = WhiteningFilter(filters.half[:, 0], self.sample_rate)(part)
            spectrum = torch.cat([spectrum, self._spectrum(part, exponent[:, 0])])
            medians = torch.cat([medians, medians[::channels]])
            planes = torch.cat([planes, planes[::channels]])
        times, frequencies, first = self.times, self.frequencies, None
        if self.crop is not None:
            strain = self._render(
                spectrum[: events * channels : channels],
                planes[: events * channels : channels],
                medians[: events * channels : channels],
            )
            first = self._around_peak(strain)
            frequencies = frequencies[first[:, :1] + torch.arange(self.crop[0], device=first.device)]
            times = times[first[:, 1:] + torch.arange(self.crop[1], device=first.device)]
            owner = torch.arange(events * channels, device=first.device) // channels
            if part is not None:
                owner = torch.cat([owner, torch.arange(events, device=first.device)])
            first = first[owner]
        image = self._render(spectrum, planes, medians, first)
        energy = image[: events * channels].unflatten(0, (events, channels))
        shape = (events, channels)
        qs = torch.tensor(self.qs, dtype=torch.float64, device=planes.device)
        return QPlot(
            energy=energy,
            q=qs[shown.plane].view(shape),
            frequencies=frequencies,
            times=times,
            peak=Peak(shown.energy.view(shape), shown.time.view(shape), shown.frequency.view(shape)),
            valid=valid,
            companion=None if part is None else image[events * channels :],
        )

    def _valid(self, series: Tensor) -> Tensor:
        low, high = series.aminmax(dim=-1)
        finite = torch.isfinite(low) & torch.isfinite(high)
        valid = finite & (low < high)
        if self.invalid == "raise" and not bool(valid.all()):
            event, channel = (int(i) for i in (~valid).nonzero()[0])
            why = f"constant over {self.duration:g} s" if finite[event, channel] else "NaN or infinite"
            raise ValueError(f"event {event}, channel {channel}: {why}")
        return valid

    def _whiten(self, series: Tensor) -> tuple[Tensor, WhiteningFilter | None]:
        if self.whiten is False:
            return series, None
        if self.whiten is True:
            asd = estimate_asd(series, self.sample_rate, *self.asd_options)
        else:
            asd = torch.as_tensor(self.whiten, device=series.device).to(torch.float64)
            asd = asd.expand(*series.shape[:2], asd.shape[-1])
        filters = design_filter(asd, self.duration, self.sample_rate, self.fduration, self.highpass)
        return filters(series), filters

    def _spectrum(self, series: Tensor, exponent: Tensor) -> Tensor:
        """(..., N) -> (..., K) complex, after dividing by 2 ** exponent (...)."""
        spectrum = rfft(torch.ldexp(series, -exponent[..., None]))
        return spectrum.to(torch.complex64 if self.dtype == torch.float32 else torch.complex128)

    def _choose(self, spectrum: Tensor, channels: int) -> _Shown:
        strain = torch.arange(len(spectrum), device=spectrum.device) % channels == 0
        if self.select == "channel" or len(self.planes) == 1:
            return self._scan(spectrum)
        plane = self._scan(spectrum[strain]).plane.repeat_interleave(channels)
        return self._measure_each(spectrum, plane)

    def _scan(self, spectrum: Tensor) -> _Shown:
        best = self._measure(spectrum, 0)
        for plane in range(1, len(self.planes)):
            other = self._measure(spectrum, plane)
            louder = other.energy > best.energy
            best = _Shown(
                *(
                    torch.where(louder if a.ndim == 1 else louder[:, None], a, b)
                    for a, b in zip(_fields(other), _fields(best), strict=True)
                )
            )
        return best

    def _measure_each(self, spectrum: Tensor, plane: Tensor) -> _Shown:
        pieces = [(chosen, self._measure(spectrum[chosen], p)) for p, chosen in self._by_plane(plane)]
        order = torch.cat([chosen for chosen, _ in pieces]).argsort()
        columns = zip(*(_fields(found) for _, found in pieces), strict=True)
        return _Shown(*(torch.cat(column)[order] for column in columns))

    def _by_plane(self, plane: Tensor) -> Iterator[tuple[int, Tensor]]:
        for p in range(len(self.planes)):
            chosen = (plane == p).nonzero()[:, 0]
            if len(chosen):
                yield p, chosen

    def _measure(self, spectrum: Tensor, plane: int) -> _Shown:
        """Medians and loudest tile of one plane, for (B, K) spectra."""
        rows_max = max(sum(rows.count for rows in p) for p in self.planes)
        medians, peaks = [], []
        for rows in self.planes[plane]:
            energy = rows.energies(spectrum)
            median = _norm(energy, self.norm)
            loudest, tile = energy[..., rows.search].max(-1)
            loudest, row = (loudest * _inverse(median)).max(-1)
            tile = tile.gather(1, row[:, None])[:, 0] + rows.search.start
            peaks.append((loudest, tile * rows.step, rows.frequencies[row]))
            medians.append(median)
        energy, time, frequency = (torch.stack(column, 1) for column in zip(*peaks, strict=True))
        energy, group = energy.max(1, keepdim=True)
        median = torch.cat(medians, 1)
        median = nn.functional.pad(median, (0, rows_max - median.shape[1]))
        index = torch.full((len(spectrum),), plane, device=spectrum.device)
        return _Shown(
            index, energy[:, 0], time.gather(1, group)[:, 0], frequency.gather(1, group)[:, 0], median
        )

    def _render(
        self, spectrum: Tensor, plane: Tensor, medians: Tensor, first: Tensor | None = None
    ) -> Tensor:
        """(B, K) spectra -> (B, F, T) images in the given planes; `first` (B, 2): first row and column of a crop."""
        size = (len(self.frequencies), len(self.times)) if first is None else self.crop
        out = torch.empty(len(spectrum), *size, dtype=self.dtype, device=spectrum.device)
        for p, chosen in self._by_plane(plane):
            scale = _inverse(medians[chosen])
            corner = None if first is None else first[chosen]
            done, lines = 0, []
            for rows in self.planes[p]:
                energy, spline = rows.energies(spectrum[chosen]), self.in_time[str(rows.tiles)]
                line = spline(energy) if corner is None else spline.window(energy, corner[:, 1], size[1])
                lines.append(line * scale[:, done : done + rows.count, None])
                done += rows.count
            image, spline = torch.cat(lines, 1).transpose(1, 2), self.in_frequency[p]
            image = spline(image) if corner is None else spline.window(image, corner[:, 0], size[0])
            out[chosen] = image.transpose(1, 2)
        return out

    def _around_peak(self, image: Tensor) -> Tensor:
        """(E, 2): first row and column of the crop around each image's loudest pixel, moved inside."""
        peak = image.transpose(1, 2).flatten(1).argmax(1)
        height, width = image.shape[1:]
        row, column = peak % height, peak // height
        crop = self.crop
        row = (row - crop[0] // 2).clamp(0, height - crop[0])
        return torch.stack([row, (column - crop[1] // 2).clamp(0, width - crop[1])], 1)


def _fields(shown: _Shown) -> tuple[Tensor, ...]:
    return shown.plane, shown.energy, shown.time, shown.frequency, shown.median


def _inverse(x: Tensor) -> Tensor:
    return torch.where(x > 0, 1 / x, torch.zeros_like(x))


def _norm(energy: Tensor, norm: str) -> Tensor:
    if norm == "none":
        return energy.new_ones(energy.shape[:-1])
    if norm == "mean":
        return energy.mean(-1)
    half = energy.shape[-1] // 2
    if energy.device.type == "cpu":
        ranked = np.partition(energy.numpy(), half, axis=-1)
        return torch.from_numpy((ranked[..., :half].max(-1) + ranked[..., half]) / 2)
    lower = energy.median(-1).values
    return (lower - (-energy).median(-1).values) / 2


def _grid(
    duration: float,
    frange: tuple[float, float],
    tres: float | None,
    fres: float | None,
    logf: bool,
    outseg: tuple[float, float] | None,
    shape: tuple[int, int] | None,
    double: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Times (T,) and frequencies (F,) of the output, as gwpy's `QGram.interpolate` lays them out."""
    start, stop = (0.0, duration) if outseg is None else outseg
    if shape is not None:
        times = start + np.arange(shape[1]) * ((stop - start) / shape[1])
    else:
        times = np.arange(start, stop, (stop - start) / 1000 if tres is None else tres)
    if logf:
        count = shape[0] if shape else int(fres or 500)
        return times, np.geomspace(frange[0], frange[1], count)
    step = (frange[1] - frange[0]) / shape[0] if shape else (fres or 0.5)
    frequencies = np.arange(frange[0], frange[1], step, dtype=np.float64 if double else np.float32)
    return times, frequencies[: shape[0] if shape else None].astype(np.float64)
