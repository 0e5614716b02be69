"""Which events a twin learns from, is chosen by, and is scored on.

    simulated   by a random number of each event's own: later events never change it
    recorded    by time: the first are learned from and the last are scored; or shuffled blocks of time; with a guard
                band between splits. By quota, so that no split is empty. Or as pieces of time are named

Shapes: E event.
"""

import numpy as np
from numpy.typing import NDArray

from glitchflow.config import Split
from glitchflow.data.store import SPLITS, UNSPLIT
from glitchflow.progress import say
from glitchflow.signal.streams import SPLIT, generator
from glitchflow.signal.types import Array, Indices, Recipe

Splits = NDArray[np.int8]


def assign(split: Split, seed: int, duration: float, recipe: Recipe) -> Splits | None:
    """The split of each event (E,), or None where each has its own, whatever the others are (`own_split`).

    duration: s of a series. Of recorded events without times, those with one key share a split.
    """
    if not recipe.recorded:
        return None
    if recipe.times is None:
        return by_blocks(split, seed, np.array([recipe.split_key(i) for i in range(recipe.events)]))
    return splits_of_times(split, seed, duration, recipe.times)


def splits_of_times(split: Split, seed: int, duration: float, times: Array) -> Splits:
    """The split of recorded events at GPS `times` (E,), as `split` wants it. duration: s of a series."""
    if split.groups:
        return by_groups(split, duration, times)
    guard = split.guard if split.guard is not None else duration
    if split.order == "blocks":
        blocks = by_blocks(split, seed, np.floor(times / split.block).astype(np.int64))
        found = guarded(blocks, guard, times)
        if set(blocks.tolist()) - set(found.tolist()):
            say(
                f"split.order = blocks: split.guard = {guard:g} s leaves a split of blocks of split.block ="
                f" {split.block:g} s empty; all are in the train split"
            )
            found[:] = SPLITS.index("train")
        return found
    return by_time(split, guard, times)


def own_split(split: Split, seed: int, key: int) -> int:
    """The split of an event by its own random number."""
    draw = generator(seed, SPLIT, abs(key)).random()
    named = "test" if draw < split.test else "validation" if draw < split.test + split.validation else "train"
    return SPLITS.index(named)


def quotas(split: Split, count: int) -> list[int]:
    """How many of `count` go to each of `SPLITS`: by largest remainder, and one at least where a share is not 0.

    Fewer than there are splits go to train first, then validation.
    """
    shares = np.array([1 - split.validation - split.test, split.validation, split.test])
    found = np.floor(shares * count + 1e-9).astype(int)
    for i in np.argsort(-(shares * count - found), kind="stable")[: count - found.sum()]:
        found[i] += 1
    for i in range(len(SPLITS)):
        if shares[i] > 1e-9 and found[i] == 0 and found.max() > 1:
            found[found.argmax()] -= 1
            found[i] += 1
    return found.tolist()


def by_time(split: Split, guard: float, times: Array) -> Splits:
    """Train first, then validation, then test; the events nearest before each begin, within `guard` s, in none.

    Validation and test get their quotas, train what is left. All go to train, which is said, where time is too short.
    """
    _, validation, test = quotas(split, len(times))
    order = np.argsort(times, kind="stable")
    ordered, found = times[order], np.full(len(times), UNSPLIT, np.int8)
    end = len(times)
    for name, count in (("test", test), ("validation", validation)):
        if count:
            begin = max(end - count, 0)
            found[order[begin:end]] = SPLITS.index(name)
            end = int(np.searchsorted(ordered[:begin], ordered[begin] - guard + 1e-6, side="right"))
    found[order[:end]] = SPLITS.index("train")
    wanted = 1 + (validation > 0) + (test > 0)
    if len(set(found.tolist()) - {UNSPLIT}) < wanted:
        say(
            f"split.order = time: {len(times)} events within {np.ptp(times):g} s are too near each other to be shared"
            f" out with split.guard = {guard:g} s between; all are in the train split"
        )
        found[:] = SPLITS.index("train")
    return found


def by_blocks(split: Split, seed: int, keys: Indices) -> Splits:
    """Events with one key share a split: keys in a random order, each to the split that lacks most of its quota."""
    blocks, place, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    # no fewer blocks than splits, each of which gets one; a block is never cut
    wanted = np.array(quotas(split, len(keys)), dtype=float)
    given, chosen = np.zeros(len(SPLITS)), np.zeros(len(blocks), np.int8)
    order = generator(seed, SPLIT).permutation(len(blocks))
    for rank, block in enumerate(order.tolist()):
        empty = (given == 0) & (wanted > 0)
        lack = (
            np.where(empty, np.inf, wanted - given) if empty.sum() >= len(blocks) - rank else wanted - given
        )
        chosen[block] = int(np.argmax(lack))
        given[chosen[block]] += sizes[block]
    return chosen[place]


def guarded(found: Splits, guard: float, times: Array) -> Splits:
    """Take out of their splits the events (E,) that an event of another one follows within `guard` s."""
    order = np.argsort(times, kind="stable")
    split, ordered = found[order], times[order]
    ends = np.append(np.flatnonzero(np.diff(split)), len(split) - 1)  # of each run of one split
    last = ends[np.searchsorted(ends, np.arange(len(split)))]
    following = np.append(ordered, np.inf)[last + 1]
    kept = found.copy()
    kept[order[following - ordered < guard - 1e-6]] = UNSPLIT
    return kept


def by_groups(split: Split, duration: float, times: Array) -> Splits:
    """Events whose whole series lies in a named piece of time; the rest are in no split."""
    found = np.full(len(times), UNSPLIT, np.int8)
    for start, stop, name in split.groups:
        found[(times - duration / 2 >= start) & (times + duration / 2 <= stop)] = SPLITS.index(name)
    return found
