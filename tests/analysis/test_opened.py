"""A run is opened once, in the stage's own function; predictions that do not fit are refused there."""

from pathlib import Path

import pytest
from helpers import linked

from glitchflow.analysis.baseline import baseline
from glitchflow.analysis.clean.clean import clean
from glitchflow.analysis.evaluate.evaluate import evaluate
from glitchflow.analysis.infer import infer
from glitchflow.analysis.report import report
from glitchflow.analysis.scan import scan
from glitchflow.data.store.dataset import Dataset
from glitchflow.train.export import export
from glitchflow.train.fit import fit

NEEDS = {
    baseline: (),
    scan: (),
    fit: ("train",),  # which is over: workers of their own would not be counted
    infer: ("train",),
    export: ("train",),
    evaluate: ("train", "predictions.zarr"),
    clean: ("predictions.zarr",),
    report: ("train", "predictions.zarr", "evaluation"),
}


@pytest.mark.parametrize("stage", NEEDS, ids=lambda stage: stage.__name__)
def test_each_stage_opens_its_dataset_once(stage, trained_run, tmp_path, monkeypatch):
    run = linked(trained_run, tmp_path, "dataset.zarr", *NEEDS[stage])
    opened, make = [], Dataset.__init__

    def counted(self, path, *rest, **more):
        opened.append(Path(path).name)
        make(self, path, *rest, **more)

    monkeypatch.setattr(Dataset, "__init__", counted)
    stage(run)
    assert opened.count("dataset.zarr") <= 1
    assert opened.count("predictions.zarr") <= (2 if stage is infer else 1)  # infer begins and finishes them
    assert opened or stage is export, "the count sees nothing"
