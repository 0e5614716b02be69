"""Which inputs of a coherent twin are of which group of witnesses, and what is refused."""

from dataclasses import replace

import pytest
from fronts import FRONT, First

from glitchflow.analysis.clean.groups import find_groups
from glitchflow.errors import InputError
from glitchflow.model import build
from glitchflow.twin import coherent
from glitchflow.twin.kind import Trained
from glitchflow.twin.made import Product

WIDE = replace(
    FRONT,
    channels=["S", "A", "B", "SLOW"],
    taps=[[1.0]] * 4,
    offsets=[0.0] * 4,
    inputs=[1, 2],
    products=[Product(2, 3), Product(1, 3)],
)
NETWORK = build("coherent", WIDE.seen, (2048,), templates=WIDE.templates, rate=WIDE.rate, width=8)
TRAINED = Trained(coherent.KIND, NETWORK, ["S", "A", "B", "SLOW", "B_x_SLOW"], WIDE)


@pytest.mark.parametrize(
    "groups, found",
    [
        ({"ONE": ["A"]}, {"ONE": [1, 0, 0, 1], "OTHER": [0, 1, 1, 0]}),
        ({"ONE": ["A"], "TWO": ["B", "SLOW"]}, {"ONE": [1, 0, 0, 1], "TWO": [0, 1, 1, 0]}),
        ({"ALL": ["A", "B"], "SLOW": ["SLOW", "B_x_SLOW"]}, {"ALL": [1, 1, 1, 1], "SLOW": [0, 0, 0, 0]}),
    ],
)
def test_a_product_belongs_to_the_group_of_its_fast_witness(groups, found):
    assert {name: of.tolist() for name, of in find_groups(TRAINED, groups).items()} == found


@pytest.mark.parametrize(
    "groups, message",
    [
        ({}, "clean.groups = true: evaluate.groups names no group"),
        (
            {"ONE": ["A", "C"]},
            "evaluate.groups.ONE = C: not a witness of the network; there are: A, B, SLOW, B_x_SLOW",
        ),
        (
            {"ONE": ["A"], "TWO": ["A"]},
            "evaluate.groups.TWO = A: is in ONE too; clean.groups takes one each",
        ),
        (
            {"OTHER": ["A"]},
            "evaluate.groups.OTHER: names a channel (clean.groups): must be of letters, digits, _ and -, and not OTHER",
        ),
        (
            {"a b": ["A"]},
            "evaluate.groups.a b: names a channel (clean.groups): must be of letters, digits, _ and -, and not OTHER",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(groups, message):
    with pytest.raises(InputError) as error:
        find_groups(TRAINED, groups)
    assert str(error.value) == message


def test_a_network_of_a_user_s_own_may_not_know_its_parts():
    with pytest.raises(InputError) as error:
        find_groups(replace(TRAINED, network=First()), {"ONE": ["A"]})
    assert str(error.value) == (
        "clean.groups = true: First has no method parts(given, groups), which says what each group of inputs puts into"
        " the estimate"
    )
