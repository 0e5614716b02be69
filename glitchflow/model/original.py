"""The original notebook's own networks, for comparison: named by import path, as `glitchflow.model.original.decoder`.

Of its published adaptation the numbers of parameters are known, with three witnesses; these are the plain stacks that
have them exactly. They know neither where in the Q-plot a pixel lies nor how loud an image was before it was divided by
its maximum. The U-Net normalises over an event where the original did over a batch, of one event.

Shapes: (event, witness, frequency, time) -> (event, 1, frequency, time).
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glitchflow.model.layers import drop, initialise
from glitchflow.model.unet import check_size

HEADS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "linear": nn.Identity}
UNET = (64, 128, 256, 512, 1024)  # channels of its levels


class Stack(nn.Module):
    """Chains convolutions with a ReLU after each but the last, whose values the head keeps in 0..1 or leaves.

    Raises ValueError for an even kernel, another head, a dropout outside 0..1, or no witness.
    """

    def __init__(self, witnesses: int, widths: Sequence[int], kernel_size: int, head: str, dropout: float):
        super().__init__()
        if witnesses < 1:
            raise ValueError(f"witnesses={witnesses}: a model needs at least 1 witness")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size}: must be odd, so that an image keeps its size")
        if head not in HEADS:
            raise ValueError(f"head={head!r}: allowed are {', '.join(HEADS)}")
        sizes = [witnesses, *widths, 1]
        pairs = pairwise(sizes)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, kernel_size, padding=kernel_size // 2) for a, b in pairs)
        self.dropout, self.head = drop(dropout), HEADS[head]()

    def forward(self, x: Tensor) -> Tensor:
        """Map witnesses to the strain."""
        for layer in self.layers[:-1]:
            x = self.dropout(F.relu(layer(x)))
        return self.head(self.layers[-1](x))


def decoder(
    witnesses: int,
    shape: tuple[int, int],
    kernel_size: int = 7,
    head: str = "sigmoid",
    dropout: float = 0.0,
    init: str = "normal",
    init_scale: float | None = None,
    seed: int = 0,
    widths: Sequence[int] = (32, 64, 64),
) -> Stack:
    """Build the decoder: 309,057 parameters with three witnesses."""
    stack = Stack(witnesses, widths, kernel_size, head, dropout)
    initialise(stack, init, init_scale, seed)
    return stack


# the deep decoder: 1,035,649 parameters with three witnesses
decoder_deep = partial(decoder, kernel_size=5, widths=(64, 128, 256))


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a in (inputs, outputs):
        layers += [nn.Conv2d(a, outputs, 3, padding=1), nn.GroupNorm(outputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Ronneberger et al. 2015, arXiv:1505.04597, with normalisation, and upsampling followed by a convolution."""

    def __init__(self, witnesses: int, head: str):
        super().__init__()
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip((witnesses, *UNET), UNET))
        pairs = list(zip(UNET[1:], UNET))
        self.enlarge = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(b, b), nn.ReLU()) for a, b in pairs
        )
        self.up = nn.ModuleList(_twice(a, b) for a, b in pairs)
        self.last, self.head = nn.Conv2d(UNET[0], 1, 1), HEADS[head]()

    def forward(self, x: Tensor) -> Tensor:
        """Map witnesses to the strain."""
        skips: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for enlarge, up, skip in zip(reversed(self.enlarge), reversed(self.up), reversed(skips[:-1])):
            wider = enlarge(F.interpolate(x, scale_factor=2.0, mode="nearest"))
            x = up(torch.cat([skip, wider], 1))
        return self.head(self.last(x))


def unet(
    witnesses: int,
    shape: tuple[int, int],
    head: str = "sigmoid",
    init: str = "normal",
    init_scale: float | None = None,
    seed: int = 0,
) -> UNet:
    """Build the U-Net: 34,527,041 parameters with three witnesses. Raises ValueError for a size that it cannot take."""
    check_size(shape, len(UNET) - 1)
    if head not in HEADS:
        raise ValueError(f"head={head!r}: allowed are {', '.join(HEADS)}")
    network = UNet(witnesses, head)
    initialise(network, init, init_scale, seed)
    return network
