"""Which model is of which kind, and what a user's own may say of itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from glitchflow.data.store.dataset import open_store
from glitchflow.errors import InputError
from glitchflow.model import IMAGE_MODELS, MODELS
from glitchflow.twin import coherent, image, kinds

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


@pytest.mark.parametrize("name", [name for name in kinds.KINDS if name != "coherent"])
def test_a_kind_whose_networks_have_to_be_shown_all_witnesses(name):
    kind = replace(kinds.KINDS[name], reads=lambda *_: None)
    with pytest.raises(InputError) as error:
        kinds.reads(kind, None, None, [], 1, 0.1)
    assert str(error.value) == (
        f"loader.drop = 0.1: a twin of kind {name} is shown its witnesses as they are; must be 0"
    )


def test_witnesses_are_silent_where_it_is_asked_for_alone(series_run):
    dataset = open_store(series_run.dataset)
    front = coherent.KIND.normalisation(dataset, "log1p", coherent.channels(dataset, dataset.channels), None)
    as_they_are, dropped = (
        kinds.reads(coherent.KIND, dataset, front, dataset.channels, 1, drop) for drop in (0.0, 0.9)
    )
    events = np.arange(8)
    values = torch.rand(8, *as_they_are.shape)
    validation = (one.view(values, events, None) for one in (dropped, as_they_are))
    assert torch.equal(*validation)
    assert not torch.equal(dropped.view(values, events, 0), as_they_are.view(values, events, 0))
