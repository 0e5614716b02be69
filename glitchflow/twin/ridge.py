"""The fit of templates to what an estimate leaves of the strain.

Shapes: B event, A template, n sample.
"""

import numpy as np
import torch
from torch import Tensor

WIDTHS = np.geomspace(0.001, 2, 34)  # of a prior that are tried


def fit(templates: Tensor, rest: Tensor, prior: float) -> Tensor:
    """Fit templates (B, A, n) to what is left of the white strain (B, n), by ridge regression: q (B, n).

    The amplitudes' prior is normal with this standard deviation, the noise has unit variance: their conditional mean.
    Nothing is learned through the fit: it has no gradient.
    """
    if not templates.shape[1]:
        return torch.zeros_like(rest)
    known = templates.detach()
    power = known @ known.mT
    ridge = torch.eye(power.shape[-1], dtype=power.dtype, device=power.device) / prior**2
    amplitudes = torch.linalg.solve(power + ridge, known @ rest.detach()[..., None])
    return (known.mT @ amplitudes)[..., 0]


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
