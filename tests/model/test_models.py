"""The five models: shapes, gradients, initialisation, refusals."""

import math
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from glitchflow.errors import InputError
from glitchflow.model import IMAGE_MODELS, build
from glitchflow.model.layers import Coordinates, normalisation
from glitchflow.model.unet import Gate

NAMES = sorted(IMAGE_MODELS)


def image(events=2, witnesses=3, shape=(16, 16), seed=1):
    return torch.randn(events, witnesses, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "witnesses, shape, coordinates", [(1, (16, 16), True), (3, (32, 48), True), (2, (16, 32), False)]
)
def test_maps_witnesses_to_one_strain_image(name, witnesses, shape, coordinates):
    model = build(name, witnesses, shape, width=8, coordinates=coordinates)
    assert model(image(2, witnesses, shape)).shape == (2, 1, *shape)


@pytest.mark.parametrize("name", ["decoder", "decoder_deep", "resnet"])
def test_fully_convolutional_models_take_odd_sizes(name):
    assert build(name, 2, (7, 31), width=4)(image(1, 2, (7, 31))).shape == (1, 1, 7, 31)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", ["group", "instance"])
def test_gradient_reaches_every_parameter(name, norm):
    model = build(name, 3, (32, 32), width=8, norm=norm)
    target = image(4, 1, (32, 32), seed=2)
    (model(image(4, 3, (32, 32))) - target).square().mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        # relative to the layer's own weights: a parameter that a normalisation cancels would be at rounding level
        assert parameter.grad.abs().max() > 1e-6, key


@pytest.mark.parametrize("name", NAMES)
def test_trains_and_output_can_be_negative(name):
    x = image(8, 2)
    target = -x[:, :1] - 0.5 * x[:, 1:]
    model = build(name, 2, (16, 16), width=8)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = (model(x) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * target.square().mean()
    assert model(x).min() < -1.0


@pytest.mark.parametrize("name", NAMES)
def test_each_event_is_independent_of_its_batch(name):
    model, x = build(name, 3, (16, 16), width=8).double(), image(5).double()
    together = model(x)
    alone = torch.cat([model(event[None]) for event in x])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules())


@pytest.mark.parametrize("name", NAMES)
def test_louder_witnesses_give_a_louder_strain(name):
    """Per-event normalisation must not hide absolute energy: doubling a loud input nearly doubles the output."""
    model = build(name, 1, (16, 16), width=8).double()
    x = image(1, 1).double().abs() * 100
    ratio = (model(2 * x).std() / model(x).std()).item()
    assert ratio > 1.3


@pytest.mark.parametrize("name", NAMES)
def test_coordinates_tell_one_frequency_from_another(name):
    flat = torch.zeros(1, 2, 16, 16)
    with_planes, without = (build(name, 2, (16, 16), width=8, coordinates=c)(flat) for c in (True, False))
    inner = (slice(None), slice(None), slice(6, 10), 8)
    assert with_planes[inner].std() > 1e-4
    # without the planes only the zero padding at the border could tell, and all biases start at zero
    assert without.abs().max() == 0


def test_coordinate_planes_are_normalised_axes():
    planes = Coordinates((3, 5))(torch.zeros(2, 1, 3, 5))
    assert planes.shape == (2, 3, 3, 5)
    torch.testing.assert_close(planes[1, 1, :, 2], torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(planes[0, 2, 1], torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]))
    assert not Coordinates((3, 5)).state_dict()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "init, scale", [("kaiming", 1.0), ("kaiming", 0.3), ("xavier", 2.0), ("normal", 0.07)]
)
def test_initialisation_has_the_distribution_asked_for(name, init, scale):
    model = build(name, 3, (16, 16), width=32, init=init, init_scale=scale, seed=5)
    scores = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            outputs, inputs, *kernel = layer.weight.shape
            fan_in, fan_out = inputs * math.prod(kernel), outputs * math.prod(kernel)
            unit = {"kaiming": (2 / fan_in) ** 0.5, "xavier": (2 / (fan_in + fan_out)) ** 0.5, "normal": 1.0}[
                init
            ]
            scores.append(layer.weight.detach().double().flatten() / (scale * unit))
            assert layer.bias is None or layer.bias.abs().max() == 0
    scores = torch.cat(scores)
    error = 5 / len(scores) ** 0.5  # five standard errors of a unit normal's mean
    assert abs(scores.mean()) < error
    assert abs(scores.square().mean() - 1) < error * 2**0.5
    assert abs(scores.pow(4).mean() - 3) < error * 96**0.5  # kurtosis 3: normal, not uniform (1.8)


@pytest.mark.parametrize("name", NAMES)
def test_seed_decides_the_weights_and_nothing_else_does(name):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = build(name, 2, (16, 16), width=4, seed=3).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    second = build(name, 2, (16, 16), width=4, seed=3).state_dict()
    other = build(name, 2, (16, 16), width=4, seed=4).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_and_bfloat16(name):
    model, x = build(name, 3, (16, 32), width=8), image(2, 3, (16, 32))
    expected = model(x)
    last = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(x)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - expected).abs().mean() < 0.05 * expected.abs().mean()
    rough.float().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_gives_what_a_cpu_gives(name, gpu):
    """The output, and the gradient of every weight."""
    model, x = build(name, 3, (32, 32), width=8).double(), image(4, 3, (32, 32)).double()
    there = deepcopy(model).float().to(gpu)
    found, expected = there(x.float().to(gpu)), model(x)
    torch.testing.assert_close(found.double().cpu(), expected, rtol=1e-3, atol=1e-4)
    found.square().mean().backward()
    expected.square().mean().backward()
    for (key, ours), theirs in zip(there.named_parameters(), model.parameters(), strict=True):
        worst = (ours.grad.double().cpu() - theirs.grad).abs().max()
        assert worst < 1e-3 * theirs.grad.abs().max() + 1e-6, key


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_channels_last_and_bfloat16_on_a_gpu(name, gpu):
    model, x = build(name, 3, (16, 32), width=8).to(gpu), image(2, 3, (16, 32)).to(gpu)
    expected = model(x)
    last = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-3, atol=1e-3)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        rough = model(x)
    assert (rough.float() - expected).abs().mean() < 0.05 * expected.abs().mean()
    rough.float().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.gpu
