"""Cleaning shared out over tasks: each takes some time without a break between its files, writes these, and returns a
little.

    files that are cleaned --share--> lots of some minutes --a task each--> files, and rows of `seconds.csv`, which are
    joined in order

What is written does not depend on how the time is shared out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glitchflow.analysis.clean.seconds import join
from glitchflow.config import Cluster
from glitchflow.data import objects
from glitchflow.data.build import Job, run_tasks

SHORTEST, LONGEST = 600.0, 3600.0  # s of a lot: what comes before each is looked at again, for a minute or so
LOTS = 16  # that there are of what is neither short nor long
HERE = 4 * 3600.0  # s, times channels, that are cleaned before a Ray and its processes have started
Span = tuple[float, float]  # GPS s


@dataclass(frozen=True)
class Tasks:
    """Holds what tasks run on, and what each is projected to hold."""

    cluster: Cluster
    check: Callable[[], None]  # raises where another took the work over
    memory: int  # bytes
    channels: int  # that are read for it


def share(spans: Sequence[Span]) -> list[range]:
    """Share out files, by the time of each, ascending: the places of those of each lot.

    Files that begin in the same second are of one lot, for a name that is there already is numbered.
    """
    whole = sum(stop - start for start, stop in spans)
    wanted = min(max(SHORTEST, whole / LOTS), LONGEST)
    edges, filled = [0], 0.0
    for place, (start, stop) in enumerate(spans):
        if filled >= wanted and math.floor(start) != math.floor(spans[place - 1][0]):
            edges.append(place)
            filled = 0.0
        filled += stop - start
    return [range(first, last) for first, last in zip(edges, [*edges[1:], len(spans)]) if first < last]


def over(
    work: Callable[[range, Path], Any], spans: Sequence[Span], directory: Path, tasks: Tasks
) -> list[Any]:
    """Call `work` for each lot of files, with a directory of its own for these and for its rows of `seconds.csv`;
    returns what each returned, in order.

    What is in these directories is moved to `directory` in the end. What takes less time than it would to share it out
    is done here.
    """
    lots = share(spans)
    places = [directory / f"lot-{number}" for number in range(len(lots))]
    sizes = {number: _seconds(spans, lot) for number, lot in enumerate(lots)}

    def make(number: int) -> Any:
        objects.wipe(places[number])  # what a task that died left: files that are there already are numbered
        objects.make_directory(places[number])
        return work(lots[number], places[number])

    job = Job(
        make,
        "cleaning",
        tasks.memory,
        "s",
        here=len(lots) < 2 or sum(sizes.values()) * tasks.channels < HERE,
        smaller="loader.witnesses (what `scan` has chosen)",
    )
    found = run_tasks(job, sizes, tasks.cluster, tasks.check)
    join(places, directory)
    return list(found.values())


def _seconds(spans: Sequence[Span], lot: range) -> int:
    return max(1, round(sum(spans[place][1] - spans[place][0] for place in lot)))
