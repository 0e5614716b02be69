"""A copy of a store's Q-plots on a node's own disk, for clusters whose shared file system is slow or far away.

One file, `<hash>.npy`, made by the first rank of the node that needs it and mapped by all; the hash is that of the
shards' checksums, so that a store that was changed is copied again and one that was moved is not.

Shapes: event, C channel, F frequency, T time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glitchflow.data.objects import writing
from glitchflow.data.store.dataset import Dataset
from glitchflow.progress import say


def local_copy(dataset: Dataset, directory: Path) -> NDArray[np.float32]:
    """The store's `qplot` (event, C, F, T) as a read-only map of a file in `directory`, copied unless it is there.

    Raises `RunError` where the directory cannot be written or is full; nothing half written stays.
    """
    path = directory / f"{_identity(dataset)}.npy"
    with writing(directory, "no local copy of the store (loader.cache_dir)"):
        directory.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the node's other ranks wait for the first one
            if not path.exists():
                _copy(dataset, path)
    return np.load(path, mmap_mode="r")


def _copy(dataset: Dataset, path: Path) -> None:
    say(f"copying the Q-plots of {dataset.path} to {path}")
    source, partial = dataset["qplot"], path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": source.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for k in range(
                dataset.layout.shards
            ):  # written, not mapped: a full disk is then an error, not a signal
                file.write(np.ascontiguousarray(source[dataset.layout.span(k)], dtype="<f4").data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _identity(dataset: Dataset) -> str:
    shards = [dataset.checksum("qplot", k) for k in range(dataset.layout.shards)]
    return hashlib.sha256(json.dumps(shards).encode()).hexdigest()[:32]
