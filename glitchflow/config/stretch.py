"""The section of continuous simulated data and its keys."""

from typing import Literal

from glitchflow.config.base import Section, key


class Stretch(Section):
    """Says which hours of the simulated detector are written as frame files."""

    start: int = key(
        1_400_000_000, "GPS second that it begins at", "s", ge=64
    )  # noise is made from before it on
    # ten years at most: its files are looked for one by one before the first is made
    duration: int = key(3600, "how long it is", "s", gt=0, le=315_360_000)
    frame: int = key(64, "length of a file", "s", gt=0)
    format: Literal["gwf", "hdf5"] = key("gwf", "gwf needs the extra [gwf]")
    signals: float = key(
        0.0,
        "signals an hour, of the family `chirp`, beside what `simulate.detector.rate` gives",
        ge=0,
        le=3600,
    )

    @property
    def stop(self) -> int:
        """The GPS second that it ends at."""
        return self.start + self.duration
