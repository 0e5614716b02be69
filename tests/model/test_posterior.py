"""The network of the posterior twin: untrained it says what is known in closed form, and a coherent one in it stays."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from glitchflow.model import build
from glitchflow.model.flow import LEVEL
from glitchflow.model.posterior import ABOUT, FOUND, MEAN, STEPS, X, in_the_mean
from glitchflow.twin.ridge import fit

N, TEMPLATES, INPUTS = 64, 2, 2
OPTIONS = {"samples": N, "templates": TEMPLATES, "rate": 512.0, "width": 4, "mean_width": 4, "experts": 2}


def network():
    return build("posterior", 3 + TEMPLATES + INPUTS, (N,), **OPTIONS).double()


def rows(events=2, level=2.0):
    made = torch.randn(events, 3 + TEMPLATES + INPUTS, N, generator=torch.Generator().manual_seed(1)).double()
    made[:, ABOUT] = 0
    made[:, ABOUT, LEVEL] = level
    return made


def taught(dtype=torch.float32):
    """A network whose last layers are not 0, as those of a trained one."""
    made = network().to(dtype)
    with torch.no_grad():
        for weight in made.flow.parameters():
            drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
            weight.add_(0.1 * drawn.to(dtype))
    return made.eval()


def test_untrained_it_is_the_posterior_of_templates_amplitudes_and_of_what_is_unknown_beside_them():
    """Of w = y + T a + e, a of N(0, s^2), e of N(0, v), in noise of a level: mean K (K + level^2)^-1 (x - y), and, by
    the second of Tweedie's formulas, covariance level^2 times that matrix."""
    made, level, size = network(), 2.0, 0.7
    made.spread.fill_(size)
    made.errors.copy_(torch.linspace(-3, 2, STEPS))
    one = rows(1, level)
    y, templates = one[0, MEAN], one[0, MEAN + 1 : MEAN + 1 + TEMPLATES]
    variance = made.unknown(y[None])[0]
    assert variance.std() > 0.01, "y's power says how far it is off"
    prior = size**2 * templates.T @ templates + torch.diag(variance)
    expected = prior @ torch.linalg.inv(prior + level**2 * torch.eye(N))
    each = one.repeat(N, 1, 1)
    each[:, X] = y + torch.eye(N)
    found = made(each)[:, 0] - y
    torch.testing.assert_close(found.T, expected, rtol=1e-5, atol=1e-7)
    within = torch.linalg.inv(
        templates @ templates.T / level**2 + torch.eye(2) / size**2
    )  # of a, where v is 0
    made.errors.fill_(-20)
    least = made(each)[:, 0] - y
    torch.testing.assert_close(
        level**2 * least.T, templates.T @ within @ templates, rtol=0.01, atol=2e-4 * level**2
    )


def test_one_amplitude_at_zero_is_the_ridge_fit():
    one = rows(3)
    templates, rest = one[:, 3 : 3 + TEMPLATES], one[:, X]
    ones, zero = torch.ones_like(rest), torch.zeros(1, TEMPLATES).double()
    found = in_the_mean(templates, rest, ones, zero, torch.tensor(0.3).double())
    torch.testing.assert_close((found[:, None] @ templates)[:, 0], fit(templates, rest, 0.3))


def test_amplitudes_that_were_found_are_a_mixture():
    """Against the densities of the whole series, which scipy knows."""
    one, rng = rows(1), np.random.default_rng(3)
    templates, rest = one[0, 3 : 3 + TEMPLATES].numpy(), one[0, X].numpy()
    found, spread, variance = rng.standard_normal((5, TEMPLATES)), 0.2, rng.uniform(0.5, 2, N)
    covariance = np.diag(variance) + spread**2 * templates.T @ templates
    density = np.array([multivariate_normal.pdf(rest, a @ templates, covariance) for a in found])
    gain = spread**2 * templates @ np.linalg.inv(covariance)
    means = np.stack([a + gain @ (rest - a @ templates) for a in found])
    expected = density @ means / density.sum()
    given = (torch.from_numpy(value) for value in (templates[None], rest[None], variance[None], found))
    said = in_the_mean(*given, torch.tensor(spread, dtype=torch.float64))
    np.testing.assert_allclose(said[0].numpy(), expected, rtol=1e-9)


def test_it_begins_as_its_prior_is():
    made, count = network(), 4000
    made.found.copy_(torch.tensor([1.0, -1.0]).repeat(FOUND, 1))
    made.spread.fill_(0.5)
    given = rows(1)[:, MEAN:].repeat(count, 1, 1)
    random = torch.Generator().manual_seed(4)
    about, noise = (torch.randn(count, size, generator=random).double() for size in (TEMPLATES, N))
    x = made.begin(given, torch.zeros(count, dtype=torch.long), about, noise, 3.0)
    y, templates = given[0, 0], given[0, 1 : 1 + TEMPLATES]
    expected = 0.25 * templates.square().sum(0) + made.unknown(y[None])[0] + 9
    assert (x.var(0) / expected).mean().item() == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(x.mean(0), y + templates[0] - templates[1], atol=0.3, rtol=0)


def test_an_event_does_not_depend_on_its_batch():
    made, given = taught(), rows(4).float()
    torch.testing.assert_close(made(given)[2:3], made(given[2:3]), atol=1e-5, rtol=1e-5)


def test_every_weight_is_learned_but_the_coherent_network_s():
    made = taught().train()
    made(rows().float())[:, 0].square().mean().backward()
    still = {name for name, weight in made.named_parameters() if weight.grad is None}
    assert still == {f"mean.{name}" for name, _ in made.mean.named_parameters()}
    silent = [n for n, w in made.flow.named_parameters() if not w.grad.abs().sum()]
    assert silent == []


@pytest.mark.parametrize("place", [X, MEAN, 3, 3 + TEMPLATES])
def test_what_it_is_shown_changes_what_it_says(place):
    made, given = taught(), rows(1).float()
    other = given.clone()
    other[:, place] = given[:, place].flip(-1)
    assert (made(given)[:, 0] - made(other)[:, 0]).abs().max() > 1e-3
