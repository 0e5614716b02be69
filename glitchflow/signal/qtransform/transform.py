"""The Q-transform of a batch of series, with the numbers of gwpy's `TimeSeries.q_transform`.

For a given (duration, rate, qrange, frange, output grid) everything but the data is a constant, built once:

    series (E, C, N) --whiten, rfft--> spectrum (B, K) --gather, window, inverse FFT, |.|^2--> energies of tiles
    --choose the plane of the loudest tile, divide rows by their median--> --splines in time and frequency--> Q-plots

Shapes: E events, C channels (0 is the strain), N samples; B series (some of E x C), K bins of an rfft; R rows of a
group, n tiles of a row; F, T the output's frequencies and times.
Units: energies are dimensionless (1 is a row's median), times s from the series' start, Hz.
"""

from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from glitchflow.signal import whiten as whitening
from glitchflow.signal.batch_invariant import complex_of, in_threads, irfft, rfft
from glitchflow.signal.qtransform.grid import Crop, Grid, grid_frequencies, grid_times
from glitchflow.signal.qtransform.piece import piece
from glitchflow.signal.qtransform.qplot import Coefficients, Drawn, Lead, Peak, QPlot, clear, concatenate
from glitchflow.signal.qtransform.rows import Plane, loudest_plane
from glitchflow.signal.qtransform.series import check_given, check_series, filters_of_all, power_of_two
from glitchflow.signal.qtransform.tiling import build_tiling
from glitchflow.signal.whiten import Filter

Values = Tensor | np.ndarray
CHOICES = {
    "select": ("strain", "channel"),
    "invalid": ("raise", "mask"),
}


