"""Blocks of events: what a dead channel, or one of a low rate, costs; bytes that no block changes."""

import numpy as np
import pytest

from glitchflow import config
from glitchflow.data.content import Content
from glitchflow.data.generate import fixed_arrays, store_arrays
from glitchflow.data.shard_events import block_events, make_block, make_factory, neighbours
from glitchflow.signal.derive import append_derived
from glitchflow.signal.qtransform import build_engine
from glitchflow.signal.types import Event, Recipe

RATES = {"W:SLOW": 48.0}
DEAD = {1: np.nan, 2: 5.0}  # event: what W:FAULTY says all the time


def faulty(simulate, series, derived, seed):
    """Strain, a witness, one that was recorded at 48 Hz, one that is dead in two events; the strain is in the last."""

    def event(index):
        rng = np.random.default_rng([seed, index])
        values = rng.standard_normal((4, series.samples))
        spectrum = np.fft.rfft(values[2])
        spectrum[np.fft.rfftfreq(series.samples, 1 / series.sample_rate) >= 24] = 0
        values[2] = np.fft.irfft(spectrum, series.samples)
        values[3] = DEAD.get(index, values[3])
        values[0] = 0 if index == 3 else values[0]
        values = append_derived(values, ["", "W:A", "W:SLOW", "W:FAULTY"], derived, series.sample_rate, rng)
        return Event(values, None, 0, 1e9 + index, 0.0)

    names = ["S", "W:A", "W:SLOW", "W:FAULTY", *(item.name for item in derived)]
    return Recipe(4, names, ["background"], [], {}, event, int, attributes={"rates": RATES})


def content(**qplot) -> Content:
    derived = [
        config.Derived(name="D:FAULTY", function="scatter", channels=["W:FAULTY"]),
        config.Derived(name="D:SLOW", function="product", channels=["W:SLOW", "W:A"]),
    ]
    return Content(
        source="simulate",
        series=config.Series(duration=8, sample_rate=256),
        simulate=config.Simulate(recipe=f"{__name__}:faulty", events=4),
        derived=derived,
        qplot=config.QPlot(frange=(10, 80), shape=(32, 32), **qplot),
        store=config.Store(series="float32"),
    )


@pytest.fixture(scope="module")
def made():
    factory = make_factory(content())
    return factory, *make_block(factory, range(4))


def test_a_dead_channel_costs_itself_and_what_is_derived_from_it(made):
    factory, block, skipped, _ = made
    wanted = np.ones((4, 6), bool)
    wanted[1:3, 3] = wanted[1:3, 4] = False  # W:FAULTY, and D:FAULTY, which would be the noise of its floor
    wanted[3] = False
    np.testing.assert_array_equal(block["valid"], wanted)
    assert skipped == {3: "S: dead, constant or without power in the band"}
    assert (block["split"][:3] >= 0).all() and block["split"][3] == -1
    assert not block["qplot"][~block["valid"]].any()
    assert np.isfinite(block["series"]).all()
    assert not block["series"][1, 3].any() and (block["series"][2, 3] == 5).all()
    assert factory.kept_channels == ["S", "W:A", "W:SLOW", "W:FAULTY"]


@pytest.mark.parametrize("window", ["fixed", "loudest"])
def test_rows_above_a_channels_own_nyquist_frequency_are_0(made, window):
    factory, block = made[:2]
    if window == "loudest":
        factory = make_factory(content(window="loudest", fres=2.0))
        block = make_block(factory, range(4))[0]
        frequency = block["frequency0"][:, None] + 2.0 * np.arange(32)
    else:
        fixed = fixed_arrays(factory, None)
        frequency = np.broadcast_to(fixed["frequency"][1], (4, 32))
        expected = fixed["frequency"][1] <= np.array([np.inf, np.inf, 24, np.inf, np.inf, 24 + 8])[:, None]
        np.testing.assert_array_equal(fixed["rows"][1], expected)
    for place, limit in ((1, np.inf), (2, 24.0), (5, 24.0 + 8)):
        np.testing.assert_array_equal(block["qplot"][:3, place].any(-1), frequency[:3] <= limit)


def test_energies_below_are_those_of_the_channel_at_its_own_rate(made):
    """Of every fourth sample: 64 Hz hold all that W:SLOW has. What is above its limit is rounding, which the whitening
    would bring up to the same height."""
    factory = made[0]
    series = np.stack([factory.recipe.event(i).series[2] for i in range(3)])[:, None]
    qplot = factory.content.qplot.model_copy(update={"frange": (10.0, 22.0)})
    whiten = config.Whiten(fftlength=2.0)
    limits, slow = np.array([24.0]), factory.content.series.model_copy(update={"sample_rate": 64.0})
    fast = build_engine(factory.content.series, qplot, whiten, "mask", limits=limits)(series)
    own = build_engine(slow, qplot, whiten, "mask", limits=limits)(series[:, :, ::4])
    np.testing.assert_allclose(fast.energy, own.energy, rtol=1e-3, atol=1e-3)


def test_no_byte_depends_on_the_block(made):
    factory, block = made[:2]
    for i in range(4):
        alone = make_block(factory, range(i, i + 1))[0]
        for name, value in alone.items():
            np.testing.assert_array_equal(value[0], block[name][i], err_msg=name)


def test_blocks_are_as_large_as_64_mib_of_series():
    assert block_events(6, 16 * 512) == 16
    assert block_events(100, 16 * 512) == 10
    assert block_events(500, 16 * 4096) == 1


def test_of_many_shards_of_recorded_data_a_task_makes_neighbours():
    shards = [*range(5), *range(7, 300)]
    alone = {k: range(k, k + 1) for k in shards}
    assert neighbours(shards, reads_files=False) == alone
    assert neighbours(shards[:100], reads_files=True) == {k: alone[k] for k in shards[:100]}
    runs = neighbours(shards, reads_files=True)
    assert list(runs.items())[:3] == [(0, range(4)), (4, range(4, 5)), (7, range(7, 11))]
    assert [k for run in runs.values() for k in run] == shards
    assert max(map(len, neighbours(list(range(12_000)), reads_files=True).values())) == 8


def test_noise_that_witnesses_share_is_kept_apart():
    acoustic = config.recipes.Subsystem(name="PEM", count=2, rate=256, telling=1, shared=2.0, band=(15, 60))
    families = {name: {"weight": 0} for name in ("scattered_light", "bilinear")}
    made = content().model_copy(
        update={
            "simulate": config.Simulate(
                events=2,
                detector={"witnesses": ["SIM:A"], "subsystems": [acoustic], "families": families},
            ),
            "derived": [],
        }
    )
    factory = make_factory(made)
    assert store_arrays(factory)["shared_series"].shape == (8 * 256,)
    block = make_block(factory, range(2))[0]
    for index, shared in enumerate(block["shared_series"]):
        np.testing.assert_array_equal(shared, factory.recipe.event(index).shared)
        assert 0 < np.std(shared) < np.std(block["series"][index, 0])
    assert "shared_series" not in store_arrays(make_factory(content()))
