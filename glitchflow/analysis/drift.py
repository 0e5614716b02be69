"""Whether the witnesses still look as they did when the network was trained.

A network has only learned what it was shown. An event of which a witness is louder or quieter than nearly all it was
trained on is out of range: flagged, and its veto not to be trusted.

Shapes: E event that is scored, W witness, Q quantile.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from glitchflow.data.normalise import QUANTILES, loudness, loudness_quantiles
from glitchflow.methods.compare import FIT_EVENTS, Basis
from glitchflow.progress import say
from glitchflow.signal.types import Array, Flags

# of sqrt(E) times the largest distance of two cumulative curves: 95 % of what chance gives
KOLMOGOROV = 1.358


@dataclass(frozen=True)
class Drift:
    """Says which events are out of range, and how far each witness as a whole has moved."""

    flagged: Flags  # (E,)
    table: dict[str, Any]


def measure(basis: Basis, loud: Array, vetoed: Flags, beyond: float) -> Drift | None:
    """Compare the events' witnesses with those that the network was trained on; None where nothing tells of them.

    loud (E, W): their loudness; vetoed (E,): the events whose vetoes are counted as not to be trusted; beyond: the
    share of the training's events beyond each end of the range that a witness is trusted in.
    """
    known = trained_loudness(basis)
    if known is None:
        say("no drift: neither the checkpoint nor a store says what the network was trained on")
        return None
    ranges = trusted_range(known, beyond)
    below, above = loud < ranges[0], loud > ranges[1]
    flagged: Flags = np.any(below | above, axis=1)
    rows = [
        {
            "name": name,
            "low": ranges[0][w],
            "high": ranges[1][w],
            "flagged": int((below | above)[:, w].sum()),
            "below": int(below[:, w].sum()),
            "above": int(above[:, w].sum()),
            "median": float(np.median(loud[:, w])),
            "trained_median": float(np.interp(0.5, QUANTILES, known[w])),
            "distance": distance(loud[:, w], known[w]),
        }
        for w, name in enumerate(basis.channels[1:])
    ]
    table = {
        "statistic": "mean of log(1 + energy) over the Q-plot",
        "events": len(flagged),
        "flagged": int(flagged.sum()),
        "vetoes": int(vetoed.sum()),
        "vetoes_not_trusted": int((vetoed & flagged).sum()),
        "beyond": beyond,
        "chance_distance": KOLMOGOROV / np.sqrt(len(flagged)),
        "channels": rows,
    }
    return Drift(flagged, table)


def trained_loudness(basis: Basis) -> Array | None:
    """Return the quantiles (W, Q) of each witness's loudness over the train split: kept in the checkpoint, or counted
    now."""
    if basis.loudness is not None:
        return np.array(basis.loudness)[1:]
    if basis.training is None:
        return None
    events = basis.training.indices("train")[:FIT_EVENTS]
    if not len(events):
        return None
    places = [basis.training.channels.index(name) for name in basis.channels[1:]]
    blocks = basis.training.blocks(events, "qplot", channels=places)
    return np.array(loudness_quantiles(np.concatenate([loudness(energy) for _, (energy,) in blocks])))


def trusted_range(known: Array, beyond: float) -> tuple[Array, Array]:
    """Return the lowest and highest loudness (W,) that the network knows: all but a share `beyond` of its events at
    each end."""
    low, high = (np.array([np.interp(q, QUANTILES, row) for row in known]) for q in (beyond, 1 - beyond))
    return low, high


def distance(values: Array, quantiles: Array) -> float:
    """Compute Kolmogorov and Smirnov's statistic, the largest distance of the values' cumulative share from that of the
    training."""
    share = np.searchsorted(np.sort(values), quantiles, side="right") / len(values)
    return float(np.abs(share - QUANTILES).max())
