"""What was removed second by second, and why not more: `seconds.csv`, and its sums, which `clean.json` has.

Shapes: M sample of a file.
"""

import csv
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from glitchflow.analysis.clean.files import Stretch
from glitchflow.data import objects
from glitchflow.signal.types import Array

SECONDS = "seconds.csv"
COLUMNS = ("gps", "cleaned", "removed_rms", "why")
NOT_CHOSEN = "not chosen"
Row = tuple[
    int, int, str, str
]  # GPS second, whether all of it was cleaned, rms of what was removed, why not more


@contextmanager
def rows(directory: Path) -> Iterator[Callable[[Iterable[Row]], None]]:
    """Write the rows of `seconds.csv` of the files in a directory; gives what takes them.

    Raises `RunError` where the file system refuses, also at the end, when what was kept back is written.
    """
    refused = partial(objects.writing, directory / SECONDS, "cannot be written")
    with refused():
        file = (directory / SECONDS).open("w", newline="", encoding="utf-8")

    def tell(found: Iterable[Row]) -> None:
        with refused():
            csv.writer(file).writerows(found)

    try:
        yield tell
    finally:
        with refused():
            file.close()


def join(places: Sequence[Path], directory: Path) -> None:
    """Move the files of some directories, which end with it, to one, and make its `seconds.csv` of their rows, in their
    order."""
    whole = directory / SECONDS
    with objects.writing(whole, "cannot be written"), whole.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(COLUMNS)
        for place in places:
            with (place / SECONDS).open(newline="", encoding="utf-8") as part:
                shutil.copyfileobj(part, file)
            (place / SECONDS).unlink()
            for one in place.iterdir():
                one.rename(directory / one.name)
            place.rmdir()


def parts(stretch: Stretch) -> Iterator[tuple[int, slice]]:
    """Cut the samples (M,) of a file into GPS seconds."""
    time = stretch.gps + np.arange(len(stretch.values)) / stretch.sample_rate
    number = np.floor(time + 1e-9).astype(
        np.int64
    )  # a nanosecond is what GPS times in double precision may be off by
    for second in range(int(number[0]), int(number[-1]) + 1):
        yield second, slice(*np.searchsorted(number, (second, second + 1)))


def rms(removed: Array) -> str:
    """Print the rms of what was removed, in the strain's unit."""
    return f"{np.sqrt(np.mean(np.square(removed))):.6g}"


def summary(directory: Path) -> dict[str, Any]:
    """Sum up the table: seconds in all, those cleaned, and those of each reason not to."""
    with (directory / SECONDS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    why = Counter(row["why"] for row in rows if row["why"])
    cleaned = sum(row["cleaned"] == "1" for row in rows)
    return {"seconds": len(rows), "cleaned": cleaned, "why": dict(sorted(why.items()))}
