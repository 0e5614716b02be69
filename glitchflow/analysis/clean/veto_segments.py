"""Veto segments of a store's predictions, as data-quality flags that gwpy reads.

Shapes: E event, T time.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from igwn_segments import segmentlist

from glitchflow.analysis.opened import Opened
from glitchflow.config import Evaluate, Veto
from glitchflow.data.view import axes, column_edges
from glitchflow.methods.table import NETWORK
from glitchflow.score import clusters, metrics, segments
from glitchflow.signal.types import Indices


@dataclass(frozen=True)
class Vetoes:
    """Holds the analysed and the vetoed time, in GPS s."""

    known: segmentlist
    active: segmentlist

    @property
    def deadtime(self) -> float:
        """Divide vetoed seconds by analysed seconds."""
        return segments.deadtime(self.active, self.known)


def find_vetoes(run: Opened, events: Indices, clustered: Evaluate, settings: Veto) -> Vetoes:
    """Find the vetoes of ascending events: wherever the generated energy has a cluster at `clustered.veto`."""
    edges = column_edges(run.dataset, events)
    areas = clusters.pixel_areas(*axes(run.dataset, 0))  # pixels are of one size in all events
    threshold, covered = np.array([clustered.veto]), np.zeros((len(events), edges.shape[1] - 1), bool)
    for start in range(0, len(events), metrics.BLOCK):
        some = slice(start, start + metrics.BLOCK)
        energy = run.generated[NETWORK](events[some])
        covered[some] = clusters.cluster_columns(energy, threshold, areas, clustered.area) > 0
    known = segments.joined(edges[:, [0, -1]])
    spans = segments.covered_spans(covered, edges)
    return Vetoes(known, segments.veto_segments(spans, known, settings.padding, settings.minimum))


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
