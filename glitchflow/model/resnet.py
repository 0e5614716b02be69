"""Residual network at full resolution.

Shapes: (event, witness, frequency, time) -> (event, 1, frequency, time); features are (event, width, ...).
"""

from torch import Tensor, nn

from glitchflow.model.layers import Residual, at_least_one, convolve, drop, lift

DILATIONS = (
    1,
    2,
    4,
)  # doubled each time, so that no pixel in reach is skipped (Yu & Koltun 2016, arXiv:1511.07122)


class ResNet(nn.Module):
    """Chains a convolution, `depth` residual blocks whose dilation cycles through 1, 2, 4, and a linear last layer.

    It takes any image of at least 2 x 2 pixels: nothing is ever pooled, so fine structure is kept, and the dilation
    (Yu et al. 2017, arXiv:1705.09914) widens the receptive field instead, by 28 pixels for three blocks. In training
    `dropout` is the share of the last features that an event goes without.

    Raises ValueError for no witness, an image below 2 x 2, a width or depth below 1, a dropout outside 0..1, an
    unknown norm.
    """

    def __init__(
        self,
        witnesses: int,
        shape: tuple[int, int],
        width: int = 16,
        depth: int = 3,
        norm: str = "group",
        coordinates: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        at_least_one(width=width, depth=depth)
        self.lift, channels = lift(witnesses, shape, coordinates)
        self.stem = convolve(channels, width, None)
        self.blocks = nn.Sequential(
            *(Residual(width, width, norm, DILATIONS[i % len(DILATIONS)]) for i in range(depth))
        )
        self.dropout = drop(dropout)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps witnesses (event, witness, frequency, time) to the strain (event, 1, frequency, time)."""
        return self.head(self.dropout(self.blocks(self.stem(self.lift(x)))))
