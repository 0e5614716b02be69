"""The shares of a finished store's shards, in pages: who adds them up again has one of them in memory.

All of 10^6 events and 500 channels are 125,000 shards and 5 GB.
"""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from glitchflow.data import objects
from glitchflow.data.store.dataset import Dataset
from glitchflow.data.store.schema import MARKERS, STATISTICS, Folded, Layout, Share
from glitchflow.errors import RunError

PAGE = 256  # shards: of 500 channels some 13 MB


class Page(BaseModel):
    """Holds the shares of some neighbouring shards, as they are kept."""

    model_config = ConfigDict(frozen=True)
    shards: dict[int, Share] = {}


def page_of(shard: int) -> int:
    """Returns the number of the page that a shard's share is in."""
    return shard // PAGE


def page_count(layout: Layout) -> int:
    """Returns how many pages the shares of a store take."""
    return page_of(layout.shards - 1) + 1


def page_name(number: int) -> str:
    """Returns where a page is."""
    return f"{MARKERS}/statistics/{number:05d}.json"


def read_page(dataset: Dataset, number: int) -> dict[int, Share]:
    """Returns the shares of a page, by shard; none where it is not there."""
    page = objects.read(dataset.path, page_name(number), Page)
    return dict(page.shards) if page else {}


def write_page(dataset: Dataset, number: int, shares: dict[int, Share]) -> None:
    """Writes a page, the shards ascending: a store that was extended has the bytes of one made at once."""
    page = Page(shards=dict(sorted(shares.items())))
    content = page.model_dump_json(exclude_defaults=True)
    objects.put(dataset.path, page_name(number), content.encode())


def all_shares(dataset: Dataset) -> Iterator[Share]:
    """Yields the shares of all shards, ascending. Raises `RunError` where some are missing."""
    for number in range(page_count(dataset.layout)):
        shares = read_page(dataset, number)
        if len(shares) != min(PAGE, dataset.layout.shards - number * PAGE):
            raise RunError(
                f"{dataset.path}: damaged: {page_name(number)} is missing, or lacks some of its shards"
            )
        yield from shares.values()


def into_pages(dataset: Dataset) -> None:
    """Puts into pages what earlier versions kept of all shards in one object. Done again after an interruption it comes
    to the same."""
    whole = objects.read(dataset.path, STATISTICS, Folded)
    if whole is None:
        if not dataset.folded.shards or objects.has(dataset.path, page_name(0)):
            return
        whole = dataset.folded  # the earliest ones kept it there
    for number in reversed(range(page_count(dataset.layout))):  # the first page says that all are there
        shards = range(number * PAGE, (number + 1) * PAGE)
        write_page(dataset, number, {k: whole.shards[k] for k in shards if k in whole.shards})
    objects.delete(dataset.path, STATISTICS)
