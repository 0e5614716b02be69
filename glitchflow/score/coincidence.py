"""How often a witness is loud when and where the strain is, event by event, and what chance gives.

    energies -> raised to the loudest within half the tolerances -> mask of the loud pixels, loudest energy against time
    masks and lines of a block of events -> IoU and correlations of every pair (strain of event i, witness of event j)

Pairs (i, i) are what was recorded. Pairs (i, i + k), around the block, are the witness shifted in time by k events:
chance, with the window's edges, the place of the trigger in it and the noise of that stretch as they are. What is
tested are correlations, of masks and of energies, whose mean over all circular shifts of the witness inside the event
is zero: neither a loud event nor a line that both channels show all the time passes for coincidence.

Shapes: B event of a block, C channel, F frequency, T time, K = B shift by 0 ... B - 1 events.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from glitchflow.signal.types import Array


@dataclass(frozen=True)
class Tolerance:
    """Says what counts as a peak, and how far apart peaks coincide."""

    threshold: float  # normalised energy of a peak
    time: float  # s
    frequency: float  # share of the frequency


@dataclass(frozen=True)
class Peaks:
    """Holds the loud pixels of an event's channels, (C, F, T), and log(1 + loudest energy) against time, (C, T)."""

    mask: NDArray[np.bool_]
    line: NDArray[np.float32]
    alive: NDArray[np.bool_]  # (C,): there is any energy at all


@dataclass(frozen=True)
class Scores:
    """Holds a block's scores of one witness: NaN where the strain has no peak or the witness is dead."""

    loud: Array  # (B,): 1 where the witness has a peak too, wherever in the event
    iou: Array  # (B,) as recorded
    correlation: Array  # (B,)
    response: Array  # (B,): log(1 + energy) of the witness where the strain is loudest, whether that is a peak or not
    shifted_iou: Array  # (K,): sum over the block's events; shift 0 is as recorded
    shifted_overlap: Array  # (K,): of the masks' correlation
    shifted_correlation: Array  # (K,)


def find_peaks(energy: NDArray, frequency: NDArray, step: float, tolerance: Tolerance) -> Peaks:
    """Finds the peaks of one event, each widened by half the tolerances: two that are within them overlap.

    Shapes: energy (C, F, T), frequency (F,) in Hz ascending; step: s from pixel to pixel.
    """
    wide = widen(energy, frequency, step, tolerance)
    line = np.log1p(np.maximum(wide.max(axis=1), 0))  # splines undershoot
    return Peaks(wide >= tolerance.threshold, line.astype(np.float32), np.any(energy, axis=(1, 2)))


def widen(energy: NDArray, frequency: NDArray, step: float, tolerance: Tolerance) -> NDArray:
    """Raises each pixel of (C, F, T) to the loudest within half the tolerances of it: grey dilation by a box."""
    reach = round(tolerance.time / 2 / step)
    wide = maximum_filter1d(energy, 2 * reach + 1, axis=-1, mode="nearest")
    low = np.searchsorted(frequency, frequency * (1 - tolerance.frequency / 2))
    high = np.searchsorted(frequency, frequency * (1 + tolerance.frequency / 2), side="right")
    rows = [wide[:, a : max(b, i + 1)].max(axis=1) for i, (a, b) in enumerate(zip(low, high))]
    return np.stack(rows, axis=1)


def stack(events: list[Peaks]) -> Peaks:
    """Stacks the peaks of a block's events: (B, C, F, T), (B, C, T) and (B, C)."""
    return Peaks(*(np.stack([getattr(e, name) for e in events]) for name in ("mask", "line", "alive")))


def block_scores(block: Peaks) -> list[Scores]:
    """Scores each witness (channels 1, 2, ...) with the strain (channel 0) over a block of events."""
    strain = np.any(block.mask[:, 0], axis=(1, 2))  # events without a peak in the strain decide nothing
    event, loudest = np.arange(len(strain)), block.line[:, 0].argmax(axis=1)
    scores = []
    for channel in range(1, block.mask.shape[1]):
        iou, overlap = pair_overlap(block.mask[:, 0], block.mask[:, channel])
        correlation = pair_correlation(block.line[:, 0], block.line[:, channel])
        known, loud = strain & block.alive[:, channel], np.any(block.mask[:, channel], axis=(1, 2))
        usable = strain[:, None] & block.alive[None, :, channel]
        scores.append(
            Scores(
                np.where(known, loud, np.nan),
                np.where(known, iou.diagonal(), np.nan),
                np.where(known, correlation.diagonal(), np.nan),
                np.where(block.alive[:, channel], block.line[event, channel, loudest], np.nan),
                *(shift_sums(np.where(usable, pairs, 0.0)) for pairs in (iou, overlap, correlation)),
            )
        )
    return scores


def pair_overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Returns the IoU of all pairs of masks, and their correlation as images; (B, F, T) -> (B, B) each.

    Each row of a mask is taken less its mean: what is left of the overlap is its excess over the mean of all T
    circular shifts. Divided by the norms, so that events with large masks on both sides (a loud hour) weigh no more
    than others. It is 0 where a mask has no pixel, or in no row both loud and quiet ones.
    """
    a, b = (mask.reshape(len(mask), -1).astype(np.float32) for mask in (first, second))
    overlap = (a @ b.T).astype(np.float64)  # whole numbers: exact in any order
    (rows_a, sum_a, norm_a), (rows_b, sum_b, norm_b) = (_row_counts(mask) for mask in (first, second))
    union = sum_a[:, None] + sum_b - overlap
    excess, norm = overlap - rows_a @ rows_b.T / first.shape[2], norm_a[:, None] * norm_b
    return overlap / np.maximum(union, 1), excess / np.where(norm > 0, norm, np.inf)


def _row_counts(mask: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """(B, F, T) -> loud pixels of each row (B, F), of all (B,), and the norm without the rows' means (B,)."""
    rows = mask.sum(axis=2, dtype=np.float64)
    total = rows.sum(axis=1)
    return rows, total, np.sqrt(np.maximum(0, total - np.square(rows).sum(axis=1) / mask.shape[2]))


def pair_correlation(first: NDArray, second: NDArray) -> Array:
    """Returns Pearson's correlation over time of all pairs of lines, (B, T) -> (B, B); 0 for a constant one."""
    a, b = (_standardised(np.asarray(line, np.float64)) for line in (first, second))
    return a @ b.T


def _standardised(line: Array) -> Array:
    centred = line - line.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(norm > 0, norm, 1.0)


def shift_sums(pairs: Array) -> Array:
    """Sums the pairs (i, i + k) over i, around the block, for k = 0 ... B - 1; (B, B) -> (K,)."""
    index = np.arange(len(pairs))
    return pairs[index, (index + index[:, None]) % len(pairs)].sum(axis=1)
