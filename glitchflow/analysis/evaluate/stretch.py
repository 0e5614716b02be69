"""What every method does to a stretch whose truth is known, and what its vetoes do: truth.py's measure, by method.

    the windows near some seconds --each method's w', shared where windows overlap--> cleaned strain, piece by piece

Shapes: E window near a piece, M method, N sample of a window, S sample of a piece.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from igwn_segments import segmentlist
from numpy.typing import NDArray

from glitchflow.analysis import truth
from glitchflow.analysis.opened import Windows, windows_of
from glitchflow.analysis.truth import BLOCK, MARGIN, Span, Stretch
from glitchflow.cluster import trim
from glitchflow.config import Cluster
from glitchflow.data.build import Job, run_tasks
from glitchflow.data.memory import Memory
from glitchflow.methods.compare import Comparison
from glitchflow.methods.method import Block
from glitchflow.methods.treat import ask, read_block
from glitchflow.score.made import Columns
from glitchflow.score.mask import overlap_share
from glitchflow.score.statistics import Bootstrap
from glitchflow.signal.recorded.frames import coverage
from glitchflow.signal.types import Array, Indices

HELD = (
    40  # series of a piece that are held at once, beside one of each method: spectra, bank and its products
)


def measure(
    stretch: Stretch,
    comparison: Comparison,
    events: Indices,
    vetoes: tuple[segmentlist, Mapping[str, segmentlist]],
    cluster: Cluster,
    interval: Bootstrap,
) -> dict[str, Any]:
    """Measure what every method does to the stretch that some events show, and what its vetoes do; by method, see
    `truth.measure`. vetoes: the analysed time, and what of it each method vetoes."""
    known, vetoed = vetoes
    timeline = Timeline(stretch, comparison, windows_of(comparison.dataset, events))
    spans = truth.spans_of(coverage(stretch.recorded), known)
    job = Job(timeline.measured, "the stretch", timeline.memory.total, "s")
    found = run_tasks(job, {span: span[1] - span[0] for span in spans}, cluster)
    return truth.measure(stretch, found, known, vetoed, interval)


@dataclass(frozen=True)
class Timeline:
    """Measures a span of a stretch: what is sent to every task."""

    stretch: Stretch
    comparison: Comparison
    windows: Windows

    @property
    def memory(self) -> Memory:
        """Project the bytes that a task holds at most: a comparison's, and a piece of the stretch by every method."""
        return on_a_stretch(self.comparison.memory, self.stretch.rate, len(self.comparison.fit.methods))

    def measured(self, span: Span) -> dict[str, Columns]:
        """Return each method's numbers for the seconds of a span."""
        return truth.second_by_second(self.stretch, self.left, span)

    def left(self, strain: Array, first: int) -> dict[str, Array]:
        """Compute what each method leaves of the strain (S,) from a GPS second on."""
        rate, comparison = self.stretch.rate, self.comparison
        found = {name: strain.copy() for name in comparison.fit.methods}
        places = self.windows.near(first, first + len(strain) / rate)
        for start in range(0, len(places), comparison.block):
            some = places[start : start + comparison.block]
            block, _ = read_block(
                comparison.dataset,
                self.windows.events[some],
                comparison.fit.witnesses,
                comparison.estimator,
                comparison.fit.truth,
            )
            for name, removed in self._shared(block, some).items():
                for place, series in zip(some.tolist(), removed):
                    _subtract(series, round((self.windows.series[place] - first) * rate), found[name])
            del block, series, removed  # before the next one is read
            trim()
        return found

    def _shared(self, block: Block, places: Indices) -> dict[str, Array]:
        """Each method's w' (E, N) of windows, of which those that overlap do a share each."""
        estimator, asked = self.comparison.estimator, ask(self.comparison.fit, block)
        assert estimator is not None and block.strain is not None, "the measure is of stores with series"
        time = np.arange(block.strain.shape[1]) / block.rate
        columns = np.stack([self._share(place, one.time) for place, one in zip(places, block.shown)])
        samples = np.stack([self._share(place, time) for place in places])
        masks = {name: one.mask for name, one in asked.items() if one.mask is not None}
        found = {name: one.series * samples for name, one in asked.items() if one.series is not None}
        if masks:
            stacked = np.stack(list(masks.values()), axis=1) * columns[:, None, None]
            series = estimator.tapered_by_each(block.strain, stacked, block.shown)
            found |= {name: series[:, m] for m, name in enumerate(masks)}
        return found

    def _share(self, place: int, time: Array) -> NDArray[np.float32]:
        """What a window answers for at times in s from the begin of its series."""
        windows = self.windows
        return overlap_share(windows.start, windows.stop, int(place), time + windows.series[place])


def on_a_stretch(comparison: Memory, rate: float, methods: int) -> Memory:
    """Project what a task holds that measures a span: what it takes to score events, and a piece by every method."""
    piece = 8 * (BLOCK + 2 * MARGIN) * round(rate)
    return Memory({**comparison.parts, "a piece of the stretch": (HELD + methods) * piece})


def _subtract(series: Array, first: int, values: Array) -> None:
    """Take a series (N,), whose first sample is the strain's `first`, out of the strain (S,), where they meet."""
    low, high = max(first, 0), min(first + len(series), len(values))
    if low < high:
        values[low:high] -= series[low - first : high - first]
