"""What is made of recorded channels beside the white ones: products, and templates of scattered light."""

from collections.abc import Sequence
from dataclasses import dataclass

from glitchflow.config import Derived

BOUNCES = 2  # templates of these many reflections at least: the second is a sixth of the first one's power


@dataclass(frozen=True)
class Product:
    """Names two recorded channels, by place: a fast one, white, times a slow one."""

    fast: int
    slow: int
    scale: float = 1.0  # rms of the product over train events
    # the fast one's prediction filter, of its ASD without lines: one that takes a line out takes most of a burst beside
    # it too, and the product lies beside the strain's line. Empty: the channel's own, as checkpoints once had it
    taps: tuple[float, ...] = ()

    @property
    def sources(self) -> tuple[int, ...]:
        """Places of the channels it is made from."""
        return (self.fast, self.slow)


@dataclass(frozen=True)
class Scatter:
    """Names a recorded channel, by place, that is a scatterer's motion in the unit of the wavelength."""

    motion: int
    wavelength: float
    scales: tuple[float, ...]  # rms of each bounce's white templates over train events
    taps: tuple[float, ...] = ()  # of its low-pass, where it does not move as recorded: see scatter.py

    @property
    def sources(self) -> tuple[int, ...]:
        """Places of the channels it is made from."""
        return (self.motion,)


def arranged(
    names: Sequence[str], derived: Sequence[Derived]
) -> tuple[list[int], list[Product], list[Scatter]]:
    """Say what is made of recorded channels, the strain first: places of the witnesses that a bank takes as they are,
    products and scatterers, unscaled."""
    place = {name: k for k, name in enumerate(names)}
    products = [
        Product(place[a], place[b]) for a, b in (d.channels for d in derived if d.function == "product")
    ]
    lights: dict[tuple[int, float], int] = {}
    for one in derived:
        if one.function == "scatter":
            key = (place[one.channels[0]], one.wavelength)
            lights[key] = max(BOUNCES, one.bounces, lights.get(key, 0))
    scatters = [Scatter(motion, length, (1.0,) * count) for (motion, length), count in lights.items()]
    slow = {one.slow for one in products} | {one.motion for one in scatters}
    fast = {one.fast for one in products}
    return [k for k in range(1, len(names)) if k not in slow or k in fast], products, scatters
