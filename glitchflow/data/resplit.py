"""Splits assigned anew, without a look at the recorded data: `glitchflow ingest --split`.

    1. the splits that the section `split` asks for now, from the list of events that the store has
    2. the train split's statistics, which normalise, from its Q-plots: one Ray task per shard, which notes its share
    3. column, statistics and configuration change at once

Shapes: E event.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.cluster import joins
from glitchflow.config import Experiment
from glitchflow.data import objects
from glitchflow.data.build import BASE_MEMORY, Job, run_tasks
from glitchflow.data.content import Content, content_of, differences
from glitchflow.data.generate import LITTLE, sizes
from glitchflow.data.identity import EARLIER, identity
from glitchflow.data.normalise import measure, reduce_statistics, statistics, stored_loudness
from glitchflow.data.objects import Location
from glitchflow.data.shard_events import BLOCK
from glitchflow.data.splits import Splits, splits_of_times
from glitchflow.data.store import CHANGING, SKIPPED, SPLITS, Dataset, Writer
from glitchflow.data.store.dataset import is_there
from glitchflow.data.store.pages import forget_notes, note_share
from glitchflow.errors import InputError
from glitchflow.progress import say

TRAIN = SPLITS.index("train")


@joins
def resplit(experiment: Experiment) -> Location:
    """Assigns the splits of recorded events anew, as `split` says now; returns where the store is.

    Raises `InputError` where there is no finished store of recorded events, where anything but `split` differs from
    what it was made from, and where its events were whitened by an ASD of its train split.
    """
    path, content = experiment.dataset, content_of(experiment, "ingest")
    if not is_there(path):
        raise InputError(f"{path}: is not there; ingest it first")
    with Writer.begin(path, lambda: _never(path), partial(_agrees, content)) as writer:
        writer.refuse_earlier()  # before anything is noted in it
        dataset = writer.dataset
        splits = _assigned(dataset, content)
        whole = range(dataset.layout.shards)
        image = int(np.prod(dataset["qplot"].shape[1:])) * 4
        memory = BASE_MEMORY + 2 * dataset.layout.shard * image + 4 * 8 * image
        little = len(dataset) * image <= LITTLE
        job = Job(partial(note_statistics, dataset, splits), "statistics", memory, here=little)
        run_tasks(job, sizes(dataset.layout, [*whole]), experiment.cluster, writer.check)
        writer.replace_column("split", splits)
        train = splits == TRAIN
        normalisation: dict[str, Any] | None = None
        if train.any():
            normalisation = reduce_statistics(one.statistics for one in writer.shares())
            normalisation |= {"loudness": stored_loudness(dataset["loudness"], train)}
        # a network that learned from the splits of before must not be scored on these
        earlier = dict.fromkeys([*dataset.attributes.get(EARLIER, []), identity(dataset)])
        attributes = {"config": content.kept(), "normalisation": normalisation, EARLIER: [*earlier]}
        with objects.writing(path, "cannot be finished"):
            forget_notes(path)
        writer.complete(attributes)
    counts = ", ".join(f"{name} {int((splits == i).sum())}" for i, name in enumerate(SPLITS))
    say(f"{path}: {counts}; its `asd` stays that of the train split it was made with")
    return path


def _never(path: Location) -> Any:
    raise InputError(f"{path}: is not there; ingest it first")


def _agrees(content: Content, dataset: Dataset) -> None:
    """Raise `InputError` for a store whose splits cannot be assigned anew by these settings."""
    there, wanted = dataset.config.kept(), content.kept()
    differing = sorted(differences(there | {"split": None}, wanted | {"split": None}))
    if differing:
        raise InputError(
            f"{dataset.path}: was made with other settings than split ({'; '.join(differing[:4])})"
        )
    if not dataset.recorded:
        raise InputError(
            f"{dataset.path}: --split is for recorded events; of simulated ones each has its own"
        )
    if not dataset.complete and CHANGING not in dataset.attributes:
        raise InputError(f"{dataset.path}: is not finished; ingest it first")
    if content.whiten.asd == "dataset":
        raise InputError(
            f"{dataset.path}: whiten.asd = dataset: its events were whitened by an ASD of its train split;"
            " --overwrite it instead"
        )


def _assigned(dataset: Dataset, content: Content) -> Splits:
    """The splits (E,) as `ingest` would have assigned them to the events that can be used; the others are in none."""
    listed = dataset.note("triggers")
    times = np.array([row[0] for row in listed]) if listed else dataset["gps"][:]
    if np.isnan(times).any():
        raise InputError(f"{dataset.path}: its events have no times to split by")
    usable = np.ones(len(times), bool)
    usable[[*dataset.skipped]] = False
    found = np.full(len(times), SKIPPED, np.int8)
    found[usable] = splits_of_times(content.split, content.seed, content.series.duration, times[usable])
    return found


def note_statistics(dataset: Dataset, splits: Splits, shard: int) -> None:
    """Note a shard's share of the train split's statistics, from its Q-plots."""
    span = dataset.layout.span(shard)
    energy, train = dataset["qplot"][span], splits[span] == TRAIN
    blocks = [measure(energy[i : i + BLOCK]) for i in range(0, len(energy), BLOCK)]
    sums: dict[str, NDArray] = {n: np.concatenate([one[n] for one in blocks])[train] for n in blocks[0]}
    note_share(dataset, shard, statistics(sums))
