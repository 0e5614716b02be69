"""A copy of a store's Q-plots on a node's own disk, for clusters whose shared file system is slow or far away.

One file, `<hash>.npy`, made by the first rank of the node that needs it and mapped by all; the hash is that of the
shards' checksums, so that a store that was changed is copied again and one that was moved is not. Each process compares
a shard of it with these on its first use, as it would compare the store's own.

Shapes: event, C channel, F frequency, T time.
"""

import fcntl
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glitchflow.data.identity import fingerprint
from glitchflow.data.objects import writing
from glitchflow.data.store import Dataset, digest
from glitchflow.data.store.half import unpacked
from glitchflow.progress import say

REFUSED = "no local copy of the store (loader.cache_dir)"


@dataclass(eq=False)
class LocalCopy:
    """A map of the copy of an array; slice it by events, and channels, to read. A shard unlike its checksum is copied
    anew."""

    dataset: Dataset
    name: str
    path: Path
    values: NDArray  # (event, C, F, T), as the store keeps them; read only
    seen: set[int] = field(default_factory=set)  # shards that were compared

    shape = property(lambda self: self.values.shape)

    def __getitem__(self, key: slice | tuple[slice, ...]) -> NDArray:
        """Raises `RunError` where a shard has to be copied anew, and cannot be."""
        events, *rest = key if isinstance(key, tuple) else (key,)
        size = self.dataset.layout.shard
        start, stop, _ = events.indices(len(self.values))
        for k in {*range(start // size, -(-stop // size))} - self.seen:
            span = self.dataset.layout.span(k)
            if digest(self.values[span]) != self.dataset.checksum(self.name, k):
                say(f"{self.path}: shard {k} differs from its checksum; it is copied again")
                with writing(self.path, REFUSED):
                    np.load(self.path, mmap_mode="r+")[span] = self.dataset[self.name].kept(span)
            self.seen.add(k)
        return unpacked(self.values[(events, *rest)])


def local_copy(dataset: Dataset, directory: Path, name: str = "qplot") -> LocalCopy:
    """An array of the store as a file in `directory`, copied unless one of its size is there.

    Raises `RunError` where the directory cannot be written or is full; nothing half written stays.
    """
    sums = [dataset.checksum(name, k) for k in range(dataset.layout.shards)]
    path = directory / f"{name}-{fingerprint(sums)[:32]}.npy"
    with writing(directory, REFUSED):
        directory.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the node's other ranks wait for the first one
            found = _open(dataset, name, path)
            if found is None:
                _copy(dataset, name, path)
                found = np.load(path, mmap_mode="r")
    return LocalCopy(dataset, name, path, found)


def _open(dataset: Dataset, name: str, path: Path) -> NDArray | None:
    """The copy that is there, if it is of the array's shape and type."""
    if not path.exists():
        return None
    try:
        found = np.load(path, mmap_mode="r")
    except (ValueError, EOFError):  # cut off, or no copy of ours
        found = np.empty(0)
    if found.shape == dataset[name].shape and found.dtype == dataset[name].array.dtype:
        return found
    say(f"{path}: is no copy of {name} of {dataset.path}; it is made again")
    return None


def _copy(dataset: Dataset, name: str, path: Path) -> None:
    say(f"copying {name} of {dataset.path} to {path}")
    source, partial = dataset[name], path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            kind = np.dtype(source.array.dtype).newbyteorder("<").str
            header = {"descr": kind, "fortran_order": False, "shape": source.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for k in range(
                dataset.layout.shards
            ):  # written, not mapped: a full disk is then an error, not a signal
                file.write(np.ascontiguousarray(source.kept(dataset.layout.span(k)), dtype=kind).data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
