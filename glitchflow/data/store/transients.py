"""The rows of a store's table of transients that stay while those of other shards are replaced.

They lie by themselves until the table is whole: who was killed while it was being written left some of its columns new
and some old, of other lengths.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from glitchflow.data import objects
from glitchflow.data.store.column import rows_of
from glitchflow.data.store.create import TRANSIENTS
from glitchflow.data.store.dataset import Dataset
from glitchflow.data.store.schema import KEPT


class Kept(BaseModel):
    """Holds the table as it was before the rows of these shards were replaced."""

    instead: list[int]
    columns: list[list[float]]


def kept(dataset: Dataset, fresh: Sequence[int]) -> list[NDArray]:
    """Returns the columns of the table without the rows of the shards `fresh`, and notes the table until `forget`."""
    where = dataset.path
    if not dataset.folded.shards:
        return rows_of([])
    held = objects.read(where, KEPT, Kept)
    if held is None or not set(held.instead) <= set(fresh):
        columns = [np.asarray(dataset.raw(name, "r")[:]) for name, _ in TRANSIENTS]
        held = Kept(instead=list(fresh), columns=[column.tolist() for column in columns])
        objects.put(where, KEPT, held.model_dump_json().encode())
    old = [np.array(column, dtype=kind) for column, (_, kind) in zip(held.columns, TRANSIENTS)]
    stay = (old[0] >= 0) & ~np.isin(old[0] // dataset.layout.shard, fresh)
    return [column[stay] for column in old]


def forget(dataset: Dataset) -> None:
    """Forget the table as it was: the new one is whole."""
    objects.delete(dataset.path, KEPT)
