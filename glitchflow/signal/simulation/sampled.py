"""Glitches that a generative twin drew, as one more family: read out of the store that `sample` wrote.

    white series of a draw --the twin's own filter, backwards--> the strain's unit, at the times of an event

Read by zarr alone, for a store is opened further down the tree than signals are made.

Shapes: N sample of an event.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from scipy.signal import lfilter

from glitchflow.errors import InputError
from glitchflow.signal.types import Array

KEY = "simulate.detector.families.sampled.path"
SCHEMA = 2  # of the stores that are read: the first that held draws
ALONE = "glitches alone"


@dataclass(frozen=True)
class Draws:
    """Says where draws are, and how they come back into the strain's unit."""

    series: Any  # the store's array (draw, sample), of which one is read at a time
    taps: list[float]  # of the filter that made them white
    sampled: dict[str, Any]  # what they depend on, as their store says

    @property
    def count(self) -> int:
        """Return how many there are."""
        return int(self.series.shape[0])

    def strain(self, index: int, time: Array) -> Array:
        """Return a draw in the strain's unit at these times (N,), in s from its centre, moved by less than a sample."""
        white = np.asarray(self.series[index], np.float64)
        first = int(np.argmin(np.abs(time))) - white.size // 2
        placed = np.zeros(time.size)
        begin, end = max(first, 0), min(first + white.size, time.size)
        placed[begin:end] = white[begin - first : end - first]
        return lfilter([1.0], self.taps, placed)


def find_draws(path: str, rate: float, duration: float) -> Draws:
    """Look at a store of draws that events of this rate in Hz, `duration` s long, are to hold.

    Raises `InputError` where there is none, or one of another version, of another rate, of longer series, or whose
    series hold noise of their own: noise that is added to noise would be a glitch's.
    """
    try:
        group = zarr.open_group(path, mode="r")
        series: Any = group["series"]
        about: dict[str, Any] = dict(group.attrs)
    except (OSError, KeyError, ValueError, ImportError) as error:
        raise InputError(f"{KEY} = {path}: no store of draws there: {error}") from None
    problem = ""
    if about.get("schema") != SCHEMA or about.get("source") != "sample" or not about.get("complete"):
        problem = f"is no finished store of draws of version {SCHEMA}; `glitchflow sample` makes one"
    elif about["series_are"] != ALONE:
        problem = (
            f"its series are {about['series_are']}; draws without noise come from a twin of store.transients"
        )
    elif about["sample_rate"] != rate:
        problem = f"has {about['sample_rate']:g} Hz; series.sample_rate must be the same, and is {rate:g}"
    elif series.shape[1] > rate * duration:
        problem = f"draws last {series.shape[1] / rate:g} s; series.duration must be longer than {duration:g}"
    if problem:
        raise InputError(f"{KEY} = {path}: {problem}")
    return Draws(series, about["taps"], about["sampled"])
