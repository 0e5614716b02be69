"""Which dataset it is: hashes that outlive a move, a copy, an extension."""

import hashlib
import json
from typing import Any

from glitchflow.data.store import Dataset


def identity(dataset: Dataset) -> str:
    """A hash that tells a dataset from every other one, wherever it is moved to and however far it is extended.

    Of its configuration (without the number of events) and of when it was made.
    """
    return _hash([_recipe(dataset), dataset.attributes["provenance"]["date"]])


def recipe(dataset: Dataset) -> str:
    """A hash of what a dataset is made from: the same when it is made again, or extended."""
    return _hash(_recipe(dataset))


def _recipe(dataset: Dataset) -> dict[str, Any]:
    config = dict(dataset.attributes["config"])
    if "simulate" in config:
        config["simulate"] = {k: v for k, v in config["simulate"].items() if k != "events"}
    return config


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
