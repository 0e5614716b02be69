"""A run is opened once, in the stage's own function; predictions that do not fit are refused there."""

from pathlib import Path

import numpy as np
import pytest
from helpers import linked, write_predictions, write_store

from glitchflow.analysis.baseline import baseline
from glitchflow.analysis.clean.clean import clean
from glitchflow.analysis.evaluate.evaluate import evaluate
from glitchflow.analysis.event import event as page
from glitchflow.analysis.infer import infer
from glitchflow.analysis.opened import open_beside, open_run
from glitchflow.analysis.report import report
from glitchflow.analysis.scan import scan
from glitchflow.data.store.dataset import Dataset, open_store
from glitchflow.errors import InputError
from glitchflow.methods.compare import fit_methods
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


@pytest.mark.ci
@pytest.mark.parametrize("stage", NEEDS, ids=lambda stage: stage.__name__)
def test_each_stage_opens_its_dataset_once(stage, trained_run, tmp_path, monkeypatch):
    run = linked(trained_run, tmp_path, "dataset.zarr", *NEEDS[stage])
    opened, make = [], Dataset.__init__

    def counted(self, path, *rest, **more):
        opened.append(Path(path).name)
        make(self, path, *rest, **more)

    monkeypatch.setattr(Dataset, "__init__", counted)
    stage(
        run, **({"force": True} if stage is clean else {})
    )  # a network of few steps, which clean would refuse
    assert opened.count("dataset.zarr") <= 1
    assert opened.count("predictions.zarr") <= (2 if stage is infer else 1)  # infer begins and finishes them
    assert opened or stage is export, "the count sees nothing"


@pytest.fixture
def others(dataset_run, tmp_path):
    """Two runs of one name, whose networks generated the dataset's witnessed energy, and twice that."""
    witnessed = open_store(dataset_run.dataset)["witnessed"][:]
    for place, energy in (("first/run", witnessed), ("second/run", 2 * witnessed)):
        (tmp_path / place).mkdir(parents=True)
        write_predictions(linked(dataset_run, tmp_path / place, "dataset.zarr"), energy)
    return [str(tmp_path / "first" / "run"), str(tmp_path / "second" / "run")]


def test_other_runs_networks_are_methods_too(trained_run, others):
    run = open_run(trained_run, others)
    assert list(run.beside) == ["network:first/run", "network:second/run"]
    events = np.arange(5)
    once, twice = (run.generated[name](events) for name in run.beside)
    np.testing.assert_array_equal(twice, 2 * once)
    fit = fit_methods(run.dataset, run.basis, 5.0, predictions=run.generated)
    assert list(fit.methods)[:2] == ["network", "untrained"] and set(run.beside) <= set(fit.fitted)
    assert list(open_run(trained_run, others[:1] * 2).beside) == ["network:run"]  # named twice, scored once


def test_a_run_without_predictions_of_this_store_says_how_to_make_them(trained_run, others, tmp_path):
    dataset = open_store(trained_run.dataset)
    values = {"qplot": np.ones((4, 3, 3), np.float32)}
    write_store(tmp_path / "third" / "predictions.zarr", values, dataset_identity="another")
    for name in ("third", "nowhere"):
        there = tmp_path / name
        words = (
            f"evaluate.beside: {there}: has no predictions of {dataset.path}; `glitchflow infer CONFIG"
            f" infer.checkpoint={there} store.path={dataset.path} workdir=NEW` makes them, NEW goes here then"
        )
        with pytest.raises(InputError) as error:
            open_beside([others[0], str(there)], dataset)
        assert str(error.value) == words


def test_predictions_that_are_missing_are_made_by_infer(dataset_run, tmp_path):
    run = linked(dataset_run, tmp_path, "dataset.zarr")
    with pytest.raises(InputError) as refused:
        open_run(run)
    assert str(refused.value) == f"{run.predictions}: no store there; make one with `glitchflow infer`"


@pytest.mark.parametrize("stage", (infer, evaluate, clean, page), ids=lambda stage: stage.__name__)
def test_a_twin_that_draws_is_asked_to_draw(stage, glitches_run, tmp_path):
    run = linked(glitches_run, tmp_path, "dataset.zarr", "train")
    with pytest.raises(InputError) as error:
        stage(run, **({"gps": 1.0} if stage is page else {}))
    assert str(error.value) == "model.name: a generative twin does not predict, it draws: `glitchflow sample`"
