"""A coherent twin from Python: gwpy's series in, gwpy's series out, the same as `clean` makes of files that hold them.

    strain, witnesses --at the twin's rate--> blocks on a grid of GPS time --step.py--> y, w'
    --at the strain's own rate--> strain - w'

Shapes: R recorded channel, N sample at the twin's rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from igwn_segments import segment, segmentlist

from glitchflow.analysis.clean.files import Stretch
from glitchflow.analysis.clean.line import along, crops_together, reach, usable, weight_of
from glitchflow.errors import InputError
from glitchflow.signal.recorded.recording import MARGIN, whole_seconds
from glitchflow.signal.recorded.row import Row, tell_offset
from glitchflow.signal.recorded.samples import Samples
from glitchflow.signal.types import Array
from glitchflow.train.checkpoint import Checkpoint
from glitchflow.twin.step import Step, Stepper, run, stepper

if TYPE_CHECKING:
    from gwpy.timeseries import TimeSeries


@dataclass(frozen=True)
class Twin:
    """Holds a trained coherent twin, and how it goes along the time line."""

    steps: Stepper

    @property
    def strain(self) -> str:
        """Name the channel that it cleans."""
        return self.steps.front.channels[0]

    @property
    def witnesses(self) -> list[str]:
        """Name the channels that it listens to."""
        return self.steps.front.channels[1:]

    def estimate(self, witnesses: Mapping[str, TimeSeries]) -> TimeSeries:
        """Predict what the witnesses put into the strain, from them alone, in the strain's unit and at the twin's rate.

        witnesses: by name, as a `TimeSeriesDict` is, all of `witnesses`. The estimate covers the time that all of them
        do; it is 0 for the first seconds and the last one, around which the twin has to see more.

        Raises `InputError` for a witness that is missing, or where there is no time that all of them cover.
        """
        told = self._checked(witnesses)
        start, stop = max(one.start for one in told.values()), min(_stop(one) for one in told.values())
        if stop <= start:
            raise InputError("there is no time that all witnesses cover")
        rate = self.steps.front.rate
        first, last = math.ceil(start * rate - 1e-3), math.floor(stop * rate + 1e-3)
        values = np.zeros(last - first)
        for one in self._said(told, first / rate, last / rate):
            low, high = max(one.start, first), min(one.start + len(one.estimate), last)
            if low < high:
                values[low - first : high - first] = one.estimate[low - one.start : high - one.start]
        return _series(values, first / rate, rate, "", f"{self.strain}_NOISE")

    def clean(self, strain: TimeSeries, witnesses: Mapping[str, TimeSeries]) -> TimeSeries:
        """Subtract from the strain what the twin says that witnesses put into it; rate, unit and times stay.

        witnesses: as in `estimate`; one that does not cover the strain's time is silent where it does not. Treatment
        begins and ends with ramps inside the strain's first and last seconds, of whose past or future the twin would
        have to see more; there, and within a few seconds of a gap (NaN), the strain stays as it is.

        Raises `InputError` for a witness that is missing.
        """
        given = _samples(self.strain, strain)
        told = {self.strain: given, **self._checked(witnesses)}
        stretch = Stretch(given.start, given.rate, given.values, given.unit, frame=False)
        span = segmentlist([segment(stretch.gps, stretch.stop)])
        margin = reach(self.steps)
        said = self._said(told, stretch.gps - margin, stretch.stop + margin)
        removed = along(self.steps, said, [one.removed for one in said], stretch)
        values = given.values - weight_of(span, stretch) * removed
        return _series(values, stretch.gps, stretch.sample_rate, strain.unit, f"{self.strain}_CLEAN")

    def _checked(self, witnesses: Mapping[str, TimeSeries]) -> dict[str, Samples]:
        missing = [name for name in self.witnesses if name not in witnesses]
        if missing:
            raise InputError(
                f"no series of {', '.join(missing)}: the twin listens to {', '.join(self.witnesses)}"
            )
        return {name: _samples(name, witnesses[name]) for name in self.witnesses}

    def _said(self, told: Mapping[str, Samples], start: float, stop: float) -> list[Step]:
        """What the twin says of every block that meets GPS times from `start` to `stop`."""
        steps = self.steps
        rate, block = steps.front.rate, steps.block
        low, high = (math.floor(edge * rate / block) for edge in (start, stop))
        numbers = range(low - steps.warm, high + 1)
        first = numbers[0] * block + steps.settle
        heard = np.stack(
            [
                _at_rate(told[name], first, first + len(numbers) * block, rate)
                if name in told
                else np.full(len(numbers) * block, np.nan)
                for name in steps.front.channels
            ]
        )
        blocks = (
            usable(heard[:, k * block : (k + 1) * block], steps.front.unit) for k in range(len(numbers))
        )
        return list(run(steps, first, blocks))


def of_checkpoint(found: Checkpoint, block: float, settle: float) -> Twin:
    """Open a coherent twin: block and settle in s. Raises `InputError` for lengths that it cannot have."""
    trained = found.trained()
    steps = stepper(trained, block, settle, "clean")
    return Twin(replace(steps, lot=crops_together(trained.kind, len(steps.front.channels), steps.crop)))


def _samples(name: str, series: Any) -> Samples:
    """A gwpy series as it would have been read from a file."""
    values, start, rate = (
        np.asarray(series.value, np.float64),
        float(series.t0.value),
        float(series.sample_rate.value),
    )
    tell_offset(name, start, rate)
    return Samples(start, rate, values, str(series.unit))


def _stop(one: Samples) -> float:
    return one.start + len(one.values) / one.rate


def _at_rate(one: Samples, first: int, last: int, rate: float) -> Array:
    """The samples from `first` to `last`, counted from GPS 0 at `rate`; NaN where there are none."""
    both = math.lcm(whole_seconds(rate), whole_seconds(one.rate))
    margin = MARGIN / min(rate, one.rate)
    begins = math.floor((first / rate - margin) / both) * both
    ends = math.ceil((last / rate + margin) / both) * both
    row = Row.empty(begins, ends, one.rate)
    row.put(one)
    return row.resampled(first, last, rate)


def _series(values: Array, start: float, rate: float, unit: Any, name: str) -> TimeSeries:
    from gwpy.timeseries import TimeSeries

    return TimeSeries(values, t0=start, sample_rate=rate, unit=unit, name=name, channel=name)
