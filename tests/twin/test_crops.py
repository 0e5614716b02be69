"""Crops: where they are cut follows from seed, epoch and event alone."""

from functools import partial

import numpy as np
import pytest
import torch
from fronts import FRONT

from glitchflow.data.store.dataset import open_store
from glitchflow.twin import crops
from glitchflow.twin.crops import AFTER, BEFORE, CROP, ENDS, MOVED, crop
from glitchflow.twin.front import build_front

RATE = 64.0
LENGTH = round((BEFORE + AFTER) * RATE)
EVENT = round(BEFORE * RATE)  # the sample of the event's time


def ramps(events):
    """Each sample is its own number."""
    return torch.arange(LENGTH, dtype=torch.float32).expand(events, 2, -1).clone()


def starts(seed, events, epoch):
    return crop(RATE, seed, ramps(len(events)), np.array(events), epoch)[:, 0, 0].long()


def test_validation_sees_the_event_in_the_middle():
    found = crop(RATE, 1, ramps(3), np.array([4, 5, 6]), None)
    assert found.shape == (3, 2, round(CROP * RATE))
    assert (found[:, :, found.shape[-1] // 2] == EVENT).all()


def test_a_crop_does_not_depend_on_its_batch_but_on_seed_epoch_and_event():
    together = starts(1, [7, 8, 9], 2)
    assert together.tolist() == [int(starts(1, [event], 2)) for event in (7, 8, 9)]
    others = [starts(2, [7, 8, 9], 2), starts(1, [7, 8, 9], 3), starts(1, [17, 18, 19], 2)]
    assert all(other.tolist() != together.tolist() for other in others)


def test_half_of_them_end_about_the_event():
    ends = (starts(1, list(range(2000)), 0) + round(CROP * RATE) - EVENT) / RATE
    low, high = CROP / 2 - MOVED, CROP / 2 + MOVED
    assert float(ends.min()) == pytest.approx(ENDS[0], abs=0.05)
    assert float(ends.max()) == pytest.approx(high, abs=0.05)
    early = float((ends < low).float().mean())  # only those that end on purpose
    assert early == pytest.approx(0.5 * (low - ENDS[0]) / (ENDS[1] - ENDS[0]), abs=0.03)


def test_beyond_the_series_there_are_zeros(dataset_run):
    """Series of 8 s: a crop that ends 0.7 s before the event begins 0.7 s before the series."""
    dataset = open_store(dataset_run.dataset)
    front = build_front(dataset, dataset.channels)
    reads = crops.reads(dataset, front, dataset.channels, 1)
    raw = dataset.events("series", np.arange(2), reads.channels)
    out = np.full((2, *reads.shape), np.nan, np.float32)
    reads.fill(list(raw), out)
    lacking = round((BEFORE - 4) * front.rate)
    assert not out[..., :lacking].any() and np.isfinite(out).all()
    whole = front.prepare(torch.from_numpy(raw.astype(np.float64))).numpy()
    np.testing.assert_allclose(out[..., lacking:], whole[..., : out.shape[-1] - lacking], rtol=0, atol=2e-2)


def test_witnesses_are_silent_with_all_that_is_made_of_them():
    """FRONT: templates of SLOW (4), the input FAST, the product of both."""
    events, whole = np.arange(400), torch.ones(400, 7, 8)
    found = crops.silenced(FRONT, 1, 0.25, whole.clone(), events, epoch=0)[..., 0]
    assert found[:, 0].all(), "the strain is never"
    slow, fast = found[:, 1] == 0, found[:, 5] == 0
    assert 0.18 < slow.double().mean() < 0.32 and 0.18 < fast.double().mean() < 0.32
    assert (found[:, 1:5] == (~slow[:, None]).float()).all()
    assert ((found[:, 6] == 0) == (slow | fast)).all()
    again = crops.silenced(FRONT, 1, 0.25, whole[:50].clone(), events[350:], epoch=0)[..., 0]
    assert (again == found[350:]).all(), "whatever the batch"
    other = crops.silenced(FRONT, 1, 0.25, whole.clone(), events, epoch=1)[..., 0]
    assert not (other == found).all()


def test_validation_hears_all_witnesses():
    values = torch.randn(2, 7, 2000)
    view = partial(crops._seen, FRONT, 1, 0.9)
    events = np.arange(2)
    assert (view(values, events, None) == crops.crop(FRONT.unit, 1, values, events, None)).all()
    assert (view(values, events, 0) == 0).any()
