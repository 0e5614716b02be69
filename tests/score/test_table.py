"""The table of scores: columns of a block of events, and what comes of them."""

from dataclasses import replace

import numpy as np
import pytest

from glitchflow.score import metrics
from glitchflow.score.made import BLOCK, Made, families
from glitchflow.score.table import SCORES, Bootstrap, measure, number, plain, score_table, share

B = metrics.NOISE_ENERGY
BOOTSTRAP = Bootstrap(1, 50)


def made(method: str, events: int = 40) -> Made:
    """What a method makes of events every second one of which holds a witnessed transient in a corner."""
    rng = np.random.default_rng(0)
    w = np.zeros((events, 8, 8), np.float32)
    w[1::2, 2:5, 2:5] = 60
    t = (rng.exponential(1, w.shape) * (w + 1.1)).astype(np.float32)
    noise, truth = rng.normal(size=(events, 64)), np.zeros((events, 64))
    truth[1::2, 10:20] = 3.0
    strain = noise + truth
    g = {
        "oracle": w + np.float32(1.1),
        "nothing": np.zeros_like(t),
        "constant": np.full_like(t, 30.0),
        "gate": None,
    }[method]
    removed = {
        "oracle": truth,
        "nothing": 0 * truth,
        "constant": strain * (1 - np.sqrt(B / 30)),
        "gate": strain,
    }[method]
    cleaned = np.zeros_like(t) if g is None else metrics.subtract(t, w + B if method == "oracle" else g)
    wanted = metrics.wanted(t, w)
    return Made(t, g, cleaned, wanted, w, strain, truth, removed, np.full(8, 1.1), method != "gate")


METHODS = ("oracle", "nothing", "constant", "gate")
LABEL = np.arange(40) % 2


@pytest.fixture(scope="module")
def measured():
    found = {method: measure(made(method)) for method in METHODS}
    glitch = np.where(LABEL == 1, 1.0, np.nan)  # vetoes are given
    for method, efficiency in (("oracle", 1), ("constant", 0)):
        found[method] |= dict.fromkeys(("caught_0.1", "caught_1"), efficiency * glitch)
    return found


@pytest.fixture(scope="module")
def table(measured):
    who = families(LABEL, ["background", "burst", "blip"], ["burst"], LABEL == 1, 32.0)
    return plain(score_table(measured, who, ["burst"], BOOTSTRAP))


def test_the_shape_of_the_table(table):
    assert list(table) == ["background", "burst"]
    assert {k: v for k, v in table["burst"].items() if k != "scores"} == {
        "events": 20,
        "glitches": 20,
        "witnessed": True,
    }
    assert table["background"]["glitches"] == 0 and not table["background"]["witnessed"]
    for row in table["burst"]["scores"].values():
        assert list(row) == list(SCORES)
        assert all(list(entry) == ["value", "low", "high"] for entry in row.values())


def value(table, method, score, family="burst"):
    return table[family]["scores"][method][score]["value"]


def test_nothing_and_the_truth_by_hand(table):
    for score, nothing, oracle in [
        ("residual", 1, 0),
        ("left", 1, 0),
        ("noise_added", 0, 0),
        ("noise_above_3", 0, 0),
        ("snr_left_median", np.sqrt(90), 0),
        ("snr_left_p90", np.sqrt(90), 0),
        ("removed", 0, 1),
        ("destroyed", 0, 0),
    ]:
        assert value(table, "nothing", score) == pytest.approx(nothing, abs=1e-5), score
        assert value(table, "oracle", score) == pytest.approx(oracle, abs=1e-5), score
    assert value(table, "oracle", "skill") == 1
    assert value(table, "gate", "noise_added") == value(table, "gate", "noise_above_3") == 1


def test_each_score_says_which_way_is_better(table):
    """The oracle beats the constant in every score; signals are left alone by neither, and no glitch is louder."""
    for name, score in SCORES.items():
        if score.needs & {"kept", "power_left"} or name in ("left_12_20", "left_20_35", "left_above_35"):
            continue
        best, worst = value(table, "oracle", name), value(table, "constant", name)
        assert (best < worst) if score.better == "lower" else (best > worst), name
        assert score.words and score.form(table["burst"]["scores"]["oracle"][name]) != "–"


def test_what_has_no_value_is_null(table):
    nothing = {"value": None, "low": None, "high": None}
    for score in ("skill", "nll", "iou", "l1", "ssim"):  # it generates nothing
        assert table["burst"]["scores"]["gate"][score] == nothing
        assert SCORES[score].form(nothing) == "–"
    for score in ("residual", "left", "skill", "snr_left_p90", "removed", "destroyed"):  # no glitch in it
        assert table["background"]["scores"]["constant"][score] == nothing
    assert value(table, "constant", "noise_added", "background") == value(table, "constant", "noise_added")


