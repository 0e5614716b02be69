"""The constants of a Q-transform: which planes, rows and tiles cover a series, and each row's window.

The tiling is that of gwpy (`gwpy.signal.qtransform`), itself the Omega pipeline's (S. Chatterji, PhD thesis,
MIT 2005, chapter 5): a plane per Q, a row per frequency, a tile per time, spaced so that neighbouring tiles lose at
most `mismatch` of a signal's energy. Frequencies are computed in the same order of operations as gwpy's, since they
are rounded down to a multiple of 1/duration and a last-bit difference would move a row.

Shapes: R rows of one tile count, W bins of the widest window among them.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np

SQRT11 = math.sqrt(11)
FEWEST_TILES = 4  # of a row, and rows of a plane: a cubic spline goes through no fewer points


@dataclass(frozen=True)
class RowGroup:
    """Groups rows of a plane that have the same number of tiles, so that one batched FFT serves them all.

    frequencies: (R,) Hz. bins: (R, W) indices into the series' rfft. window: (R, W), zero beyond a row's own width.
    half: (R,) half width of each window in bins; the row's centre is bins[r, half[r]].
    """

    tiles: int
    frequencies: np.ndarray
    bins: np.ndarray
    window: np.ndarray
    half: np.ndarray


@dataclass(frozen=True)
class Plane:
    """Holds all rows of one Q, in groups of ascending frequency."""

    q: float
    groups: tuple[RowGroup, ...]

    @property
    def frequencies(self) -> np.ndarray:
        """Returns the rows' frequencies (rows,) in Hz, ascending."""
        return np.concatenate([group.frequencies for group in self.groups])


@dataclass(frozen=True)
class Tiling:
    """Holds the planes of one geometry and the band (Hz) they cover, after gwpy's limits."""

    planes: tuple[Plane, ...]
    frange: tuple[float, float]


def build_tiling(
    duration: float,
    sample_rate: float,
    qrange: tuple[float, float],
    frange: tuple[float, float],
    mismatch: float,
) -> Tiling:
    """Tiles series (duration in s, sample_rate in Hz) for every Q of `qrange` over `frange` (Hz).

    Warns, as gwpy does, where the upper frequency is too high for the lowest Q, and truncates it.
    Raises ValueError for a Q below sqrt(11) (gwpy wraps negative frequencies there, silently), for ranges out of
    order, and for geometries whose rows or tiles are too few to interpolate.
    """
    if not 0 < mismatch < 1:
        raise ValueError(f"mismatch {mismatch} must lie between 0 and 1")
    if not SQRT11 <= qrange[0] <= qrange[1]:
        raise ValueError(
            f"qrange {tuple(qrange)} must ascend from at least sqrt(11) = {SQRT11:.3f}: "
            "below it a window is wider than its centre frequency"
        )
    spacing = 2 * (mismatch / 3.0) ** (1 / 2.0)
    qs = plane_qs(qrange, spacing)
    band = limit_band(frange, qs, duration, sample_rate)
    planes = tuple(_build_plane(q, band, duration, sample_rate, spacing) for q in qs)
    return Tiling(planes, band)


def plane_qs(qrange: tuple[float, float], spacing: float) -> list[float]:
    """Returns the Q of each plane: log-spaced, amid equal steps of at most `spacing` in mismatch distance."""
    distance = math.log(qrange[1] / qrange[0]) / 2 ** (1 / 2.0)
    count = int(max(math.ceil(distance / spacing), 1))
    step = distance / count
    return [qrange[0] * math.exp(2 ** (1 / 2.0) * step * (i + 0.5)) for i in range(count)]


