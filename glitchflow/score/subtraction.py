"""What a method took out of the strain: of what the witnesses explain, and of everything else.

Each score is a pure function (columns by method, name of the method, events, bootstrap) -> Interval, NaN where it has
no value. Series are whitened, so that the SNR of one is sqrt(sum of squares), and over `qplot.span`, where every method
can act; w' is what a method removed, w what it should have. Subtracting is judged by what is left over what was there,
as classical noise subtraction is (Davis et al. 2019, CQG 36, 055011), and nothing that is taken out in vain is free.

Shapes: E event, F frequency, T time, N sample.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from glitchflow.score.made import Columns, Made, Measured, Who
from glitchflow.score.metrics import NOISE_ENERGY
from glitchflow.score.statistics import (
    UNDEFINED,
    Bootstrap,
    Interval,
    bootstrap_quantile,
    bootstrap_ratio,
    bootstrap_sums,
    proportion,
    quotient,
)
from glitchflow.signal.types import Array

UNSEEN = (
    0.1 * NOISE_ENERGY
)  # below this W no witness says anything of a pixel: a tenth of what noise alone has there


def series_sums(made: Made) -> Columns:
    """Sums squares of series over samples: `residual2` of w - w', `witnessed2` of w, `strain2` of s, (E,) each; and
    `transients2` of w's transients, where they are not all of it."""
    if made.strain is None or made.truth is None or made.removed is None:
        return {}
    series = {"residual2": made.truth - made.removed, "witnessed2": made.truth, "strain2": made.strain}
    if made.transients is not None:
        series["transients2"] = made.transients
    return {name: np.einsum("en,en->e", value, value, dtype=np.float64) for name, value in series.items()}


def energy_sums(made: Made) -> Columns:
    """Sums energies over pixels, (E,) each: `off` |R - R*|, `before` |T - R*|; `harm` and `quietly`, where no witness
    sees anything (W < 0.1 b), |R - R*| and R*."""
    if made.wanted is None or made.witnessed is None:
        return {}
    off, unseen = np.abs(made.cleaned - made.wanted), made.witnessed < UNSEEN
    pixels = {
        "off": off,
        "before": np.abs(made.recorded - made.wanted),
        "harm": off * unseen,
        "quietly": made.wanted * unseen,
    }
    return {name: value.sum(axis=(1, 2), dtype=np.float64) for name, value in pixels.items()}


def residual(measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Divides what is left by what was there: [sum over glitches (w - w')^2 + k sum over quiet (w - w')^2] / the same
    with w' = 0.

    k = ratio N_glitch / N_quiet lets each glitch stand beside `ratio` spans of quiet time, however many events of each
    there are (in every resample too); on a stretch (no ratio) both are plain sums. 1 where nothing is subtracted; the
    conditional mean of w given the witnesses is best, as for any square (Bishop 2006, 1.5.5).
    """
    mine, some = measured[method], who.glitch | who.quiet
    if who.ratio is not None and not (who.glitch.any() and who.quiet.any()):
        return UNDEFINED
    glitch, quiet = who.glitch[some], who.quiet[some]
    left, there = mine["residual2"][some], mine["witnessed2"][some]

    def share(
        left_g: Array, left_q: Array, there_g: Array, there_q: Array, glitches: Array, quiets: Array
    ) -> Array:
        k = 1.0 if who.ratio is None else who.ratio * quotient(glitches, quiets)
        return quotient(left_g + k * left_q, there_g + k * there_q)

    columns = [left * glitch, left * quiet, there * glitch, there * quiet, glitch, quiet]
    return bootstrap_sums(share, columns, *interval)


def left(measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Divides sum (w - w')^2 by sum w^2, over glitches alone: the one half of `residual`.

    A constant gain can win it, by taking out everything always: never quote it without `noise_added`.
    """
    mine = measured[method]
    return bootstrap_ratio(mine["residual2"][who.glitch], mine["witnessed2"][who.glitch], *interval)


def left_within(
    least: float, most: float, measured: Measured, method: str, who: Who, interval: Bootstrap
) -> Interval:
    """Returns `left` over those glitches whose w has an SNR from `least` on and below `most`: quiet ones hold little of
    the sum, and most of what is hard."""
    snr = np.sqrt(measured[method]["witnessed2"])
    some = who.glitch & (snr >= least) & (snr < most)
    return left(measured, method, replace(who, glitch=some), interval)


def noise_added(measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Divides the rms of w' - w by the rms of the strain, over quiet events: the other half of `residual`."""
    mine = measured[method]
    return bootstrap_ratio(mine["residual2"][who.quiet], mine["strain2"][who.quiet], *interval).root()


def noise_above(snr: float, measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Returns the share of quiet events in which w' - w has an SNR above `snr`: glitches that a method makes.

    Its interval is Wilson's, which says how many there may be where none was seen.
    """
    mine = measured[method]["residual2"][who.quiet]
    if not len(mine) or np.isnan(mine).any():
        return UNDEFINED
    found = proportion(np.sum(mine > snr**2), len(mine))
    return Interval(float(found.value), float(found.low), float(found.high))


def snr_left(share: float, measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Returns the SNR of w - w' below which a `share` of the glitches lies (0.5: the median one)."""
    return bootstrap_quantile(np.sqrt(measured[method]["residual2"][who.glitch]), share, *interval)


def removed(measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Returns 1 - sum |R - R*| / sum |T - R*|, over all pixels of glitches: the share of the way from the recorded
    energies to those of s - w. Removing too much counts as removing too little does, pixel by pixel.

    Spectral subtraction is Boll's (1979, doi:10.1109/TASSP.1979.1163209) where there are no series.
    """
    mine = measured[method]
    rest = bootstrap_ratio(mine["off"][who.glitch], mine["before"][who.glitch], *interval)
    return Interval(1 - rest.value, 1 - rest.high, 1 - rest.low)


def destroyed(measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Returns the price of `removed`: sum |R - R*| / sum R* over those pixels of glitches where no witness sees
    anything (W < 0.1 b). A constant that takes everything pays all of it."""
    mine = measured[method]
    return bootstrap_ratio(mine["harm"][who.glitch], mine["quietly"][who.glitch], *interval)


noise_above_3, noise_above_5 = partial(noise_above, 3.0), partial(noise_above, 5.0)
snr_left_median, snr_left_p90 = partial(snr_left, 0.5), partial(snr_left, 0.9)
left_below_12, left_12_20, left_20_35, left_above_35 = (
    partial(left_within, *within) for within in ((0, 12), (12, 20), (20, 35), (35, np.inf))
)
