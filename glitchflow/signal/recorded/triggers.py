"""When to look: GPS times of events from a list, a trigger table, a stretch to slide over, and quiet times.

The driver resolves them once, so that every task works from the same list.
"""

from dataclasses import dataclass

import numpy as np
from igwn_segments import segment, segmentlist

from glitchflow.config import Ingest, Source, Times
from glitchflow.errors import InputError
from glitchflow.progress import say
from glitchflow.signal.recorded.frames import coverage, strain_of
from glitchflow.signal.recorded.segments import usable_time
from glitchflow.signal.recorded.tables import read_table
from glitchflow.signal.streams import BACKGROUND, generator
from glitchflow.signal.types import Array, Over

TRIES = 1000  # draws for each quiet time


@dataclass(frozen=True, slots=True)
class Trigger:
    """Holds one time to look at."""

    gps: float
    label: str
    snr: float  # NaN where the list does not tell


def find_triggers(ingest: Ingest, duration: float, span: float, seed: int, over: Over = map) -> list[Trigger]:
    """Finds the events of `ingest.times`, then `ingest.background` quiet times labelled `background`.

    duration: s of the series around each time; span: s of its Q-plot, by which a stretch is cut into windows;
    over: see `usable_time`.
    In the order of time, so that neighbours are read together. Those whose series reach out of `ingest.segments`
    or into `ingest.leave_out` are left out, and counted.
    Raises `InputError` for a table that cannot be read or lacks a column, and where there are too few quiet times.
    """
    times = ingest.times
    strain_of(ingest)  # also where no quiet times are drawn from it
    if times.file:
        found = _listed(times, _detector(strain_of(ingest)))
    elif times.end is not None:
        found = _slide(times, span)
    else:
        labels = ingest.labels or ["recorded"] * len(times.gps)
        found = [Trigger(gps, label, float("nan")) for gps, label in zip(times.gps, labels)]
    usable = usable_time(ingest, over)
    found = _inside(found, usable, duration / 2)
    found += _quiet(ingest, usable, duration / 2, seed, np.array([t.gps for t in found]))
    if not found:
        raise InputError("ingest.times: gives no time; list some, name a file, or a start and an end")
    return sorted(found, key=lambda trigger: trigger.gps)


def _detector(strain: Source) -> str:
    """The strain's, as H1; empty where its name has none."""
    return strain.name.partition(":")[0] if ":" in strain.name else ""


def _inside(found: list[Trigger], usable: segmentlist, half: float) -> list[Trigger]:
    """Those whose series, `half` s to either side, lie in usable time. Raises `InputError` where none does."""
    edges = np.array([(float(a), float(b)) for a, b in usable]).reshape(-1, 2)
    gps = np.array([t.gps for t in found])
    place = np.searchsorted(edges[:, 0], gps - half, side="right") - 1  # of the segment that begins before it
    whole = (place >= 0) & (gps + half <= np.append(edges[:, 1], -np.inf)[place])
    kept = [trigger for trigger, inside in zip(found, whole.tolist()) if inside]
    if found and not kept:
        raise InputError(
            f"ingest.segments, without ingest.leave_out: holds the series of none of the {len(found)} events of"
            " ingest.times"
        )
    if len(kept) < len(found):
        say(
            f"{len(found) - len(kept)} of {len(found)} events reach out of ingest.segments, or into ingest.leave_out,"
            " and are not made"
        )
    return kept


def _slide(times: Times, span: float) -> list[Trigger]:
    """Windows of `span` side by side, or every `stride`, from `start` to `end`: the last ends at or before `end`."""
    assert times.start is not None and times.end is not None  # the configuration asks for both
    stride = times.stride or span
    count = int(np.floor((times.end - times.start - span) / stride + 1e-9)) + 1
    return [
        Trigger(times.start + span / 2 + i * stride, "recorded", float("nan")) for i in range(max(count, 0))
    ]


def _listed(times: Times, detector: str) -> list[Trigger]:
    """Rows of a trigger table."""
    return [Trigger(gps, label or "recorded", snr) for gps, label, snr in read_table(times, detector)]


def _quiet(ingest: Ingest, usable: segmentlist, half: float, seed: int, events: Array) -> list[Trigger]:
    """Times drawn uniformly from usable time that the strain's files cover, `ingest.quiet` s from every event."""
    if not ingest.background:
        return []
    covered = segmentlist(segment(a, b) for a, b in coverage(strain_of(ingest))) & usable
    stretches = np.array([(a + half, b - half) for a, b in covered if b - a > 2 * half])
    lengths = stretches[:, 1] - stretches[:, 0] if len(stretches) else np.zeros(0)
    rng, found, ends = generator(seed, BACKGROUND), list[float](), np.cumsum(lengths)
    sorted_events = np.concatenate([[-np.inf], np.sort(events), [np.inf]])
    for _ in range(TRIES if lengths.sum() else 0):
        places = rng.uniform(0, lengths.sum(), ingest.background)
        stretch = np.searchsorted(ends, places)
        gps = stretches[stretch, 1] - (ends[stretch] - places)
        after = np.searchsorted(sorted_events, gps)
        far = np.minimum(sorted_events[after] - gps, gps - sorted_events[after - 1]) >= ingest.quiet
        found += gps[far].tolist()
        if len(found) >= ingest.background:
            return [Trigger(one, "background", float("nan")) for one in found[: ingest.background]]
    raise InputError(
        f"ingest.background = {ingest.background}: only {len(found)} times {ingest.quiet:g} s away from every event"
        f" in what the files of {strain_of(ingest).name} cover"
    )
