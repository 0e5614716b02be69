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
from scipy.stats import mannwhitneyu, norm, wilcoxon

from glitchflow.score.significance import holm
from glitchflow.score.statistics import Bootstrap, Interval, bootstrap_ratio
from glitchflow.signal.types import Array, Energies, Indices

FEWEST = 5  # events of either sort below which a rank test says nothing
EQUAL = 1e-9  # variance of a sum of ranks below which all that is compared is the same number
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


def loudest(recorded: Energies) -> Indices:
    """Returns the column (E,) of each event's recorded energies (E, F, T) where the strain is loudest."""
    return recorded.max(axis=1).argmax(axis=1)


def answer(generated: Energies, column: Indices) -> Array:
    """Returns the mean generated energy (E,) of (E, F, T) in a column of each event."""
    return generated[np.arange(len(generated)), :, column].mean(axis=1, dtype=np.float64)


def judge(
    with_signal: Sequence[Array],
    without: Sequence[Array],
    alpha: float,
    places: tuple[Indices, Indices] | None = None,
) -> list[Safety | None]:
    """Test whether each of C channels is louder with a signal, (S,) numbers, than without, (B,); NaN is left out.

    By Mann and Whitney's U (1947, Ann. Math. Stat. 18, 50); with `places`, (S,) and (B,), only those of the same place
    are compared, and the U of all places are summed as van Elteren has it (1960, Bull. Inst. Int. Stat. 37, 351): what
    is louder at some places whatever happens, as a glitch in the middle of its window, is no answer to a signal.
    alpha: largest chance that any of those flagged is safe (Holm). None for a channel with too few of either.
    """
    tests = [
        _compared(a, b, *(places or (np.zeros(len(a), np.int64), np.zeros(len(b), np.int64))))
        for a, b in zip(with_signal, without, strict=True)
    ]
    tested = [i for i, test in enumerate(tests) if test is not None]
    adjusted = holm([test[3] for test in tests if test is not None])
    found: list[Safety | None] = [None] * len(tests)
    for i, p in zip(tested, adjusted.tolist()):
        a, b, auc, chance = tests[i]  # type: ignore[misc]
        found[i] = Safety(a, b, auc, chance, p, p <= alpha)
    return found


def _compared(a: Array, b: Array, place_a: Indices, place_b: Indices) -> tuple[int, int, float, float] | None:
    """How many of either are compared, the chance that one of `a` is larger, and that of it by chance."""
    known = ~np.isnan(a), ~np.isnan(b)
    (a, place_a), (b, place_b) = (a[known[0]], place_a[known[0]]), (b[known[1]], place_b[known[1]])
    common = np.intersect1d(place_a, place_b)
    pairs = [(a[place_a == place], b[place_b == place]) for place in common.tolist()]
    counts = np.array([[len(x), len(y)] for x, y in pairs]).reshape(-1, 2)
    m, n = counts.sum(axis=0).tolist()
    if min(m, n) < FEWEST:
        return None
    if len(pairs) == 1:
        test = mannwhitneyu(*pairs[0], alternative="greater")
        return m, n, float(test.statistic) / (m * n), float(test.pvalue)
    wins = np.array([mannwhitneyu(x, y, method="asymptotic").statistic for x, y in pairs])
    ties = np.array([_ties(np.concatenate(pair)) for pair in pairs])
    product, weight = counts.prod(axis=1), 1 / (counts.sum(axis=1) + 1)
    variance = (weight**2 * product / 12 * (1 / weight - ties)).sum()
    auc = float(wins.sum() / product.sum())
    if variance < EQUAL:
        return m, n, auc, 1.0
    return m, n, auc, float(norm.sf((weight * (wins - product / 2)).sum() / np.sqrt(variance)))


def _ties(values: Array) -> float:
    """By how much equal numbers (N,) make the variance of ranks smaller: sum of t^3 - t over N (N - 1)."""
    same = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float((same**3 - same).sum() / (len(values) * (len(values) - 1)))


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
