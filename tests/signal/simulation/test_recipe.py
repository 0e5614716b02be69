"""What `simulate.recipe` may name, and the one line for what it may not."""

import re

import pytest
from helpers import small

from glitchflow.errors import InputError
from glitchflow.signal.simulation.recipe import build_recipe

OWN = """
def no_arguments():
    return None

def no_recipe(simulate, series, derived, seed):
    return [1, 2]
"""
TAKES = "must take (simulate, series, derived, seed): "


@pytest.mark.parametrize(
    "name, message",
    [
        ("nope", "not one of detector, notebook"),
        ("recipes_own:no_arguments", f"{TAKES}too many positional arguments"),
        ("recipes_own:no_recipe", "must return a Recipe, not a list"),
        ("builtins:dict", f"{TAKES}no signature found for builtin"),
    ],
)
def test_what_is_no_recipe_is_refused_by_its_key(tmp_path, monkeypatch, name, message):
    (tmp_path / "recipes_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    experiment = small(tmp_path, simulate={"recipe": name})
    with pytest.raises(InputError, match=re.escape(f"simulate.recipe = {name}: {message}")):
        build_recipe(experiment.simulate, experiment.series, experiment.derived, experiment.seed)
