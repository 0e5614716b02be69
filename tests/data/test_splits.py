"""Splits: quotas that leave none empty, chronological with a guard band, in blocks, and as pieces of time are named."""

import numpy as np
import pytest

from glitchflow.config import Split, parse, upgrade
from glitchflow.data.splits import by_blocks, by_time, quotas, splits_of_times
from glitchflow.data.store import SPLITS, UNSPLIT
from glitchflow.errors import InputError

TRAIN, VALIDATION, TEST = range(len(SPLITS))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [1, 0, 0]),
        (2, [1, 1, 0]),
        (3, [1, 1, 1]),
        (5, [3, 1, 1]),
        (10, [8, 1, 1]),
        (20, [15, 2, 3]),
        (1000, [750, 100, 150]),
    ],
)
def test_quotas_leave_no_split_empty(count, expected):
    assert quotas(Split(), count) == expected


def test_a_share_of_nothing_gets_nothing():
    assert quotas(Split(validation=0, test=0), 10) == [10, 0, 0]
    assert quotas(Split(validation=0.5, test=0), 3) == [2, 1, 0]


@pytest.mark.parametrize("count", [3, 5, 10, 200])
def test_by_time_the_first_are_learned_from_and_the_last_scored(count):
    times = 1e9 + 20.0 * np.random.default_rng(0).permutation(count)
    found = by_time(Split(), 8.0, times)[np.argsort(times)]
    assert found.tolist() == sorted(found.tolist()), "train, validation, test"
    assert np.bincount(found, minlength=4).tolist() == [*quotas(Split(), count), 0]


def test_series_on_both_sides_of_the_guard_band_share_no_sample():
    times = 1e9 + 2.0 * np.arange(100)  # windows every 2 s, of series of 8 s
    found = by_time(Split(), 8.0, times)
    for earlier, later in ((TRAIN, VALIDATION), (VALIDATION, TEST)):
        assert times[found == later].min() - times[found == earlier].max() == 8.0
    assert [(found == i).sum() for i in (VALIDATION, TEST)] == [10, 15]
    assert (found == UNSPLIT).sum() == 6
    assert not (by_time(Split(), 0.0, times) == UNSPLIT).any()


def test_too_short_a_time_is_said(capsys):
    times = 1e9 + 2.0 * np.arange(5)
    assert by_time(Split(), 8.0, times).tolist() == [TRAIN] * 5
    assert capsys.readouterr().err.strip() == (
        "split.order = time: 5 events within 8 s are too near each other to be shared out with split.guard = 8 s"
        " between; all are in the train split"
    )


@pytest.mark.parametrize("count", [3, 5, 10, 100])
def test_blocks_are_never_cut_and_no_split_is_empty(count):
    times = 1e9 + 100.0 * np.arange(4 * count)
    found = splits_of_times(Split(order="blocks", block=400.0), 3, 8.0, times)
    keys = np.floor(times / 400).astype(int)
    assert all(len(set(found[keys == key].tolist())) == 1 for key in keys)
    assert (np.bincount(found, minlength=3) > 0).all()
    assert np.abs(np.bincount(found, minlength=3) - np.array(quotas(Split(), 4 * count))).max() <= 5
    other = splits_of_times(Split(order="blocks", block=400.0), 4, 8.0, times)
    assert count < 10 or (found != other).any()


def test_blocks_have_a_guard_band_between_them():
    """No event of one split lies within it of one of another, and the one that comes first gives way."""
    times = 1e9 + np.random.default_rng(1).permutation(3.0 * np.arange(600))
    blocks = splits_of_times(Split(order="blocks", guard=0.0), 1, 8.0, times)
    found = splits_of_times(Split(order="blocks"), 1, 8.0, times)
    for event in np.flatnonzero(found == UNSPLIT):
        others = times[(blocks != blocks[event]) & (times > times[event])]
        assert others.min() - times[event] < 8
    kept = found != UNSPLIT
    assert (found[kept] == blocks[kept]).all()
    apart = np.abs(times[:, None] - times)[(found[:, None] != found) & kept & kept[:, None]]
    assert apart.min() >= 8
    assert 0 < (~kept).sum() < 40


def test_blocks_too_short_for_a_guard_band_are_all_learned_from(capsys):
    times = 1e9 + 100.0 * np.arange(40)
    found = splits_of_times(Split(order="blocks", block=100.0, guard=4000.0), 1, 8.0, times)
    assert (found == TRAIN).all()
    assert (
        "split.guard = 4000 s leaves a split of blocks of split.block = 100 s empty"
        in capsys.readouterr().err
    )


def test_one_block_is_learned_from():
    assert by_blocks(Split(), 1, np.zeros(7, np.int64)).tolist() == [TRAIN] * 7


def test_pieces_of_time_by_name():
    """Series that reach out of a piece are in no split, nor is the rest."""
    groups = [[1000.0, 1050.0, "test"], [1100.0, 1200.0, "train"]]
    split = Split.model_validate({"groups": groups})
    times = np.array([1003.0, 1004.0, 1046.0, 1047.0, 1075.0, 1150.0])
    found = splits_of_times(split, 1, 8.0, times)
    assert found.tolist() == [UNSPLIT, TEST, TEST, UNSPLIT, UNSPLIT, TRAIN]
    with pytest.raises(
        InputError, match=r"split: groups = \[5, 3, test\]: must be \[start, stop, split\], start < stop"
    ):
        parse({"split": {"groups": [[5.0, 3.0, "test"]]}})


def test_stores_of_before_were_split_by_blocks():
    assert upgrade({"ingest": {}, "split": {"test": 0.1}})["split"] == {"test": 0.1, "order": "blocks"}
    assert upgrade({"simulate": {}, "split": {"test": 0.1}})["split"] == {"test": 0.1}
