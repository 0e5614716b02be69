"""Decisions against counting, with levels that are given."""

import numpy as np
import pytest
from helpers import small

from glitchflow.analysis.evaluate import veto_scores as decide
from glitchflow.config.analysis import Veto
from glitchflow.score.levels import Levels, Rule
from glitchflow.score.statistics import Bootstrap
from glitchflow.score.table import plain

EVENTS, COLUMNS = 400, 8
NONE = np.full(EVENTS, -1)
RULE = Rule(np.ones(4), 1.0, 16.0, np.array([4.0, 16, 25]))
SETTINGS, INTERVAL = Veto(padding=0.125, minimum=0.0), Bootstrap(3, 100)


def levels(shift=0):
    """Every second event is a glitch in its fourth column, at 30; recorded is 5 elsewhere. Generated is 20 in 3 of 4
    glitches and in 20 background events, in two columns."""
    glitch = np.arange(EVENTS) % 2 == 1
    recorded = np.where(glitch, 30.0, 5.0)
    generated = np.where(glitch & (np.arange(EVENTS) % 8 != 1), 20.0, 1.0)
    generated[np.flatnonzero(~glitch)[:20]] = 20.0
    covered = np.zeros((EVENTS, COLUMNS), np.uint8)
    covered[generated == 20, 3 + shift : 5 + shift] = 2
    loudest = np.where(glitch, 3, -1)
    clusters = (glitch[:, None] & (np.arange(COLUMNS) == 3)).astype(np.uint8)
    return Levels(recorded, loudest, {"network": generated}, clusters, {"network": covered})


def dataset(tmp_path, **changes):
    """A store of windows of 2 s, 64 s apart, as far as vetoes ask for it."""
    label, gps = np.arange(EVENTS) % 2, 1e9 + 64.0 * np.arange(EVENTS)

    class Store(dict):
        config, recorded = small(tmp_path, **changes), bool(changes)

        def events(self, name, some):
            return {"label": label, "gps": gps}[name][some]

    return Store(frequency=np.arange(4.0), time=np.arange(COLUMNS) / 4 - 1)


def judged(tmp_path, **options):
    return decide.judge(dataset(tmp_path), np.arange(EVENTS), levels(**options))


def test_windows_and_glitches_of_a_store(tmp_path):
    found = judged(tmp_path).watch
    np.testing.assert_allclose(found.edges[1], 1e9 + 63 + np.arange(9) / 4)
    np.testing.assert_allclose(found.glitch[:2], [np.nan, 1e9 + 63.875])
    assert found.quiet.tolist() == [True, False] * 200 and not found.block
    stretch = dataset(
        tmp_path, ingest={"times": {"start": 0.0, "end": 900.0, "stride": 2.0}}, split={"block": 99}
    )
    sliding = decide.judge(stretch, np.arange(EVENTS), levels())
    assert sliding.watch.block == 99


def test_vetoes_by_hand(tmp_path):
    table, caught = decide.veto_table(judged(tmp_path), judged(tmp_path), RULE, SETTINGS, INTERVAL)
    assert (table["glitches"], table["analysed_seconds"], table["quiet_seconds"]) == (200, 800, 400)
    row = table["methods"]["network"]
    at = row["at_veto"]
    assert (at["threshold"], at["segments"]) == (16, 170)
    assert at["efficiency"]["value"] == 0.75
    assert at["deadtime"]["value"] == pytest.approx(170 * 0.75 / 800)
    assert at["false_alarm_probability"]["value"] == pytest.approx(20 * 0.75 / 400)
    assert at["use_percentage"]["value"] == pytest.approx(150 / 170)
    assert at["chance"]["caught"] == 150
    assert at["chance"]["expected"] == pytest.approx(200 * 170 * 0.75 / 800)
    assert row["confusion"] == {"caught": 150, "missed": 50, "false": 20, "quiet": 180}
    assert row["segments"] == [170, 170, 0] and row["curves"]["deadtime"]["value"][2] == 0
    chosen = {(one["cost"], one["percent"]): one for one in row["chosen"]}
    assert len(chosen) == 4 and {one["threshold"] for one in chosen.values()} == {25}
    assert not chosen["deadtime", "1"]["resolvable"], "no segment of the validation split decides it"
    assert list(caught["network"]) == ["caught_0.1", "caught_1"]
    assert np.nansum(caught["network"]["caught_1"]) == 0
    assert np.isnan(caught["network"]["caught_1"]).sum() == 200


