"""The network of a generative twin: a glitch in noise, and what it is told of it -> the glitch, as a series.

    x (B, N) --strided convolution--> (B, width, N / 8) --U-Net, told level, family and SNR--> --transposed-->

Its first and last layer stay in float32: bfloat16 loses the phase of what is loud, and some CPUs' strided convolutions
are wrong in it.

Shapes: B event, N sample, n = N / STRIDE frame of a level, D number that a block is told.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glitchflow.model.layers import at_least_one, normalisation

STRIDE = 8  # samples of a frame: what is drawn at 512 Hz has a frame every 1 / 64 s
REACH = 2 * STRIDE  # samples that a frame is made of
# channels of each level, in units of `width`: halving frames costs less than channels cost
GROWTH = (3, 6, 8, 12)
LEVEL, FAMILY, SNR = range(3)  # where the row of what is told has them
TOLD = 3
FREQUENCIES = 8  # octaves of sines that a number is told by
HEADS = 4  # of the attention among the frames of the coarsest level
ANY = 0  # the family of which nothing is told


class Flow(nn.Module):
    """Says what is clean of glitches in noise, at any level of it.

    Takes two rows (B, 2, N): what is told, and x, of data of unit rms. Around the network proper stand the skip and the
    scales that keep what it puts out of unit size at every level: Karras et al. 2022, arXiv:2206.00364, table 1.

    Raises ValueError for a length that is no multiple of `multiple`, no family, or a width below 1.
    """

    uncompiled = "a generative twin's network is not: it is called at one size, and gains nothing"
    multiple = STRIDE * 2 ** (len(GROWTH) - 1)

    def __init__(
        self,
        witnesses: int,
        shape: Sequence[int],
        width: int = 16,
        norm: str = "group",
        samples: int = 0,
        families: int = 1,
    ):
        super().__init__()
        at_least_one(width=width, families=families)
        self.samples = samples or int(shape[-1])
        if self.samples % self.multiple:
            raise ValueError(f"samples={self.samples}: must be a multiple of {self.multiple}")
        sizes, told = [width * factor for factor in GROWTH], 8 * width
        self.family = nn.Embedding(families + 1, told)  # the first is `ANY`
        self.numbers = nn.Sequential(nn.Linear(4 * FREQUENCIES, told), nn.SiLU(), nn.Linear(told, told))
        self.stem = nn.Conv1d(2, sizes[0], REACH, STRIDE, STRIDE // 2)
        pairs = list(zip([sizes[0], *sizes[:-1]], sizes, strict=True))
        self.down = nn.ModuleList(Block(a, b, told, norm) for a, b in pairs)
        self.among = Attention(sizes[-1], norm)
        self.up = nn.ModuleList(Block(a + b, a, told, norm) for a, b in pairwise(sizes))
        self.last = normalisation(norm, sizes[0])
        self.head = nn.ConvTranspose1d(sizes[0], 1, REACH, STRIDE, STRIDE // 2)

    def draw(self, generator: torch.Generator) -> None:
        """Draw what `initialise` does not know of; what is added to something begins as nothing."""
        drawn = torch.randn(self.family.weight.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            self.family.weight.copy_(drawn)
            for part in self.modules():
                for name in getattr(part, "silent", ()):
                    nn.init.zeros_(getattr(part, name).weight)
            nn.init.zeros_(self.head.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """Map (B, 2, N) to what is clean (B, 1, N)."""
        told, x = rows[:, 0, :TOLD].float(), rows[:, 1:2]
        level = told[:, LEVEL].clamp_min(1e-3)[:, None, None].to(x.dtype)
        size = (1 + level.square()).sqrt()
        return x / size.square() + level / size * self.inner(x / size, told).to(x.dtype)

    def inner(self, x: Tensor, told: Tensor) -> Tensor:
        """Map series of about unit size (B, 1, N), or as many as the stem takes, and what is told of them (B, 3), to a
        series (B, 1, N)."""
        weight = self.head.weight.dtype
        heights = torch.stack([told[:, LEVEL].clamp_min(1e-3).log() / 2, told[:, SNR].clamp_min(1).log()], 1)
        octaves = 2.0 ** torch.arange(FREQUENCIES, device=x.device) / 4
        angles = (heights[..., None] * octaves).flatten(1)
        numbers = torch.cat([angles.sin(), angles.cos()], 1).to(weight)
        about = F.silu(self.numbers(numbers) + self.family(told[:, FAMILY].long()))
        ramp = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype, device=x.device).expand_as(x[:, :1])
        with torch.autocast(x.device.type, enabled=False):
            frames = self.stem(torch.cat([x, ramp], 1).to(weight))
        skips: list[Tensor] = []
        for block in self.down:
            frames = block(F.avg_pool1d(frames, 2) if skips else frames, about)
            skips.append(frames)
        frames = self.among(frames)
        for block, skip in zip(reversed(self.up), reversed(skips[:-1]), strict=True):
            wider = F.interpolate(frames, scale_factor=2.0, mode="nearest")
            frames = block(torch.cat([skip, wider.to(skip.dtype)], 1), about)
        with torch.autocast(x.device.type, enabled=False):
            return self.head(F.silu(self.last(frames.to(weight))))


class Block(nn.Module):
    """Two convolutions over frames, told something between them, beside a shortcut."""

    silent = ("second",)

    def __init__(self, inputs: int, outputs: int, told: int, norm: str):
        super().__init__()
        self.before, self.between = normalisation(norm, inputs), normalisation(norm, outputs)
        self.first = nn.Conv1d(inputs, outputs, 3, padding=1)
        self.told = nn.Linear(told, 2 * outputs)
        self.second = nn.Conv1d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv1d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, frames: Tensor, about: Tensor) -> Tensor:
        """Map frames (B, inputs, n), told (B, D)."""
        scale, shift = self.told(about)[..., None].chunk(2, 1)
        seen = self.between(self.first(F.silu(self.before(frames))))
        return self.shortcut(frames) + self.second(F.silu(seen * (1 + scale) + shift))


class Attention(nn.Module):
    """What the frames of the coarsest level, (B, channels, n), say of each other: one glitch, wherever it is."""

    silent = ("out",)

    def __init__(self, channels: int, norm: str):
        super().__init__()
        self.before = normalisation(norm, channels)
        self.ask = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames (B, channels, n)."""
        parts = self.ask(self.before(frames)).unflatten(1, (3, HEADS, -1)).transpose(-1, -2)
        answer = F.scaled_dot_product_attention(*parts.unbind(1))
        return frames + self.out(answer.transpose(-1, -2).flatten(1, 2))
