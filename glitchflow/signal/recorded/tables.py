"""Trigger tables: Gravity Spy's, Omicron's, SNAX's, PyCBC Live's, gstlal's and others, read by gwpy.

Shapes: R row.
"""

import gzip
import re
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glitchflow.config import Times
from glitchflow.errors import InputError
from glitchflow.progress import say
from glitchflow.signal.recorded.frames import find_files
from glitchflow.signal.types import Array

# column names that trigger tables use: Gravity Spy, Omicron, SNAX, PyCBC Live, gstlal
TIME = ("GPStime", "event_time", "peak_time", "time", "gps", "end_time")
LABEL = ("label", "ml_label", "family")
SNR = ("snr", "SNR")
DETECTOR = ("ifo", "detector")
# by a file's suffix, where no format is given: gwpy's guess takes commas for nothing and tabs for spaces
FORMATS = {
    ".csv": "ascii.csv",
    ".tsv": "ascii.tab",
    ".tab": "ascii.tab",
    ".txt": "ascii",  # whatever separates its columns
    ".dat": "ascii",
}
# tables inside a file that are tried where none is named, and what gwpy's readers call the key for one
TABLES = ("sngl_burst", "sngl_inspiral", "triggers")
TEXT = ("ascii", "csv")  # how the names of formats begin that are text
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # how a text begins that is refused for what it is
INSIDE = {".xml": "tablename", ".root": "treename", ".h5": "path", ".hdf5": "path", ".hdf": "path"}

LATEST = 1e10  # s: the year 2296; beyond it, as in ns, a time is no GPS time

# GPS s; family, empty where the table does not tell; SNR, NaN where it does not
Row = tuple[float, str, float]


@dataclass
class _Told:
    """Counts what is said once of all files together."""

    rows: int = 0
    others: int = 0  # of another detector
    whole: str = ""  # the first file whose times are whole seconds, and their column


def read_table(times: Times, detector: str) -> list[Row]:
    """Reads the rows of `ingest.times.file` that pass `ingest.times.where`, in its order, to a nanosecond.

    detector: as H1; rows of another are left out, and counted. Raises `InputError` for a file that cannot be read,
    lacks a column, or whose times are no GPS times, and where no row is left.
    """
    paths, told = find_files(times.file, "ingest.times.file"), _Told()
    rows = [row for path in paths for row in _rows(times, path, detector, told)]
    name = paths[0] if len(paths) == 1 else f"{len(paths)} files, {paths[0]} the first"
    if told.others:
        say(
            f"{name}: {told.others} of {told.rows} rows are of another detector than {detector}, and left out"
        )
    if told.whole:
        say(told.whole)
    if not rows:
        conditions = f"ingest.times.where = {', '.join(times.where)}: leaves none" if times.where else "none"
        raise InputError(
            f"ingest.times.file = {name}: {told.rows} rows, {told.others} of another detector than"
            f" {detector or 'the strain'}; {conditions} of the others"
            if told.rows
            else f"ingest.times.file = {name}: no rows"
        )
    return _clustered(times, name, rows) if times.cluster else rows


def _clustered(times: Times, name: str, rows: list[Row]) -> list[Row]:
    """Of rows that follow each other within `times.cluster` s, the loudest."""
    from gwpy.table import EventTable

    gps, snr = (np.array([row[k] for row in rows]) for k in (0, 2))
    if np.isnan(snr).all():
        raise InputError(
            f"ingest.times.cluster = {times.cluster:g}: takes the loudest, and no row of {name} has an SNR; name its"
            " column in ingest.times.snr"
        )
    table = EventTable({"gps": gps, "snr": np.nan_to_num(snr, nan=-np.inf), "row": np.arange(len(rows))})
    kept = sorted(table.cluster("gps", "snr", times.cluster)["row"].tolist())
    say(
        f"{name}: {len(rows)} rows are {len(kept)} times {times.cluster:g} s apart, of which the loudest are taken"
    )
    return [rows[k] for k in kept]


def _rows(times: Times, path: str, detector: str, told: _Told) -> list[Row]:
    """The rows of one file."""
    table = _opened(times, path)
    told.rows += len(table)
    table = _of_detector(table, detector, told)
    for condition in times.where:
        try:
            table = table.filter(condition)
        except Exception as error:  # noqa: BLE001  gwpy's parser raises anything
            reason = (
                f"no column {error}; there are: {', '.join(table.colnames)}"
                if isinstance(error, KeyError)
                else _line(error)
            )
            raise InputError(f"ingest.times.where = {condition}: {path}: {reason}") from None
    gps = _times(times, path, table, told)
    label, snr = (_column(times, path, table, *one) for one in (("label", LABEL), ("snr", SNR)))
    labels = ["" if _masked(one) else str(one) for one in table[label]] if label else [""] * len(table)
    snrs = [_number(path, snr, one) for one in table[snr]] if snr else [np.nan] * len(table)
    return list(zip(gps.tolist(), labels, snrs))


