"""What numbers the sections of training stand for where they leave them open."""

import pytest

from glitchflow.config.training import Loader, Train


@pytest.mark.parametrize(
    ("batch", "workers", "lanes"),
    [
        (32, 1, 4),
        (32, 2, 4),
        (32, 4, 4),  # 1, 2 and 4 make the same batches
        (32, 8, 8),
        (64, 64, 64),
        (24, 3, 3),
        (30, 1, 5),
        (62, 1, 2),  # not 31, each of which would hold blocks in memory
        (127, 1, 1),
        (6, 3, 3),
        (2, 2, 2),
        (1, 1, 1),
    ],
)
def test_lanes_that_nobody_named(batch, workers, lanes):
    found = Loader(batch=batch).lanes_among(workers)
    assert found == lanes and found % workers == 0 and batch % found == 0


@pytest.mark.parametrize(
    ("batch", "workers", "lanes", "share"),
    [
        (32, 3, 8, 12),  # 3, 3 and 2; of 4 lanes one worker had two
        (512, 3, 32, 176),
        (64, 5, 32, 14),
        (7, 3, 7, 3),
        (9, 8, 9, 2),
    ],
)
def test_lanes_for_workers_that_do_not_divide_the_batch(batch, workers, lanes, share):
    """As few as leave no worker with much more than the others."""
    loader = Loader(batch=batch)
    assert (loader.lanes_among(workers), loader.share(workers)) == (lanes, share)


def test_the_share_of_workers_that_divide_the_lanes_is_the_same_for_each():
    assert [Loader(batch=32).share(workers) for workers in (1, 2, 4, 8)] == [32, 16, 8, 4]
    assert Loader(batch=32, lanes=4).share(3) == 16


@pytest.mark.parametrize(
    ("batch", "workers", "lanes", "share"),
    [(32, [1, 4], 8, 32), (24, [1, 4], 12, 24), (32, [2, 2], 4, 16), (64, [3, 5], 32, 22), (7, [1, 8], 8, 7)],
)
def test_lanes_for_any_number_of_workers_between_two(batch, workers, lanes, share):
    """For the number among them that they fit worst; the busiest worker has most where there are fewest."""
    settings, loader = Train(workers=workers), Loader(batch=batch)
    assert settings.range == tuple(workers) and settings.fewest == workers[0]
    assert (loader.lanes_among(*settings.range), loader.share(*settings.range)) == (lanes, share)


def test_lanes_that_somebody_named():
    assert Loader(batch=32, lanes=16).lanes_among(2) == 16
