import csv
import json
from pathlib import Path

import numpy as np
import pytest

from glitchflow.analysis.evaluate.evaluate import summary
from glitchflow.data.store import dataset as store
from glitchflow.score.table import SCORES, share


@pytest.fixture
def result(trained_run):
    return json.loads((Path(trained_run.workdir) / "evaluation" / "metrics.json").read_text())


@pytest.fixture
def energies(trained_run):
    """Recorded and generated energies of the test events, and their labels."""
    dataset, predictions = store.open_store(trained_run.dataset), store.open_store(trained_run.predictions)
    test = dataset.indices("test")
    recorded = np.maximum(np.asarray(dataset["qplot"][:])[test, 0], 0)
    return dataset, test, recorded, np.asarray(predictions["qplot"][:])[test]


def chosen(dataset, test, family):
    """The test events of a family."""
    label = np.asarray(dataset["label"][:])[test]
    wanted = [dataset.labels.index(n) for n in dataset.attributes["witnessed_labels"]]
    return np.isin(label, wanted) if family == "witnessed" else label == dataset.labels.index(family)


def test_likelihood_and_l1_of_the_network_and_of_nothing(result, energies):
    """By hand: log G + T / G with G at least half of the noise's mean, over a family's and quiet events."""
    dataset, test, recorded, generated = energies
    train = dataset.indices("train")
    quiet = train[np.asarray(dataset["label"][:])[train] == 0]
    floor = np.asarray(dataset["qplot"][:])[quiet, 0].clip(0).mean(axis=(0, 2))[:, None]
    background = chosen(dataset, test, "background")
    for family, entry in result["families"].items():
        some = chosen(dataset, test, family)
        assert entry["events"] == some.sum()
        for name, energy in (("network", generated), ("nothing", np.zeros_like(generated))):
            expected = np.abs(recorded - energy)[some].mean()
            assert entry["scores"][name]["l1"]["value"] == pytest.approx(expected, rel=1e-4)
            if entry["witnessed"]:
                g = np.maximum(energy, floor / 2)
                expected = (np.log(g) + recorded / g)[some | background].mean()
                assert entry["scores"][name]["nll"]["value"] == pytest.approx(expected, rel=1e-4)


def test_every_method_and_every_score_is_there(result):
    expected = {
        "network",
        "untrained",
        "nothing",
        "constant",
        "gate",
        "mean",
        "loudest_witness",
        "linear",
        "oracle",
    }
    expected |= {
        "loudest_thresholded",
        "wiener",
        "wiener_derived",
        "wiener_mask",
    }  # the store kept its series
    for entry in result["families"].values():
        assert expected <= set(entry["scores"])
        for row in entry["scores"].values():
            assert set(SCORES) <= set(row)
            for interval in row.values():
                if interval["value"] is not None:
                    assert interval["low"] <= interval["value"] <= interval["high"]


def test_trivial_methods_get_what_they_deserve(result):
    scores = result["families"]["witnessed"]["scores"]
    value = {name: {score: entry["value"] for score, entry in row.items()} for name, row in scores.items()}
    assert value["nothing"]["residual"] == pytest.approx(1)
    assert value["nothing"]["removed"] == pytest.approx(0, abs=1e-3)
    assert value["nothing"]["noise_added"] == 0
    assert value["oracle"]["skill"] == pytest.approx(1)
    assert max(value[name]["skill"] for name in ("nothing", "constant", "mean")) == pytest.approx(0)
    assert value["gate"]["skill"] is None and value["gate"]["residual"] > 10
    assert value["constant"]["residual"] > 1 and value["mean"]["residual"] > 1
    assert value["oracle"]["residual"] < 0.5
    blips = result["families"]["blip"]["scores"]["network"]
    assert blips["left"]["value"] is None and blips["noise_added"]["value"] is not None


def test_accuracy_of_a_generator_that_never_sees_anything(result, energies):
    """Nothing vetoes nothing, so it is right exactly where the recorded energy has no cluster."""
    _, _, recorded, _ = energies
    table = result["thresholds"]
    for s, accuracy in zip(table["thresholds"], table["nothing"]["accuracy"]["value"]):
        if (recorded.max(axis=(1, 2)) < s).all():
            assert accuracy == 1.0
    assert not any(result["veto"]["methods"]["nothing"]["curves"]["efficiency"]["value"])
    assert table["noise_only"]["events"][0] == result["families"]["background"]["events"]


def test_one_line_per_test_event(trained_run, energies):
    dataset, test, recorded, _ = energies
    with (Path(trained_run.workdir) / "evaluation" / "events.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["event"]) for row in rows] == test.tolist()
    assert [float(row["gps"]) for row in rows] == np.asarray(dataset["gps"][:])[test].tolist()
    for row, energy in zip(rows, recorded):
        assert float(row["recorded_level"]) <= energy.max() * (1 + 1e-5)


def test_summary_has_a_line_a_method_the_best_in_the_headline_first(result):
    lines = summary(result).splitlines()
    assert lines[0] == f"test split: {result['events']} events"
    place = lines.index(next(line for line in lines if line.startswith("  witnessed")))
    scores = result["families"]["witnessed"]["scores"]
    named = [line.split()[0] for line in lines[place + 2 : place + 2 + len(scores)]]
    assert sorted(named) == sorted(scores)
    residual = [scores[name]["residual"]["value"] for name in named]
    assert residual == sorted(residual)


def test_safety_is_told_of_every_method_that_generates(result, energies):
    dataset, test, *_ = energies
    told = result["safety"]
    assert {"network", "constant", "linear"} <= told.keys()
    signal = np.isin(
        np.asarray(dataset["label"][:])[test],
        [dataset.labels.index(n) for n in ("chirp", "blip") if n in dataset.labels],
    )
    quiet = chosen(dataset, test, "background")
    # no witness of this detector hears a signal
    assert told["network"] == {
        "by": "injection",
        "events": 0,
        "effect": {"value": 0.0, "low": 0.0, "high": 0.0},
        "p": 1.0,
        "unsafe": False,
    }
    if min(signal.sum(), quiet.sum()) < 5:
        assert told["constant"] is told["linear"] is None
        return
    assert told["constant"]["auc"] == 0.5 and not told["constant"]["unsafe"]


def test_share_has_no_minus_zero_and_no_nan():
    assert share({"value": -1e-9, "low": -1e-9, "high": 0.5}) == "0.0% [0.0%, 50.0%]"
    assert share({"value": None, "low": None, "high": None}) == "–"


def test_signals_are_examined_with_every_method(result):
    for family, entry in result["families"].items():
        scores = entry["scores"]
        assert scores["nothing"]["snr_kept_p1"] == {"value": 1.0, "low": 1.0, "high": 1.0}, family
        assert scores["gate"]["snr_kept_median"]["value"] < 0.5
        assert scores["wiener"]["chi2"]["value"] == scores["wiener"]["bias_time"]["value"] == 0
    assert result["families"]["blip"]["scores"]["gate"]["bias_mass"]["value"] is None  # it is in no bank
