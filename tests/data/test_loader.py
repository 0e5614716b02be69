"""The loader's promises, on a store whose Q-plots tell which event they belong to."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import shares, write_store

from glitchflow.config.training import Loader as Settings
from glitchflow.data.loader import Loader, build_loader, choose_channels, room
from glitchflow.data.localcopy import local_copy
from glitchflow.data.normalise import Normalisation, build_normalisation
from glitchflow.data.store.schema import Layout
from glitchflow.errors import InputError, RunError
from glitchflow.twin import image

EVENTS = 1500


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """1500 events in chunks of 2 and shards of 64: many groups to a lane. Pixel (0, 0) holds the event's index."""
    path = tmp_path_factory.mktemp("loader") / "d.zarr"
    rng = np.random.default_rng(1)
    energy = rng.exponential(size=(EVENTS, 3, 4, 4)).astype("float32")
    energy[:, :, 0, 0] = np.arange(EVENTS)[:, None] + np.array([0, 0.25, 0.5])
    split = rng.choice(3, EVENTS, p=[0.7, 0.2, 0.1]).astype("int8")
    layout = Layout(EVENTS, chunk=2, shard=64)
    about = {"channels": ["S", "W1", "W2"], "labels": [], "normalisation": shares(energy)}
    return write_store(path, {"qplot": energy, "split": split}, layout, **about)


def loader(dataset, split="train", seed=1, dtype=torch.float32, **settings) -> Loader:
    settings = Settings(**{"batch": 16, "lanes": 4, "normalise": "mean", "cache_gb": 0, **settings})
    chosen = choose_channels(dataset.channels, settings.witnesses)
    normalisation = build_normalisation(settings.normalise, dataset.normalisation).channels(chosen)
    reads = image.reads(dataset, normalisation, [dataset.channels[k] for k in chosen], seed)
    return build_loader(dataset, split, settings, reads, seed, dtype)


def normalisation_of(loader: Loader) -> Normalisation:
    return loader.reads.normalisation


def events_of(batches) -> np.ndarray:
    """(step, event)"""
    return np.stack([batch.events for batch in batches])


def indices_shown(loader: Loader, batch) -> np.ndarray:
    """The events that a batch's target shows, from its pixels."""
    raw = normalisation_of(loader).channels([0]).invert(batch.target)
    return raw[:, 0, 0, 0].round().long().numpy()


@pytest.mark.parametrize("cache_gb", [0, 1])
def test_a_batch_holds_the_events_it_names_normalised(dataset, cache_gb):
    train = loader(dataset, cache_gb=cache_gb)
    energy = np.asarray(dataset["qplot"][:])
    for batch in list(train.epoch(0))[::9]:
        np.testing.assert_array_equal(indices_shown(train, batch), batch.events)
        expected = normalisation_of(train).apply(torch.from_numpy(energy[batch.events]))
        torch.testing.assert_close(batch.target, expected[:, :1])
        torch.testing.assert_close(batch.inputs, expected[:, 1:])


