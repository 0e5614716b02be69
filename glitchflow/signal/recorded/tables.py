"""Trigger tables: Gravity Spy's, Omicron's, SNAX's, PyCBC Live's, gstlal's and others, read by gwpy.

Shapes: R row.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from glitchflow.config import Times
from glitchflow.errors import InputError
from glitchflow.progress import say
from glitchflow.signal.types import Array

# column names that trigger tables use: Gravity Spy, Omicron, SNAX, PyCBC Live, gstlal
TIME = ("GPStime", "event_time", "peak_time", "time", "gps", "end_time")
LABEL = ("label", "ml_label", "family")
SNR = ("snr", "SNR")
DETECTOR = ("ifo", "detector")
# by a file's suffix, where no format is given: gwpy's guess takes commas for nothing and tabs for spaces
FORMATS = {".csv": "ascii.csv", ".tsv": "ascii.tab", ".tab": "ascii.tab"}
# tables inside a file that are tried where none is named, and what gwpy's readers call the key for one
TABLES = ("sngl_burst", "sngl_inspiral", "triggers")
INSIDE = {".xml": "tablename", ".root": "treename", ".h5": "path", ".hdf5": "path", ".hdf": "path"}

Row = tuple[
    float, str, float
]  # GPS s; family, empty where the table does not tell; SNR, NaN where it does not


def read_table(times: Times, detector: str) -> list[Row]:
    """Reads the rows of `ingest.times.file` that pass `ingest.times.where`, in its order, to a nanosecond.

    detector: as H1; rows of another are left out, and counted. Raises `InputError` for a file that cannot be read,
    lacks a column, or whose times are no GPS times.
    """
    table = _opened(times)
    try:
        for condition in times.where:
            table = table.filter(condition)
    except Exception as error:  # noqa: BLE001  gwpy's parser raises anything
        raise InputError(f"ingest.times.where = {times.where}: {_line(error)}") from None
    table = _of_detector(times, table, detector)
    gps, label, snr = (
        _times(times, table),
        _column(times, table, "label", LABEL),
        _column(times, table, "snr", SNR),
    )
    labels = ["" if _masked(one) else str(one) for one in table[label]] if label else [""] * len(table)
    snrs = [np.nan if _masked(one) else float(one) for one in table[snr]] if snr else [np.nan] * len(table)
    return list(zip(gps.tolist(), labels, snrs))


def _opened(times: Times) -> Any:
    from gwpy.table import EventTable

    suffix = next((s.lower() for s in reversed(Path(times.file).suffixes) if s.lower() != ".gz"), "")
    form = times.format or FORMATS.get(suffix, "")
    options: dict[str, Any] = {"format": form} if form else {}
    key = INSIDE.get(suffix)
    tries: list[dict[str, Any]] = [{key: times.table}] if times.table and key else [{}]
    if not times.table and key:
        tries += [{key: name} for name in TABLES]
    errors = []
    for one in tries:
        try:
            return EventTable.read(times.file, **options, **one)
        except Exception as error:  # noqa: BLE001  gwpy's readers raise anything on a bad file
            errors.append(_line(error))
    hint = (
        f"; name the one inside in ingest.times.table: {errors[0]}"
        if key and not times.table
        else f": {errors[0]}"
    )
    if not form and not key:
        hint = f"; name gwpy's word for its format in ingest.times.format: {errors[0]}"
    raise InputError(f"ingest.times.file = {times.file}: cannot be read{hint}")


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def _masked(value: Any) -> bool:
    return value is np.ma.masked or str(value) in ("", "--", "nan")


def _of_detector(times: Times, table: Any, detector: str) -> Any:
    """The rows that are of this detector, or of none by name."""
    name = next((name for name in DETECTOR if name in table.colnames), None)
    if name is None or not detector:
        return table
    others = np.array(
        [bool(re.fullmatch(r"[A-Z]\d", one)) and one != detector for one in map(str, table[name])], bool
    )
    if others.any():
        say(
            f"{times.file}: {others.sum()} of {len(table)} rows are of another detector than {detector}, and left out"
        )
    return table[~others]


def _times(times: Times, table: Any) -> Array:
    """GPS times (R,): of the column by name, else the first usual one that is no whole seconds; with its NAME_ns."""
    usual = [name for name in TIME if name in table.colnames]
    fine = [name for name in usual if f"{name}_ns" in table.colnames or table[name].dtype.kind not in "iu"]
    name = _column(times, table, "time", tuple(fine + usual))
    if name is None:
        raise InputError(
            f"ingest.times.file = {times.file}: no column of GPS times; name it in ingest.times.time, there are:"
            f" {', '.join(table.colnames)}"
        )
    if name not in fine and name in usual:
        say(f"{times.file}: its times, {name}, are whole seconds")
    try:
        found = np.array(table[name], dtype=np.float64)
        if f"{name}_ns" in table.colnames:
            found = found + 1e-9 * np.array(table[f"{name}_ns"], dtype=np.float64)
    except ValueError:
        raise InputError(
            f"ingest.times.time = {name}: {table[name][0]} in {times.file} is no GPS time;"
            " gwpy.time.to_gps makes one of UTC"
        ) from None
    return found


def _column(times: Times, table: Any, key: str, usual: tuple[str, ...]) -> str | None:
    """The column asked for by `ingest.times.<key>`, else the first of the usual names that is there."""
    asked = getattr(times, key)
    if asked and asked not in table.colnames:
        raise InputError(
            f"ingest.times.{key} = {asked}: not a column of {times.file}; there are: {', '.join(table.colnames)}"
        )
    return asked or next((name for name in usual if name in table.colnames), None)
