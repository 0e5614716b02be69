"""Never inject: a band that is louder for what was removed of it than it was recorded is passed through.

A twin that was trained on another detector than today's, or a witness that went mad, adds noise for as long as nobody
looks. What is removed is therefore weighed all the time, also while it is not subtracted, so that a band comes back by
itself once it has been quiet for as long as is remembered.

Shapes: n sample of a block, N of a crop, B band, K block that is remembered; what is not known of one is 0.
"""

import math

import numpy as np

from glitchflow.signal.types import Array, Flags

BANDS = 4  # of equal ratio: what goes wrong in one coupling is seldom all of the band
MEMORY = 60.0  # s for a band from 10 Hz, as in front.py
# over the mean power of the memory; what a good twin adds to quiet time (3 % rms) is .1 % of it, and a burst of SNR 12
# that only a witness saw 2 % of a minute's
LOUDER = 0.02
EDGE = (
    0.1  # share of a band's limit over which it fades into its neighbour: steep enough, and rings for 1/10 s
)


def edges(band: tuple[float, float]) -> Array:
    """Return the limits (B + 1,) in Hz of the bands that are watched."""
    return np.geomspace(*band, BANDS + 1)


def powers(strain: Array, removed: Array, rate: float, limits: Array) -> Array:
    """Return the power in each band of the white strain (n,) as recorded and less what is removed: (2, B)."""
    samples = len(strain)
    window = np.sin(np.pi * (np.arange(samples) + 0.5) / samples)
    spectra = np.fft.rfft(np.stack([strain, strain - removed]) * window)
    place = np.searchsorted(limits, np.fft.rfftfreq(samples, 1 / rate), side="right") - 1
    inside = place == np.arange(len(limits) - 1)[:, None]  # (B, n / 2)
    return np.square(np.abs(spectra)) @ inside.T


def rms(heard: Array, samples: int, rate: float, limits: Array, passed: Flags) -> tuple[float, float]:
    """Return the rms of the white strain as recorded and as it came out, by the `powers` (K, 2, B) of blocks of so many
    samples; of bands that are passed (B,) what was recorded comes out. White noise of unit variance has 1."""
    frequency = np.fft.rfftfreq(samples, 1 / rate)
    inside, heard = int(((frequency >= limits[0]) & (frequency < limits[-1])).sum()), _known(heard)
    before = heard[:, 0].sum(axis=1).mean()
    after = np.where(passed, heard[:, 0], heard[:, 1]).sum(axis=1).mean()
    unit = max(1, inside) * samples / 2  # the window's power is a half
    return math.sqrt(before / unit), math.sqrt(after / unit)


def louder(heard: Array, blocks: int, most: float) -> Flags:
    """Say which bands (B,) were made louder, by the `powers` (K, 2, B) of the last blocks of `blocks` at most.

    What is not known yet counts as left alone: a minute is no shorter at its beginning.
    """
    before, after = np.moveaxis(_known(heard), 1, 0)
    return (after - before).sum(axis=0) > most * blocks * before.sum(axis=0) / max(1, len(before))


def _known(heard: Array) -> Array:
    """Those of the remembered blocks (K, 2, B) that were treated: none has no power at all."""
    return heard[heard[:, 0].any(axis=1)]


def without(white: Array, rate: float, limits: Array, bands: Flags) -> Array:
    """Take bands out of a white series (N,), by a filter without delay."""
    size = 2 * len(white)  # what rings beyond one end does not come back at the other
    frequency = np.fft.rfftfreq(size, 1 / rate)
    gain = np.ones(len(frequency))
    for low, high in zip(limits[:-1][bands], limits[1:][bands]):
        beyond = np.maximum((low - frequency) / (EDGE * low), (frequency - high) / (EDGE * high))
        gain *= np.sin(np.pi / 2 * np.clip(beyond, 0, 1)) ** 2
    return np.fft.irfft(np.fft.rfft(white, size) * gain, size)[: len(white)]
