"""Decoders: plain stacks of convolutions from the witnesses' Q-plots to the strain's.

Shapes: (event, witness, frequency, time) -> (event, 1, frequency, time); features are (event, width, ...).
"""

from torch import Tensor, nn

from glitchflow.model.layers import at_least_one, convolve, drop, lift


class Decoder(nn.Module):
    """Stacks `depth` convolutions of `width` channels and a linear last layer.

    It is of the kind of the original notebook's (original.py has that one to the letter). It takes any image of at
    least 2 x 2 pixels. The receptive field is 2
    depth + 3 pixels each way, so a strain that answers later than that, or elsewhere in frequency, is out of reach:
    that is what the others are for. The first layer is not normalised and reaches the last one directly: normalising
    per event divides out how loud an event is, which the output must know.

    In training `dropout` is the share of the last features that an event goes without. Raises ValueError for no
    witness, an image below 2 x 2, a width or depth below 1, a dropout outside 0..1, an unknown norm.
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
        self.body = nn.Sequential(*(convolve(width, width, norm) for _ in range(depth - 1)))
        self.dropout = drop(dropout)
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps witnesses (event, witness, frequency, time) to the strain (event, 1, frequency, time)."""
        x = self.stem(self.lift(x))
        return self.head(self.dropout(x + self.body(x)))
