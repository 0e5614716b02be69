"""What windows remove from the strain: what a network estimated, by masks of what it generated, or a method's.

Shapes: E event, N sample of an event's series, M sample of a file, F frequency and T time of a Q-plot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glitchflow.analysis.clean.files import Stretch
from glitchflow.analysis.opened import Opened, Windows
from glitchflow.config import Source
from glitchflow.data.memory import Shape
from glitchflow.data.view import read_series
from glitchflow.errors import RunError
from glitchflow.methods.memory import block_events
from glitchflow.methods.method import Fit
from glitchflow.methods.table import NETWORK
from glitchflow.methods.treat import read_block, take
from glitchflow.score.mask import overlap_share, removal_mask
from glitchflow.signal.recorded.recording import Recording, cut
from glitchflow.signal.types import Array, Indices
from glitchflow.twin.estimate import Estimator, Shown

REMOVED = "removed"  # the array of predictions that holds series to be subtracted


@dataclass(frozen=True)
class Job:
    """Holds what every step of cleaning needs."""

    run: Opened
    estimator: Estimator
    windows: Windows
    source: Source | None  # where the strain was recorded; None: synthetic events, whose series are cleaned
    recording: Recording | None  # the same, and its windows
    threshold: float  # generated energy from which a pixel is subtracted
    method: Fit | None  # what is subtracted in place of the network's


def removed_of(job: Job, places: Indices, shown: Sequence[Shown], stretch: Stretch) -> Array:
    """Compute what windows at `places`, of ascending events, remove: (E, N) at the dataset's rate."""
    find = _by_method if job.method else _estimated if job.run.subtracts else _masked
    return find(job, places, shown, stretch)


def _estimated(job: Job, places: Indices, shown: Sequence[Shown], stretch: Stretch) -> Array:
    """What windows remove (E, N), as the predictions have it; windows that overlap share it."""
    found = job.run.predictions.events(REMOVED, job.windows.events[places]).astype(np.float64)
    return _shared(job, places, found)


def _by_method(job: Job, places: Indices, shown: Sequence[Shown], stretch: Stretch) -> Array:
    """What windows remove (E, N), as the method says that was fitted in the network's place."""
    assert job.method is not None
    dataset, fit, parts = job.run.dataset, job.method, []
    kept = Shape.stored(dataset)
    step = block_events(1 + len(fit.witnesses), kept.image, kept.kept_samples)
    for first in range(0, len(places), step):
        events = job.windows.events[places[first : first + step]]
        block, _ = read_block(dataset, events, fit.witnesses, job.estimator)
        (taken,) = take(fit, job.estimator, block).values()
        assert taken.series is not None, "a store with series has an estimator"
        parts.append(taken.series)
    return _shared(job, places, np.concatenate(parts))


def _shared(job: Job, places: Indices, found: Array) -> Array:
    """What windows remove (E, N), of which those that overlap take a share each."""
    windows, made = job.windows, job.run.dataset.config.series
    times = np.arange(made.samples) / made.sample_rate
    for i, place in enumerate(places.tolist()):
        found[i] *= overlap_share(
            windows.start, windows.stop, place, times + windows.series[place], windows.longest
        )
    return found


def _masked(job: Job, places: Indices, shown: Sequence[Shown], stretch: Stretch) -> Array:
    """What windows remove (E, N) by masks made of the energies that the network generated."""
    windows = job.windows
    mask = removal_mask(job.run.generated[NETWORK](windows.events[places]), job.threshold)
    busy = np.flatnonzero(mask.any(axis=(1, 2)))
    found = np.zeros((len(places), job.run.dataset.config.series.samples))
    if not len(busy):
        return found
    for i, (place, one) in enumerate(zip(places.tolist(), shown)):
        mask[i] *= overlap_share(
            windows.start, windows.stop, place, one.time + windows.series[place], windows.longest
        )
    strain = strain_of(job, places[busy]) if job.source else stretch.values[None]
    found[busy] = job.estimator.removed(strain, mask[busy], [shown[k] for k in busy.tolist()])
    return found


def strain_of(job: Job, places: Indices) -> Array:
    """The strain (E, N) of the windows at places of ascending events, as their Q-plots were made from it."""
    dataset, events = job.run.dataset, job.windows.events[places]
    if "series" in dataset:
        return read_series(dataset, events, dataset.channels[:1])[:, 0]
    assert job.recording is not None
    found = [cut(job.recording, place) for place in places.tolist()]
    for reason in (reason for _, gaps in found for reason in gaps.values()):
        raise RunError(f"{dataset.path}: was made from it, but now {reason}")
    return np.concatenate([values for values, _ in found])
