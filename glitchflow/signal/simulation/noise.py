"""Stationary noise: amplitude spectral densities of the strain and its witnesses, and series of that colour.

Shapes: C channel (the strain first), N sample, K frequency = N // 2 + 1. ASDs are one-sided, unit / sqrt(Hz).
"""

import glob
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glitchflow.config import Detector, Noise
from glitchflow.errors import InputError
from glitchflow.signal.types import Array, Indices

KEY = "simulate.detector.noise"
PIECE = 2**19  # samples coloured at once
ROLL = 0.8  # of its Nyquist frequency, from where on a decimation filter takes from a channel (scipy's and gwpy's, too)


@dataclass(frozen=True)
class Spectra:
    """Says what multiplies the spectrum of unit white noise in each channel. A row is made when it is asked for, in a
    small part of the time that filtering by it takes: those of 500 channels need more memory than all their series.

    Each channel has a colour of its own. A witness's noise falls as f^-slope; that of a slow motion's witness is the
    sensor's, white, without lines.
    """

    frequency: Array  # (K,) Hz
    strain: Array  # (K,): the strain's ASD without lines
    slopes: Array  # (C - 1,)
    slow: Mapping[int, float]  # by channel: the sensor's ASD
    lines: Array  # (K,): what power lines make of an ASD
    passbands: Array  # (kinds, K): what a channel's own rate leaves of it
    kind: Indices  # (C,) of passband
    unit: float  # of a sampled series over an ASD's

    def floor(self, rows: slice | Indices = slice(None)) -> Array:
        """Returns some channels' rows without power lines (any, K)."""
        return self._rows(rows, np.ones(1))

    def colour(self, rows: slice | Indices = slice(None)) -> Array:
        """Returns some channels' rows with power lines (any, K)."""
        return self._rows(rows, self.lines)

    def _rows(self, rows: slice | Indices, lines: Array) -> Array:
        channels = np.arange(self.kind.size)[rows]
        found = np.empty((channels.size, self.frequency.size))
        for row, channel in zip(found, channels.tolist()):
            row[:] = self.slow.get(channel, 0.0) or self._asd(channel) * lines
            row *= self.passbands[self.kind[channel]]
            row *= self.unit
        return found

    def _asd(self, channel: int) -> Array:
        return _power_law(self.frequency, self.slopes[channel - 1]) if channel else self.strain


def channel_spectra(settings: Detector, frequency: Array, slopes: Array, rate: float) -> Spectra:
    """Returns the spectra of all channels at the frequencies (K,) in Hz of series of this rate in Hz; slopes (C - 1,).

    Raises `InputError` for a curve or recorded data that cannot be read.
    """
    noise, families, names = settings.noise, settings.families, [settings.strain, *settings.names]
    slow = {
        names.index(name): family.sensor_noise
        for family, name in (
            (families.scattered_light, families.scattered_light.witness),
            (families.bilinear, families.bilinear.witnesses[1]),
        )
        if family.weight
    }
    lines = 1 + noise.line_height * lorentzians(frequency, settings.lines, noise.line_width)
    nyquist = {name: rate / 2 for name, rate in settings.rates.items()}
    halves, kind = np.unique([nyquist.get(name, np.inf) for name in names], return_inverse=True)
    passbands = np.stack([_passband(frequency, half) for half in halves])
    strain, unit = strain_asd(noise, frequency), float(np.sqrt(rate / 2))
    return Spectra(frequency, strain, slopes, slow, lines, passbands, kind, unit)


def _passband(frequency: Array, half: float) -> Array:
    """What a channel's own rate leaves of it (K,) at frequencies (K,) in Hz: nothing above its half.

    As data acquisition decimates: by a low-pass that ends there, for what is above would be folded back (Oppenheim and
    Schafer, "Discrete-Time Signal Processing", section 4.6).
    """
    if np.isinf(half):
        return np.ones_like(frequency)
    edge = np.clip((1 - frequency / half) / (1 - ROLL), 0.0, 1.0)
    return np.sin(0.5 * np.pi * edge) ** 2


def strain_asd(noise: Noise, frequency: Array) -> Array:
    """Returns the strain's ASD (K,), without lines, that `simulate.detector.noise.psd` names."""
    return {"advanced": _advanced, "file": _from_file, "recorded": _from_recorded}[noise.psd](
        noise, frequency
    )