class QTransform(nn.Module):
    """Draws Q-plots of (event, channel, sample) series; see `forward`. Names, meanings and defaults are gwpy's.

    duration (s) and sample_rate (Hz) of every series. qrange: lowest and highest Q, or one fixed `q`. frange: Hz.
    mismatch: largest loss between tiles.
    Grid: tres (s, default a thousandth of outseg), fres (Hz, default 0.5; with logf the number of rows, default
    500), outseg (start, stop) in s from the series' start, default all; or `shape` (F, T): F rows over frange
    (with logf geometric and both ends included), T columns evenly over outseg. crop: N or (F, T) pixels around the
    loudest pixel of the strain's whole image, moved inside at the edges.
    select: "strain": every channel shows the plane of the strain's loudest tile; "channel": each its own.
    whiten: True, False, or an ASD (A,) or (C, A) on 0 ... Nyquist; fduration, highpass, fftlength and
    kind (of filter): see `whiten.py`. invalid: "raise" or "mask" dead series. limits: (C,) Hz, half of each channel's
    own rate: rows above are 0, and choose no plane. dtype: of what follows.

    The constants are buffers: the device follows the module's, nothing else is chosen. On a CPU an event's energies
    are the same bits in any batch, alone, and with any number of threads; on a GPU they agree with those within
    rounding.
    Raises ValueError for a Q below sqrt(11) and for geometries that cannot be tiled (see `tiling.py`).
    """

    qs: Tensor

    def __init__(
        self,
        duration: float,
        sample_rate: float,
        qrange: tuple[float, float] = (4, 64),
        q: float | None = None,
        frange: tuple[float, float] = (0, float("inf")),
        mismatch: float = 0.2,
        tres: float | None = None,
        fres: float | None = None,
        logf: bool = False,
        outseg: tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
        select: str = "strain",
        crop: int | tuple[int, int] | None = None,
        whiten: bool | Tensor = True,
        fduration: float = 2.0,
        highpass: float | None = None,
        fftlength: float | None = None,
        kind: str = "zero_phase",
        invalid: str = "raise",
        limits: Values | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        for name, value in (("select", select), ("invalid", invalid)):
            if value not in CHOICES[name]:
                raise ValueError(f"{name} {value!r} is not one of {', '.join(CHOICES[name])}")
        self.samples = round(duration * sample_rate)
        self.duration, self.sample_rate = self.samples * (1 / sample_rate), float(sample_rate)
        self.select, self.invalid, self.dtype, self.fftlength = select, invalid, dtype, fftlength
        self.limits = None if limits is None else torch.as_tensor(limits, dtype=torch.float64)
        self.whiten = whiten
        self.asd = None if isinstance(whiten, bool) else torch.as_tensor(whiten, dtype=torch.float64)
        self.whitening = partial(
            whitening.whiten,
            sample_rate=self.sample_rate,
            fftlength=fftlength,
            fduration=fduration,
            highpass=highpass,
            dtype=dtype if whiten is True else torch.float64,
            kind=kind,
        )
        self.filters: Filter | None = None  # of an ASD that is given: each event's
        if whiten is not False:  # once, for the errors of wrong options
            self.filters = filters_of_all(self.whitening, self.samples, self.asd, self.limits)
        qrange = qrange if q is None else (q, q)
        tiling = build_tiling(self.duration, self.sample_rate, qrange, frange, mismatch)
        self.frange = tiling.frange
        times = grid_times(self.duration, tres, outseg, shape)
        frequencies = grid_frequencies(tiling.frange, fres, logf, shape)
        crop = (crop, crop) if isinstance(crop, int) else crop
        self.grid = Grid(tiling, self.duration, frequencies, times, crop, dtype)
        self.planes = nn.ModuleList(
            Plane(plane, self.duration, self.samples, dtype) for plane in tiling.planes
        )
        qs = torch.tensor([plane.q for plane in tiling.planes], dtype=torch.float64)
        self.register_buffer("qs", qs, persistent=False)

    @property
    def frequencies(self) -> Tensor:
        """Returns the frequencies (F,) of the whole image in Hz."""
        return self.grid.frequencies

    @property
    def times(self) -> Tensor:
        """Returns the times (T,) of the whole image in s from the series' start."""
        return self.grid.times

    @torch.no_grad()
    def forward(self, series: Values, companion: Values | None = None) -> QPlot:
        """Draws Q-plots of (E, C, N) series in any units.

        companion: (E, N), a part of the strain in the strain's units (for example what witnesses explain); it goes
        through the strain's whitening filter, plane, units and window, so that its energies compare with the strain's.
        Raises ValueError for a wrong shape, and for dead series (constant, NaN or infinite) unless they are masked.
        """
        series = self._checked(series, "event", "channel", "sample")
        part = None if companion is None else self._checked(companion, "event", "sample")
        check_given(series, part, self.asd, self.limits)
        (step, width), device = self._piece(*series.shape[:2]), self.times.device

        def work(i: int) -> QPlot:
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
                mine = None if part is None else part[i : i + step]
                return self._transform(series[i : i + step], mine, i, width)

        starts = range(0, len(series), step)
        threads = torch.get_num_threads() if device.type == "cpu" else 1
        plots = [work(i) for i in starts] if threads == 1 else in_threads(work, starts, threads)
        return concatenate(plots, fixed=() if self.grid.crop else ("frequencies", "times"))

    @torch.no_grad()
    def coefficients(
        self, series: Values, q: float | None = None, filters: Filter | None = None
    ) -> Coefficients:
        """Computes complex tiles of (E, C, N) series in one plane: the only one, or the one nearest to `q`.

        filters: that whiten in place of the series' own, for a part of other series.
        Not in pieces, and the last bit of a coefficient may depend on its batch.
        Raises ValueError as `forward`, and without `q` where there are several planes.
        """
        if q is None and len(self.planes) > 1:
            known = [round(float(q), 3) for q in self.qs]
            raise ValueError(f"several planes, of Q {known}: choose one by q=")
        plane = self._plane(0 if q is None else int((self.qs - q).abs().argmin()))
        series = self._checked(series, "event", "channel", "sample")
        if filters is None:
            series, filters, _ = self._condition(series, 0)
        else:
            series = filters(series.to(self.times.device, torch.float64), self.dtype)
        spectrum = rfft(series).to(complex_of(self.dtype)).flatten(0, 1)
        values = tuple(rows.coefficients(spectrum).unflatten(0, series.shape[:2]) for rows in plane.rows())
        return Coefficients(values, tuple(rows.frequencies for rows in plane.rows()), plane.q, filters)

    @torch.no_grad()
    def inverse(self, coefficients: Coefficients) -> Tensor:
        """Returns the (E, C, N) float64 series that has these coefficients, within frange and zero outside of it.

        It is in the units of the series that was transformed: whitened, where the transform whitens
        (`coefficients.filters.undo` colours it back).
        """
        plane = self._plane(int((self.qs - coefficients.q).abs().argmin()))
        shape = coefficients.values[0].shape[:2]
        values = [v.flatten(0, 1) for v in coefficients.values]
        spectrum = plane.inverse(values).to(torch.complex128)
        frequency = torch.arange(spectrum.shape[-1], device=spectrum.device) / self.duration
        inside = (frequency >= self.frange[0]) & (frequency <= self.frange[1])
        return irfft(spectrum * inside, self.samples).unflatten(0, shape)

    def _checked(self, series: Values, *axes: str) -> Tensor:
        return check_series(series, axes, self.samples, self.sample_rate)

    def _condition(
        self, series: Tensor, event: int, channel: int = 0
    ) -> tuple[Tensor, Filter | None, Tensor]:
        """Whitened (E, C, N), the filters, and which (E, C) are valid; the first event's and channel's numbers."""
        series = series.to(self.times.device, torch.float64)
        low, high = series.amin(-1), series.amax(-1)  # aminmax is ten times slower
        finite = torch.isfinite(low) & torch.isfinite(high)
        self._refuse(~finite, (event, channel), "NaN or infinite samples")
        valid = finite & (low < high)
        self._refuse(finite & ~valid, (event, channel), f"constant over {self.duration:g} s")
        if not bool(valid.all()):
            series = torch.where(valid[..., None], series, 0.0)
        if self.whiten is False:
            return series, None, valid
        if self.filters is None:
            return *self.whitening(series, limits=self._limits(channel, series)), valid
        filters = self.filters.to(series.device).channel(slice(channel, channel + series.shape[1]))
        return filters(series), filters, valid

    def _limits(self, first: int, series: Tensor) -> Tensor | None:
        """Those of the channels of (E, C, N) series, counted from the first, on their device."""
        return None if self.limits is None else self.limits[first : first + series.shape[1]].to(series.device)

    def _refuse(self, dead: Tensor, first: tuple[int, int], why: str) -> None:
        """Name the first dead series (E, C), the first of which is `first`, unless they are to be masked."""
        if self.invalid == "raise" and bool(dead.any()):
            event, channel = (int(i) + start for i, start in zip(dead.nonzero()[0], first))
            raise ValueError(f"event {event}, channel {channel}: {why}")

    def _piece(self, events: int, channels: int) -> tuple[int, int]:
        """How many events, and channels, to work on at once: a `piece`, and on a CPU a share for every thread."""
        planes = range(len(self.planes))
        largest = max(rows.count * rows.tiles for p in planes for rows in self._plane(p).rows())
        image = 4 * len(self.times) * len(self.frequencies)
        strain = image if self.grid.crop else 0  # others' crops are cut at once
        each = 8 * (self.samples + largest) + image - strain
        cpu = self.times.device.type == "cpu"
        most = piece(self.times.device)
        if channels * each + strain > most:
            return 1, min(max(1, most // 2 // each), channels)  # no slower, and half the memory
        step = most // (channels * each + strain)
        return min(step, -(-events // torch.get_num_threads())) if cpu else step, channels

    def _transform(self, series: Tensor, part: Tensor | None, event: int, width: int) -> QPlot:
        """A piece of a batch: (E, C, N) series, (E, N) companion; the first event's number; channels at a time."""
        plots, lead = list[QPlot](), None
        for channel in range(0, series.shape[1], width):
            some, own = series[:, channel : channel + width], None if channel else part
            plot, lead = self._some(some, own, (event, channel), lead)
            plots.append(plot)
        return concatenate(plots, fixed=("frequencies", "times", "companion"), axis=1)

    def _some(
        self, series: Tensor, part: Tensor | None, first: tuple[int, int], lead: Lead | None
    ) -> tuple[QPlot, Lead]:
        """Some channels of a piece; `first`: the numbers of its first event and channel."""
        series, filters, valid = self._condition(series, *first)
        scale = self._scale(series)
        spectrum = self._spectrum(series, scale)
        limits = self._limits(first[1], series)
        plane = self._choose(spectrum, limits, lead)
        energy, peak, crop, units = self._draw_events(spectrum, plane, None if lead is None else lead.crop)
        self._refuse(valid & (peak.energy <= 0), first, "no power in the band")
        frequencies = self.frequencies if crop is None else self.frequencies[crop.rows]
        companion = None
        if part is not None:
            part = part.to(series.device, torch.float64)
            if filters is not None:
                part = filters.channel(0)(part)
            where = None if crop is None else crop.first
            companion = self._draw(self._spectrum(part, scale[:, 0]), plane[:, 0], where, units).image
        if limits is not None:
            clear(limits, frequencies, energy, companion)
        plot = QPlot(
            energy=energy,
            q=self.qs[plane],
            frequencies=frequencies,
            times=self.times if crop is None else self.times[crop.columns],
            peak=peak,
            valid=valid & (peak.energy > 0),
            companion=companion,
        )
        return plot, lead or Lead(plane[:, :1], crop)

    def _draw_events(
        self, spectrum: Tensor, plane: Tensor, crop: Crop | None = None
    ) -> tuple[Tensor, Peak, Crop | None, Tensor]:
        """(E, C, K), (E, C) -> energy (E, C, F, T), loudest tiles (E, C), the crop, units (E, rows) of the first
        channel, which decides where crops are cut unless that is known."""
        images, peaks, units, done = [], [], None, 0
        if self.grid.crop and crop is None:
            strain = self._draw(spectrum[:, 0], plane[:, 0])
            crop, units, done = self.grid.around_peak(strain.image), strain.units, 1
            images.append(crop.cut(strain.image)[:, None])
            peaks.append(Peak(*(getattr(strain.peak, f.name)[:, None] for f in fields(Peak))))
        if left := plane.shape[1] - done:
            first = None if crop is None else crop.first.repeat_interleave(left, 0)
            drawn = self._draw(spectrum[:, done:].flatten(0, 1), plane[:, done:].flatten(), first)
            images.append(drawn.image.unflatten(0, (-1, left)))
            peaks.append(Peak(*(getattr(drawn.peak, f.name).view(-1, left) for f in fields(Peak))))
            units = drawn.units[::left] if units is None else units
        assert units is not None, "there is a channel"
        return torch.cat(images, 1), concatenate(peaks, axis=1), crop, units

    def _scale(self, series: Tensor) -> Tensor:
        """(..., N) -> (...): what to divide by, so that the squares of any units fit into float32."""
        return torch.ones_like(series[..., 0]) if self.whiten is True else power_of_two(series)

    def _spectrum(self, series: Tensor, scale: Tensor) -> Tensor:
        """(..., N) -> rfft (..., K) over scale (...)."""
        if self.whiten is True:  # white: float32 has the range
            return rfft(series.to(self.dtype))
        return (rfft(series) / scale[..., None]).to(complex_of(self.dtype))

    def _choose(self, spectrum: Tensor, limits: Tensor | None = None, lead: Lead | None = None) -> Tensor:
        """(E, C, K) -> (E, C): index of the plane each channel shows; no row above its limit (C,) Hz is looked at."""
        if len(self.planes) == 1:
            return torch.zeros(spectrum.shape[:2], dtype=torch.int64, device=spectrum.device)
        if lead is not None and self.select == "strain":
            return lead.plane.expand(spectrum.shape[:2])
        scanned = spectrum if self.select == "channel" else spectrum[:, :1]
        flat, count = scanned.flatten(0, 1), scanned.shape[1]
        within = None if limits is None else limits[:count].repeat(len(spectrum))
        plane = loudest_plane(map(self._plane, range(len(self.planes))), flat, within)
        return plane.view(scanned.shape[:2]).expand(spectrum.shape[:2])

    def _draw(
        self, spectrum: Tensor, plane: Tensor, first: Tensor | None = None, units: Tensor | None = None
    ) -> Drawn:
        """Images of (B, K) rffts in plane (B,); of a crop from pixel first (B, 2) on; in `units` (B, rows)."""
        size = self.grid.shape if first is None or not self.grid.crop else self.grid.crop
        most = max(len(self._plane(p).frequencies) for p in range(len(self.planes)))
        image = spectrum.real.new_empty(len(spectrum), *size)
        used = spectrum.real.new_zeros(len(spectrum), most)
        energy, time, frequency = (
            torch.empty(len(spectrum), dtype=t, device=spectrum.device)
            for t in (self.dtype, torch.float64, torch.float64)
        )
        for p, mine in self._by_plane(plane):
            here = self._plane(p)
            rows = len(here.frequencies)
            tiles, unit, peak = here.measure(spectrum[mine], None if units is None else units[mine, :rows])
            image[mine] = self.grid(p, tiles, unit, None if first is None else first[mine])
            used[mine, :rows] = unit
            energy[mine], time[mine], frequency[mine] = peak.energy, peak.time, peak.frequency
        return Drawn(image, used, Peak(energy, time, frequency))

    def _by_plane(self, plane: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Each plane that is shown, and which of (B,) show it."""
        for p in range(len(self.planes)):
            mine = (plane == p).nonzero()[:, 0]
            if len(mine):
                yield p, mine

    def _plane(self, index: int) -> Plane:
        return cast(Plane, self.planes[index])
