"""What methods leave of signals that are injected into the strain, and how far off a search finds them.

Each score is a pure function (columns by method, name of the method, events, bootstrap) -> Interval over all signals in
some events; see `analysis/evaluate/signals.py` for the columns, which have several numbers an event, NaN where an event
has fewer signals. An event is drawn with all its signals, for they share its glitch. A method whose w' follows from the
witnesses alone keeps everything, as does one that does nothing.

Shapes: E event, S signal of an event.
"""

from functools import partial

import numpy as np

from glitchflow.score.made import Measured, Who
from glitchflow.score.statistics import (
    Bootstrap,
    Interval,
    bootstrap_pooled_quantile,
    bootstrap_sums,
    quotient,
)


def kept(share: float, measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Returns the share of its matched-filter SNR below which a `share` of the signals keeps (0.5: the median one)."""
    return bootstrap_pooled_quantile(measured[method]["kept"][who.family], share, *interval)


def average(column: str, measured: Measured, method: str, who: Who, interval: Bootstrap) -> Interval:
    """Averages a column (E, S) over the signals for which it is defined."""
    values = measured[method][column][who.family]
    known = np.isfinite(values)
    return bootstrap_sums(quotient, [np.where(known, values, 0).sum(axis=1), known.sum(axis=1)], *interval)


snr_kept_median, snr_kept_p1 = partial(kept, 0.5), partial(kept, 0.01)
bias_time, bias_phase, bias_mass, chi2 = (
    partial(average, column) for column in ("late", "turned", "heavier", "chi2")
)
