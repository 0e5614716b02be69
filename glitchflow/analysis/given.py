"""What the witnessed part of events may have been, drawn given their witnesses, over Ray tasks: `samples.zarr`.

    checkpoint, (seed, event, number) --random numbers--> solver (twin/posterior.py), given the witnesses --> draws

A draw depends on the checkpoint, the seed, its event and its number alone: draws of one event are made together, `LOT`
at once, and a lot that is not wanted whole is made whole. The strain is read with the
witnesses, and not used.

Shapes: E event, D draw, n sample.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow import config
from glitchflow.analysis.infer import KERNELS, check_fit, load_network, weights_of
from glitchflow.analysis.opened import origin_of
from glitchflow.config import Experiment
from glitchflow.data.build import BASE_MEMORY, Job, run_tasks
from glitchflow.data.generate import sizes
from glitchflow.data.identity import fingerprint, identity
from glitchflow.data.memory import ENCODING, Memory
from glitchflow.data.provenance import provenance
from glitchflow.data.store import Array, Dataset, Design, Layout, Writer, open_store, write_shard
from glitchflow.device import device
from glitchflow.errors import InputError
from glitchflow.progress import say
from glitchflow.signal.streams import DRAWN, generator
from glitchflow.signal.types import Indices
from glitchflow.train.checkpoint import Checkpoint
from glitchflow.twin import coherent, posterior
from glitchflow.twin.front import Front
from glitchflow.twin.kind import Trained

LOT = 16  # draws of an event that are made at once; another number is other bits
SHARD = 4  # events
AT_WORK = 320  # numbers that are held for each sample of a lot
GIVEN = "witnessed parts of events, given their witnesses"
OTHERS = ("snr", "guidance", "into")  # keys of draws out of nothing


@dataclass(frozen=True)
class Wanted:
    """Says which draws are wanted: everything that one depends on but its event and number."""

    checkpoint: str
    dataset: str
    seed: int
    draws: int


def sample_given(experiment: Experiment, found: Checkpoint, overwrite: bool) -> Path:
    """Write `sample.draws` draws of each event of the test split; returns the path. Goes on where it stopped.

    Raises `InputError` for keys of other twins' draws, a dataset that is made otherwise than that learned from, a
    family of which there is no event, and where other draws are there already.
    """
    settings, path, dataset = experiment.sample, experiment.samples, open_store(experiment.dataset)
    unset = config.Sample()
    if settings.count != unset.count:
        raise InputError(
            f"sample.count = {settings.count}: a posterior twin draws sample.draws times for each event; leave it out"
        )
    for key in OTHERS:
        if getattr(settings, key) != getattr(unset, key):
            raise InputError(
                f"sample.{key}: a posterior twin draws for the events of {dataset.path}, which say that; leave it out"
            )
    check_fit(found, dataset)
    origin_of(dataset, found.meta.dataset)  # what it learned from may be the test now
    events = events_of(settings, dataset)[: experiment.loader.subset.test]
    seed = experiment.seed if settings.seed is None else settings.seed
    wanted = Wanted(str(found.path), str(dataset.path), seed, settings.draws)
    design, agrees = (
        partial(_design, found, wanted, dataset, events),
        partial(_agrees, found, wanted, dataset, events),
    )
    with Writer.begin(path, design, agrees, overwrite) as writer:
        missing = writer.missing()
        if missing:
            say(f"drawing from {found.path.name}, given the witnesses of {len(events)} events")
        recorded, each = dataset["series"].shape[1:], writer.dataset["series"].shape[1:]
        make, memory = partial(draw_shard, writer.dataset, wanted, events), drawing(*recorded, *each).total
        job = Job(make, "events", memory, accelerated=True, smaller="series.duration")
        run_tasks(job, sizes(writer.layout, missing), experiment.cluster, writer.check)
        if not writer.dataset.complete:
            writer.collect()
            writer.complete()
    return path


def events_of(settings: config.Sample, dataset: Dataset) -> Indices:
    """Return the events (E,) of the test split, of the families that are asked for, whose strain is there."""
    for name in settings.family:
        if name not in dataset.labels:
            raise InputError(
                f"sample.family = {name}: not one of {dataset.path}; there are: {', '.join(dataset.labels)}"
            )
    label, events = dataset["label"][:], dataset.indices("test")
    asked = [k for k, name in enumerate(dataset.labels) if not settings.family or name in settings.family]
    events = events[np.isin(label[events], asked)]
    if not len(events):
        raise InputError(
            f"{dataset.path}: its test split has no event to draw for; see split.test and sample.family"
        )
    return events


def drawing(channels: int, samples: int, draws: int, drawn: int) -> Memory:
    """Project what a task holds that makes so many draws, of so many samples, for one event after the other, and writes
    them; recorded are so many channels and samples."""
    return Memory(
        {
            "Python and libraries": BASE_MEMORY,
            "torch's kernels": KERNELS,
            "series, prepared": 8 * SHARD * channels * samples * coherent.KIND.preparing,
            "a lot at work": 4 * LOT * samples * AT_WORK,
            "draws": (1 + ENCODING) * 4 * SHARD * draws * drawn,
        }
    )


def draw_shard(samples: Dataset, wanted: Wanted, events: Indices, shard: int) -> None:
    """Draw and write the events of one shard."""
    dataset, mine = open_store(wanted.dataset), events[samples.layout.span(shard)]
    drawn = draw_events(load_network(wanted.checkpoint), dataset, mine, wanted.seed, wanted.draws)
    label = dataset["label"][:][mine]
    write_shard(samples, shard, {"series": drawn, "event": mine, "label": label.astype(np.int16)})


def draw_events(
    trained: Trained, dataset: Dataset, events: Indices, seed: int, draws: int
) -> NDArray[np.float32]:
    """Draw white series (E, D, n) for ascending events of a dataset, given their witnesses."""
    front, network, where = front_of(trained), trained.network, device()
    samples, found = posterior.sees(front)[1]["samples"], []
    for event in events.tolist():  # one by one: beside others an event's bits are other ones
        series = dataset.events("series", np.array([event]), posterior.places(front, dataset))
        known = posterior.given(front, network, torch.from_numpy(series.astype(np.float64)), samples)[0].to(
            where
        )
        lots = []
        for first in range(0, draws, LOT):
            rngs = [generator(seed, DRAWN, event, first + k) for k in range(LOT)]
            drawn = posterior.draw(trained, known, posterior.chances(network, rngs))
            lots.append(drawn.float().cpu().numpy())
        found.append(np.concatenate(lots)[:draws])
    return np.stack(found)


def front_of(trained: Trained) -> Front:
    """Return how a posterior twin prepares what is recorded."""
    assert isinstance(trained.normalisation, Front), "a posterior twin's"
    return trained.normalisation


# -- the driver's part -------------------------------------------------------------------------------------------


def _asked(found: Checkpoint, wanted: Wanted, dataset: Dataset, events: Indices) -> dict[str, Any]:
    """What draws depend on, as a store says it."""
    return {
        "weights": weights_of(found),
        "dataset": identity(dataset),
        "seed": wanted.seed,
        "draws": wanted.draws,
        "events": fingerprint(events.tolist()),
    }


def _design(found: Checkpoint, wanted: Wanted, dataset: Dataset, events: Indices) -> Design:
    front = found.normalisation
    assert isinstance(front, Front), "a posterior twin's"
    arrays = {
        "series": Array(("draw", "sample"), (wanted.draws, posterior.sees(front)[1]["samples"]), "float32"),
        "event": Array((), (), "int64", column=True),
        "label": Array((), (), "int16", column=True),
    }
    attributes = {
        "source": "sample",
        "channels": found.meta.channels,
        "labels": dataset.labels,
        "series_are": GIVEN,
        "sample_rate": front.rate,
        "taps": front.taps[0],
        "sampled": _asked(found, wanted, dataset, events),
        "checkpoint": {"path": str(found.path), "step": found.step},
        "provenance": provenance(),
    }
    return Design(arrays, Layout(len(events), 1, SHARD), attributes, {})


def _agrees(found: Checkpoint, wanted: Wanted, dataset: Dataset, events: Indices, there: Dataset) -> None:
    """Refuse draws of something else, or another number of them."""
    for key, value in _asked(found, wanted, dataset, events).items():
        before = there.attributes["sampled"].get(key)
        if before != value:
            name = {"weights": "the checkpoint", "dataset": "the dataset"}.get(key, f"sample.{key}")
            what = f"{name} = {before}, not {value}"
            if key == "events":
                what = "other events than sample.family and loader.subset.test name now"
            raise InputError(
                f"{there.path}: holds draws of {what}; --overwrite it, or choose another sample.path"
            )
