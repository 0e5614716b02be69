"""Sensitive volume times time of a search for signals, with a treatment of the strain over without it.

It is what a search gains in the end: signals kept, glitches gone from the background, and time that vetoes cost.

Shapes: I injected signal, B event of the background.
"""

from dataclasses import dataclass

import numpy as np

from glitchflow.score.statistics import UNDEFINED, Bootstrap, Interval, bootstrap_ratio
from glitchflow.signal.types import Array, Flags

# A signal counts that is louder than the tenth loudest event of the background: by Poisson ten are known to a third,
# where the loudest alone would be the luck of one glitch
LOUDEST = 10


@dataclass(frozen=True)
class Search:
    """Holds what one search of some time found, ranked by any statistic that grows with loudness."""

    injections: Array  # (I,) of the loudest trigger at each injected signal; NaN where there is none
    background: Array  # (B,) of the events that it finds where nothing was injected
    live: float  # seconds searched: without what is vetoed

    @property
    def found(self) -> Flags | None:
        """Says which injections are above the 10th loudest background event; None where there are fewer."""
        if len(self.background) < LOUDEST:
            return None
        return self.injections > np.partition(self.background, -LOUDEST)[-LOUDEST]


def volume_time(distance: Array, treated: Search, untreated: Search, interval: Bootstrap) -> Interval:
    """Divides live time x sum of d^3 of found injections / sum of d^3 with treatment by that without.

    The sum over found ones estimates the sensitive volume (Usman et al. 2016, CQG 33, 215004; weighted: Tiwari 2018,
    CQG 35, 145009) where distances are drawn evenly in log d, so that a signal stands for d^3. Both searches have the
    same injections, which are drawn in pairs for the interval; thresholds and live times stay. 1 for no treatment. NaN
    without injections, where none is found without treatment, and with fewer than 10 background events.

    Shapes: distance d (I,), > 0, in any unit. Raises ValueError where the injections differ in number.
    """
    if not len(distance) == len(treated.injections) == len(untreated.injections):
        raise ValueError(
            f"searches must have the same injections: {len(distance)} distances,"
            f" {len(treated.injections)} and {len(untreated.injections)} statistics"
        )
    found, without = treated.found, untreated.found
    if found is None or without is None:
        return UNDEFINED
    volume = np.asarray(distance, np.float64) ** 3
    return bootstrap_ratio(treated.live * volume * found, untreated.live * volume * without, *interval)
