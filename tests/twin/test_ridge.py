"""The fit of templates, against the conditional mean, and what does not get a say in it."""

import math

import pytest
import torch

from glitchflow.twin.ridge import FREEDOM, fit, robust

PIECE = 64


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_fit_is_the_conditional_mean_of_the_amplitudes(weighted):
    templates, prior = noise(1, 2, 300, seed=3), 0.1
    rest = noise(1, 300, seed=4) + templates[:, 0] * 3
    weights = torch.linspace(0.1, 1, 300, dtype=torch.float64)[None] if weighted else None
    spread = prior**2 * templates[0].T @ templates[0]
    variance = torch.ones(300, dtype=torch.float64) if weights is None else 1 / weights[0]
    wanted = spread @ torch.linalg.solve(spread + variance.diag(), rest[0])
    torch.testing.assert_close(fit(templates, rest, prior, weights)[0], wanted)
    assert not fit(templates[:, :0], rest, prior, weights).any()


def test_nothing_is_learned_through_the_fit():
    rest = torch.randn(1, 50, requires_grad=True)
    assert not fit(torch.randn(1, 2, 50), rest, 1.0).requires_grad
    assert not robust(torch.randn(1, 2, 50), rest, 1.0, 8, 1.0).requires_grad


def test_a_piece_that_stands_out_is_weighed_by_its_power():
    templates, rest = torch.ones(1, 1, 4 * PIECE, dtype=torch.float64), torch.ones(1, 4 * PIECE).double()
    rest[:, :PIECE] = 21
    first = 6.0  # the mean, with a prior that says nothing
    loud, others = (min(1, (FREEDOM + PIECE) / (FREEDOM + PIECE * (x - first) ** 2)) for x in (21, 1))
    wanted = (21 * loud + 3 * others) / (loud + 3 * others)
    found = robust(templates, rest, 1e6, PIECE, 1.0)
    torch.testing.assert_close(found, torch.full_like(found, wanted))
    assert 1 < wanted < 4


def test_a_short_signal_keeps_more_of_itself_and_noise_is_fitted_as_before():
    time = torch.arange(2048, dtype=torch.float64) / 512
    templates = torch.stack([torch.sin(2 * math.pi * 40 * time), torch.cos(2 * math.pi * 40 * time)])[None]
    rest = 4 * templates[:, 0] + noise(1, 2048, seed=5)
    signal = 3 * torch.sin(2 * math.pi * 40 * time) * ((time > 1.9) & (time < 2.1))  # SNR 22
    taken = {
        name: robust(templates, rest + signal, 10.0, PIECE, 1.0) - robust(templates, rest, 10.0, PIECE, 1.0)
        if name == "robust"
        else fit(templates, rest + signal, 10.0) - fit(templates, rest, 10.0)
        for name in ("robust", "fit")
    }
    lost = {name: float((one * signal).sum() / signal.square().sum()) for name, one in taken.items()}
    assert lost["fit"] == pytest.approx(0.05, abs=0.005)  # as much of it as it lasts of the template
    assert lost["robust"] < 0.4 * lost["fit"]
    alike = robust(templates, rest, 10.0, PIECE, 1.0) - fit(templates, rest, 10.0)
    assert alike.square().mean() < 0.1 * 2 / 2048  # a tenth of what noise puts into two amplitudes


def test_the_last_piece_may_be_shorter():
    templates, rest = noise(2, 3, 130, seed=6), noise(2, 130, seed=7)
    found = robust(templates, rest, 1.0, PIECE, 1.0)
    assert found.shape == rest.shape and torch.isfinite(found).all()
    alone = robust(templates[1:], rest[1:], 1.0, PIECE, 1.0)
    torch.testing.assert_close(found[1:], alone)
