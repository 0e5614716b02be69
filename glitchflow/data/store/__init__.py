"""The store: one Zarr v3 group per dataset, opened by `xarray.open_zarr`.

In: whole shards of per-event arrays, from tasks that write one each. Out: a `Dataset`, opened once, whose reads are
checked. Read `schema.py` first (what is in a store), then `writer.py` (how it is made), then `dataset.py`.
"""

from glitchflow.data.store.create import TRANSIENTS, Design, Fixed
from glitchflow.data.store.dataset import Dataset, exists, missing_shards, open_store, root
from glitchflow.data.store.schema import SKIPPED, SPLITS, UNSPLIT, Array, Layout, choose_layout, digest
from glitchflow.data.store.verify import find_damage, foreign_objects
from glitchflow.data.store.writer import CHANGING, Writer, write_shard

__all__ = [
    "CHANGING",
    "SKIPPED",
    "SPLITS",
    "TRANSIENTS",
    "UNSPLIT",
    "Array",
    "Dataset",
    "Design",
    "Fixed",
    "Layout",
    "Writer",
    "choose_layout",
    "digest",
    "exists",
    "find_damage",
    "foreign_objects",
    "missing_shards",
    "open_store",
    "root",
    "write_shard",
]
