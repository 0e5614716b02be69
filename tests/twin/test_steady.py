"""What is shared all the time: the filter that is found without bursts, what it starts, and what the fit takes back."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glitchflow.model import build
from glitchflow.signal.wiener import cross_spectra, fit_wiener
from glitchflow.twin import coherent, start, steady
from glitchflow.twin.front import Front

RATE, SAMPLES, EVENTS = 512.0, 3072, 48
FRONT = Front(
    rate=RATE,
    band=(10.0, 200.0),
    span=2.0,
    channels=["S", "A", "B"],
    taps=[[1.0, 0.0]] * 3,
    inputs=[1, 2],
    products=[],
    scatters=[],
    offsets=[0.0] * 3,
)


class Store:
    """Series in memory, as a store gives them: every fourth event is of the validation split."""

    recorded_channels = FRONT.channels
    config = SimpleNamespace(series=SimpleNamespace(samples=SAMPLES))

    def __init__(self, shared, bursts):
        rng = np.random.default_rng(5)
        self.series = rng.standard_normal((EVENTS, 3, SAMPLES))
        a, b = self.series[:, 1], self.series[:, 2]
        self.series[:, 0] += shared * (np.roll(a, 3, axis=1) - 0.6 * b)
        a[::bursts, 1000:2000] += 30 * rng.standard_normal(1000)  # in no other channel

    def indices(self, split):
        return np.flatnonzero((np.arange(EVENTS) % 4 == 1) == (split == "validation"))

    def events(self, _name, events, places):
        return self.series[events][:, places]

    def __getitem__(self, _name):
        return self.series


@pytest.fixture(scope="module")
def store():
    return Store(1.0, 3)


@pytest.fixture(scope="module")
def filters(store):
    return steady.taps(FRONT, store)


def test_there_is_a_steady_expert_where_something_is_shared(store):
    assert steady.known(FRONT, store) == replace(FRONT, steady=1)
    assert steady.known(FRONT, Store(0.0, 3)) == FRONT
    assert coherent.sees(replace(FRONT, steady=1))[1]["steady"] == 1
    assert "steady" not in coherent.sees(FRONT)[1]


def test_the_filter_is_found_without_the_bursts(store, filters):
    assert filters.shape == (2, 513)
    assert filters.abs().argmax(-1).tolist() == [256 + 3, 256]
    gain = torch.fft.rfft(filters)[:, 20:190].abs().mean(-1)  # 20 to 190 Hz
    torch.testing.assert_close(gain, torch.tensor([1.0, 0.6], dtype=gain.dtype), rtol=0.05, atol=0)
    whole = fit_wiener(cross_spectra([(store.series[:, 0], store.series[:, 1:])], 256), RATE, (10.0, 200.0))
    assert np.abs(np.fft.rfft(whole.taps[0])[10:95]).mean() < 0.1  # of all events: it does not listen


def network_of(front, data):
    network = build(
        "coherent", 2, (SAMPLES,), width=4, experts=2, sensors=2, **coherent.sees(front)[1]
    ).double()
    start.begin(network, front, data)
    return network


def test_at_the_start_the_network_takes_out_what_a_wiener_filter_does(store):
    """Of quiet events, in every tenth of the band: within 10 % of the filter that knows which ones are quiet."""
    front = replace(FRONT, steady=1)
    quiet = store.series[np.arange(EVENTS) % 3 != 0]
    wiener = fit_wiener(cross_spectra([(quiet[:, 0], quiet[:, 1:])], 256), RATE, (9.5, 210.0))
    prepared = front.prepare(torch.from_numpy(quiet))[..., 512:-512]
    strain, known = prepared[:, 0], torch.from_numpy(wiener.predict(prepared[:, 1:].numpy()))
    with torch.no_grad():
        y = network_of(front, store)(prepared[:, 1:])[:, 0]
    inside = torch.fft.rfftfreq(1536, 1 / RATE)

    def asd(series):
        power = torch.fft.rfft(series[:, 256:-256]).abs().square().mean(0)
        return torch.stack(
            [power[(inside >= low) & (inside < low + 19)].mean().sqrt() for low in range(10, 200, 19)]
        )

    before, after, wanted = asd(strain), asd(strain - y), asd(strain - known)
    assert (wanted / before).max() < 0.75
    torch.testing.assert_close(after / before, wanted / before, rtol=0.1, atol=0)


def test_moments_are_an_estimate_in_pieces():
    y = torch.randn(2, 2048, dtype=torch.float64)
    found = steady.moments(FRONT, y)
    assert found.shape == (2, 33, 2048)
    torch.testing.assert_close(found.sum(1), steady.ERROR * y)
    assert ((found[0].abs() > 1e-12).sum(-1) <= 128).all()


def test_what_is_not_in_the_strain_is_taken_back_and_what_is_stays():
    generator = torch.Generator().manual_seed(1)
    strain, burst, quiet = torch.randn(3, 1, 2048, generator=generator, dtype=torch.float64)
    front = replace(FRONT, steady=1)
    burst, quiet = 50 * burst, 0.5 * quiet
    taken = coherent.removed(front, burst[:, None], strain[:, None])
    assert taken.square().sum() < 0.3 * strain.square().sum()  # of 2,500 times as much
    heard = coherent.removed(front, burst[:, None], (strain + burst)[:, None])
    assert (heard - burst).square().sum() < 0.03 * strain.square().sum()  # a number of 50, of noise
    same = coherent.removed(front, quiet[:, None], strain[:, None])
    torch.testing.assert_close(same, quiet, rtol=0.05, atol=1e-3)
    without = coherent.removed(FRONT, burst[:, None], strain[:, None], learning=True)
    assert torch.equal(without, burst)
