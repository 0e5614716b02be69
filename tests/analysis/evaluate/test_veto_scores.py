"""Decisions against counting, with levels that are given."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import small

from glitchflow.analysis.evaluate import veto_scores as decide
from glitchflow.config.analysis import Evaluate
from glitchflow.score.levels import Levels
from glitchflow.score.sample import Sample
from glitchflow.score.table import Bootstrap

EVENTS = 400


@pytest.fixture
def sample():
    """Half background, half glitches of family 1, a window of 2 s each, side by side."""
    label = (np.arange(EVENTS) % 2).astype(np.int8)
    none = np.zeros((EVENTS, 1, 1), np.float32)
    gps = 1000.0 + 2 * np.arange(EVENTS)
    return Sample(
        np.arange(EVENTS), label, gps, label * 9.0, np.zeros((EVENTS, 0)), none, None, {"network": none}
    )


@pytest.fixture
def levels(sample):
    """Recorded: 30 in glitches, 5 elsewhere. Generated: 20 in 3 of 4 glitches, and in 20 background events."""
    recorded = np.where(sample.label == 1, 30.0, 5.0)
    generated = np.where((sample.label == 1) & (np.arange(EVENTS) % 8 != 1), 20.0, 1.0)
    generated[np.flatnonzero(sample.label == 0)[:20]] = 20.0
    same = {"network": generated}
    return Levels(recorded, same, {"network": recorded}, {"network": recorded})


def of(tmp_path, **changes):
    """A store of windows of 2 s, as far as vetoes ask for it."""
    return SimpleNamespace(config=small(tmp_path, **changes), recorded=bool(changes))


def stretch(tmp_path):
    return of(tmp_path, ingest={"times": {"start": 0.0, "end": 900.0, "stride": 2.0}})


INTERVAL = Bootstrap(3, 100)


def test_efficiency_against_background_veto_fraction(sample, levels, tmp_path):
    settings = Evaluate(**{"thresholds": [0.5, 10, 25], "veto": 16})
    table = decide.veto_table(of(tmp_path), sample, levels, settings, INTERVAL)
    assert table["kind"] == "background veto fraction"
    row = table["network"]
    assert row["threshold"] == [0.5, 1, 10, 20, 25], "those asked for, and the levels of background events"
    assert row["efficiency"] == [1.0, 1.0, 0.75, 0.75, 0.0]
    assert row["cost"] == [1.0, 1.0, 0.1, 0.1, 0.0]
    assert row["resolvable"] == [True, True, True, True, False]
    assert row["cost_events"] == [200] * 5


def test_efficiency_is_quoted_only_where_ten_background_events_decide_it(sample, levels, tmp_path):
    settings = Evaluate(**{"thresholds": [0.5, 10, 25], "veto": 16})
    quoted = {
        row["cost"]: row
        for row in decide.veto_table(of(tmp_path), sample, levels, settings, INTERVAL)["network"]["quoted"]
    }
    assert not quoted[0.01]["resolvable"], "1 % of 200 are 2"
    assert quoted[0.01]["efficiency"] is None
    assert quoted[0.05]["resolvable"]
    assert quoted[0.05]["efficiency"] == 0.0
    assert (quoted[0.1]["efficiency"], quoted[0.1]["threshold"]) == (0.75, 10.0)


def test_deadtime_where_windows_slide_over_a_stretch(sample, levels, tmp_path):
    settings = Evaluate(**{"thresholds": [0.5, 10, 25], "veto": 16})
    table = decide.veto_table(stretch(tmp_path), sample, levels, settings, INTERVAL)
    assert table["kind"] == "deadtime"
    row = table["network"]
    np.testing.assert_allclose(row["cost"], np.array([400, 400, 170, 170, 0]) / 400)
    np.testing.assert_allclose(row["vetoed_seconds"], [800, 800, 340, 340, 0])
    assert row["analysed_seconds"] == 800
    np.testing.assert_allclose(
        row["efficiency_over_deadtime"], [1.0, 1.0, 0.75 / 0.425, 0.75 / 0.425, np.nan]
    )
    assert row["resolvable"] == [True, True, True, True, False]


def test_overlapping_windows_are_not_counted_twice(sample, levels, tmp_path):
    settings = Evaluate(**{"thresholds": [0.5], "veto": 16})
    close = Sample(**{**vars(sample), "gps": 1000.0 + 0.5 * np.arange(EVENTS)})
    row = decide.veto_table(stretch(tmp_path), close, levels, settings, INTERVAL)["network"]
    assert row["analysed_seconds"] == row["vetoed_seconds"][0] == 0.5 * (EVENTS - 1) + 2


def test_roc(levels):
    row = decide.roc_table(levels, 16)["network"]
    assert row["truth"] == 16
    assert row["threshold"] == [np.inf, 20.0, 1.0]
    np.testing.assert_allclose(row["true_positive"], [0, 0.75, 1])
    np.testing.assert_allclose(row["false_positive"], [0, 0.1, 1])
    assert row["auc"]["value"] == pytest.approx(0.75 * 0.9 + 0.5 * (0.75 * 0.1 + 0.25 * 0.9))
    assert row["auc"]["low"] < row["auc"]["value"] < row["auc"]["high"]
    assert (row["positives"], row["negatives"]) == (200, 200)


def test_a_long_roc_is_thinned_and_keeps_its_ends():
    rng = np.random.default_rng(0)
    generated, recorded = rng.random(5000), np.where(rng.random(5000) < 0.3, 30.0, 1.0)
    some = {"network": generated}
    row = decide.roc_table(Levels(recorded, some, some, some), 16)["network"]
    assert 200 < len(row["threshold"]) <= decide.POINTS
    assert (row["false_positive"][0], row["true_positive"][0]) == (0, 0)
    assert (row["false_positive"][-1], row["true_positive"][-1]) == (1, 1)
    drawn = np.trapezoid(row["true_positive"], row["false_positive"])
    assert drawn == pytest.approx(row["auc"]["value"], abs=2e-3)


def test_thresholds_are_1_to_50_unless_told(tmp_path):
    assert small(tmp_path).evaluate.thresholds == [float(s) for s in range(1, 51)]
