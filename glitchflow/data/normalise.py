"""Normalisation of Q-plots: statistics of the train split, applied per channel and inverted on output.

Shapes: B event, C channel, F frequency, T time.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import softplus

from glitchflow.data.store.array import StoredArray
from glitchflow.signal.types import Flags

# shares of the events below the quantiles kept of each channel's loudness: close at the ends, where a range ends
QUANTILES = (
    0.0,
    0.0005,
    0.001,
    0.002,
    0.005,
    *(i / 100 for i in range(1, 100)),
    0.995,
    0.998,
    0.999,
    0.9995,
    1.0,
)


ROOM = 2**28  # bytes of loudness in memory at once: all channels of 64,000 events, or 32 of 10^6

SUMS = ("sum", "log_sum", "log_square_sum")


def measure(energy: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Sums over the pixels of each image of (B, C, F, T) energies, how many there are, and the largest: (B, C) each,
    clamped at 0. Rows without anything count for nothing.

    An event at a time: a shard's share is added up from them without another copy of the shard.
    """
    clamped = np.maximum(energy, 0, dtype=np.float64)  # splines undershoot
    log = np.log1p(clamped)
    sums = {
        "sum": clamped.sum((2, 3)),
        "log_sum": log.sum((2, 3)),
        "log_square_sum": np.square(log).sum((2, 3)),
    }
    pixels = energy.shape[3] * (~empty_rows(energy)).sum(-1)
    return sums | {"pixels": pixels, "max": clamped.max((2, 3), initial=0.0)}


def empty_rows(energy: NDArray) -> NDArray[np.bool_]:
    """Which rows of energies (..., F, T) hold nothing at all, (..., F): 0 at all times.

    That is how a store says that a channel was missing or dead, or that its own rate does not reach that high: noise is
    never 0. It needs no mask beside the energies, and holds where a crop moves with the event.
    """
    empty = energy[..., 0] == 0
    return empty & ~energy.any(-1) if empty.any() else empty


def statistics(measured: dict[str, NDArray]) -> dict[str, Any]:
    """A shard's share of the statistics, per channel, JSON: what `measure` gave of its B train events, added up."""
    share: dict[str, Any] = {"count": measured["pixels"].sum(0).tolist()}
    share["max"] = measured["max"].max(0, initial=0.0).tolist()
    for name in SUMS:
        values = measured[name]
        # one after the other, as numpy adds up whole shards: its pairwise sum would give other last digits
        share[name] = (np.add.accumulate(values)[-1] if len(values) else np.zeros(values.shape[1])).tolist()
    return share


def mean_log(measured: dict[str, NDArray]) -> NDArray[np.float64]:
    """How loud each channel of each event is, (B, C), from what `measure` gave: the mean of log(1 + energy) over the
    pixels that hold anything; 0 where none does."""
    return measured["log_sum"] / np.maximum(measured["pixels"], 1)


