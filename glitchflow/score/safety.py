"""Whether a channel, or what is made of it, is moved by signals: what is, is unsafe, for it takes signals away.

Observatories inject signals by moving the mirrors and look which auxiliary channels follow (Isogai et al. 2010, J.
Phys. Conf. Ser. 243, 012005; Smith et al. 2011, CQG 28, 235005). Here it is a test of ranks: no unit matters. Where it
is known what a signal does to the witnesses, one is injected, and what is generated compared with what was without it.

Shapes: E event, S event with a signal, B background event, C channel, F frequency, T time.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu, wilcoxon

from glitchflow.score.significance import holm
from glitchflow.score.statistics import Bootstrap, Interval, bootstrap_ratio
from glitchflow.signal.types import Array, Energies

FEWEST = 5  # events of either sort below which a rank test says nothing
MATTERS = 0.01  # of a signal's energy: a mask made of less takes half of that of its amplitude, and no search sees it


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


@dataclass(frozen=True)
class Moved:
    """Holds how far what a network generates follows signals that were injected."""

    events: int
    effect: Interval  # share of the signals' energy by which what is generated rises, where the signals are
    p: float  # of that, or more, by chance
    unsafe: bool

    def told(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"by": "injection", **asdict(self)}


def judge_moved(rise: Array, energy: Array, alpha: float, interval: Bootstrap) -> Moved:
    """Judge by pairs, with a signal and without, whether what is generated follows it.

    rise: (E,) what is generated more with the signal than without, summed over the signal's pixels; energy: (E,) of the
    signal there. Chance is that of Wilcoxon's signed ranks (1945, Biometrics Bulletin 1, 80), 1 where nothing moves.
    Unsafe is what moves by more than chance gives in a share `alpha` of cases, and by `MATTERS` of a signal at least:
    between pairs that differ by nothing else, the least change is significant.
    """
    moves = len(rise) >= FEWEST and bool(rise.any())
    p = float(wilcoxon(rise, alternative="greater").pvalue) if moves else 1.0
    effect = bootstrap_ratio(rise, energy, *interval)
    return Moved(len(rise), effect, p, p <= alpha and effect.value >= MATTERS)
