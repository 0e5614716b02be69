"""What a worker of a training is projected to hold."""

from dataclasses import replace

from torch import nn

from glitchflow.config import Loader, Split
from glitchflow.data.memory import Shape
from glitchflow.train.memory import hosted, learning, own, saved
from glitchflow.twin.kind import Needs

MIB = 2**20
SEEN = (3, 64, 64)  # witnesses, frequency, time
NEEDS = Needs("qplot", 4, SEEN, {}, 4 * 64 * 64, 4 * 64 * 64)


def shape(events: int) -> Shape:
    return Shape(4, 64 * 64, 8192, events, 4, 32, 4, {"qplot": 4 * 4 * 64 * 64}, False)


def test_what_gradients_need_is_counted_once_and_without_weights():
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Sigmoid(), nn.Conv2d(5, 1, 1))
    # the input, and what the sigmoid gives, which the last layer reads too
    assert saved(network, SEEN) == 4 * 64 * 64 * (3 + 5)
    assert all(weight.grad is None for weight in network.parameters())


def test_splits_are_held_where_they_fit_and_else_the_groups_of_lanes_read_ahead():
    network, event = nn.Conv2d(3, 1, 1), 4 * 4 * 64 * 64
    few = learning(shape(1000), Split(), Loader(), 32, network, NEEDS, False).parts
    assert few["splits in memory"] == (750 + 100) * event
    assert few["what is read"] == 3 * 32 * event  # a shard, compared whole
    assert few["batches"] == 4 * 32 * event
    assert few["weights"] == 5 * 4 * 4
    many = learning(shape(10**6), Split(), Loader(cache_gb=6.6), 16, network, NEEDS, False).parts
    assert many["splits in memory"] == 100_000 * event  # of the validation split alone
    assert many["what is read"] == (3 * 32 + 2 * 2 * 4 * 4 * 4) * event
    assert many["activations"] == 1.25 * 16 * 4 * 64 * 64 * 3


def test_the_workers_of_a_host_have_the_splits_once():
    alone = learning(shape(1000), Split(), Loader(), 32, nn.Conv2d(3, 1, 1), NEEDS, False)
    splits = alone.parts["splits in memory"]
    assert own(alone) == alone.total - splits
    assert hosted(alone, 1).total == alone.total
    assert hosted(alone, 4).total == splits + 4 * own(alone)
    assert str(hosted(alone, 4)).endswith(
        f" MiB = splits in memory, once {splits / MIB:,.0f} + what each has to itself {4 * own(alone) / MIB:,.0f}"
    )


def test_what_a_network_starts_from_counts_where_it_takes_more_than_its_training():
    network, known = nn.Conv2d(3, 1, 1), shape(1000)
    parts = learning(known, Split(), Loader(), 32, network, replace(NEEDS, start=2**32), False).parts
    assert parts["what it starts from"] == 2**32
    assert "activations" not in parts
    less = learning(known, Split(), Loader(), 32, network, replace(NEEDS, start=1), False).parts
    assert "what it starts from" not in less


def test_a_network_of_low_precision_keeps_less():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 8, 3))
    assert saved(network, SEEN, half=True) < 0.8 * saved(network, SEEN)