def advanced_detector_asd(frequency: Array) -> Array:
    """Returns the amplitude spectral density of an advanced detector's strain noise, 1 / sqrt(Hz).

    Sathyaprakash & Schutz, Living Rev. Relativity 12, 2 (2009), table 1 (Advanced LIGO); constant below 8 Hz,
    where the fit no longer describes a detector.
    """
    x = np.maximum(frequency, 8.0) / 215.0
    return np.sqrt(1e-49 * (x**-4.14 - 5 * x**-2 + 111 * (1 - x**2 + 0.5 * x**4) / (1 + 0.5 * x**2)))


def colour(white: Array, response: Array) -> Array:
    """Filters series (..., N) whose noise is white with unit variance by the responses (..., K), some rows at a time:
    of many channels, nothing but the series themselves is in memory."""
    rows, shape = white.reshape(-1, white.shape[-1]), (*white.shape[:-1], response.shape[-1])
    gains = np.broadcast_to(response, shape).reshape(-1, shape[-1])
    found = np.empty_like(rows)
    for some in _pieces(*rows.shape):
        found[some] = np.fft.irfft(np.fft.rfft(rows[some]) * gains[some], n=rows.shape[-1])
    return found.reshape(white.shape)


def colour_channels(values: Array, spectra: Spectra) -> None:
    """Filters the series (C, N) of all channels, unit white noise, by the spectra, in place."""
    for some in _pieces(*values.shape):
        values[some] = np.fft.irfft(np.fft.rfft(values[some]) * spectra.colour(some), n=values.shape[-1])


def _pieces(rows: int, samples: int) -> Iterator[slice]:
    step = max(1, PIECE // samples)
    return (slice(first, first + step) for first in range(0, rows, step))


def _advanced(noise: Noise, frequency: Array) -> Array:
    return advanced_detector_asd(frequency)


def _from_file(noise: Noise, frequency: Array) -> Array:
    """Two columns of text, Hz and 1 / sqrt(Hz), as the observatories publish their sensitivities."""
    (path,) = _found(noise)[:1]
    try:
        table = np.loadtxt(path, ndmin=2, delimiter="," if path.endswith(".csv") else None)
    except (OSError, ValueError) as error:
        raise InputError(f"{KEY}.files = {path}: cannot be read: {error}") from None
    if table.shape[1] < 2:
        raise InputError(f"{KEY}.files = {path}: needs two columns, Hz and 1 / sqrt(Hz)")
    return _interpolated(path, table[:, 0], table[:, 1], frequency)


def _from_recorded(noise: Noise, frequency: Array) -> Array:
    """Of recorded data: median of periodograms, which a few glitches among them hardly move."""
    from gwpy.timeseries import TimeSeries

    files = _found(noise)
    named = [] if noise.format == "hdf5.gwosc" else [noise.channel]  # a GWOSC file holds one strain, unnamed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of data that are not a whole number of segments
            data = TimeSeries.read(files, *named, **({"format": noise.format} if noise.format else {}))
            asd = data.asd(fftlength=noise.fftlength, overlap=noise.fftlength / 2, method="median")
    except Exception as error:  # noqa: BLE001  gwpy and its readers raise anything on a bad file
        reason = " ".join(str(error).split())
        raise InputError(f"{KEY}.files = {', '.join(files)}: cannot be read: {reason}") from None
    return _interpolated(", ".join(files), asd.frequencies.value[1:], asd.value[1:], frequency)


def _interpolated(source: str, known: Array, asd: Array, frequency: Array) -> Array:
    """On a doubly logarithmic scale; constant beyond the ends. Raises `InputError` for what is no ASD."""
    if not (np.isfinite(asd).all() and (asd > 0).all() and (known > 0).all() and (np.diff(known) > 0).all()):
        raise InputError(
            f"{KEY}.files = {source}: needs ascending frequencies and an ASD that is positive everywhere"
        )
    inside = np.maximum(frequency, known[0])
    return np.exp(np.interp(np.log(inside), np.log(known), np.log(asd)))


def _found(noise: Noise) -> list[str]:
    found: list[str] = []
    for pattern in noise.files:
        matches = sorted(glob.glob(str(Path(pattern).expanduser())))  # noqa: PTH207  patterns may be absolute
        if not matches:
            raise InputError(f"{KEY}.files = {pattern}: no such file")
        found += matches
    return found


def _power_law(frequency: Array, slope: float) -> Array:
    """A sensor's noise, falling as f^-slope and constant below 1 Hz."""
    return np.maximum(frequency, 1.0) ** -slope


def lorentzians(frequency: Array, centres: list[float], width: float) -> Array:
    """Returns power lines of height 1, `width` Hz wide, at the frequencies (K,) in Hz."""
    return sum((1 / (1 + ((frequency - f) / width) ** 2) for f in centres), np.zeros_like(frequency))
