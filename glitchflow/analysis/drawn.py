"""Real glitches as a generative twin's draws are shown: white, as long, and in noise.

Shapes: E event, n sample, F frequency, T time.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.analysis.sample import engine_of, images
from glitchflow.data.store import Dataset
from glitchflow.errors import InputError
from glitchflow.signal.types import Indices
from glitchflow.train.checkpoint import Checkpoint, open_checkpoint
from glitchflow.twin.white import White, learnable, read


def twin_of(samples: Dataset) -> Checkpoint:
    """Open the checkpoint that draws were made with, also where a run's workdir was moved. Raises `InputError` where it
    is not there any more, and for a store of anything else."""
    if samples.attributes.get("source") != "sample":
        raise InputError(f"{samples.path}: holds no draws; `glitchflow sample` writes them")
    path = Path(samples.attributes["checkpoint"]["path"])
    moved = Path(samples.path).parent / "train" / "checkpoints" / path.name
    path = moved if moved.exists() and not path.exists() else path
    if not (path / "meta.json").exists():
        raise InputError(f"{samples.path}: {path}, which drew it, is not there any more")
    return open_checkpoint(path)


def white_of(found: Checkpoint) -> White:
    """Return what a generative twin's checkpoint knows of its glitches."""
    assert isinstance(found.normalisation, White), "a generative twin's"
    return found.normalisation


def events_of(dataset: Dataset, label: int, splits: Sequence[str], most: int) -> Indices:
    """Return the first `most` events (E,) of a family in some splits whose SNR is known, ascending."""
    some = np.sort(np.concatenate([dataset.indices(split) for split in splits]))
    known = learnable(dataset)[some] & (dataset["label"][:][some] == label)
    return some[known][:most]


def real_series(white: White, dataset: Dataset, events: Indices) -> NDArray[np.float64]:
    """Read white glitches (E, n) as they were learned from."""
    none = np.empty((0, white.samples))
    return np.concatenate([none, *(part.numpy() for part in read(white, dataset, events))])


def real_images(found: Checkpoint, series: NDArray, seed: int) -> NDArray[np.float32]:
    """Compute the Q-plots (E, F, T) of white glitches (E, n), which are given unit noise where they are known alone."""
    if white_of(found).clean:
        series = series + np.random.default_rng(seed).standard_normal(series.shape)
    return images(engine_of(found), torch.from_numpy(series).float().numpy())


def beside(dataset: Dataset, samples: Dataset, most: int) -> dict[str, tuple[NDArray, NDArray]]:
    """Return by family, of those that were drawn, the Q-plots (E, F, T) of real glitches of the validation and test
    splits, and of draws, `most` of each."""
    found, label = twin_of(samples), samples["label"][:]
    white, pairs = white_of(found), {}
    for k in np.unique(label).tolist():
        events = events_of(dataset, k, ("validation", "test"), most)
        real = real_images(found, real_series(white, dataset, events), k)
        pairs[white.labels[k]] = (real, samples.events("qplot", np.flatnonzero(label == k)[:most]))
    return pairs
