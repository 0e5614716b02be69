"""What vetoing costs on a stretch that windows slide over: seconds, counted once where windows overlap.

Shapes: W window, S threshold, B block of time, R resample.
"""

from dataclasses import dataclass

import numpy as np

from glitchflow.signal.types import Array, Flags, Indices


@dataclass(frozen=True)
class Curve:
    """Holds a number at each threshold with its interval; (S,) each."""

    value: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Deadtime:
    """Holds the vetoed seconds at each threshold, (S,), of the analysed ones."""

    vetoed: Array
    analysed: float
    share: Curve  # deadtime: vetoed / analysed
    ratio: Curve  # efficiency / deadtime: 1 is what vetoing at random buys


def own_seconds(gps: Array, length: float, chosen: Flags) -> Array:
    """Counts the seconds that each chosen window adds to the time they cover together, so that overlaps count once.

    Shapes: gps (W,) of the windows' centres in s, in any order, chosen (W,) -> (W,), 0 where not chosen.
    """
    seconds = np.zeros(len(gps))
    some = np.flatnonzero(chosen)
    some = some[np.argsort(gps[some], kind="stable")]
    seconds[some] = np.minimum(np.diff(gps[some], append=np.inf), length)
    return seconds


def deadtime(
    gps: Array,
    length: float,
    vetoed: Flags,
    truth: Flags,
    block: float,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Deadtime:
    """Measures deadtime, and efficiency (the share of `truth` that is vetoed) over deadtime, of veto decisions.

    Intervals are a percentile bootstrap over blocks of time, since neighbouring windows are not independent
    (Kuensch 1989, Ann. Statist. 17, 1217). A resample is how often each block is drawn: sums over blocks are then one
    matrix product, where scipy.stats.bootstrap would copy every threshold's windows for every resample.

    Shapes: gps (W,) in s, vetoed (S, W), truth (W,) -> (S,). `length` of a window and `block` in s.
    """
    _, place = np.unique(np.floor(gps / block), return_inverse=True)
    blocks = place.max() + 1
    sums = {
        "vetoed": np.stack([own_seconds(gps, length, v) for v in vetoed]),
        "analysed": own_seconds(gps, length, np.ones(len(gps), bool))[None],
        "hits": (vetoed & truth).astype(np.float64),
        "truth": truth[None].astype(np.float64),
    }
    in_blocks = {name: _by_block(values, place, blocks) for name, values in sums.items()}
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)
    share, ratio = _curves({n: v.sum(axis=1)[None] for n, v in in_blocks.items()})
    spread = _curves({name: draws @ values.T for name, values in in_blocks.items()})
    tail = (1 - confidence) / 2
    curves = []
    for value, many in zip((share[0], ratio[0]), spread):
        low, high = (_quantile(many, q) for q in (tail, 1 - tail))
        curves.append(Curve(value, low, high))
    analysed = float(sums["analysed"].sum())
    return Deadtime(sums["vetoed"].sum(axis=1), analysed, curves[0], curves[1])


def _by_block(values: Array, place: Indices, blocks: int) -> Array:
    """Sums (S, B) of values (S, W) over the windows of each block."""
    return np.stack([np.bincount(place, row, minlength=blocks) for row in values])


def _curves(total: dict[str, Array]) -> tuple[Array, Array]:
    """(R, S) deadtime and efficiency / deadtime of sums (R, S); NaN where nothing is there to divide by."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = total["vetoed"] / total["analysed"]
        efficiency = total["hits"] / total["truth"]
        return share, np.where(share > 0, efficiency / share, np.nan)


def _quantile(values: Array, q: float) -> Array:
    """Quantile over the resamples that are defined; NaN where none is."""
    found = np.full(values.shape[1], np.nan)
    defined = np.isfinite(values).any(axis=0)
    found[defined] = np.nanquantile(values[:, defined], q, axis=0)
    return found
