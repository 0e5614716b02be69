"""What vetoes catch and what they cost, by the figures of merit of hveto and of iDQ.

    clusters over columns, at a threshold -> padded veto segments -> what of each event they cover -> figures

hveto (Smith et al. 2011, doi:10.1088/0264-9381/28/23/235005): efficiency, deadtime, efficiency / deadtime, use
percentage, significance. iDQ (Essick et al. 2020, doi:10.1088/2632-2153/abab5f): efficiency at a false alarm
probability, loglike and pglitch of a rank. One glitch a window: the loudest pixel of the recorded strain's clusters; it
is caught where a veto segment holds its time, as in hveto, not where one lies somewhere in its window.

Shapes: E event, T time, S threshold, V veto segment, B block of time, R resample, K shift. Times are GPS s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from igwn_segments import segmentlist
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from glitchflow.score import segments
from glitchflow.score.significance import poisson_significance
from glitchflow.score.statistics import Interval
from glitchflow.signal.types import Array, Flags, Indices

# Four to an octave, from where noise alone has no clusters any more to the loudest glitches: steps of 19 %, below what
# the level of one event says about the next
THRESHOLDS = 2.0 ** np.arange(1, 14.25, 0.25)
BLOCKS = 4096  # of events, or of time, at most: resamples of 10^6 events one by one would take 8 GB
SHIFTS = 1000  # at most, of which each counts every glitch
FIGURES = {  # of hveto and iDQ: a sum over events, divided by another
    "efficiency": ("caught", "glitches"),
    "deadtime": ("seconds", "analysed"),
    "use_percentage": ("used", "segments"),
    "false_alarm_probability": ("quiet", "analysed_quiet"),
}
Tally = dict[str, Array]  # (B,) each


@dataclass(frozen=True)
class Watch:
    """Holds the windows that vetoes are judged on and the glitch in each."""

    edges: Array  # (E, T + 1) of the Q-plots' columns
    loudest: Array  # (E,) time of the loudest pixel of its recorded clusters, NaN where there is none
    recorded: Flags  # (E, T): columns that recorded clusters lie over
    quiet: Flags  # (E,) where there is none, for false alarms
    block: float = 0.0  # s, within which neighbours are not independent; 0: each event is

    @cached_property
    def known(self) -> segmentlist:
        """Returns the analysed time: what all windows cover together."""
        return segments.joined(self.edges[:, [0, -1]])

    @cached_property
    def order(self) -> Indices:
        """Returns the events by the time their windows begin."""
        return np.argsort(self.edges[:, 0], kind="stable")

    @cached_property
    def own(self) -> Array:
        """Returns the time (E, 2) each event answers for, up to where the next window begins: none counts twice."""
        own = self.edges[:, [0, -1]].copy()
        following = np.append(own[self.order[1:], 0], np.inf)
        own[self.order, 1] = np.minimum(own[self.order, 1], following)
        return own

    @cached_property
    def glitch(self) -> Array:
        """Returns the times (E,) of the glitches, NaN where an event has none, or one that another has told of.

        Where windows overlap, or a cluster goes on in the next one, those that show the same cluster tell of one.
        """
        spans = segments.ends(segments.joined(segments.covered_spans(self.recorded, self.edges)))
        at = segments.segment_at(spans, self.loudest)
        some = np.flatnonzero(at >= 0)
        first = some[np.unique(at[some], return_index=True)[1]]
        times = np.full(len(at), np.nan)
        times[first] = self.loudest[first]
        return times

    @cached_property
    def blocks(self) -> Indices:
        """Returns the number (E,) of the block of events, or of time, that each event is drawn with."""
        events = len(self.edges)
        if not self.block:
            return np.arange(events) * min(events, BLOCKS) // events
        number = np.unique(np.floor(self.edges[:, 0] / self.block), return_inverse=True)[1]
        count = int(number.max(initial=0)) + 1
        return number * min(count, BLOCKS) // count

    def vetoed(self, covered: Flags, padding: float, minimum: float) -> Array:
        """Returns the veto segments (V, 2) of columns (E, T) that clusters cover; see `segments.veto_segments`."""
        spans = segments.covered_spans(covered, self.edges)
        return segments.ends(segments.veto_segments(spans, self.known, padding, minimum))


def tally(vetoed: Array, watch: Watch) -> Tally:
    """Counts what veto segments (V, 2) cover, by block of events that are drawn together; (B,) each.

    seconds, quiet              vetoed seconds, of all events and of quiet ones
    analysed, analysed_quiet    analysed seconds of the same
    caught, glitches            glitches inside a segment, and all
    used, segments              segments that hold a glitch, and all, where they begin
    """
    at = segments.segment_at(vetoed, watch.glitch)
    seconds = np.diff(segments.seconds_before(vetoed, watch.own), axis=1)[:, 0]
    analysed = np.diff(watch.own, axis=1)[:, 0]
    starts = watch.own[watch.order, 0]
    begins = watch.order[np.searchsorted(starts, vetoed[:, 0], side="right") - 1]
    events: dict[str, NDArray[Any]] = {
        "seconds": seconds,
        "analysed": analysed,
        "quiet": seconds * watch.quiet,
        "analysed_quiet": analysed * watch.quiet,
        "caught": at >= 0,
        "glitches": np.isfinite(watch.glitch),
        "used": np.bincount(begins[np.unique(at[at >= 0])], minlength=len(at)),
        "segments": np.bincount(begins, minlength=len(at)),
    }
    return {name: np.bincount(watch.blocks, value).astype(np.float64) for name, value in events.items()}


@dataclass(frozen=True)
class Curve:
    """Holds a figure at each threshold with its interval; (S,) each, NaN where there is nothing to divide by."""

    value: Array
    low: Array
    high: Array

    def at(self, i: int) -> Interval:
        """Returns the figure at the i-th threshold."""
        return Interval(*(float(part[i]) for part in (self.value, self.low, self.high)))


def figures(
    tallies: Sequence[Tally], seed: int, resamples: int = 1000, confidence: float = 0.95
) -> dict[str, Curve]:
    """Computes hveto's and iDQ's figures at each threshold: `FIGURES`, and `efficiency_over_deadtime`.

    Efficiency: glitches caught over glitches. Deadtime: vetoed seconds over analysed seconds. Use percentage: segments
    that hold a glitch over segments (a share here, not in percent). False alarm probability: vetoed seconds over
    analysed seconds of quiet windows. Efficiency / deadtime: 1 is what vetoing at random buys.

    Intervals are a percentile bootstrap over events, or over blocks of time where neighbours are not independent
    (Kuensch 1989, Ann. Statist. 17, 1217). A resample is how often each block is drawn: sums over blocks are then one
    matrix product, where scipy.stats.bootstrap would copy every threshold's events for every resample.
    """
    sums = {name: np.stack([one[name] for one in tallies], axis=1) for name in tallies[0]}
    number = len(sums["analysed"])
    draws = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=resamples)
    value = _ratios({name: part.sum(axis=0, keepdims=True) for name, part in sums.items()})
    spread = _ratios({name: draws @ part for name, part in sums.items()})
    tail = (1 - confidence) / 2
    return {
        name: Curve(value[name][0], _quantile(many, tail), _quantile(many, 1 - tail))
        for name, many in spread.items()
    }


def _ratios(total: Tally) -> dict[str, Array]:
    """Divides sums (R, S); NaN where nothing is there to divide by."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {name: total[above] / total[below] for name, (above, below) in FIGURES.items()}
        over = np.where(found["deadtime"] > 0, found["efficiency"] / found["deadtime"], np.nan)
    return found | {"efficiency_over_deadtime": over}


