"""The network of the generative twin: what it is told changes what it says, and at the ends it says what is known."""

from copy import deepcopy

import pytest
import torch

from glitchflow.errors import InputError
from glitchflow.model import build
from glitchflow.model.flow import FAMILY, LEVEL, SNR, Flow

OPTIONS = {"samples": 128, "families": 3, "width": 4}


def rows(level, family=1.0, snr=10.0, events=2):
    made = torch.randn(events, 2, 128, generator=torch.Generator().manual_seed(1))
    made[:, 0, LEVEL], made[:, 0, FAMILY], made[:, 0, SNR] = level, family, snr
    return made


def taught():
    """A network whose last layers are not 0, as those of a trained one."""
    network = build("flow", 1, (128,), **OPTIONS)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return network.eval()


def test_untrained_it_says_what_unit_noise_at_that_level_leaves():
    """The best of what is known of data of unit rms: x / (1 + level^2)."""
    given = rows(3.0)
    torch.testing.assert_close(build("flow", 1, (128,), **OPTIONS)(given), given[:, 1:] / (1 + 3.0**2))


def test_without_noise_it_says_what_it_is_given():
    given = rows(1e-3)
    torch.testing.assert_close(taught()(given), given[:, 1:], atol=0.02, rtol=0)


@pytest.mark.parametrize("other", [{"level": 2.0}, {"family": 2.0}, {"snr": 30.0}])
def test_what_it_is_told_changes_what_it_says(other):
    network = taught()
    said = [network(rows(**{"level": 1.0, **more})) for more in ({}, other)]
    assert (said[0] - said[1]).abs().max() > 1e-3


def test_an_event_does_not_depend_on_its_batch():
    network, given = taught(), rows(1.0, events=4)
    torch.testing.assert_close(network(given)[2:3], network(given[2:3]), atol=1e-5, rtol=1e-5)


def test_bfloat16_is_float32_within_its_precision():
    """Some CPUs' strided convolutions are wrong in it; these are not made in it."""
    network, given = taught(), rows(1.0)
    with torch.autocast("cpu", torch.bfloat16):
        low = network(given)
    whole = network(given)
    assert low.dtype == torch.float32
    assert (low - whole).square().mean().sqrt() < 0.02 * whole.square().mean().sqrt()


@pytest.mark.gpu
def test_a_gpu_says_what_a_cpu_says(gpu):
    network, given = taught(), rows(1.0, family=2.0, events=4)
    there = deepcopy(network).to(gpu)
    torch.testing.assert_close(there(given.to(gpu)).cpu(), network(given), rtol=1e-3, atol=1e-4)
    with torch.autocast("cuda", torch.bfloat16):
        low = there(given.to(gpu)).cpu()
    whole = network(given)
    assert (low - whole).square().mean().sqrt() < 0.02 * whole.square().mean().sqrt()


def test_every_weight_is_learned():
    network = taught().train()
    network(rows(1.0, family=2.0)).square().mean().backward()
    still = [name for name, weight in network.named_parameters() if not weight.grad.abs().sum()]
    assert still == []


def test_the_seed_draws_the_weights():
    one, same, other = (build("flow", 1, (128,), seed=seed, **OPTIONS) for seed in (1, 1, 2))
    assert torch.equal(one.family.weight, same.family.weight)
    assert not torch.equal(one.stem.weight, other.stem.weight)


@pytest.mark.parametrize(
    "more, message",
    [
        ({"samples": 100}, "samples=100: must be a multiple of 64"),
        ({"families": 0}, "families=0: must be at least 1"),
        ({"depth": 2}, "model 'flow' has no option 'depth': allowed are width, norm, samples, families"),
    ],
)
def test_what_it_cannot_be(more, message):
    with pytest.raises((ValueError, InputError)) as error:
        build("flow", 1, (128,), **{**OPTIONS, **more})
    assert str(error.value) == message


def test_a_frame_s_multiple_is_what_its_levels_halve():
    assert Flow.multiple == 64
