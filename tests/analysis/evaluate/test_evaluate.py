import csv
import json
from pathlib import Path

import numpy as np
import pytest

from glitchflow.analysis.evaluate.evaluate import summary
from glitchflow.data.store import dataset as store
from glitchflow.score.table import share


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


def test_loss_of_the_network_and_of_zero(result, energies):
    """By hand: mean absolute difference of log(1 + energy), in units of its standard deviation."""
    dataset, test, recorded, generated = energies
    std = dataset.attributes["normalisation"]["log_std"][0]
    label = np.asarray(dataset["label"][:])[test]
    for family, entry in result["families"].items():
        wanted = [dataset.labels.index(n) for n in dataset.attributes["witnessed_labels"]]
        chosen = np.isin(label, wanted) if family == "witnessed" else label == dataset.labels.index(family)
        assert entry["events"] == chosen.sum()
        for name, energy in (("network", generated), ("zero", np.zeros_like(generated))):
            expected = np.abs(np.log1p(recorded) - np.log1p(energy))[chosen].mean() / std
            assert entry["scores"][name]["loss"]["value"] == pytest.approx(expected, rel=1e-4)


def test_every_baseline_the_oracle_and_the_untrained_network_are_there(result):
    expected = {"network", "untrained", "zero", "constant", "mean", "median", "linear", "oracle"}
    expected |= {"wiener", "wiener + derived"}  # the store kept its series
    for entry in result["families"].values():
        assert set(entry["scores"]) == expected
        for row in entry["scores"].values():
            assert row["loss"]["low"] <= row["loss"]["value"] <= row["loss"]["high"]


def test_excess_power_of_doing_nothing_is_left(result):
    for family in ("sine_gaussian", "scattered_light", "witnessed"):
        removed = result["families"][family]["scores"]["zero"]["excess_removed"]
        assert removed["value"] == pytest.approx(0, abs=1e-6)
    assert result["families"]["background"]["scores"]["network"]["excess_removed"]["value"] is None


def test_accuracy_of_a_generator_that_never_sees_anything(result, energies):
    """Zero vetoes nothing, so it is right exactly where the recorded energy has no cluster."""
    _, _, recorded, _ = energies
    table = result["thresholds"]
    for s, accuracy in zip(table["thresholds"], table["zero"]["accuracy"]["value"]):
        if (recorded.max(axis=(1, 2)) < s).all():
            assert accuracy == 1.0
    assert table["zero"]["efficiency"]["hits"] == [0] * len(table["thresholds"])
    assert table["noise_only"]["events"][0] == result["families"]["background"]["events"]


def test_one_line_per_test_event(trained_run, energies):
    dataset, test, recorded, _ = energies
    with (Path(trained_run.workdir) / "evaluation" / "events.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["event"]) for row in rows] == test.tolist()
    assert [float(row["gps"]) for row in rows] == np.asarray(dataset["gps"][:])[test].tolist()
    for row, energy in zip(rows, recorded):
        assert float(row["recorded_level"]) <= energy.max() * (1 + 1e-5)


def test_summary_names_each_family_and_the_best_baseline(result):
    lines = summary(result).splitlines()
    assert f"{result['events']} events" in lines[0]
    for family, line in zip(result["families"], lines[1:]):
        scores = result["families"][family]["scores"]
        blind = ("zero", "constant", "mean", "median", "linear")
        best = min(blind, key=lambda name: scores[name]["loss"]["value"])
        assert family in line
        assert f" {best} " in line


def test_share_has_no_minus_zero_and_no_nan():
    assert share({"value": -1e-9, "low": -1e-9, "high": 0.5}) == "0.0% [0.0%, 50.0%]"
    assert share({"value": None, "low": None, "high": None}) == "–"
