"""The memory that `watch` is projected to hold, and what it keeps on the disk."""

import math
from dataclasses import dataclass

from glitchflow.analysis.clean.line import crops_together
from glitchflow.analysis.clean.memory import BESIDE
from glitchflow.analysis.infer import KERNELS
from glitchflow.config import Online
from glitchflow.data.build import BASE_MEMORY
from glitchflow.data.memory import Memory
from glitchflow.online.line import PAST, STATE_RATE
from glitchflow.online.past import AROUND, SHOWN, WAITED
from glitchflow.twin.crops import CROP, MARGIN
from glitchflow.twin.kind import Kind, working

HOUR = 3600  # s
SECONDS = (
    PAST + 3
)  # of recorded samples that are at hand: what resampling needs, a file that is read, one on its way
PAGE = 96 * 2**20  # matplotlib, a Q-transform and two pictures
FRAME = 13312  # bytes of a frame beside its two series, by gwframe; LALFrame takes half of that; measured


@dataclass(frozen=True)
class Kept:
    """Says what lies on the disk."""

    hours: float
    files: int
    bytes: int

    def __str__(self) -> str:
        """Say so in words."""
        return (
            f"watch keeps {self.hours:g} h: {self.files:,} frames, {self.bytes / 1e9:.2f} GB; a smaller online.keep"
            " takes less"
        )


def watching(
    settings: Online, kind: Kind, channels: int, times: tuple[float, int], strain: float, twins: int
) -> Memory:
    """Project what `watch` holds of so many recorded channels; times: rate of the twin in Hz, samples of its crop;
    strain: Hz of the recorded strain; twins: that see the same seconds, one of them or two."""
    rate, crop = times
    blocks = min(crops_together(kind, channels, crop), math.ceil(1 / settings.block))
    reach = round(crop * (CROP + MARGIN) / CROP)
    shown = WAITED + (1 + SHOWN) * (2 * AROUND + 1)
    return Memory(
        {
            "Python and libraries": BASE_MEMORY,
            "torch's kernels": KERNELS,
            "recorded seconds": round(8 * SECONDS * (strain + (channels - 1) * rate)),
            "what twins remember": twins * 8 * channels * reach,
            "a crop at work": working(kind, channels, crop),
            "crops beside it": (blocks - 1) * 4 * crop * (kind.activations + BESIDE * channels),
            "the page": (PAGE + round(8 * 3 * shown * strain)) * (settings.port > 0),
        }
    )


def keeping(settings: Online, strain: float, bytes_of_one: int) -> Kept:
    """Say what lies on the disk of frames: two series of the strain's rate in Hz, of so many bytes a sample."""
    files = math.ceil(settings.keep * HOUR)
    return Kept(settings.keep, files, files * round(2 * bytes_of_one * strain + 4 * 3 * STATE_RATE + FRAME))
