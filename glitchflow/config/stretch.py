"""The section of continuous simulated data and its keys."""

from typing import Literal

from glitchflow.config.base import Section, key


class Stretch(Section):
    """Says which hours of the simulated detector are written as frame files."""

    start: int = key(1_400_000_000, "GPS second that it begins at", "s", ge=0)
    duration: int = key(3600, "how long it is", "s", gt=0)
    frame: int = key(64, "length of a file", "s", gt=0)
    format: Literal["gwf", "hdf5"] = key("gwf", "gwf needs the extra [gwf]")
    rate: float = key(1 / 32, "glitches a second, drawn (Poisson) from the families but `chirp`", "Hz", ge=0)
    signals: float = key(0.0, "injected signals an hour, drawn (Poisson) from the family `chirp`", ge=0)

    @property
    def stop(self) -> int:
        """The GPS second that it ends at."""
        return self.start + self.duration
