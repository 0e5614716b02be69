"""The shares of a dataset's shards, in pages: who adds them up again has one of them in memory.

A share of 500 channels is 40 kB: all of 10^6 events are 125,000 of them and 5 GB. A page says its own checksum. Of
stores that nobody adds up, as predictions, nothing is kept.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from glitchflow.data import objects
from glitchflow.data.store.dataset import Dataset
from glitchflow.data.store.schema import MARKERS, NOTES, STATISTICS, Folded, Layout, Marker, Share
from glitchflow.errors import RunError

PAGE = 256  # shards: of 500 channels 10 MB
NOTED = f"{NOTES}/shares"  # the folder of notes that hold a shard's new statistics each
AGAIN = "--verify makes its shards again"


class Page(BaseModel):
    """Holds the shares of some neighbouring shards, as they are kept."""

    model_config = ConfigDict(frozen=True)
    shards: dict[int, Share] = {}
    sha256: str = ""

    def digest(self) -> str:
        """Returns the checksum of its shares."""
        shares = self.model_dump_json(include={"shards"}, exclude_defaults=True)
        return hashlib.sha256(shares.encode()).hexdigest()


def page_of(shard: int) -> int:
    """Returns the number of the page that a shard's share is in."""
    return shard // PAGE


def page_count(layout: Layout) -> int:
    """Returns how many pages the shares of a store take."""
    return page_of(layout.shards - 1) + 1


def page_name(number: int) -> str:
    """Returns where a page is."""
    return f"{MARKERS}/statistics/{number:05d}.json"


def page_shards(layout: Layout, number: int) -> range:
    """Returns the shards whose shares are in a page."""
    return range(number * PAGE, min((number + 1) * PAGE, layout.shards))


def all_shares(dataset: Dataset) -> Iterator[Share]:
    """Yields the shares of all shards, ascending. Raises `RunError` where one of them is lost."""
    for number in range(page_count(dataset.layout)):
        found = _read(dataset, number)
        for k in page_shards(dataset.layout, number):
            if k not in found:
                raise _lost(dataset, number, k)
            yield found[k]


def fill_page(dataset: Dataset, number: int, fresh: Mapping[int, Share]) -> None:
    """Writes a page with the shares of shards that are new, and those of the others as they are there.

    Raises `RunError`, and writes nothing, where one of those is lost.
    """
    shares, shards = dict(fresh), page_shards(dataset.layout, number)
    if before := [k for k in shards if k not in fresh]:
        there = _read(dataset, number)
        if lost := [k for k in before if k not in there]:
            raise _lost(dataset, number, lost[0])
        shares |= {k: there[k] for k in before}
    write_page(dataset, number, shares)


def write_page(dataset: Dataset, number: int, shares: Mapping[int, Share]) -> None:
    """Writes a page, the shards ascending: a store that was extended has the bytes of one made at once."""
    page = Page(shards=dict(sorted(shares.items())))
    page = page.model_copy(update={"sha256": page.digest()})
    objects.put(dataset.path, page_name(number), page.model_dump_json(exclude_defaults=True).encode())


def lost_shares(dataset: Dataset) -> dict[int, str]:
    """Returns the folded shards whose share is damaged or missing, with the reason.

    Raises `RunError` where what earlier versions kept is damaged.
    """
    if not dataset.known.added_up or _earlier(dataset):
        return {}
    lost: dict[int, str] = {}
    for number in range(page_count(dataset.layout)):
        folded = [k for k in page_shards(dataset.layout, number) if k in dataset.folded.shards]
        if not folded:
            continue
        try:
            found, what = _read(dataset, number), "is missing, or lacks its share"
        except objects.Unread:
            raise
        except RunError:
            found, what = {}, "is damaged"
        lost |= {k: f"{page_name(number)} {what}" for k in folded if k not in found}
    return lost


def into_pages(dataset: Dataset) -> None:
    """Puts into pages what earlier versions kept of all shards in one object. Done again after an interruption it comes
    to the same."""
    whole = _earlier(dataset)
    if not dataset.known.added_up or not whole:
        return
    for number in reversed(range(page_count(dataset.layout))):  # the first page says that all are there
        shards = page_shards(dataset.layout, number)
        write_page(dataset, number, {k: whole[k] for k in shards if k in whole})
    objects.delete(dataset.path, STATISTICS)


# -- noted while splits are assigned anew ------------------------------------------------------------------------


def note_share(dataset: Dataset, shard: int, statistics: Mapping[str, Any]) -> None:
    """Notes a shard's new statistics, from its task: those of all shards may be gigabytes."""
    with objects.writing(dataset.path, "cannot be written"):
        objects.put(dataset.path, _note_name(shard), json.dumps(statistics).encode())


def pages_from_notes(dataset: Dataset) -> None:
    """Writes all pages from what was noted of every shard, read once. Raises `RunError` where a note is damaged."""
    skipped: dict[int, dict[int, str]] = {}
    for event, why in dataset.skipped.items():
        skipped.setdefault(event // dataset.layout.shard, {})[event] = why
    for number in range(page_count(dataset.layout)):
        shards = page_shards(dataset.layout, number)
        noted = objects.read_each(dataset.path, map(_note_name, shards), dict[str, Any])
        shares = {k: Share(statistics=one, skipped=skipped.get(k, {})) for k, one in zip(shards, noted)}
        write_page(dataset, number, shares)
    objects.delete(dataset.path, STATISTICS)  # of all shards in one object, as earlier versions kept them


def forget_notes(path: objects.Location) -> None:
    """Deletes what was noted of shards, also what a killed run left."""
    objects.delete_all(path, objects.names(path, NOTED))


def _note_name(shard: int) -> str:
    return f"{NOTED}/{shard:05d}.json"


# -- parts -------------------------------------------------------------------------------------------------------


def _read(dataset: Dataset, number: int) -> Mapping[int, Share]:
    """The shares of a page, by shard; none where it is not there. Raises `RunError` where it is damaged."""
    name = page_name(number)
    try:
        page = objects.read(dataset.path, name, Page) or Page()
    except objects.Unread:
        raise
    except RunError as error:
        raise RunError(f"{error}; {AGAIN}") from None
    if page.sha256 and page.sha256 != page.digest():
        raise RunError(f"{dataset.path}: damaged: {name} differs from its checksum; {AGAIN}")
    return page.shards


def _lost(dataset: Dataset, number: int, shard: int) -> RunError:
    return RunError(
        f"{dataset.path}: damaged: {page_name(number)} is missing, or lacks shard {shard}; {AGAIN}"
    )


def _earlier(dataset: Dataset) -> Mapping[int, Marker]:
    """The whole markers, where earlier versions kept them; none where there are pages."""
    whole = objects.read(dataset.path, STATISTICS, Folded)
    if whole is not None:
        return whole.shards
    folded = dataset.folded.shards  # the earliest ones kept them there
    kept = any(one.statistics for one in folded.values()) and not objects.has(dataset.path, page_name(0))
    return folded if kept else {}
