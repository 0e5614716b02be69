"""A front of two witnesses with filters known by heart, and series for it."""

from __future__ import annotations

import torch
from torch import nn

from glitchflow.twin.front import Front
from glitchflow.twin.made import Product, Scatter

RATE, SAMPLES = 256.0, 2048
TAPS = [[2.0, -1.0, 0.5], [4.0, 0.0, 0.0], [1.0, 0.0, 0.0]]  # of minimum phase
FRONT = Front(
    rate=RATE,
    band=(20.0, 90.0),
    span=2.0,
    channels=["S", "FAST", "SLOW"],
    taps=TAPS,
    inputs=[1],
    products=[Product(1, 2, 0.5)],
    scatters=[Scatter(2, 1.0, (2.0, 3.0))],
    offsets=[0.0, 0.0, 0.25],
)
TIME = torch.arange(SAMPLES, dtype=torch.float64) / RATE


def recorded(seed=1):
    given = torch.randn(2, 3, SAMPLES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    given[:, 2] = 0.25 + 0.3 * torch.sin(2 * torch.pi * 0.5 * TIME)
    return given


class First(nn.Module):
    """A network that estimates what its first input shows, after four templates."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.gain * given[:, 4:5]
