"""Whether a channel, or what is made of it, is moved by signals: what is, is unsafe, for it takes signals away.

Observatories inject signals by moving the mirrors and look which auxiliary channels follow (Isogai et al. 2010, J.
Phys. Conf. Ser. 243, 012005; Smith et al. 2011, CQG 28, 235005). Here it is a test of ranks: no unit matters.

Shapes: E event, S event with a signal, B background event, C channel, F frequency, T time.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu

from glitchflow.score.significance import holm
from glitchflow.signal.types import Array, Energies

FEWEST = 5  # events of either sort below which a rank test says nothing


@dataclass(frozen=True)
class Safety:
    """Holds how one channel answers to signals."""

    signals: int
    background: int
    auc: float  # chance that it is louder with a signal than without: 0.5 where it does not hear them
    p: float  # of that, or more, by chance
    p_adjusted: float  # for the number of channels
    unsafe: bool

    def told(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def answer(generated: Energies, recorded: Energies) -> Array:
    """Returns the mean generated energy of each event where the recorded strain is loudest: of (E, F, T) both, (E,)."""
    event, loudest = np.arange(len(recorded)), recorded.max(axis=1).argmax(axis=1)
    return generated[event, :, loudest].mean(axis=1, dtype=np.float64)


def judge(with_signal: Sequence[Array], without: Sequence[Array], alpha: float) -> list[Safety | None]:
    """Test by Mann and Whitney's U (1947, Ann. Math. Stat. 18, 50) whether each of C channels is louder with a signal,
    (S,) numbers, than without, (B,); NaN is left out.

    alpha: largest chance that any of those flagged is safe (Holm). None for a channel with too few of either.
    """
    pairs = [(a[~np.isnan(a)], b[~np.isnan(b)]) for a, b in zip(with_signal, without, strict=True)]
    tested = [i for i, (a, b) in enumerate(pairs) if min(len(a), len(b)) >= FEWEST]
    tests = [mannwhitneyu(*pairs[i], alternative="greater") for i in tested]
    adjusted = holm([float(test.pvalue) for test in tests])
    found: list[Safety | None] = [None] * len(pairs)
    for i, test, p in zip(tested, tests, adjusted.tolist()):
        a, b = (len(values) for values in pairs[i])
        found[i] = Safety(a, b, float(test.statistic) / (a * b), float(test.pvalue), p, p <= alpha)
    return found
