"""What is left of recorded strain in a band, against sums worked out by hand."""

import numpy as np
import pytest

from glitchflow.score.made import Who
from glitchflow.score.power import (
    in_band,
    made_worse,
    power_left,
    power_left_gated,
    power_left_median,
)
from glitchflow.score.statistics import Bootstrap

INTERVAL = Bootstrap(1, 50)
EVERY = np.ones(4, bool)
WHO = Who(EVERY, EVERY, EVERY, None)
COLUMNS = {
    "wiener": {"power": np.array([8.0, 1.0, 1.0, 10.0]), "power_left": np.array([2.0, 3.0, 1.0, 1.0])},
    "nothing": {"power": np.array([8.0, 1.0, 1.0, 10.0]), "power_left": np.array([8.0, 1.0, 1.0, 10.0])},
    "gate": {"power": np.array([8.0, 1.0, 1.0, 10.0]), "power_left": np.zeros(4)},
}


@pytest.mark.parametrize(
    ("score", "wiener", "nothing", "gate"),
    [
        (power_left, 7 / 20, 1, 0),
        (power_left_median, (0.25 + 1) / 2, 1, 0),  # of 0.25, 3, 1, 0.1
        (power_left_gated, 5 / 20, 1, 0),  # the second window stays as it was
        (made_worse, 1 / 4, 0, 0),  # and is the only one that was better before
    ],
)
def test_what_methods_leave(score, wiener, nothing, gate):
    """Deleting everything wins them all: they stand beside what is kept of signals."""
    found = [score(COLUMNS, method, WHO, INTERVAL) for method in COLUMNS]
    assert [one.value for one in found] == pytest.approx([wiener, nothing, gate])
    assert all(one.low <= one.value <= one.high for one in found)


def test_a_window_that_hardly_grows_is_not_made_worse():
    left = np.array([8.3, 1.0499, 1.051, 10.0])
    found = made_worse({"twin": COLUMNS["nothing"] | {"power_left": left}}, "twin", WHO, INTERVAL)
    assert found.value == 1 / 4


def test_a_family_alone_is_scored():
    who = Who(np.array([True, False, False, True]), EVERY, EVERY, None)
    assert power_left(COLUMNS, "wiener", who, INTERVAL).value == pytest.approx(3 / 18)
    nobody = Who(~EVERY, EVERY, EVERY, None)
    for score in (power_left, power_left_median, power_left_gated, made_worse):
        assert np.isnan(score(COLUMNS, "wiener", nobody, INTERVAL).value)


def test_a_band_holds_its_own_sine_and_no_other():
    """Of three sines of minutes, the loudest outside of the band, its own is left in the middle; a constant is not."""
    rate, time = 5.0, np.arange(4500) / 5.0
    own, slow, fast = (
        a * np.sin(2 * np.pi * f * time + 1) for a, f in ((1, 0.03), (300, 0.004), (300, 0.15))
    )
    found = in_band(np.stack([own + slow + fast + 1e4, own]), rate, (0.02, 0.05))
    middle = slice(1500, 3000)
    np.testing.assert_allclose(found[1, middle], own[middle], atol=0.02)
    np.testing.assert_allclose(found[0, middle], own[middle], atol=0.3)
