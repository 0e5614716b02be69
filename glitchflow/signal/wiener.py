"""The classical subtraction: a multichannel Wiener filter of the witnesses' series, which uses their phase.

    witnesses and strain of the train split --cross spectra--> one FIR filter per witness --> predicted strain

Shapes: E event, W witness, N sample, L samples of a segment, K frequencies: of L // 2 + 1 those in a band.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import get_window

from glitchflow.signal.types import Array, Indices, Spectrum

STEPS = 20  # of a robust fit at most: a dozen are usual
ADDED = 2**23  # bytes of witnesses' matrices that are added at once
ROOM = 2**26  # bytes of them that are held, or solved, at once: of hundreds all together are a GB
RIDGE = 1e-6  # of each witness's own power: no effect on a real coupling, finite where witnesses are alike


@dataclass(frozen=True)
class Wiener:
    """Holds the least-squares FIR filters, one per witness."""

    taps: Array  # (W, L), zero delay in the middle: a witness may lag the strain

    def predict(self, witnesses: Array) -> Array:
        """Predicts the part of the strain (E, N), in its units, that the witnesses (E, W, N) explain."""
        length, samples = self.taps.shape[1], witnesses.shape[2]
        size = samples + length
        spectrum = np.zeros((len(witnesses), size // 2 + 1), complex)
        for one, taps in zip(witnesses.swapaxes(0, 1), self.taps):  # copies of hundreds together are 0.1 GB
            centred = one - one.mean(axis=1, keepdims=True)
            spectrum += np.fft.rfft(centred, size) * np.fft.rfft(taps, size)
        return np.fft.irfft(spectrum, size)[:, length // 2 : length // 2 + samples]


@dataclass(frozen=True)
class CrossSpectra:
    """Holds what filters are fitted from: witnesses' cross spectra with each other and the strain, over segments."""

    power: Spectrum  # (K, W, W)
    cross: Spectrum  # (K, W)
    length: int  # L
    first: int = 0  # of the K frequencies, among all L // 2 + 1

    def of(self, places: Sequence[int]) -> "CrossSpectra":
        """Returns those of some of the witnesses."""
        some = np.asarray(places)
        if np.array_equal(some, np.arange(self.cross.shape[1])):
            return self
        return CrossSpectra(self.power[:, some[:, None], some], self.cross[:, some], self.length, self.first)


def inside_of(length: int, sample_rate: float, band: tuple[float, float]) -> slice:
    """Returns which frequencies of a segment lie in a band (Hz, both ends inside): W^2 numbers at each of the others
    would be for nothing."""
    frequency = np.fft.rfftfreq(length, 1 / sample_rate)
    low, high = np.searchsorted(frequency, band[0]), np.searchsorted(frequency, band[1], side="right")
    return slice(int(low), int(high))


def in_parts(inside: slice, witnesses: int) -> list[slice]:
    """Shares out frequencies so that the matrices of so many witnesses at those of a part take `ROOM` at most."""
    return [
        slice(inside.start + some.start, inside.start + some.stop)
        for some in _rows(inside.stop - inside.start, witnesses, ROOM)
    ]


def cross_spectra(
    blocks: Iterable[tuple[Array, Array]], length: int, inside: slice = slice(0, None)
) -> CrossSpectra:
    """Adds up the cross spectra of Hann-windowed segments that overlap by half (Welch).

    blocks: (strain (E, N), witnesses (E, W, N)), the stretches that are to be cleaned, some events at a time; length:
    samples of a segment; inside: the frequencies that are kept. Raises ValueError for stretches shorter than a segment,
    or no event.
    """
    power, cross = None, None
    for strain, witnesses in blocks:
        s, w = spectra_of(strain, witnesses, length, inside)
        if power is None or cross is None:
            cross = np.zeros((w.shape[-1], w.shape[1]), complex)
            power = np.zeros((*cross.shape, w.shape[1]), complex)
        for some in _rows(len(cross), cross.shape[1], ADDED):  # of all at once it is as large as the sum
            one, many = s[..., some], w[..., some]
            power[some] += np.einsum("easf,ebsf->fab", many.conj(), many)
            cross[some] += np.einsum("easf,esf->fa", many.conj(), one)
    if power is None or cross is None:
        raise ValueError("a Wiener filter needs at least one event")
    return CrossSpectra(power, cross, length, inside.start)


