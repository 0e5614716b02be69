"""How the series and Q-plots of a dataset are made: what a network depends on wherever it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glitchflow.config.sections import QPlot, Section, Series, Whiten
from glitchflow.config.upgrade import upgrade
from glitchflow.data.store.dataset import Dataset

SECTIONS: dict[str, type[Section]] = {"series": Series, "qplot": QPlot, "whiten": Whiten}


def geometry(dataset: Dataset, channels: Sequence[str]) -> dict[str, Any]:
    """The sections of a dataset's configuration that its series and images are made with, and, by name, those of the
    given channels that are derived."""
    config = dataset.config
    sections = {name: getattr(config, name).model_dump(mode="json") for name in SECTIONS}
    derived = {one.name: one.model_dump(mode="json") for one in config.derived if one.name in channels}
    return {**sections, "derived": derived}


def of_any_version(stored: dict[str, Any]) -> dict[str, Any]:
    """A geometry as a store or a checkpoint of any version so far has it, in today's keys and with their defaults."""
    tree = upgrade(stored)
    sections = {
        name: section().model_dump(mode="json") | tree[name]
        for name, section in SECTIONS.items()
        if name in tree
    }
    return sections | {"derived": tree.get("derived", {})}