def test_the_threshold_is_the_validation_split_s_alone(tmp_path):
    few = judged(tmp_path)
    few.levels.covered["network"][20:] = 0  # 0.75 s each of 17 events: a deadtime of 1.6 %
    few.levels.covered["network"][10:] = np.minimum(few.levels.covered["network"][10:], 1)
    table, caught = decide.veto_table(judged(tmp_path), few, RULE, SETTINGS, INTERVAL)
    chosen = {(one["cost"], one["percent"]): one for one in table["methods"]["network"]["chosen"]}
    assert chosen["deadtime", "1"]["threshold"] == 16
    assert chosen["deadtime", "0.1"]["threshold"] == 25
    assert np.nansum(caught["network"]["caught_1"]) == 150
    alone, caught = decide.veto_table(judged(tmp_path), None, RULE, SETTINGS, INTERVAL)
    assert alone["methods"]["network"]["chosen"] == [] and alone["methods"]["network"]["rank"] is None
    assert caught == {"network": {}}


def test_vetoes_beside_the_glitch_are_no_vetoes_of_it(tmp_path):
    table, _ = decide.veto_table(judged(tmp_path, shift=2), None, RULE, SETTINGS, INTERVAL)
    at = table["methods"]["network"]["at_veto"]
    assert at["efficiency"]["value"] == at["use_percentage"]["value"] == at["chance"]["significance"] == 0
    assert plain(table)["methods"]["network"]["curves"]["use_percentage"]["value"] == [0, 0, None]


def test_pglitch_of_levels(tmp_path):
    found = decide.rank_table(judged(tmp_path), judged(tmp_path), "network")
    assert found["prior"] == 0.5 and found["prior_brier"] == 0.25
    # 150 of 170 at 20, 50 of 230 at 1
    high, low = 150 / 170, 50 / 230
    brier = (150 * (1 - high) ** 2 + 20 * high**2 + 50 * (1 - low) ** 2 + 180 * low**2) / 400
    assert found["brier"] == pytest.approx(brier)
    odds = [np.log(p / (1 - p)) for p in (high, low)]
    assert found["loglike"]["glitch"] == pytest.approx((150 * odds[0] + 50 * odds[1]) / 200)
    assert [row["events"] for row in found["reliability"]] == [40] * 10


def test_what_is_left_by_hand(tmp_path):
    some = Levels(
        np.zeros(4),
        NONE[:4],
        {},
        np.zeros((4, 1), np.uint8),
        {},
        {"m": np.array([20.0, 3, 3, 3])},
        {},
        {"m": np.array([2.0, 0, 0, 0])},
    )
    found = decide.left_table(some, 16.0, INTERVAL)["m"]
    assert found["residual_area"]["value"] == 0.5 and found["cleaned"]["value"] == 0.75


def test_roc():
    row = decide.roc_table(levels(), 16)["network"]
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
    row = decide.roc_table(
        Levels(recorded, NONE, {"network": generated}, np.zeros((5000, 1), np.uint8), {}), 16
    )["network"]
    assert 200 < len(row["threshold"]) <= decide.POINTS
    assert (row["false_positive"][0], row["true_positive"][0]) == (0, 0)
    assert (row["false_positive"][-1], row["true_positive"][-1]) == (1, 1)
    drawn = np.trapezoid(row["true_positive"], row["false_positive"])
    assert drawn == pytest.approx(row["auc"]["value"], abs=2e-3)


def test_thresholds_are_1_to_50_unless_told(tmp_path):
    assert small(tmp_path).evaluate.thresholds == [float(s) for s in range(1, 51)]
