"""What the strain never heard: moments in which an estimate is loud, and the strain as quiet as its noise.

A burst that witnesses alone hear looks like a glitch to a network that is not shown the strain. Whether it is in there
is one question a moment, with two answers: the likelihood ratio of y + noise over noise alone, in unit noise, and what
was known before. A moment is passed through where noise alone is likelier, and where the strain is no louder than
noise: under a signal that happens to be y's opposite it is not.

Shapes: B event, n sample, K piece.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import avg_pool1d, interpolate

from glitchflow.signal.types import Array

PIECES = 5  # that a moment is of: the loudest part of a burst, and what leads to it
LOUD = 4.0  # SNR of a moment of y from which on it is asked: what is quieter does no harm
SURE = 3.0  # log odds, before anything is known, that what witnesses say is there: 20 to 1
# power of the strain over that of its noise, below which there is nothing in it: with 2 none of 2,400 signals of SNR 6
# to 40 on glitches changed an answer, with 4 one in 350, with no such limit one in 140
QUIET = 2.0


def heard(y: Tensor, strain: Tensor, piece: int, variance: float) -> Tensor:
    """Say how much (B, n) of an estimate y the strain (B, n) hears, both white: 1, and 0 where y is not in it.

    piece: samples that are judged together with some more at either side. variance: of the noise's samples.
    """
    y, strain = y.detach(), strain.detach()
    both, power, left = (
        piece * avg_pool1d(one[:, None], piece, ceil_mode=True)
        for one in (strain * y, y.square(), strain.square())
    )
    both, moment, loudness = (_around(one) for one in (both, power, left * power))
    ratio = both - moment / 2  # log of how much likelier a strain is with y in it than without
    quiet = loudness < QUIET * piece * variance * moment  # where y is loud, most of all
    absent = (moment > LOUD**2) & (ratio < -SURE) & quiet
    through = interpolate((~absent).to(y), scale_factor=piece, mode="linear", align_corners=False)
    return through[:, 0, : y.shape[-1]]


def alone(y: Array, removed: Array) -> bool:
    """Say whether an estimate (n,) is loud, and most of it is not removed (n,), both white."""
    power = float(y @ y)
    return power > LOUD**2 and float(removed @ y) < power / 2


def _around(pieces: Tensor) -> Tensor:
    """The sum (B, 1, K) over `PIECES` about each of some pieces, 0 beyond them."""
    return PIECES * avg_pool1d(pieces, PIECES, stride=1, padding=PIECES // 2)
