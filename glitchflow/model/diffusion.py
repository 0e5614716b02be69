"""A glitch out of noise, and what teaches it: noise levels, the target of a step, and a solver. Pure torch.

    training   u (a glitch of unit rms, in noise of level n) --more noise, to level s--> x --network--> what is clean
    drawing    noise of level 60 --network, 12 times, at levels that fall--> a glitch

The path of conditional flow matching between Gaussian noise and data (Lipman et al. 2023, arXiv:2210.02747), by the
level s of the noise beside data of unit rms: with t = s / (1 + s) the two are one, and the velocity is a function of
what is clean. Data that hold noise of their own are on that path already, at their own level: they teach what is clean
at every level above it (Daras et al. 2023, arXiv:2305.19256).

Shapes: B event, N sample; levels are (B,) or (B, 1).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

LOUDEST = (
    60.0  # level at which nothing of a 2 s glitch is left: all of its samples add up to an SNR of a half
)
FAINTEST = 0.05  # where drawing a clean one ends: what is not known then is 1 / 20 of its rms
# levels trained at: log-normal about 4, where it is decided what a glitch looks like, and cut off at these two
CENTRE, SPREAD = math.log(4.0), 1.6
EVALUATIONS = 12

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x (B, N), level (B, 1)) -> what is clean (B, N)


def drawn_level(uniform: Tensor, own: Tensor) -> Tensor:
    """Return levels for numbers in 0..1: above `own` (B,), the data's own level, and `FAINTEST`, below `LOUDEST`."""
    normal = torch.distributions.Normal(CENTRE, SPREAD)
    low, high = normal.cdf(own.clamp(FAINTEST, LOUDEST / 2).log()), normal.cdf(torch.tensor(LOUDEST).log())
    level = normal.icdf(low + uniform * (high - low)).exp()
    return level.clamp(max=LOUDEST)


def noisier(data: Tensor, own: Tensor, level: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x (B, N) at a level, the target (B, N) that a network is to meet there in the mean, and its weight (B, 1).

    data: u (B, N), of unit rms in noise of its own level (B, 1), which is below `level` (B, 1). noise: white (B, N).
    With r = (own / level)^2 the mean of u given x is (1 - r) clean + r x, so that (u - r x) / (1 - r) has the mean of
    what is clean. The weight is the inverse of that target's variance, of data that were white themselves.
    """
    added = (level.square() - own.square()).clamp_min(0).sqrt()
    ratio = (own / level).square()
    left = (1 - ratio).clamp_min(1e-3)
    x = data + added * noise
    variance = level.square() / (1 + level.square()) + own.square() / left
    return x, (data - ratio * x) / left, 1 / variance


def levels(last: Tensor, steps: int = EVALUATIONS) -> Tensor:
    """Return the levels (steps + 1, B) from `LOUDEST` to `last` (B,), even in their logarithms."""
    share = torch.linspace(0, 1, steps + 1, dtype=last.dtype, device=last.device)[:, None]
    return torch.exp(math.log(LOUDEST) * (1 - share) + last.log() * share)


def solve(denoise: Denoise, noise: Tensor, path: Tensor) -> Tensor:
    """Carry white noise (B, N) along a path (K + 1, B) of falling levels, in K evaluations: x (B, N) at its end.

    DPM-Solver++(2M), second order of several steps: Lu et al. 2022, arXiv:2211.01095, algorithm 2, for noise that is
    added to data that stay as they are.
    """
    x, before, stride = noise * path[0, :, None], None, None
    for now, then in zip(path[:-1, :, None], path[1:, :, None], strict=True):
        clean, step = denoise(x, now), (now / then).log()
        ahead = clean
        if before is not None and stride is not None:
            ahead = clean + (clean - before) * (step / (2 * stride))
        x = then / now * x - torch.expm1(-step) * ahead
        before, stride = clean, step
    return x
