"""Events drawn anew for training: what a store's recipe makes after the events that the store holds.

    event number --recipe--> series of the channels that are read (--engine--> Q-plots) --> as if read from the store

Couplings are a draw of the store's seed, so that these are events of the same detector; each depends on (content, seed,
number) alone. Witnesses that nobody reads are not made.

Shapes: E event, C channel that is read, "..." one channel's part of an event.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glitchflow.config import import_path
from glitchflow.data.content import Content
from glitchflow.data.shard_events import Factory, engine_of, kept_series, make_block
from glitchflow.data.store import Dataset
from glitchflow.data.store.half import packed, unpacked
from glitchflow.errors import InputError
from glitchflow.signal.simulation.recipe import RECIPES, build_recipe

LATER = (
    2**24
)  # events after it: the one that stands in for an event that cannot be used, as during a loss of lock
TRIES = 8  # losses of lock are minutes in hours


@dataclass(frozen=True)
class Fresh:
    """Stands where an array of the store stands, (event, channel, ...), without an end."""

    factory: Factory
    array: str  # qplot or series
    dtype: str  # that a store keeps it in
    places: list[int]  # of the channels read, among the recipe's

    def __getitem__(self, key: tuple[slice, Sequence[int]]) -> NDArray:
        """Returns the events of a span, (E, C, ...); the channels are those it was built for."""
        span = key[0]
        made = [self._one(number) for number in range(span.start, span.stop)]
        return unpacked(packed(np.stack(made), self.dtype))

    def _one(self, number: int) -> NDArray:
        """The first of this event and those that stand in for it that can be used. Raises `InputError`: none can."""
        why = ""
        for attempt in range(TRIES):
            index = number + attempt * LATER
            value, why = self._made(index)
            if not why:
                return value[self.places]
        raise InputError(f"loader.fresh: event {number} of the recipe cannot be used: {why}")

    def _made(self, index: int) -> tuple[NDArray, str]:
        """The array of one event, of all channels of the recipe, and why it cannot be used."""
        if self.array != "series":
            block, skipped, _ = make_block(self.factory, range(index, index + 1))
            return block[self.array][0], skipped.get(index, "")
        event = self.factory.recipe.event(index)  # without the Q-plots that nobody asks for
        return kept_series(self.factory, event.series[None])[0], event.skipped


def fresh(dataset: Dataset, array: str, names: Sequence[str]) -> Fresh:
    """What draws an array of these channels (the strain first) anew. Raises `InputError` for recorded data."""
    content = dataset.config
    if content.source != "simulate":
        raise InputError(f"loader.fresh: {dataset.path} holds recorded events, which nothing draws anew")
    if content.simulate.recipe == "detector":
        content = _restricted(content, names)
    recipe = build_recipe(content.simulate, content.series, content.derived, content.seed)
    rows = [dataset.channels.index(name) for name in recipe.channels]
    asd = dataset["asd"][:][rows] if content.whiten.given and "asd" in dataset else None
    factory = Factory(content, recipe, engine_of(content, recipe, asd))
    kept = factory.kept_channels if array == "series" else recipe.channels
    return Fresh(factory, array, str(dataset[array].array.dtype), [kept.index(name) for name in names])


def check_recipe(dataset: Dataset, named: str) -> None:
    """Refuse a store made by a recipe of a user's own, by import path, which the configuration does not name too.

    Whoever draws events of it anew imports what the store names, which runs code: who wrote the store has no say in
    that. named: `simulate.recipe`. Raises `InputError`.
    """
    content = dataset.config
    own = content.simulate.recipe
    if content.source != "simulate" or own in RECIPES:
        return
    if own != named:
        raise InputError(
            f"{dataset.path}: was made by {own}, code that is imported only where the configuration names it too:"
            f" simulate.recipe={own}"
        )
    import_path(own, "simulate.recipe", sorted(RECIPES))  # which says at once where nothing is imported


def _restricted(content: Content, names: Sequence[str]) -> Content:
    """The content with the channels of these names alone, and what they are derived from."""
    derived = [one for one in content.derived if one.name in names]
    read = {*names, *(name for one in derived for name in one.channels)}
    detector = content.simulate.detector
    detector = detector.model_copy(update={"only": [name for name in detector.names if name in read]})
    simulate = content.simulate.model_copy(update={"detector": detector})
    return content.model_copy(update={"simulate": simulate, "derived": derived})
