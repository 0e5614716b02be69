"""What a coherent twin does to quiet time, frequency by frequency.

    recorded windows, the quieter half --twin--> y by group of witnesses, w' --Welch--> ASDs, coherence with witnesses

Shapes: E event, R recorded channel, G group, N sample, F frequency.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import csd
from torch import Tensor

from glitchflow.analysis.clean.groups import find_groups
from glitchflow.data.store.dataset import Dataset
from glitchflow.errors import InputError
from glitchflow.signal.types import Array, Indices
from glitchflow.twin import coherent
from glitchflow.twin.crops import by_crops
from glitchflow.twin.front import Front, together
from glitchflow.twin.kind import Trained

EVENTS = 64  # that are looked at: 32 windows of 7 pieces each leave a coherence of .02 where there is none
BATCH = 8
PIECES = 4  # of a spectrum fit into what is judged of a window, half of it
WITNESS = "witnesses"  # of a pair of spectra
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
    front = _front(trained)
    places = [dataset.recorded_channels.index(name) for name in front.channels]

    def read(windows: Indices, channels: Sequence[int] = places) -> Array:
        return dataset.events("series", some[windows], channels).astype(np.float64)

    strain = read(np.arange(len(some)), places[:1])[:, 0]
    return of_windows(trained, _groups(trained, groups), strain, read)


def _front(trained: Trained) -> Front:
    """The front of a coherent twin."""
    assert isinstance(trained.normalisation, Front), "a coherent twin's"
    return trained.normalisation


def _groups(trained: Trained, groups: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """Which inputs (C,) are of each group; none where y is not split."""
    front = _front(trained)
    alone = {re.sub(r"[^\w-]", "_", name): [name] for name in front.channels[1:]}
    for named in (groups, alone if len(alone) <= ALONE else {}):
        try:
            return find_groups(trained, named)
        except InputError:
            continue
    return {}


def of_windows(
    trained: Trained, groups: Mapping[str, Tensor], strain: Array, read: Callable[[Indices], Array]
) -> Quiet | None:
    """Measure it on the half of the windows in which the white strain has least power; None where none is whole.

    groups: inputs (C,) of each group, 1 or 0; strain: (E, N) of all windows; read: gives ascending ones of them, of all
    channels, (E, R, N), a few at a time.
    """
    front = _front(trained)
    whole = np.flatnonzero(np.isfinite(strain).all(axis=1))
    if not len(whole):
        return None
    power = front.strain(torch.from_numpy(strain[whole])).square().mean(1).numpy()
    windows = np.sort(whole[np.argsort(power, kind="stable")[: -(-len(whole) // 2)]])
    samples = strain.shape[-1]
    front = replace(front, span=samples / front.rate / 2)
    middle = slice(samples // 4, samples // 4 + samples // 2)
    length, step = samples // 2 // PIECES, min(BATCH, together(len(front.channels), samples))
    total: dict[tuple[str, str], NDArray[np.complex128]] = {}
    for start in range(0, len(windows), step):
        series = np.nan_to_num(read(windows[start : start + step]))
        said = {name: one[:, middle] for name, one in _said(trained, front, groups, series).items()}
        for pair, density in _densities(series[:, :, middle], said, front.rate, length).items():
            total[pair] = total.get(pair, 0) + density
    frequency = np.arange(length // 2 + 1) * (front.rate / length)
    inside = (frequency >= front.band[0]) & (frequency <= front.band[1])
    asd = {
        name: np.sqrt(density.real[inside] / len(windows))
        for (name, other), density in total.items()
        if name == other != WITNESS
    }
    coherence = {name: _coherence(total, name)[inside] for name in ("recorded", "left")}
    return Quiet(len(windows), frequency[inside], asd, coherence)


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


def _densities(
    heard: Array, said: dict[str, NDArray], rate: float, length: int
) -> dict[tuple[str, str], NDArray[np.complex128]]:
    """Cross spectral densities of pairs of what windows (E, R, N) hold, by Welch's method, summed over them: (F,), and
    (R - 1, F) where one of the pair are the witnesses."""
    left = {"left": heard[:, 0] - said["removed"]}
    strains = {"recorded": heard[:, 0], **left, **{k: v for k, v in said.items() if k != "removed"}}
    pairs = {(name, name): (one, one) for name, one in strains.items()}
    pairs[WITNESS, WITNESS] = heard[:, 1:], heard[:, 1:]
    pairs |= {(name, WITNESS): (strains[name][:, None], heard[:, 1:]) for name in ("recorded", "left")}
    return {pair: csd(*two, rate, nperseg=length)[1].sum(axis=0) for pair, two in pairs.items()}


def _coherence(total: dict[tuple[str, str], NDArray[np.complex128]], name: str) -> Array:
    """The coherence (F,) of a strain with that of the witnesses that has most of it there."""
    shared = np.abs(total[name, WITNESS]) ** 2
    powers = total[name, name].real * total[WITNESS, WITNESS].real
    return np.divide(shared, powers, out=np.zeros_like(powers), where=powers > 0).max(axis=0)
