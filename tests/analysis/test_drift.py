"""Drift against distributions whose ranges are known."""

import numpy as np
import pytest

from glitchflow.analysis import drift
from glitchflow.data.normalise import QUANTILES, loudness_quantiles
from glitchflow.methods.compare import Basis


@pytest.fixture(scope="module")
def trained():
    """A strain and two witnesses, whose loudness was uniform in [1, 2] and in [10, 20] over the training."""
    values = np.linspace(0, 1, 20001)
    known = loudness_quantiles(np.stack([values, 1 + values, 10 + 10 * values], axis=1))
    return Basis(["H", "A", "B"], None, known)


BEYOND = 0.005


def test_the_trusted_range_leaves_out_the_share_asked_for(trained):
    low, high = drift.trusted_range(drift.trained_loudness(trained), 0.005)
    np.testing.assert_allclose(low, [1.005, 10.05])
    np.testing.assert_allclose(high, [1.995, 19.95])
    low, high = drift.trusted_range(drift.trained_loudness(trained), 0.0)
    np.testing.assert_allclose([low, high], [[1, 10], [2, 20]])


def test_events_out_of_range_are_flagged_and_their_vetoes_counted(trained):
    loudness = np.array([[1.5, 15.0], [1.0, 15.0], [1.5, 30.0], [2.0, 5.0], [1.9, 10.1]])
    vetoed = np.array([True, False, True, True, False])
    found = drift.measure(trained, loudness, vetoed, BEYOND)
    assert found.flagged.tolist() == [False, True, True, True, False]
    table = found.table
    assert (table["events"], table["flagged"], table["vetoes"], table["vetoes_not_trusted"]) == (5, 3, 3, 2)
    a, b = table["channels"]
    assert (a["name"], a["flagged"], a["below"], a["above"]) == ("A", 2, 1, 1)
    assert (b["name"], b["flagged"], b["below"], b["above"]) == ("B", 2, 1, 1)
    assert a["trained_median"] == pytest.approx(1.5)
    assert b["median"] == 15.0


def test_events_like_those_of_the_training_are_flagged_as_rarely_as_asked(trained):
    draw = np.random.default_rng(0).random((50_000, 2))
    loudness = np.array([1.0, 10.0]) + draw * np.array([1.0, 10.0])
    found = drift.measure(trained, loudness, np.zeros(50_000, bool), BEYOND)
    for row in found.table["channels"]:
        assert row["flagged"] / 50_000 == pytest.approx(0.01, abs=0.0015)
        assert row["distance"] < found.table["chance_distance"]
    assert found.flagged.mean() == pytest.approx(1 - 0.99**2, abs=0.002)


def test_distance_is_kolmogorovs():
    """Uniform in [0, 1] against uniform in [0.3, 1.3]: the cumulative shares are 0.3 apart."""
    values = np.linspace(0, 1, 10001)
    known = np.quantile(values, QUANTILES)
    assert drift.distance(values + 0.3, known) == pytest.approx(0.3, abs=1e-3)
    assert drift.distance(values, known) == pytest.approx(0.0, abs=1e-3)
    assert drift.distance(np.full(7, 99.0), known) == 1.0


def test_nothing_known_of_the_training(trained, capsys):
    unknown = Basis(trained.channels, None, None)
    assert drift.measure(unknown, np.zeros((1, 2)), np.zeros(1, bool), BEYOND) is None
    assert "no drift: neither the checkpoint nor a store says" in capsys.readouterr().err
