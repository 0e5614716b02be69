"""The fit of templates to what an estimate leaves of the strain.

Shapes: B event, A template, n sample.
"""

import torch
from torch import Tensor


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
