"""What the models share: coordinate planes, normalisation, convolution blocks, initialisation.

Shapes: (event, channel, frequency, time) everywhere, "channel" being witnesses at the input and features inside.
"""

import math

import torch
from torch import Tensor, nn

NORMS = ("group", "instance")
INITS = {
    "kaiming": 1.0,
    "xavier": 1.0,
    "normal": 0.02,
}  # default init_scale; 0.02 is DCGAN's (arXiv:1511.06434)
WEIGHTED = nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.Linear
# Wu & He's 32 groups are for hundreds of channels; ours have 16 to 128, and a group needs more than one to be
# anything else than instance normalisation
MAXIMUM_GROUPS = 8


class Coordinates(nn.Module):
    """Appends the normalised frequency and time, -1 to 1 along the axis, as two more channels.

    Convolutions are blind to position, while a coupling depends on absolute frequency (Liu et al. 2018,
    "An intriguing failing of convolutional neural networks and the CoordConv solution", arXiv:1807.03247).

    Shapes: (event, channel, frequency, time) -> (event, channel + 2, frequency, time).
    """

    def __init__(self, shape: tuple[int, int]):
        super().__init__()
        # on the CPU, also where a network is made for its shapes alone: elsewhere torch imports a compiler first
        frequency, time = (torch.linspace(-1.0, 1.0, size, device="cpu") for size in shape)
        planes = torch.stack(torch.meshgrid(frequency, time, indexing="ij"))[None]
        # Not persistent: the planes follow from the shape, a checkpoint need not carry them.
        self.register_buffer("planes", planes, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Appends both planes to (event, channel, frequency, time)."""
        planes: Tensor = self.get_buffer("planes")
        return torch.cat([x, planes.to(x.dtype).expand(x.shape[0], -1, -1, -1)], dim=1)


def lift(witnesses: int, shape: tuple[int, int], coordinates: bool) -> tuple[nn.Module, int]:
    """Returns the first layer of every model and the number of channels it puts out.

    Raises ValueError for no witness, or an image below 2 x 2 pixels.
    """
    if witnesses < 1:
        raise ValueError(f"witnesses={witnesses}: a model needs at least 1 witness")
    if len(shape) != 2 or min(shape) < 2:
        raise ValueError(
            f"shape={tuple(shape)}: a Q-plot is (frequency, time) with at least 2 pixels each way"
        )
    return (Coordinates(shape), witnesses + 2) if coordinates else (nn.Identity(), witnesses)


def at_least_one(**numbers: int) -> None:
    """Raises ValueError naming the first of the given numbers that is below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name}={number}: must be at least 1")


def drop(share: float) -> nn.Dropout2d:
    """Silences whole features of an event, each with this probability, in training alone (Tompson et al. 2015, CVPR).

    Raises ValueError for a share outside 0..1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"dropout={share}: must lie in 0..1, and below 1")
    return nn.Dropout2d(share)


def normalisation(norm: str, channels: int) -> nn.GroupNorm:
    """Builds group or instance normalisation over one event: never over a batch, whose make-up depends on the rank.

    Instance normalisation is group normalisation with one channel a group (Wu & He 2018, arXiv:1803.08494). Raises
    ValueError for another name.
    """
    if norm not in NORMS:
        raise ValueError(
            f"norm={norm!r}: allowed are {', '.join(NORMS)} (batch norm would tie ranks together)"
        )
    groups = (
        channels if norm == "instance" else max(g for g in range(1, MAXIMUM_GROUPS + 1) if channels % g == 0)
    )
    return nn.GroupNorm(groups, channels)


def convolve(inputs: int, outputs: int, norm: str | None, dilation: int = 1) -> nn.Sequential:
    """Chains a 3x3 convolution that keeps the image size, a normalisation (`None`: none) and a ReLU.

    Shapes: (event, inputs, frequency, time) -> (event, outputs, frequency, time).
    """
    # A bias in front of a normalisation is (partly) subtracted again: parameters without a gradient.
    layer = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=norm is None)
    middle = [normalisation(norm, outputs)] if norm else []
    return nn.Sequential(layer, *middle, nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Adds a branch of two convolutions to its input: a residual block whose main path is never normalised.

    He et al. 2016, arXiv:1512.03385. Normalising per event divides out how loud the event is, and loudness is what the
    models must carry to the output; on the shortcut it survives.

    Shapes: (event, inputs, frequency, time) -> (event, outputs, frequency, time).
    """

    def __init__(self, inputs: int, outputs: int, norm: str | None, dilation: int = 1):
        super().__init__()
        self.branch = nn.Sequential(
            convolve(inputs, outputs, norm, dilation),
            nn.Conv2d(outputs, outputs, 3, padding=dilation, dilation=dilation),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (event, inputs, frequency, time) to (event, outputs, frequency, time)."""
        return torch.relu(self.shortcut(x) + self.branch(x))


@torch.no_grad()
def initialise(
    model: nn.Module, init: str = "kaiming", init_scale: float | None = None, seed: int = 0
) -> None:
    """Draws the weights of every convolution and linear layer from a zero-mean normal distribution; biases 0.

    The standard deviation is `init_scale` times
      kaiming: sqrt(2 / fan_in) (He et al. 2015, arXiv:1502.01852, equation 10),
      xavier:  sqrt(2 / (fan_in + fan_out)) (Glorot & Bengio 2010, equation 12, as a normal distribution),
      normal:  1, so that `init_scale` is the standard deviation itself.
    `init_scale=None` means 1, 1 and 0.02. Drawn in float64 on the CPU from one generator with the given seed, so
    that the weights are the same on every device and leave torch's global generator alone.

    Raises ValueError for an unknown distribution or a scale that is not positive.
    """
    if init not in INITS:
        raise ValueError(f"init={init!r}: allowed are {', '.join(INITS)}")
    scale = INITS[init] if init_scale is None else init_scale
    if not scale > 0 or not math.isfinite(scale):
        raise ValueError(f"init_scale={scale}: must be a positive number")
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if not isinstance(layer, WEIGHTED):
            continue
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
        unit = {"kaiming": math.sqrt(2 / fan_in), "xavier": math.sqrt(2 / (fan_in + fan_out)), "normal": 1.0}[
            init
        ]
        layer.weight.copy_(
            torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64) * (scale * unit)
        )
        if layer.bias is not None:
            layer.bias.zero_()
