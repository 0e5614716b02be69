"""Glitches that a generative twin drew, as one more family: read out of the store that `sample` wrote.

    white series of a draw --the twin's own filter, backwards--> the strain's unit, at the times of an event

Read by zarr alone, for a store is opened further down the tree than signals are made.

Shapes: N sample of an event.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from scipy.signal import lfilter

from glitchflow.errors import InputError, RunError, printable
from glitchflow.signal.types import Array

KEY = "simulate.detector.families.sampled.path"
SCHEMA = 2  # of the stores that are read: the first that held draws
ALONE = "glitches alone"


class _About(BaseModel):
    """What is read of the attributes of a store of draws."""

    model_config = ConfigDict(strict=True)

    series_are: str
    sample_rate: FiniteFloat = Field(gt=0)
    taps: list[FiniteFloat] = Field(min_length=1)
    sampled: dict[str, Any]


@dataclass(frozen=True)
class Draws:
    """Says where draws are, and how they come back into the strain's unit."""

    path: str
    series: Any  # the store's array (draw, sample), of which one is read at a time
    taps: list[float]  # of the filter that made them white
    sampled: dict[str, Any]  # what they depend on, as their store says

    @property
    def count(self) -> int:
        """Return how many there are."""
        return int(self.series.shape[0])

    def strain(self, index: int, time: Array) -> Array:
        """Return a draw in the strain's unit at these times (N,), in s from its centre, moved by less than a sample.

        Raises `RunError` where its store is damaged.
        """
        try:
            white = np.asarray(self.series[index], np.float64)
        except Exception as error:  # noqa: BLE001  Zarr and its codecs raise anything on a damaged object
            raise RunError(f"{KEY} = {self.path}: damaged: draw {index}: {_words(error)}") from None
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
        attributes: dict[str, Any] = dict(group.attrs)
    except Exception as error:  # noqa: BLE001  Zarr raises anything on metadata that were edited
        raise InputError(f"{KEY} = {path}: no store of draws there: {_words(error)}") from None
    told = (attributes.get("schema"), attributes.get("source"), bool(attributes.get("complete")))
    if told != (SCHEMA, "sample", True):
        raise InputError(
            f"{KEY} = {path}: is no finished store of draws of version {SCHEMA}; `glitchflow sample` makes one"
        )
    try:
        about = _About.model_validate(attributes)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"{KEY} = {path}: damaged: {place}: {error.errors()[0]['msg']}") from None
    problem = ""
    if about.series_are != ALONE:
        kind = printable(about.series_are)
        problem = f"its series are {kind}; draws without noise come from a twin of store.transients"
    elif not about.taps[0]:
        problem = "damaged: taps: the first is zero"
    elif about.sample_rate != rate:
        problem = f"has {about.sample_rate:g} Hz; series.sample_rate must be the same, and is {rate:g}"
    elif getattr(series, "ndim", 0) != 2:
        problem = "damaged: its series are not of shape (draw, sample)"
    elif series.shape[1] > rate * duration:
        problem = f"draws last {series.shape[1] / rate:g} s; series.duration must be longer than {duration:g}"
    if problem:
        raise InputError(f"{KEY} = {path}: {problem}")
    return Draws(path, series, about.taps, about.sampled)


def _words(error: Exception) -> str:
    return printable(" ".join(str(error).split())) or type(error).__name__
