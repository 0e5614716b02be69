"""The recipe that `simulate.recipe` names: one of the built-in ones, or a user's own."""

import inspect
from collections.abc import Callable

from glitchflow.config import Derived, Series, Simulate, import_path
from glitchflow.errors import InputError
from glitchflow.signal.simulation.detector import detector
from glitchflow.signal.simulation.notebook import notebook
from glitchflow.signal.types import Recipe

Maker = Callable[[Simulate, Series, list[Derived], int], Recipe]
RECIPES: dict[str, Maker] = {"detector": detector, "notebook": notebook}


def build_recipe(simulate: Simulate, series: Series, derived: list[Derived], seed: int) -> Recipe:
    """Builds the recipe that `simulate.recipe` names, for series of this length and rate.

    A recipe of a user's own, named by an import path, is a function of the same four arguments; its own settings
    are `simulate.options`. It returns a `Recipe` whose `event(index)` depends on these arguments and the index
    alone, gives series of shape (channels, series.samples) with the derived channels appended (`append_derived`),
    and takes its random numbers from `generator(seed, stream, index)` of a stream that GlitchFlow does not use
    (100 and above).
    Raises `InputError` for an import path that cannot be imported, or of something that is no such function.
    """
    name = simulate.recipe
    make = RECIPES.get(name) or import_path(name, "simulate.recipe", sorted(RECIPES))
    try:
        inspect.signature(make).bind(simulate, series, derived, seed)
    except (TypeError, ValueError) as error:  # ValueError: a builtin that does not tell
        raise InputError(
            f"simulate.recipe = {name}: must take (simulate, series, derived, seed): {error}"
        ) from None
    recipe = make(simulate, series, derived, seed)
    if not isinstance(recipe, Recipe):
        raise InputError(f"simulate.recipe = {name}: must return a Recipe, not a {type(recipe).__name__}")
    return recipe
