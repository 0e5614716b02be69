"""Random numbers: a stream for each purpose, so that drawing more for one changes no other."""

import numpy as np

# a stream's number is part of every dataset that was drawn with it: append, never reorder
COUPLINGS, EVENTS, DERIVED, SPLIT, SHUFFLE, BACKGROUND, SIGNALS, SHIFTS = range(8)
NOISE, _, INJECTED, STATE, TIMELINE, SHARED, FAULTS, CROPS = range(8, 16)
DROPS, LEVELS, DRAWN = range(16, 19)


def generator(seed: int, *stream: int) -> np.random.Generator:
    """Returns the random numbers of one purpose, independent of every other (numpy's SeedSequence)."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))
