"""Which model is of which kind, and what a user's own may say of itself."""

from dataclasses import replace

import pytest
import torch

from glitchflow.errors import InputError
from glitchflow.model import IMAGE_MODELS, MODELS
from glitchflow.twin import image, kinds

SETTINGS = {"options": {}, "seed": 1}


class Solid(torch.nn.Module):
    kind = "solid"


@pytest.mark.parametrize("name", [*IMAGE_MODELS, "helpers:OwnModel"])
def test_models_of_ours_and_a_user_s_own_are_image_models(name):
    assert kinds.of(name).name == "image"


def test_a_user_s_own_of_a_kind_that_there_is_not():
    torch.solid = Solid
    try:
        with pytest.raises(
            InputError,
            match=r"^model.name = torch:solid: its kind is solid, not one of image, coherent, generative, posterior$",
        ):
            kinds.of("torch:solid")
    finally:
        del torch.solid


def test_a_model_of_ours_of_another_kind(monkeypatch):
    monkeypatch.setitem(MODELS, "solid", lambda witnesses, shape: Solid())
    monkeypatch.setitem(kinds.KINDS, "solid", replace(image.KIND, name="solid", models={"solid": Solid}))
    assert kinds.of("solid").name == "solid"
    assert kinds.of("unet").name == "image"


def test_what_is_neither():
    with pytest.raises(InputError, match=r"^model.name = unett: not one of decoder, .*, nor an import path"):
        kinds.of("unett")


def test_a_callable_that_gives_no_network():
    with pytest.raises(InputError, match=r"^model.name = helpers:no_network: gives no torch.nn.Module$"):
        kinds.build_network({"name": "helpers:no_network", **SETTINGS}, 2, (4, 4))
