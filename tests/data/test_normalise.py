"""Normalisation against closed forms."""

import json

import numpy as np
import pytest
import torch
import zarr

from glitchflow.data import normalise as module
from glitchflow.data.normalise import (
    QUANTILES,
    Normalisation,
    build_normalisation,
    loudness,
    loudness_quantiles,
    mean_log,
    measure,
    reduce_statistics,
    statistics,
    stored_loudness,
)
from glitchflow.data.store.array import StoredArray


@pytest.fixture(scope="module")
def energy():
    """(B, C, F, T) energies with a spline's undershoots, each channel of its own scale."""
    rng = np.random.default_rng(1)
    scale = np.array([1.0, 100.0, 0.01])[:, None, None]
    return (scale * (rng.exponential(size=(40, 3, 5, 7)) - 0.2)).astype("float32")


@pytest.fixture(scope="module")
def stored(energy):
    return reduce_statistics([share_of(energy)])


def share_of(energy):
    """A shard's share, through JSON."""
    return json.loads(json.dumps(statistics(measure(energy))))


def test_statistics_are_those_of_the_clamped_energies(energy, stored):
    clamped = np.maximum(energy, 0).astype(float)
    axes = (0, 2, 3)
    np.testing.assert_allclose(stored["mean"], clamped.mean(axes), rtol=1e-12)
    np.testing.assert_allclose(stored["max"], clamped.max(axes), rtol=1e-12)
    np.testing.assert_allclose(stored["log_mean"], np.log1p(clamped).mean(axes), rtol=1e-12)
    np.testing.assert_allclose(stored["log_std"], np.log1p(clamped).std(axes), rtol=1e-9)


def test_shares_add_up_in_any_cut(energy, stored):
    for cuts in ([10], [1, 2, 39], [0, 20]):  # an empty share is a shard without training events
        shares = [share_of(part) for part in np.split(energy, cuts)]
        for order in (shares, shares[::-1]):
            found = reduce_statistics(order)
            for name, values in stored.items():
                np.testing.assert_allclose(found[name], values, rtol=1e-9)


def test_sums_are_added_up_as_numpy_adds_whole_shards(energy):
    """To the last bit: what was trained on such statistics before is to be trained the same."""
    clamped = np.maximum(energy, 0, dtype=np.float64)
    share = share_of(energy)
    assert share["sum"] == clamped.sum((0, 2, 3)).tolist()
    assert share["log_sum"] == np.log1p(clamped).sum((0, 2, 3)).tolist()
    assert share["log_square_sum"] == np.square(np.log1p(clamped)).sum((0, 2, 3)).tolist()
    parts = [measure(part) for part in np.split(energy, [16, 32])]
    whole = measure(energy)
    for name, values in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), values)


def test_channels_without_data_count_for_nothing(energy, stored):
    valid = np.random.default_rng(2).uniform(size=energy.shape[:2]) < 0.7
    valid[:, 2] = False
    holed = np.where(valid[:, :, None, None], energy, 0)
    found = reduce_statistics([share_of(holed[:15]), share_of(holed[15:])])
    for c in (0, 1):
        alone = reduce_statistics([share_of(energy[valid[:, c]])])
        for name, values in found.items():
            assert values[c] == pytest.approx(alone[name][c], rel=1e-12)
    assert [found[name][2] for name in ("mean", "max", "log_mean", "log_std")] == [0, 0, 0, 0]


def test_rows_that_hold_nothing_count_for_nothing_and_become_0(energy, stored):
    holed = energy.copy()
    holed[:, 1, 3:] = 0
    holed[4, 0, 2] = 0
    found, alone = reduce_statistics([share_of(holed)]), reduce_statistics([share_of(energy[:, :, :3])])
    for name, values in found.items():
        assert values[1] == pytest.approx(alone[name][1], rel=1e-12)
        assert values[2] == stored[name][2]
    np.testing.assert_allclose(loudness(holed)[:, 1], loudness(energy[:, 1:2, :3])[:, 0], rtol=1e-12)
    np.testing.assert_allclose(mean_log(measure(holed)), loudness(holed), rtol=1e-12)
    for kind in ("log1p", "max", "mean"):
        normalisation = build_normalisation(kind, found)
        value = normalisation.apply(torch.from_numpy(holed)).numpy()
        assert not value[:, 1, 3:].any() and not value[4, 0, 2].any()
        assert value[:, 2].any(-1).all() and value[:4, 0].any(-1).all()
        in_place = holed.copy()
        normalisation.apply_in_place(in_place)
        np.testing.assert_allclose(in_place, value, rtol=1e-5, atol=1e-6)


