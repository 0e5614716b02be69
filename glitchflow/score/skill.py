"""How well a method says from witnesses what energies the strain will have: a likelihood that only the conditional mean
wins.

A pixel of Gaussian noise, or of a transient with unknown phases in it, has an exponential energy T of mean G, so its
negative log likelihood is log G + T / G: Whittle's (1953, Ark. Mat. 2, 423), the Itakura-Saito divergence but for a
constant (Fevotte, Bertin & Durrieu 2009, Neural Computation 21, 793).

Shapes: E event, F frequency, T time.
"""

import numpy as np

from glitchflow.score.made import Columns, Made, Measured, Who
from glitchflow.score.metrics import NOISE_ENERGY
from glitchflow.score.statistics import UNDEFINED, Bootstrap, Interval, bootstrap_mean, bootstrap_ratio
from glitchflow.signal.types import Array, Energies

BLIND = ("nothing", "constant", "mean")  # methods that look at no witness
ORACLE = "oracle"  # G = W + r: what T is on average where the truth is known


def floor(recorded: Energies, witnessed: Energies | None, label: Array) -> Array:
    """Returns r, the mean of T - W in each row over background events (label 0): (F,).

    It is what noise alone has in the window that is shown: 1.6 on `synthetic` and not b = 1.44, since energies are
    divided by a row's median over the whole series, whose ends whitening tapers. b where there is no background event.

    Shapes: recorded and witnessed (E, F, T), of the train split; label (E,).
    """
    quiet = np.asarray(label) == 0
    if not quiet.any():
        return np.full(recorded.shape[1], NOISE_ENERGY)
    mean = np.maximum(recorded[quiet], 0).mean(axis=(0, 2), dtype=np.float64)
    return (
        mean
        if witnessed is None
        else mean - np.maximum(witnessed[quiet], 0).mean(axis=(0, 2), dtype=np.float64)
    )


def nll(recorded: Energies, generated: Energies, floor: Array) -> Array:
    """Returns each event's mean of log G + T / G over its pixels, with G >= r / 2: (E,).

    The floor keeps a G of 0 from deciding all; half of r is less than any pixel has on average. Rows without noise
    (r = 0: above the strain's own Nyquist frequency, where every image is 0) are left out. NaN where none is left.

    Shapes: recorded and generated (E, F, T), at least 0; floor r (F,).
    """
    rows = np.flatnonzero(floor > 0)
    if not len(rows):
        return np.full(len(recorded), np.nan)
    t, g = (v if len(rows) == len(floor) else v[:, rows] for v in (recorded, generated))
    g = np.maximum(g, (floor[rows, None] / 2).astype(np.float32))
    return (np.log(g) + t / g).mean(axis=(1, 2), dtype=np.float64)


def likelihood(made: Made) -> Columns:
    """Returns the column `nll` (E,) of a method that generates energies without a look at the strain."""
    if made.generated is None or not made.seeing:
        return {}
    return {"nll": nll(made.recorded, made.generated, made.floor)}


def mean_nll(measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Averages the likelihood over the pixels of a family's and of background events."""
    return bootstrap_mean(measured[method]["nll"][who.family | who.quiet], *interval)


def skill(measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Returns (blind - NLL) / (blind - oracle): 0 for the best method that sees no witness, 1 for the oracle's.

    blind is the best of nothing, constant and per-pixel mean, over the same pixels: those of a family's and of
    background events. NaN where the family has no witnessed part, or one of the two is not there. It is a skill score
    as Murphy's (1988, Mon. Weather Rev. 116, 2417).
    """
    some = who.family | who.quiet
    blind = [measured[name]["nll"][some] for name in BLIND if "nll" in measured.get(name, {})]
    if not who.glitch.any() or not blind or "nll" not in measured.get(ORACLE, {}):
        return UNDEFINED
    best = min(blind, key=np.mean)
    mine, oracle = measured[method]["nll"][some], measured[ORACLE]["nll"][some]
    return bootstrap_ratio(best - mine, best - oracle, *interval)
