"""Veto segments of a store's predictions, as data-quality flags that gwpy reads.

Shapes: E event, T time.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from igwn_segments import segmentlist
from numpy.typing import NDArray

from glitchflow.analysis.opened import Opened
from glitchflow.config import Evaluate, Veto
from glitchflow.data.view import axes
from glitchflow.methods.table import NETWORK
from glitchflow.score import clusters, segments
from glitchflow.twin.estimate import shown_of

BLOCK = 256  # events whose clusters are sought at once


@dataclass(frozen=True)
class Vetoes:
    """Holds the analysed and the vetoed time, in GPS s."""

    known: segmentlist
    active: segmentlist

    @property
    def deadtime(self) -> float:
        """Divide vetoed seconds by analysed seconds."""
        return segments.deadtime(self.active, self.known)


def find_vetoes(run: Opened, events: NDArray[np.int64], clustered: Evaluate, settings: Veto) -> Vetoes:
    """Find the vetoes of ascending events: wherever the generated energy has a cluster at `clustered.veto`."""
    known, spans = [np.empty((0, 2))], [np.empty((0, 2))]
    for start in range(0, len(events), BLOCK):
        block = events[start : start + BLOCK]
        begin, columns = _windows(run, block)
        known.append(np.stack([columns[:, 0], columns[:, -1]], axis=1) + begin[:, None])
        energy = run.generated[NETWORK](block)
        areas = clusters.pixel_areas(*axes(run.dataset, 0))  # pixels are of one size in all events
        found = segments.cluster_spans(energy, clustered.veto, areas, clustered.area)
        event = found[:, 0]
        edges = [columns[event, found[:, i]] + begin[event] for i in (1, 2)]
        spans.append(np.stack(edges, axis=1))
    analysed = segments.joined(np.concatenate(known))
    return Vetoes(
        analysed,
        segments.veto_segments(np.concatenate(spans), analysed, settings.padding, settings.minimum),
    )


def _windows(run: Opened, events: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """GPS times at which the events' series begin, (E,), and edges of their Q-plots' columns from there, (E, T + 1)."""
    edges = np.stack([np.append(shown.time, shown.stop) for shown in shown_of(run.dataset, events)])
    return run.dataset.events("gps", events) - run.dataset.config.series.duration / 2, edges


def write_flag(vetoes: Vetoes, name: str, directory: Path) -> None:
    """Write them as a flag of gwpy's, to the nanosecond that its files keep: `veto.hdf5`, and `veto.xml` (LIGO_LW)
    where its backend is installed.

    LIGO_LW wants a detector, a letter and a digit before the flag's first colon: not for simulated ones.
    """
    from gwpy.segments import DataQualityFlag, Segment, SegmentList
    from gwpy.time import LIGOTimeGPS

    known, active = (
        SegmentList(Segment(LIGOTimeGPS(a), LIGOTimeGPS(b)) for a, b in values)
        for values in (vetoes.known, vetoes.active)
    )
    flag = DataQualityFlag(name, known=known, active=active, description="GlitchFlow")
    flag.write(directory / "veto.hdf5", format="hdf5", path=flag.name)
    if flag.ifo is not None and importlib.util.find_spec("igwn_ligolw") is not None:
        flag.write(directory / "veto.xml", format="ligolw")
