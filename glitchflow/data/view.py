"""What the Q-plots of a dataset show of its series: axes, pixels, and the transform that made them.

Shapes: E event, C channel, F frequency, T time, N sample.
"""

from collections.abc import Sequence

import numpy as np

from glitchflow.data.scratch import scratch
from glitchflow.data.store import Dataset
from glitchflow.signal.qtransform import QTransform, build_engine
from glitchflow.signal.types import Array, Indices


def axes(dataset: Dataset, event: int) -> tuple[Array, Array]:
    """Return the frequencies (F,) in Hz and times (T,) in s from the event's GPS time, of the pixels of an event's
    Q-plots."""
    if "frequency" in dataset:
        return dataset["frequency"][:], dataset["time"][:]
    qplot, (f, t) = dataset.config.qplot, dataset["qplot"].shape[2:]
    f0, t0, gps = (float(np.asarray(dataset[name][event])) for name in ("frequency0", "time0", "gps"))
    return f0 + qplot.fres * np.arange(f), t0 - gps + qplot.tres * np.arange(t)


def column_edges(dataset: Dataset, events: Indices) -> Array:
    """Compute the edges (E, T + 1) of the columns of each event's Q-plots, in GPS s; events of which nobody knows when
    they were stand apart, one after another from 0 on."""
    some = events[:1] if "time" in dataset else events  # where all show the same
    times = np.stack([axes(dataset, event)[1] for event in some.tolist()])
    edges = np.append(times, 2 * times[:, -1:] - times[:, -2:-1], axis=1)
    found = scratch((len(events), edges.shape[1]))
    gps, apart = dataset.events("gps", events), 2 * float(np.ptp(edges[0]))
    return np.add(np.where(np.isfinite(gps), gps, events * apart)[:, None], edges, out=found)


def engine_of(dataset: Dataset, channels: Sequence[str], invalid: str = "raise") -> QTransform:
    """Build the transform that made the Q-plots of these channels of a dataset; invalid: see `build_engine`."""
    made, places = dataset.config, [dataset.channels.index(name) for name in channels]
    asd = dataset["asd"][:][places] if made.whiten.given else None
    return build_engine(made.series, made.qplot, made.whiten, invalid, asd)


def strain_engine(dataset: Dataset) -> QTransform:
    """Build the transform that made the strain's Q-plots of a dataset."""
    return engine_of(dataset, dataset.channels[:1])


def read_series(dataset: Dataset, events: Indices, channels: Sequence[str]) -> Array:
    """Read the series (E, C, N) of ascending events and the named channels, in double precision; of derived channels,
    which a store does not keep, they are made anew.

    The strain is of order 1e-21: its square would be 0 in single precision.
    """
    kept = dataset.recorded_channels
    if set(channels) <= set(kept):
        return dataset.events("series", events, [kept.index(name) for name in channels]).astype(np.float64)
    return dataset.all_series(events)[:, [dataset.channels.index(name) for name in channels]]


def slides(dataset: Dataset) -> bool:
    """Say whether the windows of a store slide over a stretch."""
    return dataset.recorded and dataset.config.ingest.times.end is not None