def trimmed_spectra(
    blocks: Iterable[tuple[Array, Array]],
    events: int,
    length: int,
    sample_rate: float,
    band: tuple[float, float],
) -> Iterator[CrossSpectra]:
    """Adds up the cross spectra of that half of the segments which one filter explains best: least trimmed squares.

    A burst that a witness alone sees teaches a filter of all segments not to listen to it; here its segment is left
    out. Filters are fitted to the half in which the loudest witness is quietest, then to the half of which they leave
    the smallest share of the strain's power in the band (Hz), until this stays the same: concentration steps (Rousseeuw
    & Van Driessen 2006, Data Min. Knowl. Discov. 12, 29). Shares, not powers: else the quietest time would be kept
    whatever it holds. From all segments they would not start: a filter of these listens to nothing.
    Holds the spectra of all segments in the band. Blocks and errors as of `cross_spectra`, of so many events
    in all; nothing outside of the band; returned in parts of some frequencies each.
    """
    inside = inside_of(length, sample_rate, band)
    s, w = _gathered(blocks, events, length, inside)
    half, loud = max(1, len(s) // 2), sum(np.einsum("asf,asf->as", x, x) for x in (w.real, w.imag))  # (W, S)
    loud /= np.maximum(np.median(loud, axis=1, keepdims=True), np.finfo(float).tiny)
    kept = np.sort(np.argsort(loud.max(axis=0), kind="stable")[:half])
    there = np.maximum(np.square(np.abs(s)).sum(axis=1), np.finfo(float).tiny)
    parts = list(_rows(s.shape[1], len(w), ROOM))
    for _ in range(STEPS):
        left = s.copy()
        for some in parts:
            transfer = _transfer(*_products(s[:, some], w[..., some], kept))
            left[:, some] -= np.einsum("fa,asf->sf", transfer, w[..., some])
        share = np.square(np.abs(left)).sum(axis=1) / there
        before, kept = kept, np.sort(np.argsort(share, kind="stable")[:half])
        if np.array_equal(before, kept):
            break
    return (
        CrossSpectra(*_products(s[:, some], w[..., some], kept), length, inside.start + some.start)
        for some in parts
    )


def _gathered(
    blocks: Iterable[tuple[Array, Array]], events: int, length: int, inside: slice
) -> tuple[Spectrum, Spectrum]:
    """Spectra (S, K) and (W, S, K) of the segments of all blocks, of so many events in all."""
    made = 0  # of all segments: two copies would be too much
    for strain, witnesses in blocks:
        one, many = spectra_of(strain, witnesses, length, inside)
        if not made:
            s = np.empty((events * one.shape[1], one.shape[2]), complex)
            w = np.empty((many.shape[1], *s.shape), complex)
        mine = slice(made, made + len(one) * one.shape[1])
        s[mine] = one.reshape(-1, s.shape[1])
        w[:, mine] = many.swapaxes(0, 1).reshape(len(w), -1, s.shape[1])
        made = mine.stop
    if not made:
        raise ValueError("a Wiener filter needs at least one event")
    return s, w


def fit_wiener(
    spectra: CrossSpectra | Iterable[CrossSpectra],
    sample_rate: float,
    band: tuple[float, float],
    highest: Array | None = None,
) -> Wiener:
    """Fits the filters that predict the strain best, in the mean square, from the witnesses together.

    spectra: at all frequencies together, or in parts of some each, of which one is held at once. band: Hz, outside
    which the filters, as long as a segment, are zero; highest: (W,) Hz, above which each witness has
    nothing to say, for what its own rate holds ends there: a filter would make a prediction of its rounding. At each
    frequency H = <w* w^T>^-1 <w* s>, averaged over segments: Allen, Hua & Ottewill, arXiv:gr-qc/9909083; Davis et al.,
    CQG 36, 055011 (2019).
    """
    found, length = dict[int, Spectrum](), 0
    for part in [spectra] if isinstance(spectra, CrossSpectra) else spectra:
        length = part.length
        mine = (part.first + np.arange(len(part.power))) * sample_rate / length
        said = None if highest is None else (mine[:, None] <= highest).astype(float)
        found[part.first] = _transfer(part.power, part.cross, said)
    frequency = np.fft.rfftfreq(length, 1 / sample_rate)
    transfer = np.zeros((len(frequency), next(iter(found.values())).shape[1]), complex)
    for first, some in found.items():
        transfer[first : first + len(some)] = some
    transfer[(frequency < band[0]) | (frequency > band[1])] = 0
    taps = np.fft.fftshift(np.fft.irfft(transfer.T, length), axes=1)
    return Wiener(taps * np.sqrt(get_window("hann", length)))  # what wraps around at the ends is no filter


def spectra_of(
    strain: Array, witnesses: Array, length: int, inside: slice = slice(0, None)
) -> tuple[Spectrum, Spectrum]:
    """Spectra (E, S, K) and (E, W, S, K) of Hann-windowed segments. Raises ValueError where there is none so long."""
    if strain.shape[-1] < length:
        raise ValueError(f"a stretch of {strain.shape[-1]} samples is shorter than a segment of {length}")
    window = get_window("hann", length)
    return _segments(strain, window, inside), _segments(witnesses, window, inside)


def _products(strain: Spectrum, witnesses: Spectrum, kept: Indices) -> tuple[Spectrum, Spectrum]:
    """Sums over the segments `kept` (K, W, W) and (K, W) of products of (S, K) and (W, S, K), some frequencies at once:
    copies of all would be as large again as what is given."""
    cross = np.empty((strain.shape[1], len(witnesses)), complex)
    power = np.empty((*cross.shape, len(witnesses)), complex)
    for some in _rows(len(cross), cross.shape[1], ADDED):
        w, s = witnesses[:, :, some][:, kept], strain[kept, some]
        power[some] = np.einsum("asf,bsf->fab", w.conj(), w)
        cross[some] = np.einsum("asf,sf->fa", w.conj(), s)
    return power, cross


def _rows(count: int, witnesses: int, room: int) -> Iterator[slice]:
    """Frequencies, as many at a time as there is room for matrices of so many witnesses."""
    step = max(1, room // (16 * witnesses**2))
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def _transfer(power: Spectrum, cross: Spectrum, said: Array | None = None) -> Spectrum:
    """Transfer functions (K, W) of the witnesses, scaled by their own power: those of any unit are equals.

    said: (K, W) 0 where a witness says nothing, else 1.
    """
    own = np.einsum("faa->fa", power).real
    unit = (1.0 if said is None else said) / np.sqrt(np.maximum(own, np.finfo(float).tiny))
    wanted, found = (cross * unit)[:, :, None], np.empty_like(cross)
    for some in _rows(len(cross), cross.shape[1], ADDED):
        scaled = power[some] * unit[some, :, None]
        scaled *= unit[some, None, :]
        scaled += RIDGE * np.eye(power.shape[1])
        found[some] = np.linalg.solve(scaled, wanted[some])[:, :, 0]
    return found * unit


def _segments(series: Array, window: Array, band: slice) -> Spectrum:
    """Spectra (..., S, K) of the windowed segments of (..., N), each without its mean."""
    hop, inside = window.size // 2, range(window.size // 2 + 1)[band]
    count = (series.shape[-1] - window.size) // hop + 1
    found = np.empty((*series.shape[:-1], count, len(inside)), complex)
    for place in np.ndindex(*series.shape[:-1]):  # of hundreds of witnesses a copy of all segments is 0.1 GB
        pieces = np.lib.stride_tricks.sliding_window_view(series[place], window.size)[::hop]
        whole = np.fft.rfft((pieces - pieces.mean(axis=-1, keepdims=True)) * window)
        found[place] = whole[:, inside.start : inside.stop]
    return found