def limit_band(
    frange: tuple[float, float], qs: list[float], duration: float, sample_rate: float
) -> tuple[float, float]:
    """Replaces 0 and infinity in `frange` (Hz) by what Q and duration allow; truncates an upper end that is too high.

    Warns of the latter, as gwpy does. Raises ValueError where no band is left.
    """
    low, high = float(frange[0]), float(frange[1])
    if low == 0:
        low = 50 * max(qs) / (2 * math.pi * duration)
    highest = sample_rate / 2 / (1 + 11 ** (1 / 2.0) / min(qs))
    if math.isinf(high):
        high = highest
    elif high > highest:
        warnings.warn(
            f"upper frequency of {high} Hz is too high for the given Q range, resetting to {highest} Hz",
            stacklevel=4,
        )
        high = highest
    if not 0 < low < high:
        raise ValueError(
            f"frange {tuple(frange)} leaves no band for Q {min(qs):.4g}-{max(qs):.4g}, {duration} s at "
            f"{sample_rate} Hz: it would run from {low:.6g} to {high:.6g} Hz"
        )
    return low, high


def row_frequencies(q: float, band: tuple[float, float], duration: float, spacing: float) -> list[float]:
    """Returns the centre frequencies (Hz) of a plane's rows: log-spaced, rounded down to multiples of 1/duration."""
    low, high = band
    distance = math.log(high / low) * (2 + q**2) ** (1 / 2.0) / 2.0
    count = int(max(1, math.ceil(distance / spacing)))
    step = distance / count
    resolution = 1 / duration
    found: list[float] = []
    for i in range(count):
        frequency = low * math.exp(2 / (2 + q**2) ** (1 / 2.0) * (i + 0.5) * step) // resolution * resolution
        if not found or frequency != found[-1]:
            found.append(frequency)
    return found


def _build_plane(
    q: float, band: tuple[float, float], duration: float, sample_rate: float, spacing: float
) -> Plane:
    frequencies = row_frequencies(q, band, duration, spacing)
    where = f"the plane of Q {q:.4g} over {band[0]:.6g}-{band[1]:.6g} Hz, {duration} s at {sample_rate} Hz"
    if len(frequencies) < FEWEST_TILES:
        raise ValueError(f"{where} has {len(frequencies)} rows, {FEWEST_TILES} are needed to interpolate")
    if frequencies[0] <= 0:
        raise ValueError(f"{where} begins below the lowest frequency of the series, {1 / duration:.4g} Hz")
    by_tiles: dict[int, list[float]] = {}
    for frequency in frequencies:
        wanted = duration * 2 * math.pi * frequency / q / spacing
        tiles = int(2.0 ** math.ceil(math.log(wanted, 2)))
        if tiles < FEWEST_TILES:
            raise ValueError(f"{where} has {tiles} tiles at {frequency:.6g} Hz, {FEWEST_TILES} are needed")
        by_tiles.setdefault(tiles, []).append(frequency)
    groups = tuple(_build_rows(q, tiles, rows, duration, sample_rate) for tiles, rows in by_tiles.items())
    last = max(int(group.bins.max()) for group in groups)
    if last > round(duration * sample_rate) // 2:
        raise ValueError(f"{where} needs frequencies above the series' highest; lower frange")
    return Plane(q, groups)


def _build_rows(
    q: float, tiles: int, frequencies: list[float], duration: float, sample_rate: float
) -> RowGroup:
    """Makes bisquare windows, normalised as gwpy does: a tile's energy is the squared modulus of an inverse FFT."""
    qprime = q / SQRT11
    half = np.array([int(f / qprime * duration) for f in frequencies])
    width = int(2 * half.max() + 1)
    if width > tiles:
        raise ValueError(f"mismatch too large: a window of {width} bins does not fit into {tiles} tiles")
    bins = np.zeros((len(frequencies), width), dtype=np.int64)
    window = np.zeros((len(frequencies), width))
    for row, (frequency, h) in enumerate(zip(frequencies, half, strict=True)):
        offset = np.arange(-h, h + 1)
        x = offset / duration * qprime / frequency
        norm = tiles / (duration * sample_rate) * (315 * qprime / (128 * frequency)) ** 0.5
        # gwpy centres the window one bin above the row's frequency; kept, for the same numbers
        bins[row, : 2 * h + 1] = np.round(offset + 1 + frequency * duration)
        window[row, : 2 * h + 1] = (1 - x**2) ** 2 * norm
    return RowGroup(tiles, np.array(frequencies), bins, window, half)
