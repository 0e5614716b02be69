"""Which dataset it is: hashes that outlive a move, a copy, an extension."""

import hashlib
import json
from typing import Any

from glitchflow.data.store import Dataset

EARLIER = "earlier_identities"  # attribute: those that a dataset had before its splits were assigned anew


def identity(dataset: Dataset) -> str:
    """A hash that tells a dataset from every other one, wherever it is moved to and however far it is extended.

    Of its configuration (without the number of events) and of when it was made.
    """
    return fingerprint([_recipe(dataset), dataset.attributes["provenance"]["date"]])[:16]


def recipe(dataset: Dataset) -> str:
    """A hash of what a dataset is made from: the same when it is made again, or extended."""
    return fingerprint(_recipe(dataset))[:16]


def known(dataset: Dataset) -> dict[str, str]:
    """What a checkpoint knows of the dataset that it learned from: its path, identity and recipe, and hashes of which
    events there are, whatever is made of them, and of how they are shared among splits."""
    config = _recipe(dataset)
    events = [config.get(name) for name in ("source", "seed", "series", "simulate", "ingest")]
    return {
        "path": dataset.path,
        "identity": identity(dataset),
        "recipe": recipe(dataset),
        "events": fingerprint(events)[:16],
        "split": fingerprint(config.get("split"))[:16],
    }


def _recipe(dataset: Dataset) -> dict[str, Any]:
    config = dict(dataset.attributes["config"])
    if "simulate" in config:
        config["simulate"] = {k: v for k, v in config["simulate"].items() if k != "events"}
    if (
        config.get("store", {}).get("qplot") == "float32"
    ):  # as in stores that were made before there was that key
        config["store"] = {k: v for k, v in config["store"].items() if k != "qplot"}
    return config


def fingerprint(value: Any) -> str:
    """The SHA-256, in hexadecimal, of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
