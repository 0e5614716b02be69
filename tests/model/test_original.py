"""The original notebook's own networks: the published numbers of parameters, heads, refusals."""

import pytest
import torch

from glitchflow.model import build

PLACE = "glitchflow.model.original"


@pytest.mark.parametrize(
    "name, parameters", [("decoder", 309_057), ("decoder_deep", 1_035_649), ("unet", 34_527_041)]
)
def test_they_have_the_published_numbers_of_parameters(name, parameters):
    """Of the U-Net 34.5 million were published."""
    network = build(f"{PLACE}.{name}", 3, (64, 64), init="normal")
    assert sum(weight.numel() for weight in network.parameters()) == parameters


@pytest.mark.parametrize("name", ["decoder", "decoder_deep", pytest.param("unet", marks=pytest.mark.ci)])
def test_a_sigmoid_keeps_the_strain_in_its_range_and_a_linear_head_does_not(name):
    x = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(1))
    heads = {
        head: build(f"{PLACE}.{name}", 2, (32, 32), init="kaiming", seed=4, head=head)
        for head in ("sigmoid", "linear")
    }
    with torch.inference_mode():
        found = {head: network.eval()(x) for head, network in heads.items()}
    assert found["sigmoid"].shape == (1, 1, 32, 32)
    torch.testing.assert_close(found["sigmoid"], torch.sigmoid(found["linear"]))
    assert (found["linear"] < 0).any()


def test_dropout_is_there_in_training_alone():
    network = build(f"{PLACE}.decoder", 2, (16, 16), init="kaiming", dropout=0.5, kernel_size=3)
    x = torch.ones(1, 2, 16, 16)
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"kernel_size": 4}, "kernel_size=4: must be odd, so that an image keeps its size"),
        ({"head": "tanh"}, "head='tanh': allowed are sigmoid, linear"),
        ({"dropout": 1.0}, "dropout=1.0: must lie in 0..1, and below 1"),
    ],
)
def test_what_they_cannot_take_is_refused(options, words):
    with pytest.raises(ValueError) as error:
        build(f"{PLACE}.decoder", 3, (64, 64), **options)
    assert str(error.value) == words