def loudness(energy: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same of energies, (B, C, F, T) -> (B, C)."""
    total = np.log1p(np.maximum(energy, 0, dtype=np.float64)).sum((2, 3))
    return total / np.maximum(energy.shape[3] * (~empty_rows(energy)).sum(-1), 1)


def loudness_quantiles(values: NDArray[np.float64]) -> list[list[float]]:
    """The `QUANTILES` of each channel's loudness (event, C), a list per channel.

    Events with NaN there are left out; a channel that has nothing else has zeros.
    """
    known = [column[~np.isnan(column)] for column in values.T]
    return [np.quantile(column if len(column) else [0.0], QUANTILES).tolist() for column in known]


def stored_loudness(column: StoredArray, chosen: Flags) -> list[list[float]]:
    """The same of a store's column (event, C), over the events chosen (event,): a chunk of it after the other, and as
    many channels at once as there is room for."""
    step, found = max(1, ROOM // (8 * max(1, int(chosen.sum())))), []
    for first in range(0, column.shape[1], step):
        some = slice(first, first + step)
        found += loudness_quantiles(np.concatenate([column[s, some][chosen[s]] for s in column.spans]))
    return found


def reduce_statistics(shares: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    """The statistics of the train split, per channel, from the shares of all shards, of which one is in memory.

    Adds in the order given (shard order), so that the result does not depend on who finished first. A channel that
    had no data in any event has zeros. Raises ValueError where no event is in the split.
    """
    total: dict[str, NDArray] = {}
    for share in shares:
        if np.any(share["count"]):
            for name in ("count", *SUMS):
                total[name] = total.get(name, 0) + np.array(share[name])
            total["max"] = np.maximum(total.get("max", 0.0), share["max"])
    if not total:
        raise ValueError("the train split is empty: no statistics to normalise with")
    count = np.maximum(total["count"], 1)
    log_mean = total["log_sum"] / count
    return {
        "mean": (total["sum"] / count).tolist(),
        "max": total["max"].tolist(),
        "log_mean": log_mean.tolist(),
        "log_std": np.sqrt(np.maximum(total["log_square_sum"] / count - log_mean**2, 0)).tolist(),
    }


KINDS = ("log1p", "max", "mean")


@dataclass(frozen=True)
class Normalisation:
    """(f(energy) - offset) / scale per channel, f = log(1 + x) for `log1p` and x otherwise.

    Rows that hold nothing (`empty_rows`) become 0, what the channel shows on average: whatever weights a network has
    for them, they add nothing. It needs no further input to be told: an image of noise is never flat.
    """

    kind: str
    offset: list[float]
    scale: list[float]

    def apply(self, energy: torch.Tensor) -> torch.Tensor:
        """Energies (B, C, F, T), clamped at 0, to what the network sees."""
        value = energy.clamp_min(0)
        value = value.log1p() if self.kind == "log1p" else value
        value = (value - self._column(self.offset, value)) / self._column(self.scale, value)
        return torch.where(energy.any(-1, keepdim=True), value, torch.zeros_like(value))

    def apply_in_place(self, energy: NDArray) -> None:
        """The same for an array (..., C, F, T) of the caller's own, without another copy of it."""
        # by torch but for the logarithm, which on one core is the faster of numpy's and torch's each time
        empty, value = empty_rows(energy), torch.from_numpy(energy)
        value.clamp_min_(0)
        if self.kind == "log1p":
            np.log1p(energy, out=energy)
        value.sub_(self._column(self.offset, value)).div_(self._column(self.scale, value))
        energy[empty] = 0

    def invert(self, value: torch.Tensor) -> torch.Tensor:
        """What the network generates (B, C, F, T) to energies, clamped at 0."""
        value = value * self._column(self.scale, value) + self._column(self.offset, value)
        return (value.expm1() if self.kind == "log1p" else value).clamp_min(0)

    def floored(self, value: torch.Tensor, least: float) -> torch.Tensor:
        """Bend normalised values (B, C, F, T) softly, so that no energy is below `least` > 0 and no gradient vanishes.

        In the unit that is scaled, x becomes l + softplus(x - l) with l that of `least`: energies become
        least + exp(x) for `log1p`, least + softplus(x - least) else.
        """
        offset, scale = self._column(self.offset, value), self._column(self.scale, value)
        low = math.log1p(least) if self.kind == "log1p" else least
        return (low + softplus(value * scale + offset - low) - offset) / scale

    def channels(self, indices: Sequence[int]) -> "Normalisation":
        """The same for some of the channels."""
        return Normalisation(self.kind, [self.offset[i] for i in indices], [self.scale[i] for i in indices])

    def problem(self, channels: int) -> str:
        """What is wrong with numbers that were read from a file, of so many channels; empty where nothing is."""
        if not len(self.offset) == len(self.scale) == channels:
            return f"is of {min(len(self.offset), len(self.scale))} channels, not {channels}"
        if self.kind not in KINDS:
            return f"its kind {self.kind} is unknown"
        finite = 0 not in self.scale and all(map(math.isfinite, [*self.offset, *self.scale]))
        return "" if finite else "its numbers must be finite, and a scale not 0"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def _column(values: list[float], like: torch.Tensor) -> torch.Tensor:
        if (
            len(values) == 1
        ):  # the strain's, at each step of a training: a copy from the host would wait for a GPU
            return torch.full((1, 1, 1), values[0], dtype=like.dtype, device=like.device)
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


def build_normalisation(kind: str, stored: dict[str, list[Any]]) -> Normalisation:
    """The normalisation of a kind ("log1p", "max", "mean") from a store's statistics.

    A channel without any energy is scaled by 1.
    """
    zeros = [0.0] * len(stored["mean"])
    offset, scale = {
        "log1p": (stored["log_mean"], stored["log_std"]),
        "max": (zeros, stored["max"]),
        "mean": (zeros, stored["mean"]),
    }[kind]
    return Normalisation(kind, list(offset), [s if s > 0 else 1.0 for s in scale])
