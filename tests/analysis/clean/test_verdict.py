"""Whether a network may subtract: what validation says of good and bad ones, and what is refused."""

import numpy as np
import pytest
from helpers import linked, write_predictions

from glitchflow.analysis.clean.verdict import Verdict, judge, refuse
from glitchflow.analysis.opened import open_run
from glitchflow.config import Loader
from glitchflow.data import store
from glitchflow.errors import InputError
from glitchflow.methods.compare import basis_of
from glitchflow.score.statistics import Bootstrap


def judged(dataset_run, tmp_path, generated):
    """What validation says of a network that generates (E, F, T)."""
    experiment = linked(dataset_run, tmp_path, "dataset.zarr")
    dataset = store.open_store(experiment.dataset)
    write_predictions(experiment, generated(dataset).astype(np.float32))
    run = open_run(experiment)
    run.__dict__["basis"] = basis_of(dataset, Loader())
    return judge(run, 1.0, experiment.evaluate, Bootstrap(1, 10))


def test_a_network_that_knows_the_truth_may_subtract(dataset_run, tmp_path):
    found = judged(dataset_run, tmp_path, lambda dataset: np.asarray(dataset["witnessed"][:]))
    assert found.score == "residual" and list(found.values) == ["network", "linear"]
    assert found.values["network"] < min(found.values["linear"], 1)
    assert not found.reproach


def test_one_that_removes_everything_is_refused(dataset_run, tmp_path):
    found = judged(dataset_run, tmp_path, lambda dataset: np.full_like(dataset["witnessed"][:], 1e6))
    assert found.values["network"] > 1
    with pytest.raises(
        InputError, match=r"^there: has a residual of .* validation events, worse than nothing"
    ):
        refuse(found, "there")


def test_one_that_removes_nothing_is_no_worse_than_nothing():
    assert not Verdict("residual", 9, {"network": 1.0, "linear": 1.2}).reproach


def test_recorded_windows_are_counted():
    few, many = (Verdict("made_worse", 100, {"network": share}) for share in (0.05, 0.06))
    refuse(few, "there")
    with pytest.raises(InputError) as failure:
        refuse(many, "there")
    assert str(failure.value) == (
        "there: makes 6.0% of 100 validation windows worse, more than 5%; --force subtracts all the same"
    )


def test_the_words():
    with pytest.raises(InputError) as failure:
        refuse(Verdict("residual", 80, {"network": 1.234, "linear": 0.461}), "there")
    assert str(failure.value) == (
        "there: has a residual of 1.23 on 80 validation events, worse than nothing (1) and linear (0.461);"
        " --force subtracts all the same"
    )


def test_without_validation_events_nothing_is_said(dataset_run, tmp_path, monkeypatch):
    experiment = linked(dataset_run, tmp_path, "dataset.zarr")
    dataset = store.open_store(experiment.dataset)
    write_predictions(experiment, np.zeros_like(dataset["witnessed"][:]))
    run = open_run(experiment)
    monkeypatch.setattr(store.Dataset, "indices", lambda self, split: np.arange(0))
    assert judge(run, 1.0, experiment.evaluate, Bootstrap(1, 10)) is None
