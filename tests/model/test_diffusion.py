"""A Gaussian of known mean and variance, whose best denoiser is known: what teaches it, and what is drawn with it."""

import math

import pytest
import torch

from glitchflow.model.diffusion import FAINTEST, LOUDEST, drawn_level, levels, noisier, solve

MEAN, DEVIATION = 0.7, 0.5


def best(x, level):
    """The mean of what is clean, given x = clean + level * noise."""
    share = DEVIATION**2 / (DEVIATION**2 + level**2)
    return MEAN + share * (x - MEAN)


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("own", [0.0, 0.3, 2.0])
def test_what_is_drawn_has_mean_and_variance_of_the_data_at_every_level_that_drawing_ends_at(own):
    noise = normal(200, 500, seed=1)
    last = torch.full((200,), own or FAINTEST, dtype=torch.float64)
    drawn = solve(best, noise, levels(last))
    wanted = math.sqrt(DEVIATION**2 + float(last[0]) ** 2)
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert drawn.std().item() == pytest.approx(wanted, rel=0.02)


def test_twelve_steps_are_as_good_as_many():
    """The squared distance to 480 steps, beside that of Euler's method, which is the first order of the same."""
    noise, last = normal(100, 100, seed=2), torch.full((100,), FAINTEST, dtype=torch.float64)

    def euler(path):
        x = noise * path[0, :, None]
        for now, then in zip(path[:-1, :, None], path[1:, :, None], strict=True):
            x = best(x, now) + then / now * (x - best(x, now))
        return x

    fine = solve(best, noise, levels(last, 480))
    off = [float((x - fine).square().mean()) for x in (solve(best, noise, levels(last)), euler(levels(last)))]
    assert off[0] < 1e-3 < off[1]


@pytest.mark.parametrize("own", [0.0, 1.5])
def test_noisy_data_teach_the_same_as_clean_ones(own):
    """The best linear answer to the target, fitted to draws, is the best denoiser of what is clean."""
    count, level = 400_000, torch.full((1, 1), 2.5, dtype=torch.float64)
    clean = MEAN + DEVIATION * normal(count, 1, seed=3)
    x, target, _ = noisier(
        clean + own * normal(count, 1, seed=4),
        torch.full((1, 1), own, dtype=torch.float64),
        level,
        normal(count, 1, seed=5),
    )
    assert x.std().item() == pytest.approx(math.hypot(DEVIATION, 2.5), rel=0.01)
    slope = float(((x - x.mean()) * target).sum() / (x - x.mean()).square().sum())
    wanted = DEVIATION**2 / (DEVIATION**2 + 2.5**2)
    assert slope == pytest.approx(wanted, abs=0.005)
    assert target.mean().item() == pytest.approx(MEAN, abs=0.02)


def test_the_weight_is_one_over_the_variance_of_the_target():
    """Of data that are white themselves: what is left of them, and what their own noise adds."""
    own, level = torch.tensor([[0.8]], dtype=torch.float64), torch.tensor([[2.0]], dtype=torch.float64)
    clean = normal(400_000, 1, seed=6)
    x, target, weight = noisier(
        clean + 0.8 * normal(400_000, 1, seed=7), own, level, normal(400_000, 1, seed=8)
    )
    left = target - x / (1 + level.square())
    assert left.var().item() * weight.item() == pytest.approx(1, rel=0.01)


def test_levels_lie_above_the_data_s_own():
    own = torch.tensor([0.0, 1.0, 8.0], dtype=torch.float64)
    uniform = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    drawn = drawn_level(uniform, own)
    torch.testing.assert_close(drawn[0], torch.tensor([FAINTEST, 1.0, 8.0], dtype=torch.float64))
    torch.testing.assert_close(drawn[-1], torch.full((3,), LOUDEST, dtype=torch.float64))
    assert (drawn.diff(dim=0) > 0).all()


def test_a_path_falls_evenly_to_where_each_ends():
    path = levels(torch.tensor([0.5, 4.0], dtype=torch.float64), 3)
    torch.testing.assert_close(path[0], torch.full((2,), LOUDEST, dtype=torch.float64))
    torch.testing.assert_close(path[-1], torch.tensor([0.5, 4.0], dtype=torch.float64))
    torch.testing.assert_close(path[1:] / path[:-1], ((path[-1] / LOUDEST) ** (1 / 3)).expand(3, 2))
