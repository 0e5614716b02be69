"""A small store whose events depend on their index alone, and a writer of it that can be killed anywhere."""

from __future__ import annotations

import numpy as np

from glitchflow.data.store.create import Design
from glitchflow.data.store.dataset import Dataset
from glitchflow.data.store.schema import Array, Layout
from glitchflow.data.store.writer import Writer, write_shard
from glitchflow.errors import InputError

ARRAYS = {
    "qplot": Array(("channel", "frequency", "time"), (2, 3, 4), "float32"),
    "gps": Array((), (), "float64", column=True),
    "valid": Array(("channel",), (2,), "bool", column=True),
}


def content(events: int, seed: int = 1) -> dict[str, np.ndarray]:
    """What an event holds depends on its index alone."""
    rngs = [np.random.default_rng([seed, i]) for i in range(events)]
    return {
        "qplot": np.stack([rng.exponential(size=(2, 3, 4)) for rng in rngs]).astype("float32"),
        "gps": np.array([rng.uniform(1e9, 2e9) for rng in rngs]),
        "valid": np.array([rng.uniform(size=2) < 0.8 for rng in rngs]),
    }


def design(events: int, seed: int = 1, **more) -> Design:
    about = {"source": "simulate", "recorded": False, "config": {}, "couplings": {}, "provenance": {}}
    names = {"channels": ["S", "W"], "labels": ["background", "blip"], "witnessed_labels": []}
    attributes = {**about, **names, "seed": seed, "made_with": seed, "normalisation": None}
    return Design(ARRAYS, Layout(events, 2, 4), attributes, transients=True, **more)


def agrees(seed: int, dataset: Dataset) -> None:
    if dataset.attributes["made_with"] != seed:
        raise InputError(f"{dataset.path}: was made with another seed")


def write(writer: Writer, shard: int, seed: int = 1) -> None:
    span = writer.layout.span(shard)
    values = {name: value[span] for name, value in content(span.stop, seed).items()}
    rows = [
        (i, 1, values["gps"][i - span.start], 2.5, i % 2 == 0) for i in range(span.start, span.stop) if i % 3
    ]
    write_shard(writer.dataset, shard, values, {"n": shard}, {span.start: "dull"}, rows)


class Killed(BaseException):
    pass
