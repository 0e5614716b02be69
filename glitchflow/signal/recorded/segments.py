"""Science-mode time: segments out of a list, a file that gwpy reads, or a bit of a state channel.

Their algebra is igwn_segments': a `segmentlist` here is always coalesced, apart and ascending, in GPS s.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from igwn_segments import infinity, segment, segmentlist

from glitchflow.config import Ingest, Segments
from glitchflow.errors import InputError
from glitchflow.signal.recorded.frames import pieces, strain_of
from glitchflow.signal.recorded.samples import bit_names, read_samples
from glitchflow.signal.types import Over

FLAGS = (".h5", ".hdf5", ".hdf", ".json", ".xml")  # what DataQualityFlags are kept in; others are lists
FILES = 1024  # whose state is read together: some seconds of a task


def usable_time(ingest: Ingest, over: Over = map) -> segmentlist:
    """Returns the time of `ingest.segments` without that of `ingest.leave_out`; all time where neither is given.

    over: what shares out the reading of a state channel, which a month has in tens of thousands of files.
    Raises `InputError` for a file that holds no segments, and for a state channel that no file of the strain has.
    """
    whole = segmentlist([segment(-infinity(), infinity())])
    found = _read(ingest, "segments", over) if ingest.segments.given else whole
    return found - _read(ingest, "leave_out", over) if ingest.leave_out.given else found


def _read(ingest: Ingest, key: str, over: Over) -> segmentlist:
    wanted: Segments = getattr(ingest, key)
    if wanted.file:
        return _from_file(wanted.file, key)
    if wanted.channel:
        return _from_state(ingest, wanted, key, over)
    return segmentlist(segment(start, stop) for start, stop in wanted.gps).coalesce()


def _seconds(time: Any) -> float:
    """A GPS time as a number; of a text whose exponent has ten digits LAL's own reader thinks for seconds."""
    if not math.isfinite(value := float(time)):
        raise ValueError(f"{time}: no GPS time")
    return value


def _from_file(path: str, key: str) -> segmentlist:
    """The active segments of a DataQualityFlag (HDF5, JSON, LIGO_LW), or a list of segments (segwizard)."""
    from gwpy.segments import DataQualityFlag, SegmentList

    flag = Path(path.lower().removesuffix(".gz")).suffix in FLAGS
    try:
        # in a list: gwpy takes a path apart at its commas
        read = (
            DataQualityFlag.read([path]).active
            if flag
            else SegmentList.read([path], format="segwizard", gpstype=_seconds)
        )
        return segmentlist(segment(_seconds(a), _seconds(b)) for a, b in read).coalesce()
    except Exception as error:  # noqa: BLE001  gwpy's readers raise anything on a bad file
        reason = " ".join(str(error).split()) or type(error).__name__
    raise InputError(f"ingest.{key} = {path}: no segments can be read: {reason[:300]}")


def _from_state(ingest: Ingest, wanted: Segments, key: str, over: Over) -> segmentlist:
    """When all bits of a state channel are set, in the strain's files; a file without it has no such time."""
    strain = strain_of(ingest)
    paths = [piece.path for piece in pieces(strain)]
    lots = [paths[i : i + FILES] for i in range(0, len(paths), FILES)]
    bits = _mask(wanted, key, paths[0])
    parts = list(over(partial(_state, strain.format, wanted.channel, bits), lots))
    found, why = segmentlist(), next((reason for _, reason in parts if reason), "")
    for spans, _ in parts:
        found.extend(segment(a, b) for a, b in spans)
    if why and not found:
        raise InputError(f"ingest.{key}.channel = {wanted.channel}: {strain.files[0]}: {why}")
    return found.coalesce()


def _mask(wanted: Segments, key: str, path: str) -> int:
    """The bits that are to be set, of which some are named in a file."""
    try:
        names = bit_names(path, wanted.channel) if any(isinstance(bit, str) for bit in wanted.bits) else []
    except OSError as error:
        raise InputError(f"ingest.{key}.bits: {path} cannot be read: {error}") from None
    for bit in wanted.bits:
        if isinstance(bit, str) and bit not in names:
            raise InputError(
                f"ingest.{key}.bits = {bit}: {wanted.channel} of {path} has no bit of that name; there are:"
                f" {', '.join(names) or 'none'}"
            )
    places = {names.index(bit) if isinstance(bit, str) else bit for bit in wanted.bits}
    return sum(1 << place for place in places)


def _state(form: str, channel: str, bits: int, paths: list[str]) -> tuple[list[tuple[float, float]], str]:
    """When all bits are set, in GPS s, in some files, and why one of them does not tell; empty where all do."""
    found, why = list[tuple[float, float]](), ""
    for path in paths:
        state = read_samples(path, form, [channel])[channel]
        if isinstance(state, str):
            why = why or state
            continue
        there = np.isfinite(state.values)  # a frame with a hole has NaN there, and no bit is set
        values = np.where(there, state.values, 0)
        if (values != np.trunc(values)).any():
            why = why or f"its values are {state.values.dtype}, not integers"
            continue
        on = there & ((values.astype(np.int64) & bits) == bits)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], on, [False])))) / state.rate + state.start
        found += [(a, b) for a, b in edges.reshape(-1, 2).tolist()]
    return found, why
