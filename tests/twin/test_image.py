"""The image kind's scores and units."""

import numpy as np
import pytest
import torch

from glitchflow.data.normalise import Normalisation
from glitchflow.signal.types import NOISE_ENERGY
from glitchflow.twin import image

NORMALISATION = Normalisation("log1p", [0.5, 0.7, 0.9], [1.1, 1.2, 1.3])


class First(torch.nn.Module):
    """Generates what its first witness shows."""

    def forward(self, inputs):
        return inputs[:, :1]


def test_a_prediction_is_in_the_strain_s_energies():
    inputs = torch.randn(2, 2, 3, 4)
    found = image.generate(First(), NORMALISATION, inputs)
    expected = (inputs[:, 0] * 1.1 + 0.5).expm1().clamp_min(0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(image.energies(NORMALISATION, inputs[:, :1]), expected)


class Constant(torch.nn.Module):
    """Generates one number."""

    def __init__(self, value):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, inputs):
        return self.value.expand(len(inputs), 1, *inputs.shape[2:])


@pytest.mark.parametrize("kind", ["log1p", "mean", "max"])
def test_a_constant_learns_the_mean_energy(kind):
    """What the likelihood is least at, and the energy that is predicted, are one."""
    normalisation = Normalisation(kind, [0.5, 0.7, 0.9], [1.1, 1.2, 1.3])
    generator = torch.Generator().manual_seed(2)
    energy = 5 * torch.empty(4, 3, 8, 8, dtype=torch.float64).exponential_(generator=generator)
    values = normalisation.apply(energy)
    network, loss = Constant(-3.0), image.loss("whittle", normalisation)
    image.finish(network, normalisation, "whittle")
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(network(values[:, 1:]), values[:, :1])
        value.backward()
        return value

    optimizer.step(closure)
    found = image.generate(network, normalisation, values[:, 1:]).detach()
    torch.testing.assert_close(found, torch.full_like(found, energy[:, 0].mean().item()), rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", ["log1p", "mean"])
def test_far_below_the_floor_there_is_still_a_gradient(kind):
    normalisation = Normalisation(kind, [0.5, 0.7], [1.1, 1.2])
    network, loss = Constant(-20.0), image.loss("whittle", normalisation)
    image.finish(network, normalisation, "whittle")
    inputs = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    assert image.generate(network, normalisation, inputs).min() >= image.LEAST
    loss(network(inputs), normalisation.channels([0]).apply(inputs + 9)).backward()
    assert network.value.grad < 0  # more energy is likelier


def test_other_losses_leave_a_network_as_it_is():
    network, inputs = First(), torch.randn(2, 2, 3, 4)
    image.finish(network, NORMALISATION, "l1")
    assert torch.equal(network(inputs), inputs[:, :1])
    assert image.loss("l1", NORMALISATION)(inputs[:, :1], inputs[:, :1] + 2).item() == pytest.approx(2)


def test_a_finished_network_keeps_its_precision_under_autocast():
    network = torch.nn.Conv2d(2, 1, 1)
    image.finish(network, NORMALISATION, "whittle")
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.zeros(1, 2, 3, 3)).dtype == torch.float32


def test_perfect_and_useless_images():
    """Energies T = W + b: what is perfect generates T."""
    witnessed = torch.zeros(3, 8, 8)
    witnessed[:, 2:4, 2:4] = 100
    recorded = witnessed + NOISE_ENERGY
    perfect = image.scores(image.tally(recorded, recorded, witnessed))
    likelihood = recorded.log().mean().item() + 1
    assert perfect == {
        "validation_nll": pytest.approx(likelihood),
        "validation_residual": pytest.approx(0, abs=1e-6),
        "validation_iou": 1.0,
    }
    nothing = image.scores(image.tally(recorded, torch.zeros_like(recorded), witnessed))
    assert nothing == {
        "validation_nll": pytest.approx(np.log(image.LEAST) + recorded.mean().item() / image.LEAST),
        "validation_residual": pytest.approx(1),
        "validation_iou": 0.0,
    }
    everything = image.scores(image.tally(recorded, torch.full_like(recorded, 1e9), witnessed))
    # R = 0, R* = b everywhere; T - R* = 100 in 4 of 64 pixels
    assert everything["validation_residual"] == pytest.approx(64 * NOISE_ENERGY / 400)


def test_scores_without_any_event_they_are_defined_for_are_left_out():
    broken = torch.full((1, 4, 4), float("nan"))
    sums = image.tally(torch.ones(1, 4, 4), broken, None)
    assert set(sums) == set(image.TALLIED)
    assert image.scores(sums) == {}
    unknown = image.scores(image.tally(torch.ones(1, 4, 4), torch.ones(1, 4, 4), None))
    assert unknown == {"validation_nll": pytest.approx(1)}  # no truth, and no pixel that is loud


def test_tallies_add_up_over_batches():
    rng = np.random.default_rng(0)
    energy = [torch.from_numpy(rng.exponential(10, (6, 8, 8)).astype("f4")) for _ in range(3)]
    whole = image.tally(*energy)
    parts = [image.tally(*(e[s] for e in energy)) for s in (slice(0, 2), slice(2, 6))]
    assert whole == pytest.approx({name: parts[0][name] + parts[1][name] for name in image.TALLIED})
