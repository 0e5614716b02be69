"""Memory that the ranks of one host have together: a split is held once there, and read once, not once a rank.

    a file in memory of each rank --process, descriptor--> all ranks
    the first that a rank can open --which--> all ranks --> those with the same one fill a part of it each

The file has no name, and goes with the last process that has it, killed or not. Ranks in containers that do not see
each other's processes, and hosts without such files (macOS), have memory of their own.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

BOOT = Path("/proc/sys/kernel/random/boot_id")  # of the host, whatever its name
EXACT = 2**52  # whole numbers below it are float64, in which ranks tell each other


class Ranks(Protocol):
    """Those who train together, as `train/workers.py` has them."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def share(self, values: Sequence[float]) -> list[list[float]]:
        """Return the numbers of every rank, in rank order, once all have told theirs."""


@dataclass(frozen=True)
class Part:
    """Holds some bytes, and which of so many equal parts of them is this rank's to fill."""

    memory: torch.Tensor  # (size,) uint8
    part: int = 0
    parts: int = 1


@contextmanager
def together(size: int, ranks: Ranks | None) -> Iterator[Part]:
    """Give the ranks of a host so many bytes, or 0 to one that wants none; at the end of the block all are filled.

    All ranks have to come here, as often as each other.
    """
    if ranks is None or ranks.size == 1:
        yield Part(torch.empty(size, dtype=torch.uint8))
        return
    with ExitStack() as opened:
        mine = _create(size, opened)
        offers = ranks.share([*_about(mine)])
        first = next((k for k, offer in enumerate(offers) if mine >= 0 and _open(offer) is not None), -1)
        taken = [int(told) for (told,) in ranks.share([first])]
        peers = [rank for rank, other in enumerate(taken) if other == first]
        if first < 0 or len(peers) == 1:
            yield Part(torch.empty(size, dtype=torch.uint8))
        else:
            path = _open(offers[first])
            assert path is not None, "its process waits at the end of the block"
            with path.open("r+b") as file:
                mapped = mmap.mmap(file.fileno(), size)
            yield Part(torch.frombuffer(mapped, dtype=torch.uint8), peers.index(ranks.rank), len(peers))
        ranks.share([0])


def _create(size: int, opened: ExitStack) -> int:
    """A file in memory, until the end; -1 where there is none."""
    if not size or not hasattr(os, "memfd_create") or not BOOT.exists():
        return -1
    try:
        descriptor = os.memfd_create("glitchflow")
        opened.callback(os.close, descriptor)
        os.truncate(descriptor, size)
    except OSError:  # a sandbox that forbids it, a limit of files' sizes
        return -1
    return descriptor


def _about(descriptor: int) -> tuple[int, ...]:
    """The host, process, descriptor and number of a file, which others find it by."""
    if descriptor < 0:
        return 0, 0, -1, 0
    host = int(BOOT.read_text().replace("-", ""), 16) % EXACT
    return host, os.getpid(), descriptor, os.stat(descriptor).st_ino % EXACT


def _open(offer: Sequence[float]) -> Path | None:
    """The path of another's file, if this process sees it."""
    host, process, descriptor, number = map(int, offer)
    if descriptor < 0 or host != int(BOOT.read_text().replace("-", ""), 16) % EXACT:
        return None
    path = Path(f"/proc/{process}/fd/{descriptor}")
    try:
        there = path.stat().st_ino % EXACT == number and os.access(path, os.R_OK | os.W_OK)
    except OSError:  # no such process in this container, or another user's
        return None
    return path if there else None