def _quantile(values: Array, q: float) -> Array:
    """Returns the quantile over the resamples (R, S) that are defined; NaN where none is."""
    found = np.full(values.shape[1], np.nan)
    defined = np.isfinite(values).any(axis=0)
    found[defined] = np.nanquantile(np.where(np.isfinite(values), values, np.nan)[:, defined], q, axis=0)
    return found


def lowest_threshold(tallies: Sequence[Tally], figure: str, most: float) -> int | None:
    """Finds the lowest of ascending thresholds at which a figure (deadtime, false alarm probability) is at most `most`.

    None where it is more at all of them, or where there is nothing to divide by.
    """
    above, below = FIGURES[figure]
    for i, one in enumerate(tallies):
        if one[above].sum() <= most * one[below].sum() > 0:
            return i
    return None


@dataclass(frozen=True)
class Chance:
    """Says whether vetoes hold more glitches than chance would put there."""

    caught: int
    expected: float  # N_glitches x vetoed seconds / analysed seconds
    significance: float  # hveto's, against Poisson
    shifted: float  # mean number caught with the glitches' windows shifted among the vetoes' windows
    deviation: float  # caught, above that mean, in standard deviations of the shifts
    p: float  # share of the shifts, no shift among them, that catch as many


def chance(vetoed: Array, watch: Watch) -> Chance:
    """Tests vetoes against chance, by hveto's Poisson probability and by circular shifts of whole windows.

    hveto expects mu = N_H N_aux T_win / T_tot coincidences; N_aux T_win are the vetoed seconds where all segments are
    as long, and here where they are not. A veto that fires at the same place in every window (a constant image) is
    significant to Poisson, since glitches stand in the middle of their windows; to shifts by whole windows, which keep
    the place, it is not. Their p counts the recorded arrangement as one of the shifts: never 0, and exact.
    """
    offset = watch.glitch - watch.edges[:, 0]
    start, some = watch.edges[watch.order, 0], watch.order
    events = len(start)
    shifts = np.unique(np.linspace(0, events, min(events, SHIFTS), endpoint=False).astype(np.int64))
    counts = np.array(
        [(segments.segment_at(vetoed, np.roll(start, -k) + offset[some]) >= 0).sum() for k in shifts]
    )
    others = counts[1:]
    share = float(np.diff(vetoed, axis=1).sum() / abs(watch.known))
    expected = share * int(np.isfinite(watch.glitch).sum())
    spread = others.std() if len(others) else 0.0
    return Chance(
        caught=int(counts[0]),
        expected=expected,
        significance=float(poisson_significance(counts[0], expected)),
        shifted=float(others.mean()) if len(others) else np.nan,
        deviation=float((counts[0] - others.mean()) / spread) if spread > 0 else np.nan,
        p=float((counts >= counts[0]).mean()),
    )


