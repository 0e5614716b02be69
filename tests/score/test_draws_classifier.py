"""A network that tells draws from real glitches: what it says where the answer is known."""

import numpy as np
import torch

from glitchflow.score.draws_classifier import told_apart
from glitchflow.score.statistics import Bootstrap

INTERVAL = Bootstrap(3, 200)


def spots(count, seed, broad=2.0):
    """Q-plots (count, 16, 16) of noise, exponential with median 1, and a spot anywhere."""
    rng = np.random.default_rng(seed)
    energy = rng.exponential(1 / np.log(2), (count, 16, 16))
    row, column = rng.uniform(4, 12, (2, count, 1, 1))
    at = np.arange(16)
    away = ((at[:, None] - row) / 2) ** 2 + ((at - column) / broad) ** 2
    return (energy + 30 * np.exp(-away)).astype(np.float32)


def test_two_halves_of_one_law_cannot_be_told_apart():
    found = told_apart(spots(160, 1), spots(160, 2), 5, INTERVAL)
    assert found.low <= 0.5 <= found.high
    assert 0.06 < found.high - found.low < 0.18  # 2 x 1.96 x 0.5 / sqrt(320) = .11


def test_what_is_broader_is_told():
    assert told_apart(spots(160, 1), spots(160, 2, broad=4.0), 5, INTERVAL).low > 0.85


def test_what_is_asked_again_is_answered_alike_and_nobodys_random_numbers_move():
    sides = spots(24, 1), spots(30, 2, broad=4.0)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    assert told_apart(*sides, 5, INTERVAL) == told_apart(sides[0], sides[1][:24], 5, INTERVAL)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_handful_tells_nothing():
    assert np.isnan(told_apart(spots(7, 1), spots(50, 2), 5, INTERVAL).value)
