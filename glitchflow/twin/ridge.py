"""The fit of templates to what an estimate leaves of the strain.

    templates, rest --ridge--> q --how loud is what it leaves, moment by moment--> weights --ridge again--> q

Shapes: B event, A template, n sample.
"""

import numpy as np
import torch
from torch import Tensor

WIDTHS = np.geomspace(0.001, 2, 34)  # of a prior that are tried
# of Student's t, as which a piece's samples are distributed where noise may be louder than elsewhere: between 0 and 30
# the SNR that signals on scattered light keep differs by .005, and what is left of that light by .0001 of it
FREEDOM = 8.0


def fit(templates: Tensor, rest: Tensor, prior: float, weights: Tensor | None = None) -> Tensor:
    """Fit templates (B, A, n) to what is left of the white strain (B, n), by ridge regression: q (B, n).

    The amplitudes' prior is normal with this standard deviation, the noise has unit variance, or that over weights
    (B, n): their conditional mean. Nothing is learned through the fit: it has no gradient.
    """
    if not templates.shape[1]:
        return torch.zeros_like(rest)
    known = templates.detach()
    heard = known if weights is None else known * weights[:, None]
    power = heard @ known.mT
    ridge = torch.eye(power.shape[-1], dtype=power.dtype, device=power.device) / prior**2
    # not `solve`, which waits for a GPU to say whether it could: with the ridge it can, unless there are NaN
    amplitudes = torch.linalg.solve_ex(power + ridge, heard @ rest.detach()[..., None]).result
    return (known.mT @ amplitudes)[..., 0]


def robust(templates: Tensor, rest: Tensor, prior: float, piece: int, variance: float) -> Tensor:
    """Fit as `fit` does, and once more with each piece of so many samples weighted by how loud it was left: q (B, n).

    variance: of the noise's samples. A template lasts for seconds, and a signal on it, or a burst that nobody foretold,
    for a tenth of one: what stands out of the rest there has little say in the amplitudes.
    """
    left = rest.detach() - fit(templates, rest, prior)
    return fit(templates, rest, prior, _weights(left, piece, variance))


def _weights(left: Tensor, piece: int, variance: float) -> Tensor:
    """The expected weights (B, n) in 0..1 under Student's t, by what was left (B, n) of each piece (Lange, Little &
    Taylor 1989, J. Am. Stat. Assoc. 84, 881)."""
    power = torch.nn.functional.avg_pool1d(left.square()[:, None], piece, ceil_mode=True)
    weights = (FREEDOM + piece * variance) / (FREEDOM + piece * power)
    return weights.clamp(max=1).repeat_interleave(piece, dim=-1)[:, 0, : left.shape[-1]]


def likeliest(templates: Tensor, rest: Tensor) -> float:
    """Return the width of the prior under which templates (B, A, n) in unit noise make rest (B, n) likeliest.

    The type II likelihood (MacKay 1992, Neural Computation 4, 415). What a fit leaves of the strain that it was fitted
    to cannot tell: the widest prior always leaves the least.
    """
    power, product = templates @ templates.mT, (templates @ rest[..., None])[..., 0]
    unit = torch.eye(power.shape[-1], dtype=power.dtype)
    evidence = []
    for width in WIDTHS:
        amplitudes = torch.linalg.solve(power + unit / width**2, product)
        spread = torch.linalg.slogdet(unit + width**2 * power).logabsdet
        evidence.append(float(((product * amplitudes).sum(-1) - spread).sum()) / 2)
    return float(WIDTHS[int(np.argmax(evidence))])
