"""The test split decides nothing: a store whose test events are not even numbers gives the same twin, byte by byte.

Everything that is chosen or fitted (normalisation, methods, witnesses, weights, checkpoint, a sweep's winner) is from
train and validation. `infer` reads test events, but an image twin's predictions come from witnesses alone.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_store

from glitchflow.analysis.baseline import baseline
from glitchflow.analysis.infer import infer
from glitchflow.analysis.scan import scan
from glitchflow.data.store import open_store
from glitchflow.train.export import export
from glitchflow.train.fit import fit
from glitchflow.train.tune.sweep import sweep

# two trainings and two sweeps come before the first test
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
TRUTH = ("witnessed", "witnessed_series")
CLOCKS = {"time", "waiting_for_data", "memory_gb"}  # what a machine adds to a line of metrics
WRITTEN = {"schema", "complete", "layout", "arrays", "fixed", "tables", "sha256"}  # by whoever writes a store


def spoiled(dataset, path):
    """A copy of a store in which strain and truth of the test events are NaN."""
    values = {name: np.asarray(dataset[name][:]) for name in dataset.known.arrays}
    test = dataset.indices("test")
    for name, value in values.items():
        if name in TRUTH:
            value[test] = np.nan
        elif name in ("qplot", "series"):
            value[test, 0] = np.nan
    axes = {name: tuple(dataset.raw(name, "r").metadata.dimension_names) for name in dataset.known.fixed}
    fixed = {name: (dimensions, dataset[name][:]) for name, dimensions in axes.items()}
    kept = {k: v for k, v in dataset.attributes.items() if k not in WRITTEN}
    write_store(path, values, dataset.layout, fixed, **kept)
    return path


@pytest.fixture(scope="module")
def runs(dataset_run, tmp_path_factory):
    """Everything that comes before evaluate, on the store as it is and on the spoiled one."""
    found = []
    for name in ("whole", "spoiled"):
        directory = tmp_path_factory.mktemp(name)
        if name == "whole":
            (directory / "dataset.zarr").symlink_to(Path(dataset_run.dataset).resolve())
        else:
            spoiled(open_store(dataset_run.dataset), directory / "dataset.zarr")
        tune = {"space": {"train.lr": {"choice": [1e-3, 1e-2]}}, "trials": 2}
        experiment = dataset_run.model_copy(
            update={
                "workdir": str(directory),
                "train": dataset_run.train.model_copy(update={"workers": 1, "samples": 2}),
                "tune": dataset_run.tune.model_copy(update=tune),
            }
        )
        baseline(experiment)
        scan(experiment)
        fit(experiment)
        sweep(experiment)
        export(experiment)
        infer(experiment)
        found.append(directory)
    return found


def same(runs, read):
    whole, other = map(read, runs)
    assert whole == other


def test_the_spoiled_store_is_spoiled(runs):
    dataset = open_store(runs[1] / "dataset.zarr")
    test = dataset.indices("test")
    assert len(test) and np.isnan(dataset.events("qplot", test)[:, 0]).all()
    assert np.isnan(dataset.events("witnessed_series", test)).all()


def test_baselines_and_the_verdict_are_the_same(runs):
    same(
        runs,
        lambda run: {
            k: v for k, v in json.loads((run / "baseline.json").read_text()).items() if k != "made_from"
        },
    )


def test_the_ranking_of_witnesses_is_the_same(runs):
    same(runs, lambda run: (run / "witnesses.txt").read_bytes())
    same(runs, lambda run: json.loads((run / "scan.json").read_text())["channels"])


def test_losses_validation_and_weights_are_the_same(runs):
    def lines(run):
        rows = [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if k not in CLOCKS and "second" not in k} for row in rows]

    def weights(run):
        found = (run / "train" / "checkpoints").glob("*/weights.pt")
        return {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    same(runs, lines)
    same(runs, weights)
    assert len(weights(runs[0])) > 1


def test_the_winner_of_a_sweep_is_the_same(runs):
    def winner(run):
        text = (run / "tune" / "best.yaml").read_text()
        return [line for line in text.splitlines() if "workdir" not in line and str(run) not in line]

    same(runs, winner)


def test_the_exported_program_says_the_same(runs):
    def said(run):
        (path,) = (run / "export").glob("*.pt2")
        program = torch.export.load(path).module()
        return program(torch.ones(2, 3, 16, 16)).detach().numpy().tobytes()

    same(runs, said)


def test_predictions_are_the_same_in_the_test_split_too(runs):
    for name in ("qplot", "untrained"):
        same(runs, lambda run, name=name: open_store(run / "predictions.zarr")[name][:].tobytes())
