"""What a coherent twin does to quiet time, frequency by frequency.

    recorded windows, the quieter half --twin--> y by group of witnesses, w' --Welch--> ASDs, coherence with witnesses

Shapes: E event, R recorded channel, G group, N sample, F frequency.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import csd
from torch import Tensor

from glitchflow.analysis.clean.groups import find_groups
from glitchflow.data.store.dataset import Dataset
from glitchflow.errors import InputError
from glitchflow.signal.types import Array
from glitchflow.twin import coherent
from glitchflow.twin.crops import by_crops
from glitchflow.twin.front import Front
from glitchflow.twin.kind import Trained

EVENTS = 64  # that are looked at: 32 windows of 7 pieces each leave a coherence of .02 where there is none
BATCH = 8
PIECES = 4  # of a spectrum fit into what is judged of a window, half of it
ALONE = 7  # witnesses that are a group each where none is named: as many as a figure has colours


@dataclass(frozen=True)
class Quiet:
    """Holds spectra of quiet time over the band of a twin."""

    windows: int
    frequency: Array  # (F,) Hz
    asd: dict[
        str, Array
    ]  # (F,) in the strain's unit per root Hz: recorded, left, and what each group puts into y
    coherence: dict[str, Array]  # (F,) of the strain, recorded and left, with the witness that has most of it


def quiet(dataset: Dataset, trained: Trained, groups: Mapping[str, Sequence[str]]) -> Quiet | None:
    """Measure it on background events of the test split, on all where none is; None where no strain is whole.

    groups: `evaluate.groups`; where none is named, or they cannot be told apart, few witnesses are a group each, and of
    many y is one part.
    """
    events = dataset.indices("test")
    background = events[dataset.events("label", events) == 0]
    some = background if len(background) else events
    some = some[:: max(1, len(some) // EVENTS)][:EVENTS]
    front = trained.normalisation
    assert isinstance(front, Front), "a coherent twin's"
    places = [dataset.recorded_channels.index(name) for name in front.channels]
    series = dataset.events("series", some, places).astype(np.float64)
    return of_series(trained, _groups(trained, groups), series[np.isfinite(series[:, 0]).all(axis=1)])


def _groups(trained: Trained, groups: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """Which inputs (C,) are of each group; none where y is not split."""
    front = trained.normalisation
    assert isinstance(front, Front), "a coherent twin's"
    alone = {re.sub(r"[^\w-]", "_", name): [name] for name in front.channels[1:]}
    for named in (groups, alone if len(alone) <= ALONE else {}):
        try:
            return find_groups(trained, named)
        except InputError:
            continue
    return {}


def of_series(trained: Trained, groups: Mapping[str, Tensor], series: Array) -> Quiet | None:
    """Measure it on the half of windows (E, R, N) in which the white strain has least power; None of none.

    groups: inputs (C,) of each group, 1 or 0.
    """
    front = trained.normalisation
    assert isinstance(front, Front), "a coherent twin's"
    if not len(series):
        return None
    series = np.nan_to_num(series)
    power = front.strain(torch.from_numpy(series[:, 0])).square().mean(1).numpy()
    series = series[np.sort(np.argsort(power, kind="stable")[: -(-len(series) // 2)])]
    samples = series.shape[-1]
    front = replace(front, span=samples / front.rate / 2)
    middle = slice(samples // 4, samples // 4 + samples // 2)
    found = [_said(trained, front, groups, series[i : i + BATCH]) for i in range(0, len(series), BATCH)]
    said = {name: np.concatenate([part[name] for part in found])[:, middle] for name in found[0]}
    heard = series[:, :, middle]
    left = heard[:, 0] - said.pop("removed")
    length = samples // 2 // PIECES
    frequency, recorded = _spectrum(heard[:, 0], heard[:, 0], front.rate, length)
    inside = (frequency >= front.band[0]) & (frequency <= front.band[1])
    powers = {"recorded": recorded} | {
        name: _spectrum(one, one, front.rate, length)[1] for name, one in {"left": left, **said}.items()
    }
    coherence = {
        name: _coherence(one, heard[:, 1:], front.rate, length)[inside]
        for name, one in {"recorded": heard[:, 0], "left": left}.items()
    }
    asd = {name: np.sqrt(one.real[inside]) for name, one in powers.items()}
    return Quiet(len(series), frequency[inside], asd, coherence)


@torch.inference_mode()
def _said(trained: Trained, front: Front, groups: Mapping[str, Tensor], series: Array) -> dict[str, NDArray]:
    """What is removed of windows (E, R, N), and what each group puts into y, (E, N) each, in the strain's unit."""
    weight = next(trained.network.parameters())
    stacked = torch.stack(list(groups.values())).to(weight) if groups else None

    def predict(crops: Tensor) -> dict[str, Tensor]:
        found = coherent.generate(trained.network, front, crops.to(weight), stacked)
        parts = found["parts"].unbind(1) if groups else [found["estimate"]]
        return {"removed": found["removed"], **dict(zip(groups or ["the estimate"], parts, strict=True))}

    white = by_crops(front, front.prepare(torch.from_numpy(series)), predict)
    return {name: front.undo(one) for name, one in white.items()}


def _spectrum(one: Array, other: Array, rate: float, length: int) -> tuple[Array, NDArray[np.complex128]]:
    """Frequencies (F,) and the cross spectral density (F,) of series (E, N), by Welch's method over all of them."""
    frequency, density = csd(one, other, rate, nperseg=length)
    return frequency, density.mean(axis=0)


def _coherence(strain: Array, witnesses: Array, rate: float, length: int) -> Array:
    """The coherence (F,) of the strain (E, N) with that of the witnesses (E, R, N) that has most of it there."""
    own, found = _spectrum(strain, strain, rate, length)[1].real, []
    for witness in np.moveaxis(witnesses, 1, 0):
        power = _spectrum(witness, witness, rate, length)[1].real
        shared = np.abs(_spectrum(strain, witness, rate, length)[1]) ** 2
        found.append(np.divide(shared, own * power, out=np.zeros_like(own), where=own * power > 0))
    return np.max(found, axis=0)
