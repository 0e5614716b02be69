"""Whether a small network tells draws from real glitches: the classifier two-sample test.

Lopez-Paz & Oquab 2017, arXiv:1610.06545: where both sides have one law no classifier is right more often than half the
time; one that is finds what other scores did not look for. Both sides are seen in detector noise: of clean series, what
is left of a generator's own numerical floor gives any away.

Shapes: E event, F frequency, T time; Q-plots of one family.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glitchflow.score.statistics import Bootstrap, Interval, bootstrap_apart
from glitchflow.signal.types import Array, Energies, Indices

FOLDS = 4  # each event is judged by a network that was trained without it
HELD = 5  # one in so many of the others says when to stop
WIDTHS = (8, 16, 32, 32)  # channels of convolutions that each halve the image
EPOCHS, PATIENCE = 60, 8
BATCH, RATE = 32, 2e-3


def told_apart(real: Energies, drawn: Energies, seed: int, interval: Bootstrap) -> Interval:
    """Measure how often real glitches and draws are told apart: .5 where they cannot be, 1 where always.

    The mean of the shares of real ones and of draws that are named rightly, by networks that were trained on other
    events (`FOLDS`-fold), each until events that it was not trained on say stop. Both sides count alike: of the longer
    one the first are taken. For the interval both sides are drawn anew; that another training would decide otherwise is
    not in it. NaN with fewer than `FOLDS` x 2 of a side.

    Shapes: (E, F, T) each, at least 16 pixels either way.
    """
    count = min(len(real), len(drawn))
    if count < 2 * FOLDS:
        return Interval(np.nan, np.nan, np.nan)
    images = torch.from_numpy(np.log1p(np.maximum(np.concatenate([real[:count], drawn[:count]]), 0)))[:, None]
    truth = torch.arange(2 * count) >= count
    fold = np.concatenate([np.random.default_rng((seed, side)).permutation(count) for side in (0, 1)]) % FOLDS
    right = np.zeros(2 * count, bool)
    for one in range(FOLDS):
        judged = np.flatnonzero(fold == one)
        network = _trained(images, truth, np.flatnonzero(fold != one), seed + one)
        with torch.inference_mode():
            right[judged] = ((network(images[judged]) > 0) == truth[judged]).numpy()
    return bootstrap_apart(_balanced, (right[:count], right[count:]), *interval)


def _balanced(first: Array, second: Array, axis: int = -1) -> Array:
    return np.asarray((first.mean(axis=axis) + second.mean(axis=axis)) / 2)


class Judge(nn.Module):
    """Maps log energies (E, 1, F, T) to the logit (E,) of being drawn."""

    def __init__(self, mean: float, scale: float) -> None:
        super().__init__()
        self.mean, self.scale = mean, scale
        pairs = zip((1, *WIDTHS[:-1]), WIDTHS, strict=True)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs)
        self.head = nn.Linear(2 * WIDTHS[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (E, 1, F, T) to (E,)."""
        seen = (images - self.mean) / self.scale
        for convolution in self.convolutions:
            seen = F.relu(convolution(seen))
        return self.head(torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1))[:, 0]


def _trained(images: Tensor, truth: Tensor, events: Indices, seed: int) -> Judge:
    """A network of these events (E,), as it was when those of them that are held out were told best."""
    order = np.random.default_rng((seed, 2)).permutation(events)
    held, rest = order[::HELD], np.delete(order, slice(None, None, HELD))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Judge(float(images[rest].mean()), float(images[rest].std()))
    optimiser = torch.optim.AdamW(network.parameters(), RATE)
    best, least, since, rng = copy.deepcopy(network.state_dict()), np.inf, 0, np.random.default_rng((seed, 3))
    for _ in range(EPOCHS):
        shuffled = rng.permutation(rest)
        for first in range(0, len(rest), BATCH):
            some = shuffled[first : first + BATCH]
            optimiser.zero_grad()
            _loss(network, images[some], truth[some]).backward()
            optimiser.step()
        with torch.inference_mode():
            now = _loss(network, images[held], truth[held]).item()
        since += 1
        if now < least:
            best, least, since = copy.deepcopy(network.state_dict()), now, 0
        if since == PATIENCE:
            break
    network.load_state_dict(best)
    return network


def _loss(network: Judge, images: Tensor, truth: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(network(images), truth.to(images.dtype))