def test_a_method_that_looks_at_the_strain_has_no_likelihood():
    assert "nll" in measure(made("constant"))
    assert "nll" not in measure(replace(made("constant"), seeing=False))


def test_without_series_or_truth_columns_are_missing():
    energies = measure(replace(made("nothing"), strain=None, truth=None, removed=None))
    assert sorted(energies) == ["before", "harm", "iou", "l1", "nll", "off", "quietly", "ssim"]
    recorded = measure(replace(made("nothing"), truth=None, witnessed=None, wanted=None))
    assert sorted(recorded) == ["iou", "l1", "nll", "ssim"]
    who = families(LABEL, ["background", "burst"], ["burst"], LABEL == 1, 32.0)
    row = score_table({"nothing": energies}, who, ["burst"], BOOTSTRAP)["burst"]
    assert np.isnan(row["scores"]["nothing"]["residual"]["value"])
    assert row["scores"]["nothing"]["removed"]["value"] == pytest.approx(0, abs=1e-6)


def test_no_event_no_value_no_exception():
    none = {method: measure(made(method, 0)) for method in METHODS}
    assert all(v.shape == (0,) for columns in none.values() for v in columns.values())
    empty = np.zeros(0, bool)
    for ratio in (32.0, None):
        who = {"burst": replace(families(LABEL, ["background"], [], LABEL == 1, ratio)["background"])}
        who = {name: replace(w, family=empty, glitch=empty, quiet=empty) for name, w in who.items()}
        table = plain(score_table(none, who, ["burst"], BOOTSTRAP))
        rows = table["burst"]["scores"].values()
        assert {entry["value"] for row in rows for entry in row.values()} == {None}


def test_blocks_do_not_show():
    events = 2 * BLOCK + 3
    whole = made("constant", events)
    parts = [
        replace(
            whole, **{n: getattr(whole, n)[i : i + 1] for n in ("recorded", "generated", "cleaned", "wanted")}
        )
        for i in range(events)
    ]
    parts = [
        replace(
            part, **{n: getattr(whole, n)[i : i + 1] for n in ("witnessed", "strain", "truth", "removed")}
        )
        for i, part in enumerate(parts)
    ]
    together, single = measure(whole), [measure(part) for part in parts]
    for name, column in together.items():
        assert column.dtype == np.float64
        np.testing.assert_allclose(
            column, np.concatenate([one[name] for one in single]), rtol=1e-6, err_msg=name
        )


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"strain, truth, removed, transients differ in shape: \[\(40, 63\), \(40, 64\)\]"
    ):
        measure(replace(made("nothing"), removed=np.zeros((40, 63))))
    with pytest.raises(ValueError, match="energies hold NaN or infinity"):
        measure(replace(made("nothing"), cleaned=np.full((40, 8, 8), np.nan)))


def test_families_and_their_quiet_events():
    label = np.array([0, 0, 1, 2, 3, 3])
    glitch = np.array([False, False, True, True, True, False])
    found = families(label, ["background", "a", "blip", "b", "c"], ["a", "b"], glitch, 4.0)
    assert {name: np.flatnonzero(who.family).tolist() for name, who in found.items()} == {
        "background": [0, 1],
        "a": [2],
        "blip": [3],
        "b": [4, 5],
        "witnessed": [2, 4, 5],
    }
    assert {name: np.flatnonzero(who.glitch).tolist() for name, who in found.items()} == {
        "background": [],
        "a": [2],
        "blip": [],
        "b": [4],
        "witnessed": [2, 4],
    }
    assert {name: np.flatnonzero(who.quiet).tolist() for name, who in found.items()} == {
        "background": [0, 1],
        "a": [0, 1],
        "blip": [3],
        "b": [0, 1],
        "witnessed": [0, 1],
    }
    assert list(families(label, ["background", "a", "blip", "b"], ["a"], glitch, None)) == [
        "background",
        "a",
        "blip",
        "b",
    ]


def test_how_intervals_are_printed():
    assert share({"value": -1e-9, "low": -1e-9, "high": 0.5}) == "0.0% [0.0%, 50.0%]"
    none = {"value": None, "low": None, "high": None}
    assert share(none) == share(None) == number(none) == number(None) == "–"
    assert number({"value": 1.0, "low": 0.5, "high": 2.0}, "+.1f") == "+1.0 [+0.5, +2.0]"


def test_json_has_no_numpy_and_no_nan():
    given = {"a": np.float32(1 / 3), "b": [np.int8(2), float("nan"), (np.inf,)], "c": np.bool_(True)}
    assert plain(given) == {"a": 0.333333, "b": [2, None, [None]], "c": True}
