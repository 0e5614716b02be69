"""What a worker of a training is projected to hold."""

from torch import nn

from glitchflow.config import Loader, Split
from glitchflow.data.memory import Shape
from glitchflow.train.memory import learning, saved

MIB = 2**20
SEEN = (3, 64, 64)  # witnesses, frequency, time


def shape(events: int) -> Shape:
    return Shape(4, 64 * 64, 8192, events, 4, 32, 4, {"qplot": 4 * 4 * 64 * 64}, False)


def test_what_gradients_need_is_counted_once_and_without_weights():
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Sigmoid(), nn.Conv2d(5, 1, 1))
    # the input, and what the sigmoid gives, which the last layer reads too
    assert saved(network, SEEN) == 4 * 64 * 64 * (3 + 5)
    assert all(weight.grad is None for weight in network.parameters())


def test_splits_are_held_where_they_fit_and_else_the_groups_of_lanes_read_ahead():
    network, event = nn.Conv2d(3, 1, 1), 4 * 4 * 64 * 64
    few = learning(shape(1000), Split(), Loader(), 32, network, SEEN).parts
    assert few["splits in memory"] == (750 + 100) * event
    assert few["what is read"] == 2 * 32 * event  # a shard, and what is taken of it
    assert few["batches"] == 4 * 32 * event
    assert few["weights"] == 5 * 4 * 4
    many = learning(shape(10**6), Split(), Loader(cache_gb=6.6), 16, network, SEEN).parts
    assert many["splits in memory"] == 100_000 * event  # of the validation split alone
    assert many["what is read"] == (2 * 32 + 2 * 2 * 4 * 4 * 4) * event
    assert many["activations"] == 1.25 * 16 * 4 * 64 * 64 * 3
