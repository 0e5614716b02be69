"""Everything in a store, read and compared with its checksums."""

from glitchflow.data import objects
from glitchflow.data.store.array import Damaged
from glitchflow.data.store.dataset import Dataset, missing_shards
from glitchflow.data.store.notes import damaged_notes
from glitchflow.data.store.pages import lost_shares, page_count, page_name
from glitchflow.data.store.schema import FOLDED, KEPT, MARKERS, STATISTICS, marker_name
from glitchflow.errors import RunError


def find_damage(dataset: Dataset) -> tuple[dict[int, str], list[str]]:
    """Read everything in a store: its damaged or missing shards with the reason, and what else is wrong with it.

    Raises `Unread` where the file system or the object store does not hand it out.
    """
    damage, rest = dict.fromkeys(missing_shards(dataset), "missing"), damaged_notes(dataset.path)
    try:
        lost = lost_shares(dataset)
    except objects.Unread:
        raise
    except RunError as error:
        lost = {}
        rest.append(str(error))
    for name in dataset.names:
        try:
            array = dataset[name]
        except objects.Unread:
            raise
        except RunError as error:
            rest.append(str(error))
            continue
        per_shard = name in dataset.known.arrays
        if not (per_shard and array.piece == dataset.layout.shard) and not dataset.complete:
            continue  # columns are written last
        for k in range(-(-len(array) // array.piece)):
            shards = range(
                k * array.piece // dataset.layout.shard, -(-(k + 1) * array.piece // dataset.layout.shard)
            )
            if per_shard and damage.keys() >= {*shards}:
                continue
            try:
                array.verify(k)
            except Damaged as error:
                if per_shard:
                    damage |= {j: damage.get(j, error.what) for j in shards if j < dataset.layout.shards}
                else:
                    rest.append(error.what)
    return dict(sorted((lost | damage).items())), rest


def foreign_objects(dataset: Dataset) -> list[str]:
    """Objects inside the per-event arrays, or among the markers, that no shard of this store has."""
    shards = range(dataset.layout.shards)
    pages = map(page_name, range(page_count(dataset.layout)))
    expected = {FOLDED, STATISTICS, KEPT, *map(marker_name, shards), *pages}
    for name in dataset.known.arrays:
        array = dataset[name]
        rest, count = [0] * (len(array.shape) - 1), -(-len(array) // (array.shards or array.chunks)[0])
        expected |= {f"{name}/{array.array.metadata.encode_chunk_key((k, *rest))}" for k in range(count)}
        expected.add(f"{name}/{objects.ROOT}")
    found = {key for name in (*dataset.known.arrays, MARKERS) for key in objects.names(dataset.path, name)}
    return sorted(found - expected)