@pytest.mark.parametrize("cache_gb", [0, 1])
@pytest.mark.parametrize("epoch", [0, 3])
def test_the_global_batch_does_not_depend_on_the_number_of_ranks(dataset, cache_gb, epoch):
    train = loader(dataset, cache_gb=cache_gb)
    alone = list(train.epoch(epoch))
    for ranks in (2, 3, 4):
        shares = [list(train.epoch(epoch, rank, ranks)) for rank in range(ranks)]
        assert {len(share) for share in shares} == {train.steps}, "no rank waits for another"
        for batch, parts in zip(alone, zip(*shares, strict=True), strict=True):
            assert {len(part.events) for part in parts} == ({4, 8} if ranks == 3 else {16 // ranks})
            np.testing.assert_array_equal(batch.events, np.concatenate([part.events for part in parts]))
            torch.testing.assert_close(
                batch.inputs, torch.cat([part.inputs for part in parts]), rtol=0, atol=0
            )


def test_an_epoch_visits_each_event_at_most_once_and_leaves_out_less_than_a_batch(dataset):
    for batch, lanes in ((16, 4), (12, 4), (20, 2), (8, 8)):
        train = loader(dataset, batch=batch, lanes=lanes)
        seen = events_of(train.epoch(0)).ravel()
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(dataset.indices("train"))
        assert 0 <= len(train.events) - len(seen) < batch


def test_epochs_differ_and_the_seed_fixes_them(dataset):
    first, again, other = loader(dataset), loader(dataset), loader(dataset, seed=2)
    order = [events_of(first.epoch(e)) for e in (0, 1)]
    np.testing.assert_array_equal(order[0], events_of(again.epoch(0)))
    np.testing.assert_array_equal(order[1], events_of(again.epoch(1)))
    for different in (order[1], events_of(other.epoch(0))):
        assert np.mean(order[0] == different) < 0.02


def test_the_shuffle_mixes(dataset):
    order = events_of(loader(dataset).epoch(0))
    assert abs(np.corrcoef(np.arange(order.size), order.ravel())[0, 1]) < 0.1
    spread = np.ptp(order, axis=1) / EVENTS  # of 16 numbers drawn at random: 15 / 17
    assert spread.mean() > 0.6
    neighbours = np.abs(np.diff(np.sort(order, axis=1), axis=1)) == 1
    assert neighbours.mean() < 0.25, "events of a chunk do not come in one batch"


@pytest.mark.parametrize("cache_gb", [0, 1])
def test_resuming_at_a_step_gives_the_rest_of_the_epoch(dataset, cache_gb):
    train = loader(dataset, cache_gb=cache_gb)
    whole = list(train.epoch(2))
    for start in (0, 1, 17, train.steps - 1, train.steps):
        rest = list(train.epoch(2, start=start))
        assert len(rest) == train.steps - start
        for a, b in zip(whole[start:], rest, strict=True):
            np.testing.assert_array_equal(a.events, b.events)
            torch.testing.assert_close(a.inputs, b.inputs, rtol=0, atol=0)


@pytest.mark.parametrize("normalise", ["log1p", "max", "mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_and_without_cache_the_same(dataset, dtype, normalise):
    cached, read = (loader(dataset, cache_gb=gb, dtype=dtype, normalise=normalise) for gb in (1, 0))
    assert cached.cache is not None
    assert read.cache is None
    for a, b in zip(cached.epoch(1), read.epoch(1), strict=True):
        np.testing.assert_array_equal(a.events, b.events)
        assert a.inputs.dtype == b.inputs.dtype == dtype
        torch.testing.assert_close(a.inputs, b.inputs, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(a.target, b.target, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cache_gb", [0, 1])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_validation_counts_every_event_exactly_once(dataset, ranks, cache_gb):
    validation = loader(dataset, "validation", cache_gb=cache_gb)
    seen = []
    for rank in range(ranks):
        for batch in validation.once(10, rank, ranks):
            np.testing.assert_array_equal(indices_shown(validation, batch), batch.events)
            seen += batch.events.tolist()
    assert sorted(seen) == dataset.indices("validation").tolist()


@pytest.mark.parametrize("given, allowed", [(None, 0.4e9), (0, 0), (2.5, 2.5e9)])
def test_a_gpu_keeps_a_split_in_a_third_of_what_is_free_or_as_much_as_is_said(monkeypatch, given, allowed):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1_200_000_000, 80_000_000_000))
    assert room(Settings(cache_gpu_gb=given), torch.device("cuda")) == allowed
    assert room(Settings(cache_gpu_gb=given), torch.device("cpu")) < 0


def test_it_says_where_batches_come_from(dataset, tmp_path):
    size = len(dataset.indices("train")) * 3 * 4 * 4 * 4 / 1e9
    assert loader(dataset, cache_gb=1).place == f"in memory, {size:.2g} GB"
    assert loader(dataset).place == "read from the store"
    assert loader(dataset, cache_dir=str(tmp_path)).place == "read from a copy on this node"
    assert replace(loader(dataset), anew=True).place == "drawn anew"


def test_any_events_in_any_order(dataset):
    for cache_gb in (0, 1):
        train = loader(dataset, cache_gb=cache_gb)
        chosen = train.events[[40, 3, 3, 500, 41]]
        value = normalisation_of(train).invert(train.read(chosen))
        np.testing.assert_array_equal(value[:, 0, 0, 0].round(), chosen)


def test_a_subset_is_the_first_events_of_a_split(dataset):
    train = loader(dataset, subset={"train": 50, "validation": 7})
    np.testing.assert_array_equal(train.events, dataset.indices("train")[:50])
    assert set(events_of(train.epoch(0)).ravel()) <= set(train.events)
    assert len(loader(dataset, "validation", subset={"train": 50, "validation": 7}).events) == 7
    assert len(loader(dataset, "test", subset={"train": 50}).events) == len(dataset.indices("test"))


@pytest.mark.parametrize("cache_gb", [0, 1])
@pytest.mark.parametrize(
    "witnesses, channels", [([], [0, 1, 2]), (["W2"], [0, 2]), (["W2", "W1"], [0, 2, 1])]
)
def test_chosen_witnesses(dataset, witnesses, channels, cache_gb):
    train = loader(dataset, witnesses=witnesses, cache_gb=cache_gb)
    assert train.reads.channels == channels
    batch = next(iter(train.epoch(0)))
    assert batch.inputs.shape == (16, len(channels) - 1, 4, 4)
    raw = normalisation_of(train).channels(range(1, len(channels))).invert(batch.inputs)[:, :, 0, 0]
    np.testing.assert_allclose(raw, batch.events[:, None] + 0.25 * np.array(channels[1:]), rtol=1e-5)


@pytest.mark.ci
def test_many_channels_give_the_batches_of_few(dataset, tmp_path):
    """The same three channels among twenty, in chunks of their own: the same events in the same order."""
    energy = np.zeros((EVENTS, 20, 4, 4), dtype="float32")
    energy[:, [0, 11, 19]] = dataset["qplot"][:]
    names = ["S", *(f"X{i}" for i in range(1, 11)), "W1", *(f"X{i}" for i in range(12, 19)), "W2"]
    stored = {name: [0.0] * 20 for name in dataset.normalisation}
    for name, values in dataset.normalisation.items():
        for place, value in zip((0, 11, 19), values):
            stored[name][place] = value if name != "loudness" else 0.0
    about = {"channels": names, "labels": [], "normalisation": stored}
    values = {"qplot": energy, "split": dataset["split"][:]}
    many = write_store(tmp_path / "d.zarr", values, Layout(EVENTS, 2, 64), **about)
    assert many["qplot"].chunks[1] == 1
    wanted = list(loader(dataset).epoch(0))
    for more in ({}, {"cache_dir": str(tmp_path / "copy")}):
        found = list(loader(many, witnesses=["W1", "W2"], **more).epoch(0))
        for a, b in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(a.events, b.events)
            assert torch.equal(a.inputs, b.inputs) and torch.equal(a.target, b.target)


def test_it_can_be_sent_to_another_process(dataset):
    train = loader(dataset)
    sent = pickle.loads(pickle.dumps(train))  # noqa: S301
    np.testing.assert_array_equal(events_of(sent.epoch(0)), events_of(train.epoch(0)))


def test_an_epoch_may_be_left_early(dataset):
    train = loader(dataset)
    batches = iter(train.epoch(0))
    first = next(batches)
    batches.close()
    np.testing.assert_array_equal(next(iter(train.epoch(0))).events, first.events)


def test_refusals(dataset):
    with pytest.raises(InputError, match=r"^train.workers = 5: must be at most loader.lanes = 4$"):
        next(iter(loader(dataset).epoch(0, 0, 5)))
    with pytest.raises(InputError, match=r"^loader.batch = 1200: more than the \d+ events to train on$"):
        loader(dataset, batch=1200)
    with pytest.raises(InputError, match=r"^loader.batch = 16: more than the 15 events to train on$"):
        loader(dataset, subset={"train": 15})
    with pytest.raises(InputError, match=r"^loader.witnesses = S: not in the store; there are: W1, W2$"):
        loader(dataset, witnesses=["S"])
    assert loader(dataset, subset={"train": 16}).steps == 1


def test_a_split_without_events(tmp_path):
    ones = np.ones((4, 2, 2, 2), dtype="float32")
    values = {"qplot": ones, "split": np.zeros(4, dtype="int8")}
    dataset = write_store(
        tmp_path / "d.zarr", values, Layout(4, 4, 4), channels=["S", "W"], normalisation=shares(ones)
    )
    with pytest.raises(
        InputError, match=r"d.zarr: its validation split is empty; see split.validation and split.test$"
    ):
        loader(dataset, "validation")


def test_a_copy_on_a_local_disk_gives_the_same_batches(dataset, tmp_path):
    read, copied = loader(dataset), loader(dataset, cache_dir=str(tmp_path / "node"))
    for a, b in zip(read.epoch(1), copied.epoch(1), strict=True):
        np.testing.assert_array_equal(a.events, b.events)
        torch.testing.assert_close(a.inputs, b.inputs, rtol=0, atol=0)
    (copy,) = (tmp_path / "node").glob("*.npy")
    stamp = copy.stat().st_mtime_ns
    np.testing.assert_array_equal(np.load(copy), dataset["qplot"][:])
    loader(dataset, "validation", cache_dir=str(tmp_path / "node"))
    assert copy.stat().st_mtime_ns == stamp, "copied once for all splits and ranks"
    assert not list((tmp_path / "node").glob("*.partial"))


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def of_fewer_events(path):
    np.save(path, np.load(path)[:-1])


def of_another_type(path):
    np.save(path, np.load(path).astype("float64"))


def of_others(path):
    path.write_text("years of work")


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut_off, of_fewer_events, of_another_type, of_others, empty])
def test_what_is_no_copy_of_the_store_is_made_again(dataset, tmp_path, capsys, harm):
    copy = local_copy(dataset, tmp_path).path
    harm(copy)
    capsys.readouterr()
    np.testing.assert_array_equal(local_copy(dataset, tmp_path)[:], dataset["qplot"][:])
    said = f"{copy}: is no copy of qplot of {dataset.path}; it is made again\n"
    assert capsys.readouterr().err.startswith(said)
    np.testing.assert_array_equal(local_copy(dataset, tmp_path)[:], dataset["qplot"][:])
    assert not capsys.readouterr().err


def test_a_damaged_shard_of_a_copy_is_copied_again(dataset, tmp_path, capsys):
    copy, last = local_copy(dataset, tmp_path).path, dataset.layout.shards - 1
    flipped(copy)
    capsys.readouterr()
    np.testing.assert_array_equal(local_copy(dataset, tmp_path)[:8], dataset["qplot"][:8])
    assert not capsys.readouterr().err, "what is not read is not looked at"
    np.testing.assert_array_equal(local_copy(dataset, tmp_path)[8:], dataset["qplot"][8:])
    assert capsys.readouterr().err == f"{copy}: shard {last} differs from its checksum; it is copied again\n"
    np.testing.assert_array_equal(local_copy(dataset, tmp_path)[:], dataset["qplot"][:])
    assert not capsys.readouterr().err


def test_a_local_disk_that_refuses_is_named(dataset, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file.*loader\.cache_dir.*exists"):
        loader(dataset, cache_dir=str(tmp_path / "file"))


@pytest.mark.parametrize("cache_gb", [0, 1])
def test_what_is_missing_shows_its_average_and_events_without_strain_are_left_out(tmp_path, cache_gb):
    rng = np.random.default_rng(2)
    energy = rng.exponential(size=(64, 3, 4, 4)).astype("float32")
    valid = rng.random((64, 3)) > 0.2
    energy[~valid] = 0
    energy[:, 1, 2:] = 0  # above the first witness's own Nyquist frequency
    values = {"qplot": energy, "split": np.zeros(64, dtype="int8"), "valid": valid}
    about = {"channels": ["S", "W1", "W2"], "normalisation": shares(energy)}
    train = loader(write_store(tmp_path / "d.zarr", values, Layout(64, 2, 64), **about), cache_gb=cache_gb)
    np.testing.assert_array_equal(train.events, np.flatnonzero(valid[:, 0]))
    shown = train.read(train.events)
    expected = normalisation_of(train).apply(torch.from_numpy(energy[train.events]))
    torch.testing.assert_close(
        shown, torch.where(torch.from_numpy(valid[train.events])[..., None, None], expected, 0)
    )
    assert not shown[:, 1, 2:].any()
    assert shown[:, 2, 2:].any(-1).sum() == 2 * valid[train.events, 2].sum()


def test_an_epoch_that_is_left_early_leaves_no_thread(dataset):
    import threading

    before = threading.active_count()
    for _ in zip(range(3), loader(dataset).epoch(0)):
        pass
    assert threading.active_count() <= before + 1, "only Zarr's own thread may be new"