@dataclass(frozen=True)
class Calibration:
    """Holds iDQ's map from a rank to the probability of a glitch, as steps: rank (N,) ascending, pglitch (N,)."""

    rank: Array
    probability: Array
    prior: float  # share of glitches among what it was fitted to

    def pglitch(self, rank: Array) -> Array:
        """Returns the probability that there is a glitch, given a rank."""
        return np.interp(rank, self.rank, self.probability)

    def loglike(self, rank: Array) -> Array:
        """Returns iDQ's log likelihood ratio ln p(rank | glitch) / p(rank | clean): the log odds less the prior's."""
        p = self.pglitch(rank)
        return np.log(p / (1 - p)) - np.log(self.prior / (1 - self.prior))


def calibrate(rank: Array, glitch: Flags) -> Calibration | None:
    """Fits pglitch to ranks whose truth is known, (N,) both; None where all or none are glitches.

    iDQ models p(rank | glitch) and p(rank | clean) by kernel density estimates and divides them; isotonic regression
    (Zadrozny & Elkan 2002, doi:10.1145/775047.775151) fits the ratio itself and asks only that a higher rank is not
    less likely a glitch. Probabilities stay half an event away from 0 and 1, which N events cannot tell from them.
    """
    if not 0 < glitch.sum() < len(glitch):
        return None
    known, place = np.unique(rank, return_inverse=True)
    events = np.bincount(place).astype(np.float64)
    share = np.bincount(place, glitch) / events
    p = isotonic_regression(share, weights=events).x
    least = 0.5 / len(glitch)
    return Calibration(known, np.clip(p, least, 1 - least), float(glitch.mean()))
