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


def unit(channels=3, rows=LENGTH // 2 + 1):
    """The cross power of white noise."""
    return torch.eye(channels).cfloat().expand(rows, channels, channels)


def left(seen, taps):
    """What a filter leaves of the strain's power, event by event."""
    response = start._response(taps, LENGTH, AHEAD)
    return (seen[:, 0] - (response * seen[:, 1:]).sum(1)).abs().square().sum(-1)


@pytest.mark.parametrize("louder", [1, 100])
def test_each_way_to_couple_is_found(louder):
    """Bursts that no group was made of come out whole by a group's path; that some are so much louder changes nothing.

    A burst shows its own frequencies alone: a group may be of one kind below and of the other above some frequency,
    which gates tell apart.
    """
    (seen, _), (clean, _) = bursts(), bursts(noise=0.0, seed=5)
    seen[::7] *= louder
    whitener = start.whiteners(unit())
    loud = start.cells(seen, whitener)
    found = start.paths(loud, start.groups(loud, 6), whitener, AHEAD, TAPS)
    rest = torch.stack([left(clean, path) for path in found]).amin(0)
    assert rest.sum() < 0.1 * clean[:, 0].abs().square().sum()


def test_no_more_groups_than_there_are():
    seen, _ = bursts()
    whitener = start.whiteners(unit())
    assert start.groups(start.cells(seen[:3], whitener), 8).unique().numel() <= 3
    assert start.groups(start.cells(seen[:1], whitener), 8).unique().numel() == 1


@pytest.mark.parametrize("which", [0, 1])
def test_a_path_brings_the_disturbance_in_full(which):
    """Bursts that it was not fitted to come out whole, out of inputs that have noise in common."""
    (seen, kind), (clean, _) = bursts(loudness=12.0), bursts(loudness=12.0, noise=0.0, seed=5)
    whitener = start.whiteners(unit())
    found = start.paths(start.cells(seen, whitener), kind, whitener, AHEAD, TAPS)[which]
    other = clean[kind == which]
    assert left(other, found).sum() < 0.05 * other[:, 0].abs().square().sum()


def test_a_path_is_found_where_witnesses_hardly_hear():
    """The strain says when there is something to be heard, and how loud."""
    (seen, kind), (clean, _) = bursts(loudness=60.0), bursts(loudness=60.0, noise=0.0, seed=5)
    quiet = torch.tensor([1.0, 0.1, 0.1])[:, None]
    noise = bursts(loudness=0.0)[0]  # the same noise as in seen
    seen, clean = noise + quiet * (seen - noise), quiet * clean
    whitener = start.whiteners(unit())
    found = start.paths(start.cells(seen, whitener), kind, whitener, AHEAD, TAPS)
    for which in (0, 1):
        other = clean[kind == which]
        assert left(other, found[which]).sum() < 0.2 * other[:, 0].abs().square().sum()


def test_what_nothing_is_known_of_is_not_made_up():
    """Inputs that are never above their noise have no path, and ask for no noise."""
    seen, kind = bursts(loudness=0.0)
    whitener = start.whiteners(100 * unit())
    found = start.paths(start.cells(seen, whitener), kind, whitener, AHEAD, TAPS)
    assert not found.any()
    assert not start.of_unit_noise(found, LENGTH, AHEAD).any()


def test_noise_that_inputs_share_is_made_white_and_the_strain_left_to_itself():
    rng = np.random.default_rng(2)
    mixed = torch.from_numpy(rng.standard_normal((5, 4, 4)) + 1j * rng.standard_normal((5, 4, 4))).cfloat()
    noise = mixed @ mixed.mH
    found = start.whiteners(noise)
    inputs = found[:, 1:, 1:]
    white = inputs @ noise[:, 1:, 1:] @ inputs.mH
    torch.testing.assert_close(white, torch.eye(3).cfloat().expand(5, 3, 3), rtol=0, atol=0.1)
    assert not found[:, 0, 1:].any() and not found[:, 1:, 0].any()
    scale = (found[:, 0, 0].abs().square() * noise[:, 0, 0].real).numpy()
    np.testing.assert_allclose(scale, 1, rtol=0.05)


def test_where_there_is_no_noise_nothing_comes_out():
    noise = torch.cat([unit(3, 2), 0 * unit(3, 1)])
    assert not start.whiteners(noise)[2].any()


def test_the_inputs_that_are_loud_most_often_take_part(monkeypatch):
    monkeypatch.setattr(start, "INPUTS", 1)
    seen, _ = bursts()
    seen[:, 1] *= 0.1
    assert start.loudest(seen, unit()).tolist() == [1]
    monkeypatch.setattr(start, "INPUTS", 5)
    assert start.loudest(seen, unit()).tolist() == [0, 1]


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
    rows = round(FRONT.rate * start.SPAN) // 2 + 1
    assert seen.shape == (32, 3, rows) and noise.shape == (rows, 3, 3)
    assert seen[:, 1].abs().square().amax(-1).min() > 20 * noise[:, 1, 1].real.max()


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
