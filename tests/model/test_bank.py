"""The coherent network: what in it is linear, what is whole, and what its gates see."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from glitchflow.model import build
from glitchflow.model.bank import CLOSED, LOUD, MODESTY, RIVALRY, Bank, Coherent, Gates, Stft

RATE = 256.0


def series(events=2, channels=3, samples=500, seed=1, dtype=torch.float64):
    return torch.randn(events, channels, samples, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def model(witnesses=3, **options) -> Coherent:
    return build("coherent", witnesses, (500,), rate=RATE, width=8, seed=4, **options).double()


def test_the_bank_is_a_sum_of_filters_that_look_a_little_ahead():
    bank, given = Bank(3, 5, RATE).double(), series()
    ahead, taps = 8, bank.taps.detach()
    assert bank.taps.shape == (5, 3, 65) and bank.ahead == ahead
    padded = torch.nn.functional.pad(given, (64 - ahead, ahead))
    expected = torch.nn.functional.conv1d(padded, taps.flip(-1))
    torch.testing.assert_close(bank(given), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(bank(2 * given + 1), 2 * bank(given) + bank(torch.ones_like(given)))


def test_filters_start_small_about_no_delay():
    bank = build("coherent", 4, (500,), rate=512.0, seed=2).bank
    size = bank.taps.detach().square().mean((0, 1)).sqrt()
    assert bank.taps.shape[-1] == 129 and int(size[:33].argmax()) in range(12, 21)
    assert float(size[16]) == pytest.approx(0.1 / 4**0.5, rel=0.3)
    assert float(size[-40:].max()) < 1e-4


@pytest.mark.parametrize("samples", [512, 500, 499, 3])
def test_the_stft_is_undone_but_for_its_first_hop_and_nyquist(samples):
    stft = Stft(16).double()
    given = torch.cos(torch.arange(samples, dtype=torch.float64) * 0.7)[None]
    spectra = stft(given)
    assert spectra.shape == (1, 16, -(-samples // 16))
    back = stft.inverse(spectra, samples)
    assert back.shape == given.shape
    # windows leak a little to Nyquist, and more where zeros follow
    torch.testing.assert_close(back[:, 16:-32], given[:, 16:-32], rtol=0, atol=2e-3)
    torch.testing.assert_close(back[:, 16:], given[:, 16:], rtol=0, atol=2e-2)


def test_white_noise_has_unit_power_in_every_cell():
    power = Stft(32).double()(series(8, 4, 8000)).abs().square()[..., 2:-2]
    torch.testing.assert_close(
        power.mean((0, 1, 3))[1:], torch.ones(31, dtype=torch.float64), rtol=0.1, atol=0
    )


@pytest.mark.parametrize("shape", [(65, 32), (17, 129), (4, 3)])
def test_gates_are_between_0_and_1_at_any_size(shape):
    heard, made = torch.rand(2, 2, *shape) * 5, torch.rand(2, 2, *shape) * 1000
    gates = Gates(5, 3, 8, apart=1)(torch.randn(2, 5, *shape), heard, made)
    assert gates.shape == (2, 3, *shape)
    assert gates.min() > 0 and gates.max() < 1


def drawn(gates, apart):
    """Gates whose heads are 0 and which open as sensors say."""
    found = Gates(5, gates, 8, apart)
    for name in ("head.weight", "head.bias"):
        torch.nn.init.zeros_(found.get_parameter(name))
    torch.nn.init.ones_(found.lift)
    return found


def test_gates_open_as_sensors_hear_and_experts_share():
    """Closed forms: sigmoid of log(1 + P), times a softmax of RIVALRY log(1 + P) - MODESTY log(1 + Q / LOUD)."""
    heard = torch.tensor([0.0, 10.0, 30.0, 30.0]).log1p()[None, :, None, None]
    made = torch.tensor([1.0, 10.0, 30.0, 300 * 30.0])[None, :, None, None]
    steady, *found = drawn(5, 1)(torch.randn(1, 5, 1, 1), heard, made).flatten().tolist()
    assert steady == 0.5
    odds = [1.0, 11**RIVALRY, 31**RIVALRY, 31**RIVALRY]
    odds = [one / (1 + q / LOUD) ** MODESTY for one, q in zip(odds, (1.0, 10.0, 30.0, 9000.0))]
    wanted = [p / (1 + p) * one / sum(odds) for p, one in zip((1, 11, 31, 31), odds)]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert found[2] > 0.9 and found[3] < 1e-4


def test_gates_start_as_their_sensors_say_and_without_one_closed():
    network, given = model(sensors=2), series()
    outputs = network.stft[0](network.bank(given))
    with torch.no_grad():
        first, second = (
            gates(torch.cat([torch.zeros(2, 15, *outputs.shape[-2:])], 1).double(), *_shown(outputs))
            for gates in network.gates
        )
    silent = torch.sigmoid(torch.tensor(CLOSED))
    assert first.amax() > silent > second.amax()
    torch.testing.assert_close(second.sum(1), torch.full_like(second[:, 0], float(silent)))


def _shown(outputs):
    """What the two sensors of eight experts heard, and what these made, (B, 8, F, T) each."""
    power = outputs.abs().square()
    heard = torch.nn.functional.pad(power[:, 8:].log1p(), (0, 0, 0, 0, 0, 6))
    return heard, power[:, :8]


@pytest.mark.parametrize("samples", [512, 499])
def test_maps_series_of_any_length_to_one(samples):
    assert model()(series(samples=samples)).shape == (2, 1, samples)


def test_templates_open_gates_and_are_no_inputs():
    network, given = model(4, templates=1), series(channels=4)
    assert network.bank.taps.shape[1] == 3
    torch.nn.init.normal_(network.gates[0].head.weight, generator=torch.Generator().manual_seed(1))
    other, silent = given.clone(), given.clone()
    other[:, 0] += 3
    silent[:, 1:] = 0
    assert not torch.equal(network(other), network(given))
    assert not network(silent).any()


def test_it_is_a_sum_of_gated_experts():
    """With gates that are wide open and share alike it is the mean of the experts, once for each resolution."""
    network, given = model(), series()
    for gates in network.gates:
        torch.nn.init.constant_(gates.head.bias, 40.0)
        torch.nn.init.zeros_(gates.rivalry)
    experts = network.bank(given)[:, :8].mean(1, keepdim=True)
    expected = sum(stft.inverse(stft(experts), given.shape[-1]) for stft in network.stft)
    torch.testing.assert_close(network(given), expected)


def test_each_event_is_independent_of_its_batch():
    network, given = model(), series(5)
    alone = torch.cat([network(event[None]) for event in given])
    torch.testing.assert_close(network(given), alone, rtol=1e-10, atol=1e-12)


def test_gradient_reaches_every_parameter():
    network = model()
    for gates in network.gates:
        torch.nn.init.normal_(gates.head.weight, generator=torch.Generator().manual_seed(1))
    network(series()).square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


def test_autocast_is_over_the_gates_alone():
    network, given, seen = model().float(), series(dtype=torch.float32), []
    network.gates[0].down[0][0].register_forward_hook(lambda _, given, out: seen.append(out.dtype))
    network.bank.register_forward_hook(lambda _, given, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        found = network(given)
    assert seen == [torch.float32, torch.bfloat16]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, network(given), rtol=0.02, atol=2e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("steady", [0, 1])
def test_a_gpu_gives_what_a_cpu_gives(steady, gpu):
    """Output and gradients, also of gates in bfloat16; the STFT is never made in it."""
    network, given = model(steady=steady), series()
    there = deepcopy(network).float().to(gpu)
    found, expected = there(given.float().to(gpu)), network(given)
    torch.testing.assert_close(found.double().cpu(), expected, rtol=1e-3, atol=1e-4)
    found.square().mean().backward()
    expected.square().mean().backward()
    for (key, ours), theirs in zip(there.named_parameters(), network.parameters(), strict=True):
        worst = (ours.grad.double().cpu() - theirs.grad).abs().max()
        assert worst < 1e-3 * theirs.grad.abs().max() + 1e-7, key
    with torch.autocast("cuda", torch.bfloat16):
        rough = there(given.float().to(gpu))
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.double().cpu(), expected, rtol=0.02, atol=3e-3)


def test_a_user_s_seed_draws_it():
    assert torch.equal(model().bank.taps, model().bank.taps)
    other = build("coherent", 3, (500,), rate=RATE, width=8, seed=5)
    assert not torch.equal(model().bank.taps, other.bank.taps.double())


def test_the_parameters_of_the_published_size():
    """4 inputs and 4 templates at 512 Hz."""
    assert sum(p.numel() for p in build("coherent", 8, (2048,), templates=4).parameters()) == 623_412


@pytest.mark.parametrize(
    "options, said",
    [
        ({"width": 6}, "width=6: must be a multiple of 4"),
        ({"templates": 3}, "witnesses=0: must be at least 1"),
        ({"depth": 2}, "model 'coherent' has no option 'depth': allowed are "),
    ],
)
def test_what_is_not_possible(options, said):
    with pytest.raises(ValueError, match=said):
        build("coherent", 3, (500,), **options)


def test_a_steady_expert_is_let_through_whole_from_the_start():
    network, given = model(steady=1), series(samples=512)
    assert network.steady.taps.shape == (1, 3, 257) and not network.steady.taps.any()
    before = network(given)
    torch.nn.init.zeros_(network.bank.taps)
    with torch.no_grad():
        network.steady.taps[0, 1, network.steady.ahead] = 1.0
    kept = slice(64, -64)
    tone = torch.cos(torch.arange(512, dtype=torch.float64) * 0.7).expand(2, 3, 512)
    torch.testing.assert_close(network(tone)[:, 0, kept], tone[:, 1, kept], rtol=0, atol=5e-3)
    torch.testing.assert_close(before, model()(given))  # the others start as they do without it


@pytest.mark.parametrize("steady", [0, 1])
def test_parts_of_groups_of_inputs_add_up_to_what_it_says_of_all(steady):
    """By the gates that all inputs open; with one group of them all it is the same, bit by bit."""
    network, given = model(5, templates=1, steady=steady).float(), series(channels=5, dtype=torch.float32)
    for number, parameter in enumerate(network.parameters()):
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    groups = torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
    y, parts = network(given), network.parts(given, groups)
    assert parts.shape == (2, 4, 500)
    assert torch.equal(parts[:, :1], y)
    left = parts[:, 1:].sum(1, keepdim=True) - y
    assert left.square().mean().sqrt() < 1e-6 * y.square().mean().sqrt()
    assert (parts.std((0, 2)) > 0.1 * y.std()).all()
    changed = given.clone()
    changed[:, 3] = 0  # the input of the last group
    assert not network.parts(changed, groups)[:, 3].any()
    assert not torch.equal(network.parts(changed, groups)[:, 1], parts[:, 1]), "gates are opened by all"
