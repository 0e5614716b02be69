"""What numbers the sections of training stand for where they leave them open."""

import pytest

from glitchflow.config.training import Loader


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


def test_lanes_that_somebody_named():
    assert Loader(batch=32, lanes=16).lanes_among(2) == 16
