"""The table of scores: what every row must say, and what comes of it."""

import numpy as np
import pytest

from glitchflow.data.normalise import Normalisation
from glitchflow.score.former_table import SCORES, Unit, score_events, score_table
from glitchflow.score.sample import Sample
from glitchflow.score.table import Bootstrap, number, plain, share

UNIT = Unit.of("l1", Normalisation("log1p", [0.5], [2.0]))


@pytest.fixture
def sample():
    """Forty events, half of them of family 1, and two methods: a perfect one and one that does nothing."""
    energy = np.random.default_rng(0).exponential(1.4, size=(40, 8, 8)).astype(np.float32)
    energy[1::2, 2:5, 2:5] += 60
    events = np.arange(40)
    known = (events % 2).astype(np.int8)
    none = np.zeros((40, 0))
    generated = {"perfect": energy, "nothing": np.zeros_like(energy)}
    return Sample(events, known, events * 2.0, known * 9.0, none, energy, None, generated)


def test_a_loss_by_hand(sample):
    values = score_events(sample, UNIT, 10.0)
    expected = np.log1p(sample.recorded).mean(axis=(1, 2)) / 2
    np.testing.assert_allclose(values["nothing"]["loss"], expected, rtol=1e-5)
    assert (values["perfect"]["loss"] == 0).all()
    squares = score_events(sample, Unit.of("l2", UNIT.strain), 10.0)["nothing"]["loss"]
    np.testing.assert_allclose(squares, np.square(np.log1p(sample.recorded) / 2).mean(axis=(1, 2)), rtol=1e-4)


def test_only_l2_is_a_square():
    assert [Unit.of(loss, UNIT.strain).loss for loss in ("l1", "l2", "l1+ssim", "mine:huber")] == [
        "l1",
        "l2",
        "l1",
        "l1",
    ]


def test_each_score_says_which_way_is_better(sample):
    values = score_events(sample, UNIT, 10.0)
    table = score_table(values, {"glitch": sample.label == 1}, [], Bootstrap(1, 50), "perfect")
    rows = table["glitch"]["scores"]
    for name, score in SCORES.items():
        best, worst = (rows[method][name]["value"] for method in ("perfect", "nothing"))
        assert (best < worst) if score.better == "lower" else (best > worst), name
        assert score.words and score.form(rows["perfect"][name])
    assert "loss_above_perfect" not in rows["perfect"]
    above = rows["nothing"]["loss_above_perfect"]
    assert above["value"] == pytest.approx(rows["nothing"]["loss"]["value"])


def test_families_that_occur_and_the_witnessed_ones_together(sample):
    masks = sample.families(["background", "a", "b"], ["a"])
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"background": 20, "a": 20}
    masks = sample.families(["background", "a", "b"], ["a", "b"])
    assert list(masks) == ["background", "a", "witnessed"]
    table = score_table(score_events(sample, UNIT, 10.0), masks, ["a", "b"], Bootstrap(1, 20), "perfect")
    assert {name: entry["witnessed"] for name, entry in table.items()} == {
        "background": False,
        "a": True,
        "witnessed": True,
    }


def test_how_intervals_are_printed():
    assert share({"value": -1e-9, "low": -1e-9, "high": 0.5}) == "0.0% [0.0%, 50.0%]"
    assert share({"value": None, "low": None, "high": None}) == number({"value": None}) == number(None) == "–"
    assert number({"value": 1.0, "low": 0.5, "high": 2.0}, "+.1f") == "+1.0 [+0.5, +2.0]"


def test_json_has_no_numpy_and_no_nan():
    given = {"a": np.float32(1 / 3), "b": [np.int8(2), float("nan"), (np.inf,)], "c": np.bool_(True)}
    assert plain(given) == {"a": 0.333333, "b": [2, None, [None]], "c": True}
