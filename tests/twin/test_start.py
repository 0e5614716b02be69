"""Where a bank starts: two ways to couple are told apart and found, with neither family nor truth."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fronts import FRONT, SAMPLES
from torch import nn

from glitchflow.model.bank import Coherent
from glitchflow.twin import start

EVENTS, LENGTH, AHEAD, TAPS = 96, 512, 16, 129
# of two disturbances: gain and delay in samples from two inputs' common source to each input, and to the strain
PATHS = (((1.0, 0), (0.5, 3), (1.5, 5)), ((0.4, 2), (1.2, 0), (-1.0, -4)))


def bursts(loudness=30.0, noise=1.0, seed=0):
    """Spectra of bursts of either kind in noise: (E, 1 + 2, F), and which kind each is."""
    rng = np.random.default_rng(seed)
    kind = np.arange(EVENTS) % 2
    series = noise * rng.standard_normal((EVENTS, 3, LENGTH))
    time = (np.arange(LENGTH) - LENGTH / 2) / 512
    for event in range(EVENTS):
        frequency, phase = rng.uniform(30, 200), rng.uniform(0, 6)
        source = loudness * np.exp(-np.square(time / 0.01)) * np.cos(2 * np.pi * frequency * time + phase)
        first, second, strain = PATHS[kind[event]]
        for channel, (gain, delay) in enumerate((strain, first, second)):
            series[event, channel] += gain * np.roll(source, delay)
    seen = torch.fft.rfft(torch.from_numpy(series) / LENGTH**0.5)
    return seen.cfloat(), torch.from_numpy(kind)


def test_events_are_grouped_by_how_they_couple():
    """A burst shows its own frequencies alone, so that a kind may fill several groups; none holds two kinds."""
    seen, kind = bursts()
    group = start.groups(seen, 6, AHEAD, TAPS)
    assert group.unique().numel() > 1
    mixed = sum(int(kind[group == k].bincount(minlength=2).min()) for k in group.unique())
    assert mixed <= EVENTS // 20


def test_groups_that_couple_alike_are_joined_and_others_are_not():
    seen, kind = bursts()
    noise, fine = torch.ones(2, seen.shape[-1]), torch.arange(EVENTS) % 6  # three groups of each kind
    group = start.merged(seen, noise, fine, AHEAD, TAPS)
    assert group.unique().numel() == 2
    assert (group == kind).double().mean() in (0.0, 1.0)


def test_an_event_in_the_wrong_group_goes_to_its_own():
    seen, kind = bursts()
    wrong = kind.clone()
    wrong[:4] = 1 - wrong[:4]
    group = start.merged(seen, torch.ones(2, seen.shape[-1]), wrong, AHEAD, TAPS)
    assert (group == kind).double().mean() in (0.0, 1.0)


def test_a_group_in_which_nothing_is_loud_is_joined_to_another():
    seen, kind = bursts()
    seen[:10, 1:] *= 0.01  # its inputs say nothing
    fine = torch.where(torch.arange(EVENTS) < 10, 2, kind)
    group = start.merged(seen, torch.ones(2, seen.shape[-1]), fine, AHEAD, TAPS)
    assert group.unique().numel() == 2
    assert (group == kind)[10:].double().mean() in (0.0, 1.0)


def test_no_more_groups_than_there_are():
    seen, _ = bursts()
    assert start.groups(seen[:3], 8, AHEAD, TAPS).unique().numel() <= 3
    assert start.groups(seen[:1], 8, AHEAD, TAPS).tolist() == [0]


@pytest.mark.parametrize("which", [0, 1])
def test_a_path_brings_the_disturbance_in_full(which):
    """Bursts that it was not fitted to come out whole, of which a Wiener filter takes a part."""
    seen, kind = bursts(loudness=8.0)
    clean, _ = bursts(loudness=8.0, noise=0.0, seed=5)
    noise = torch.ones(2, seen.shape[-1])
    mine, other = seen[kind == which], clean[kind == which]
    path = start.path(mine, noise, AHEAD, TAPS)
    wiener = start._wiener(mine, AHEAD, TAPS)
    power = other[:, 0].abs().square().sum()
    left, shrunk = (start._left(other, one, AHEAD).sum() / power for one in (path, wiener))
    assert left < 0.08 and left < shrunk / 2, (left, shrunk)


def test_what_nothing_is_known_of_is_not_made_up():
    """Inputs that are never above their noise have no path."""
    seen, _ = bursts(loudness=0.0)
    assert not start.path(seen, torch.full((2, seen.shape[-1]), 10.0), AHEAD, TAPS).any()


def test_unit_noise_comes_out_as_unit_noise():
    filters = torch.randn(3, 2, TAPS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = start.of_unit_noise(filters * torch.tensor([1.0, 5.0, 0.1])[:, None, None], 4 * LENGTH, AHEAD)
    power = start._response(found, 4 * LENGTH, AHEAD).abs().square().sum(1)
    np.testing.assert_allclose(power.mean(-1), 1, rtol=0.1)


class Store:
    """Events of two channels and a slow one, the first half of them with a burst in the middle."""

    def __init__(self):
        rng = np.random.default_rng(3)
        self.recorded_channels = FRONT.channels
        self.series = rng.standard_normal((64, 3, SAMPLES))
        self.series[:32, :2, SAMPLES // 2 : SAMPLES // 2 + 8] += 40 * np.array([1, -1] * 4)
        self.config = SimpleNamespace(series=SimpleNamespace(samples=SAMPLES))

    def indices(self, split):
        return np.arange(64)

    def events(self, array, events, places):
        return self.series[events][:, places]


def test_half_of_the_events_are_looked_at_the_loud_ones():
    seen, noise = start.spectra(FRONT, Store())
    assert seen.shape == (32, 3, round(FRONT.rate * start.SPAN) // 2 + 1) and noise.shape == (
        2,
        seen.shape[-1],
    )
    assert seen[:, 1].abs().square().amax(-1).min() > 20 * noise[0].max()


def test_a_bank_is_given_paths_and_what_is_left_stays_as_drawn():
    network = Coherent(
        2 + FRONT.templates, (512,), width=4, templates=FRONT.templates, rate=FRONT.rate, sensors=2
    )
    drawn = network.bank.taps.detach().clone()
    start.begin(network, FRONT, Store())
    changed = (network.bank.taps != drawn).flatten(1).any(1)
    assert changed[0] and changed[8]
    assert torch.isfinite(network.bank.taps).all()
    own = nn.Linear(2, 2)
    start.begin(own, FRONT, Store())


def test_it_is_the_same_every_time():
    first, second = (
        Coherent(2 + FRONT.templates, (512,), width=4, templates=FRONT.templates, rate=FRONT.rate)
        for _ in "ab"
    )
    for network in (first, second):
        start.begin(network, FRONT, Store())
    assert torch.equal(first.bank.taps, second.bank.taps)
