"""Models and losses of a user's own, by import path."""

import sys
import types

import pytest
import torch
from torch import nn

from glitchflow.errors import InputError
from glitchflow.model import build, build_loss


@pytest.fixture
def recipe(monkeypatch):
    module = types.ModuleType("recipe_of_mine")

    def mine(witnesses, shape, kernel=1, seed=0):
        layer = nn.Conv2d(witnesses, 1, kernel, padding=kernel // 2)
        nn.init.constant_(layer.weight, seed)
        return layer

    class Scaled(nn.Module):
        def __init__(self, factor=5.0):
            super().__init__()
            self.factor = factor

        def forward(self, prediction, target):
            return self.factor * (prediction - target).mean()

    module.mine, module.Scaled, module.number = mine, Scaled, 3
    module.power = lambda prediction, target, order=3: (prediction - target).pow(order).mean()
    monkeypatch.setitem(sys.modules, "recipe_of_mine", module)
    return module


@pytest.mark.parametrize("separator", [":", "."])
def test_model_of_ones_own(recipe, separator):
    model = build(f"recipe_of_mine{separator}mine", 3, (8, 8), kernel=5, seed=7)
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 1, 8, 8)
    assert (
        model.weight == 7
    ).all()  # its own initialisation stands; of ours it gets what it has parameters for


def test_loss_of_ones_own(recipe):
    two, zero = torch.full((1, 1, 2, 2), 2.0), torch.zeros(1, 1, 2, 2)
    assert build_loss("recipe_of_mine.power")(two, zero) == 8
    assert build_loss("recipe_of_mine:Scaled")(two, zero) == 10


def test_names_that_lead_nowhere(recipe):
    with pytest.raises(InputError, match=r"model.name = unett: not one of decoder, .*, nor an import path"):
        build("unett", 1, (8, 8))
    with pytest.raises(
        InputError, match=r"train.loss = huber: not one of l1, l2, l1\+ssim, whittle, nor an import path"
    ):
        build_loss("huber")
    with pytest.raises(InputError, match=r"train.loss = recipe_of_mine.number: is neither a function nor a"):
        build_loss("recipe_of_mine.number")


def test_general_settings_go_where_they_are_wanted(recipe):
    """A config always carries a width; a model without one must not be refused for it, one with it gets it."""
    assert build("recipe_of_mine:mine", 1, (8, 8), width=3, norm="group").weight.shape == (1, 1, 1, 1)
    recipe.wide = lambda witnesses, shape, width: nn.Conv2d(witnesses, width, 1)
    assert build("recipe_of_mine:wide", 1, (8, 8), width=3, norm="group").out_channels == 3


def test_option_that_the_users_model_lacks(recipe):
    with pytest.raises(ValueError, match="no option 'depth': allowed are kernel"):
        build("recipe_of_mine:mine", 1, (8, 8), depth=3)