def test_loudness_is_kept_as_quantiles_over_the_events(energy):
    by_hand = np.log1p(np.maximum(energy, 0).astype(float)).mean((2, 3))
    np.testing.assert_allclose(loudness(energy), by_hand, rtol=1e-12)
    found = np.array(loudness_quantiles(by_hand))
    assert found.shape == (3, len(QUANTILES))
    np.testing.assert_array_equal(found, np.quantile(by_hand, QUANTILES, axis=0).T)
    by_hand[3:7, 1] = by_hand[:, 2] = np.nan
    holed = np.array(loudness_quantiles(by_hand))
    np.testing.assert_array_equal(holed[0], found[0])
    np.testing.assert_array_equal(holed[1], np.quantile(np.delete(by_hand[:, 1], range(3, 7)), QUANTILES))
    assert not holed[2].any()


def test_loudness_in_a_store_is_read_by_chunks_and_some_channels_at_once(tmp_path, monkeypatch):
    values = np.random.default_rng(1).normal(size=(10, 3))
    values[2, 1] = np.nan
    array = zarr.create_array(tmp_path / "loudness", data=values, chunks=(4, 3))
    column, chosen = StoredArray(str(tmp_path), "loudness", array, 4, lambda k: None), np.arange(10) % 3 > 0
    monkeypatch.setattr(module, "ROOM", 8 * 6 * 2)
    assert stored_loudness(column, chosen) == loudness_quantiles(values[chosen])
    assert stored_loudness(column, ~chosen) == loudness_quantiles(values[~chosen])


def test_nothing_to_add_up(energy):
    with pytest.raises(ValueError, match="the train split is empty: no statistics to normalise with"):
        reduce_statistics([share_of(energy[:0])])


@pytest.mark.parametrize("kind", ["log1p", "max", "mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_each_kind_promises_and_its_inverse(energy, stored, kind, dtype):
    normalisation = build_normalisation(kind, stored)
    raw = torch.from_numpy(energy).to(dtype)
    value = normalisation.apply(raw)
    assert value.dtype == dtype
    per_channel = value.transpose(0, 1).flatten(1).double()
    if kind == "max":
        assert value.min() == 0
        np.testing.assert_allclose(per_channel.amax(1), 1, rtol=1e-6)
    elif kind == "mean":
        np.testing.assert_allclose(per_channel.mean(1), 1, rtol=1e-5)
    else:
        np.testing.assert_allclose(per_channel.mean(1), 0, atol=1e-5)
        np.testing.assert_allclose(per_channel.std(1, correction=0), 1, rtol=1e-5)
    for channel, scale in enumerate((1, 100, 0.01)):
        torch.testing.assert_close(
            normalisation.invert(value)[:, channel],
            raw[:, channel].clamp_min(0),
            rtol=1e-5,
            atol=1e-5 * scale,
        )
    below = normalisation.invert(torch.full((1, 3, 1, 1), -100.0, dtype=dtype))
    assert (below == 0).all(), "an energy is never negative"


def test_channels_are_chosen_with_their_numbers(energy, stored):
    normalisation = build_normalisation("log1p", stored)
    raw = torch.from_numpy(energy)
    torch.testing.assert_close(
        normalisation.channels([2, 0]).apply(raw[:, [2, 0]]), normalisation.apply(raw)[:, [2, 0]]
    )


def test_a_silent_channel_is_not_divided_by_zero():
    silent = np.zeros((4, 2, 3, 3), dtype="float32")
    silent[:, 0] = 1
    for kind in ("log1p", "max", "mean"):
        normalisation = build_normalisation(kind, reduce_statistics([share_of(silent)]))
        assert (normalisation.apply(torch.from_numpy(silent))[:, 1] == 0).all()


def test_it_survives_json(stored):
    normalisation = build_normalisation("log1p", stored)
    assert Normalisation(**json.loads(json.dumps(normalisation.to_json()))) == normalisation


@pytest.mark.parametrize("kind", ["log1p", "mean"])
def test_floored_energies_in_closed_form(kind):
    normalisation = Normalisation(kind, [0.4], [1.5])
    value = torch.linspace(-9, 4, 30, dtype=torch.float64)[:, None, None, None]
    x = value * 1.5 + 0.4
    wanted = 0.7 + (x.exp() if kind == "log1p" else (x - 0.7).exp().log1p())
    torch.testing.assert_close(normalisation.invert(normalisation.floored(value, 0.7)), wanted)
