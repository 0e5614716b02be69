"""What a posterior twin knows before it is trained: how far y is off where it is so loud, and how large templates are.

    errors of y, y --mean square by y's local power--> a table         (`model/posterior.py` reads both)
    w, templates --ridge fit of each train event--> amplitudes --turned to any phase--> what may be, and how closely

Shapes: B event, A template, n sample, K step of power, J amplitude.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from glitchflow.model.posterior import FOUND, SILENT, STEPS, Posterior
from glitchflow.twin.ridge import WIDTHS

HEARD = 9.0  # times that an event narrows what is known of an amplitude, from which on it says what that was
FEWEST = 16  # amplitudes of the train split with which their law is one


def loud(templates: Tensor, prior: float) -> Tensor:
    """Say of which events (B,) of templates (B, A, n) the amplitudes can be known: where a scatterer swings."""
    if not templates.shape[1]:
        return torch.zeros(len(templates), dtype=torch.bool)
    return templates.square().sum(-1).mean(-1) * prior**2 > HEARD


def amplitudes(templates: Tensor, rest: Tensor, prior: float) -> Tensor:
    """Find the amplitudes (B, A) of templates (B, A, n) in rest (B, n), as the ridge fit does (ridge.py)."""
    power = templates @ templates.mT + torch.eye(templates.shape[1], dtype=rest.dtype) / prior**2
    return torch.linalg.solve(power, templates @ rest[..., None])[..., 0]


def learn_errors(network: Posterior, off: Tensor, y: Tensor, kept: float) -> None:
    """Give a network the mean square of errors (B, n) of y (B, n), by y's local power.

    kept: of unit noise when it is limited to the band, as they are: they are compared with noise before that.
    """
    place = network.place(y).flatten().double()
    below = place.floor().clamp(max=STEPS - 2).long()
    above = place - below
    total, weight = torch.zeros(STEPS, dtype=torch.float64), torch.zeros(STEPS, dtype=torch.float64)
    for index, share in ((below, 1 - above), (below + 1, above)):
        weight.index_add_(0, index, share)
        total.index_add_(0, index, share * off.flatten().double().square() / kept)
    there = np.flatnonzero(weight.numpy() > 0)
    known = np.log((total / weight).clamp_min(SILENT).numpy()[there])
    network.get_buffer("errors").copy_(torch.from_numpy(np.interp(np.arange(STEPS), there, known)))


def learn_amplitudes(network: Posterior, found: Tensor, bounces: Sequence[int], prior: float) -> None:
    """Give a network amplitudes (E, A) of scatterers with so many bounces, and the spread under which each is likeliest
    given the others.

    That is how wide a kernel density is by cross-validation: Habbema et al. 1974, Compstat, 101. Where there are too
    few, it is the normal law of this prior, as the ridge fit's.
    """
    network.get_buffer("spread").fill_(prior)
    if len(found) < FEWEST:
        return
    known = turned(found, bounces)
    event = torch.arange(FOUND) % len(found)  # whose others, turned, are no others
    apart = torch.cdist(known, known).square().masked_fill_(event == event[:, None], torch.inf)
    widths = torch.from_numpy(WIDTHS) * prior
    likely = [
        float((-apart / (2 * width**2)).logsumexp(1).mean() - known.shape[1] * width.log())
        for width in widths
    ]
    network.get_buffer("found").copy_(known)
    network.get_buffer("spread").fill_(float(widths[int(np.argmax(likely))]))


def turned(found: Tensor, bounces: Sequence[int]) -> Tensor:
    """Turn amplitudes (E, A) to `FOUND` phases evenly about the circle, (J, A), as a scatterer does that has moved by
    less than a wavelength: n times as far for bounce n. Where it stands no witness knows, and one event says as little.
    """
    some = found[torch.arange(FOUND) % len(found)]
    wave = torch.complex(some[:, 1::2], -some[:, ::2])  # of sin and cos, each after the other
    for one, first in enumerate(np.cumsum([0, *bounces[:-1]]).tolist()):
        order = np.random.default_rng(one).permutation(FOUND)  # of several each by itself
        turn = 2 * torch.pi * torch.from_numpy(order) / FOUND - wave[:, first].angle()
        for bounce in range(bounces[one]):
            wave[:, first + bounce] *= torch.polar(torch.ones_like(turn), (bounce + 1) * turn)
    return torch.stack([-wave.imag, wave.real], -1).flatten(1)
