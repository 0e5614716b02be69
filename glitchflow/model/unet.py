"""U-Nets: plain, and with residual blocks and attention gates on the skips.

Shapes: (event, witness, frequency, time) -> (event, 1, frequency, time). Level i of an encoder of `depth` levels
has width 2**i channels and an image 2**i times smaller each way. In the attention: event, token, channel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glitchflow.model.layers import Residual, at_least_one, convolve, drop, lift

# An attention gate looks at no more than 8 x 8 regions of the image below it: each pixel of the skip is compared with
# every one of them, which is 64 scores a pixel; all pixels with all would be 16 million an event at 64 x 64
TOKENS_A_SIDE = 8


def check_size(shape: tuple[int, int], depth: int) -> None:
    """Raises ValueError where the image cannot be halved `depth` times down to at least 2 x 2 pixels."""
    step = 2**depth
    if any(size % step or size < 2 * step for size in shape):
        raise ValueError(
            f"shape={tuple(shape)}: a U-Net of depth {depth} takes sizes that are multiples of {step}, "
            f"from {2 * step} on (or choose another depth)"
        )


class Gate(nn.Module):
    """Lets through the part of a skip connection that the coarser level finds relevant.

    It is an attention gate (Oktay et al. 2018, arXiv:1804.03999) whose weights come from attention instead of an
    addition: every pixel of the skip asks (query) the coarser features, averaged over at most 8 x 8 regions
    (keys and values), and the answer, through a sigmoid, scales the skip's channels. With a bounded number
    of keys memory is linear in the number of pixels.

    Shapes: skip (event, channels, frequency, time), coarse (event, 2 channels, frequency', time') ->
    (event, channels, frequency, time).
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = max(8, channels // 2)
        self.query = nn.Conv2d(channels, inner, 1, bias=False)
        # No bias on the keys: it adds the same to every score of a query, which softmax takes away again.
        self.key = nn.Conv2d(2 * channels, inner, 1, bias=False)
        self.value = nn.Conv2d(2 * channels, inner, 1, bias=False)
        self.out = nn.Conv2d(inner, channels, 1)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Scales the skip (event, channels, frequency, time) by what it finds in the coarse features."""
        # Plain average pooling: the adaptive one has no deterministic backward on CUDA.
        regions = tuple(math.ceil(size / TOKENS_A_SIDE) for size in coarse.shape[-2:])
        pooled = F.avg_pool2d(coarse, regions, ceil_mode=True)
        query, key, value = (
            layer(image).flatten(2).transpose(1, 2)[:, None]  # one head: fused kernels want its dimension
            for layer, image in ((self.query, skip), (self.key, pooled), (self.value, pooled))
        )
        answer = F.scaled_dot_product_attention(query, key, value)
        answer = answer[:, 0].transpose(1, 2).reshape(skip.shape[0], -1, *skip.shape[-2:])
        return skip * torch.sigmoid(self.out(answer))


class UNet(nn.Module):
    """Joins what it sees at each of `depth` halvings to full size again, with `width` channels there: a U-Net.

    Ronneberger et al. 2015, arXiv:1505.04597. Each level has two 3x3 convolutions going down; going up, the coarse
    features are enlarged by a 1x1 convolution and nearest-neighbour, joined to the skip and convolved. At full size
    nothing is normalised, so that an event's absolute loudness reaches the output. `attention=True` makes every level
    a residual block and puts a `Gate` on every skip. In training `dropout` is the share of the coarsest features that
    an event goes without.

    Raises ValueError for no witness, a size that is not a multiple of 2**depth (and at least twice that),
    a width or depth below 1, a dropout outside 0..1, an unknown norm.
    """

    def __init__(
        self,
        witnesses: int,
        shape: tuple[int, int],
        width: int = 16,
        depth: int = 3,
        norm: str = "group",
        coordinates: bool = True,
        attention: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        at_least_one(width=width, depth=depth)
        check_size(shape, depth)
        self.lift, channels = lift(witnesses, shape, coordinates)
        sizes = [width * 2**level for level in range(depth + 1)]
        norms = [None] + [norm] * depth
        inputs = [channels, *sizes]
        self.down = nn.ModuleList(self.level(*level, attention) for level in zip(inputs, sizes, norms))
        self.dropout = drop(dropout)
        self.enlarge = nn.ModuleList(nn.Conv2d(2 * size, size, 1) for size in sizes[:-1])
        self.gates = nn.ModuleList(Gate(size) for size in sizes[:-1] if attention)
        self.up = nn.ModuleList(convolve(2 * size, size, n) for size, n in zip(sizes[:-1], norms))
        self.head = nn.Conv2d(width, 1, 1)

    @staticmethod
    def level(inputs: int, outputs: int, norm: str | None, residual: bool) -> nn.Module:
        """Builds the two convolutions of one level of the encoder."""
        if residual:
            return Residual(inputs, outputs, norm)
        return nn.Sequential(convolve(inputs, outputs, norm), convolve(outputs, outputs, norm))

    def forward(self, x: Tensor) -> Tensor:
        """Maps witnesses (event, witness, frequency, time) to the strain (event, 1, frequency, time)."""
        x = self.lift(x)
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        x = self.dropout(x)
        for level in reversed(range(len(self.up))):
            coarse = F.interpolate(self.enlarge[level](x), scale_factor=2.0, mode="nearest")
            skip = self.gates[level](skips[level], x) if self.gates else skips[level]
            x = self.up[level](torch.cat([coarse, skip], dim=1))
        return self.head(x)