def test_compiled_for_a_gpu(gpu):
    model, x = build("unet", 2, (16, 16), width=4).to(gpu), image(2, 2).to(gpu)
    torch.testing.assert_close(torch.compile(model)(x), model(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_same_input_gives_the_same_gradients(name):
    gradients = []
    for _ in range(2):
        model = build(name, 2, (16, 16), width=8)
        model(image(2, 2)).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", NAMES)
def test_traces_as_one_graph(name):
    """No graph breaks, which is what torch.compile and `glitchflow export` need."""
    model, x = build(name, 2, (16, 16), width=4), image(2, 2)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("event", min=1)},))
    five = image(5, 2)
    torch.testing.assert_close(program.module()(five), model(five))


def test_gate_is_the_explicit_softmax_formula():
    torch.manual_seed(0)
    gate = Gate(6).double()
    skip, coarse = torch.randn(2, 6, 32, 48).double(), torch.randn(2, 12, 16, 24).double()
    pooled = coarse.reshape(2, 12, 8, 2, 8, 3).mean(dim=(3, 5))
    query, key, value = (
        torch.einsum("oc,ecft->eoft", layer.weight[:, :, 0, 0], x).flatten(2)
        for layer, x in ((gate.query, skip), (gate.key, pooled), (gate.value, pooled))
    )
    scores = torch.einsum("eip,eiq->epq", query, key) / math.sqrt(query.shape[1])
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    answer = torch.einsum("epq,eiq->eip", weights, value).reshape(2, -1, 32, 48)
    logits = torch.einsum("oi,eift->eoft", gate.out.weight[:, :, 0, 0], answer) + gate.out.bias[:, None, None]
    torch.testing.assert_close(gate(skip, coarse), skip / (1 + torch.exp(-logits)))


@pytest.mark.parametrize("size", [2, 6, 8, 9, 64, 100])
def test_gate_looks_at_a_bounded_number_of_regions(size, monkeypatch):
    seen = []
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "torch.nn.functional.scaled_dot_product_attention",
        lambda q, k, v: (seen.append(k.shape[-2]), attention(q, k, v))[1],
    )
    Gate(4)(torch.zeros(1, 4, 2 * size, 2 * size), torch.zeros(1, 8, size, size))
    assert seen[0] <= 64


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_there_in_training_alone(name):
    network, without = (build(name, 2, (16, 16), dropout=share) for share in (0.5, 0.0))
    x = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), without(x))


def test_normalisation_groups_divide_any_width():
    assert [normalisation("group", c).num_groups for c in (1, 5, 7, 16, 22, 48)] == [1, 5, 7, 8, 2, 8]
    assert normalisation("instance", 12).num_groups == 12


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("unet", 2, (60, 64)), r"shape=\(60, 64\).*multiples of 8"),
        (("attention_unet", 2, (64, 8)), "from 16 on"),
        (("unet", 0, (64, 64)), "witnesses=0"),
        (("resnet", 2, (1, 64)), "at least 2 pixels"),
    ],
)
def test_refusals_name_what_is_allowed(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"norm": "batch"}, "allowed are group, instance"),
        ({"init": "uniform"}, "allowed are kaiming, xavier, normal"),
        ({"init_scale": 0.0}, "positive"),
        ({"width": 0}, "width=0"),
        ({"depth": -1}, "depth=-1"),
        ({"widht": 3}, "no option 'widht': allowed are width, depth"),
        ({"attention": True}, "no option 'attention'"),
        ({"depth": "three"}, "depth='three': must be a whole number"),
        ({"depth": True}, "depth=True: must be a whole number"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build("unet", 2, (16, 16), **options)


@pytest.mark.parametrize("name, shape", [("unet", (16, 16)), ("coherent", (1024,))])
@pytest.mark.parametrize(
    "options, said",
    [
        (
            {"width": 100000},
            r"model.width = 100000: such a network would take [\d,]+ GiB, and this machine has",
        ),
        (
            {"width": 10**9},
            r"model.width = 1000000000: such a network would take more memory than can be counted",
        ),
        ({"width": 10**30}, "more memory than can be counted"),
    ],
)
def test_a_network_beyond_the_memory_is_refused_before_it_is_made(name, shape, options, said):
    with pytest.raises(InputError, match=said):
        build(name, 2, shape, **options)


@pytest.mark.ci
def test_what_is_counted_of_a_network_needs_no_compiler():
    """Torch imports one, for seconds, where some functions are asked for shapes alone."""
    script = (
        "import sys; from glitchflow.model import build; build('unet', 2, (16, 16)); build('coherent', 2, (1024,));"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_unet_depth_changes_the_sizes_allowed():
    assert build("unet", 1, (12, 20), width=4, depth=1)(image(1, 1, (12, 20))).shape == (1, 1, 12, 20)
