"""A copy of a store's Q-plots on a node's own disk, for clusters whose shared file system is slow or far away.

One file, `<hash>.npy`, made by the first rank of the node that needs it and mapped by all; the hash is that of the
shards' checksums, so that a store that was changed is copied again and one that was moved is not.

Shapes: event, C channel, F frequency, T time.
"""

import fcntl
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glitchflow.data.identity import fingerprint
from glitchflow.data.objects import writing
from glitchflow.data.store import Dataset
from glitchflow.progress import say


def local_copy(dataset: Dataset, directory: Path, name: str = "qplot") -> NDArray:
    """An array of the store as a read-only map of a file in `directory`, copied unless it is there.

    Raises `RunError` where the directory cannot be written or is full; nothing half written stays.
    """
    sums = [dataset.checksum(name, k) for k in range(dataset.layout.shards)]
    path = directory / f"{name}-{fingerprint(sums)[:32]}.npy"
    with writing(directory, "no local copy of the store (loader.cache_dir)"):
        directory.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the node's other ranks wait for the first one
            if not path.exists():
                _copy(dataset, name, path)
    return np.load(path, mmap_mode="r")


def _copy(dataset: Dataset, name: str, path: Path) -> None:
    say(f"copying {name} of {dataset.path} to {path}")
    source, partial = dataset[name], path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            kind = np.dtype(source.dtype).newbyteorder("<").str
            header = {"descr": kind, "fortran_order": False, "shape": source.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for k in range(
                dataset.layout.shards
            ):  # written, not mapped: a full disk is then an error, not a signal
                file.write(np.ascontiguousarray(source[dataset.layout.span(k)], dtype=kind).data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