def _opened(times: Times, path: str) -> Any:
    from gwpy.table import EventTable

    suffix = Path(path.lower().removesuffix(".gz")).suffix
    form = times.format or FORMATS.get(suffix, "")
    text = _text(path) if form.startswith(TEXT) else b""
    options: dict[str, Any] = {"format": form} if form else {}
    key = INSIDE.get(suffix)
    names = [times.table] if times.table else TABLES
    tries: list[dict[str, Any]] = [{key: name} for name in names] if key else []
    error = ""
    for one in tries if times.table and key else [*tries, {}]:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "error", "path= was not specified"
                )  # and the first of several is taken
                # in a list: gwpy cuts a path at its commas
                return _named_once(path, EventTable.read([path], **options, **one), text)
        except InputError:
            raise
        except ImportError as caught:
            raise InputError(
                f"ingest.times.file = {path}: cannot be read: {caught}; LIGO_LW takes the extra [lal]"
            ) from None
        except Exception as caught:  # noqa: BLE001  gwpy's readers raise anything on a bad file
            error = _line(caught).partition(" The available formats are")[0]
    hint = "; name the one inside in ingest.times.table" if key and not times.table else ""
    if not form and not key:
        hint = "; name gwpy's word for its format in ingest.times.format"
    raise InputError(f"ingest.times.file = {path}: cannot be read{hint}: {error}")


def _text(path: str) -> bytes:
    """A table of text. Raises `InputError` for one with NUL bytes, as power cuts leave: readers end a cell there."""
    try:
        with (gzip.open if path.lower().endswith(".gz") else open)(path, "rb") as file:
            text: bytes = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"ingest.times.file = {path}: cannot be read: {_line(error)}") from None
    if b"\0" in text and not text.startswith(UTF16):
        row = text[: text.index(b"\0")].count(b"\n") + 1
        raise InputError(f"ingest.times.file = {path}: has NUL bytes in line {row}, which are no text")
    return text


def _named_once(path: str, table: Any, text: bytes) -> Any:
    """The table. Raises `InputError` where its text names a column twice, the second of which astropy calls NAME_1."""
    for name in table.colnames:
        first, _, count = name.rpartition("_")
        if count.isdigit() and first in table.colnames and text and name.encode() not in text:
            raise InputError(
                f"ingest.times.file = {path}: has the column {first} more than once; give each a name of its own"
            )
    return table


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def _masked(value: Any) -> bool:
    return value is np.ma.masked or str(value) in ("", "--", "nan")


def _number(path: str, column: str, value: Any) -> float:
    try:
        return np.nan if _masked(value) else float(value)
    except ValueError:
        raise InputError(f"ingest.times.snr = {column}: {value} in {path} is no number") from None


def _of_detector(table: Any, detector: str, told: _Told) -> Any:
    """The rows that are of this detector, or of none by name."""
    name = next((name for name in DETECTOR if name in table.colnames), None)
    if name is None or not detector:
        return table
    others = np.array(
        [bool(re.fullmatch(r"[A-Z]\d", one)) and one != detector for one in map(str, table[name])], bool
    )
    told.others += int(others.sum())
    return table[~others]


def _times(times: Times, path: str, table: Any, told: _Told) -> Array:
    """GPS times (R,): of the column by name, else the first usual one that is no whole seconds; with its NAME_ns."""
    usual = [name for name in TIME if name in table.colnames]
    fine = [name for name in usual if f"{name}_ns" in table.colnames or table[name].dtype.kind not in "iu"]
    name = _column(times, path, table, "time", tuple(fine + usual))
    if name is None:
        raise InputError(
            f"ingest.times.file = {path}: no column of GPS times; name it in ingest.times.time, there are:"
            f" {', '.join(table.colnames)}"
        )
    if name not in fine and name in usual and len(table):
        told.whole = told.whole or f"{path}: its times, {name}, are whole seconds"
    try:
        found = np.array(table[name], dtype=np.float64)
        if f"{name}_ns" in table.colnames:
            found = found + 1e-9 * np.array(table[f"{name}_ns"], dtype=np.float64)
    except ValueError:
        raise InputError(
            f"ingest.times.time = {name}: {table[name][0]} in {path} is no GPS time;"
            " gwpy.time.to_gps makes one of UTC"
        ) from None
    bad = np.flatnonzero(~(np.abs(found) <= LATEST))
    if len(bad):
        raise InputError(
            f"ingest.times.time = {name}: row {bad[0] + 1} of {path} is {found[bad[0]]:g}, no GPS time"
        )
    return found


def _column(times: Times, path: str, table: Any, key: str, usual: tuple[str, ...]) -> str | None:
    """The column asked for by `ingest.times.<key>`, else the first of the usual names that is there."""
    asked = getattr(times, key)
    if asked and asked not in table.colnames:
        raise InputError(
            f"ingest.times.{key} = {asked}: not a column of {path}; there are: {', '.join(table.colnames)}"
        )
    return asked or next((name for name in usual if name in table.colnames), None)
