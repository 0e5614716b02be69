"""What the strain never heard: moments in which an estimate is loud, and the strain has nothing like it.

A burst that witnesses alone hear looks like a glitch to a network that is not shown the strain. Whether it is in there
is one question a moment, with two answers: the likelihood ratio of y + noise over noise alone, and what was known
before. A moment is passed through where noise alone is likelier, and where the strain is no louder than noise, or has
too little of y's power to hide y under a signal that happens to be its opposite.

Shapes: B event, n sample, K piece.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn.functional import avg_pool1d, interpolate

from glitchflow.signal.types import Array

PIECES = 5  # that a moment is of: the loudest part of a burst, and what leads to it
LOUD = 5.0  # SNR of a moment of y from which on it is asked: what is quieter does no harm
SURE = 5.0  # log odds, before anything is known, that what witnesses say is there: 150 to 1
QUIET = 1.5  # power of the strain over its noise's, where y is loud, below which nothing is in it
LEAST = 0.25  # of y's own power, below which y is not: what hides it has half of its size at least


def heard(y: Tensor, strain: Tensor, piece: int, variance: float) -> Tensor:
    """Say how much (B, n) of an estimate y the strain (B, n) hears, both white: 1, and 0 where y is not in it.

    piece: samples that are judged together with some more at either side. variance: of the noise's samples, as its ASD
    says, and not as loud as the crop is: a long signal is loud, too.
    """
    y, strain = y.detach(), strain.detach()
    both, power, left = (
        piece * avg_pool1d(one[:, None], piece, ceil_mode=True)
        for one in (strain * y, y.square(), strain.square())
    )
    both, moment, loudness, own = (_around(one) for one in (both, power, left * power, power.square()))
    ratio = both - moment / 2  # log of how much likelier a strain is with y in it than without
    # loudness is the strain's, most of all where y is loud
    bare = (loudness < QUIET * piece * variance * moment) | (loudness < LEAST * own)
    absent = (moment > LOUD**2) & (ratio < -SURE) & bare
    through = interpolate((~absent).to(y), scale_factor=piece, mode="linear", align_corners=False)
    return through[:, 0, : y.shape[-1]]


def alone(y: Array, removed: Array, piece: int) -> bool:
    """Say whether an estimate (n,) is loud in some piece of so many samples, and most of it not removed (n,), both
    white."""
    whole = len(y) // piece * piece
    y, removed = (one[:whole].reshape(-1, piece) for one in (y, removed))
    power = np.square(y).sum(axis=1)
    return bool(((power > LOUD**2) & ((removed * y).sum(axis=1) < power / 2)).any())


def _around(pieces: Tensor) -> Tensor:
    """The sum (B, 1, K) over `PIECES` about each of some pieces, 0 beyond them."""
    return PIECES * avg_pool1d(pieces, PIECES, stride=1, padding=PIECES // 2)
