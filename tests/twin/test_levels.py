"""How loud witnesses are, against closed forms; and what a training says of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fronts import FRONT, RATE
from scipy.signal import lfilter

from glitchflow.data.normalise import QUANTILES
from glitchflow.data.store.dataset import open_store
from glitchflow.train import checkpoint
from glitchflow.twin.levels import JUDGED, known, levels

SAMPLES = 20_000


def noise(rms: float = 1.0) -> torch.Tensor:
    """Series (1, 3, N) whose fast witness is white with so much of an rms behind its filter, and whose slow one
    swings."""
    rng, time = np.random.default_rng(1), np.arange(SAMPLES) / RATE
    white = rms * rng.standard_normal((2, SAMPLES))
    fast = lfilter([1.0], FRONT.taps[1], white[1])
    return torch.from_numpy(np.stack([white[0], fast, 3 + 0.2 * np.sin(2 * np.pi * 0.5 * time)])[None])


def test_a_fast_witness_has_the_rms_of_what_is_white_in_the_band_and_a_slow_one_that_of_its_motion():
    strain, fast, slow = levels(FRONT, noise())[0]
    low, high = FRONT.band
    assert np.isnan(strain)
    assert fast == pytest.approx(np.sqrt((high - low) / (RATE / 2)), rel=0.05)  # its edges pass a little more
    assert slow == pytest.approx(0.2 / np.sqrt(2), rel=0.02)


def test_it_follows_the_gain_and_not_a_burst():
    quiet = levels(FRONT, noise())[0, 1]
    assert levels(FRONT, noise(3.0))[0, 1] == pytest.approx(3 * quiet)
    loud = noise()
    loud[0, 1, 5000:5500] *= 50
    assert levels(FRONT, loud)[0, 1] == pytest.approx(quiet, rel=0.05)


def test_what_gives_nothing_has_no_level():
    series = noise()
    series[0, 1:] = 0
    assert np.isnan(levels(FRONT, series)).all()


def test_a_checkpoint_says_what_its_train_events_had(series_run):
    found = checkpoint.find(Path(series_run.workdir, "train", "checkpoints"), "best")
    front, dataset = found.normalisation, open_store(series_run.dataset)
    assert len(dataset.indices("train")) < JUDGED
    assert found.meta.levels == known(front, dataset)
    assert [len(row) for row in found.meta.levels] == [len(QUANTILES)] * len(front.channels)
    for row in found.meta.levels[1:]:
        assert 0 < row[0] < row[-1] and row == sorted(row)


def test_a_network_of_images_says_nothing(trained_run):
    found = checkpoint.find(Path(trained_run.workdir, "train", "checkpoints"), "best")
    assert found.meta.levels is None
