"""Whether a network may subtract: what validation says of good and bad ones, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import linked, write_predictions

from glitchflow.analysis.clean.verdict import Verdict, judge, refuse
from glitchflow.analysis.opened import open_run
from glitchflow.config import Loader
from glitchflow.data import store
from glitchflow.errors import InputError
from glitchflow.methods import treat
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
    assert list(found.scores) == ["residual"] and list(found.scores["residual"]) == ["network", "linear"]
    assert found.scores["residual"]["network"] < min(found.scores["residual"]["linear"], 1)
    assert not found.reproach


def test_one_that_removes_everything_is_refused(dataset_run, tmp_path):
    found = judged(dataset_run, tmp_path, lambda dataset: np.full_like(dataset["witnessed"][:], 1e6))
    assert found.scores["residual"]["network"] > 1
    with pytest.raises(
        InputError, match=r"^there: has a residual of .* validation events, worse than nothing"
    ):
        refuse(found, "there")


def test_one_that_removes_nothing_is_no_worse_than_nothing():
    assert not Verdict(9, {"residual": {"network": 1.0, "linear": 1.2}}).reproach


def of_recorded(worse, left):
    return Verdict(100, {"made_worse": {"network": worse}, "power_left": {"network": left}})


@pytest.mark.parametrize(
    ("worse", "left", "words"),
    [
        (0.05, 1.0, ""),
        (0.06, 0.9, "makes 6.0% of 100 validation windows worse, more than 5%"),
        (0.0, 1.05, ""),
        (0.0, 1.0712, "leaves 7% more power in 100 validation windows than it found"),
        (
            0.5,
            7.0,
            "makes 50.0% of 100 validation windows worse, more than 5% and leaves 600% more power in 100 validation"
            " windows than it found",
        ),
    ],
)
def test_recorded_windows_are_counted(worse, left, words):
    found = of_recorded(worse, left)
    assert found.reproach == words
    if words:
        with pytest.raises(InputError) as failure:
            refuse(found, "there")
        assert str(failure.value) == f"there: {words}; --force subtracts all the same"


@pytest.mark.parametrize(("amount", "refused"), [(0.01, False), (0.7, True)])
def test_a_twin_that_adds_next_to_nothing_may_subtract(series_run, monkeypatch, amount, refused):
    """Of windows as if recorded, in which it finds little: half of them grow, none of them by much."""
    run = open_run(series_run)
    strain = run.dataset["series"][:, 0].astype(np.float64)
    noise = np.random.default_rng(3).permuted(strain, axis=0) * amount
    silent = replace(run.methods["network"], estimate=lambda events: noise[events])
    silent = replace(silent, front=replace(silent.front, scatters=[]))
    monkeypatch.setattr(type(run), "methods", {"network": silent})
    monkeypatch.setattr(store.Dataset, "recorded", True)
    monkeypatch.setattr(treat, "_truth", lambda block: [])
    found = judge(run, 1.0, series_run.evaluate, Bootstrap(1, 10))
    assert list(found.scores) == ["made_worse", "power_left"] and found.events > 5
    assert bool(found.reproach) is refused
    if not refused:
        assert abs(found.scores["power_left"]["network"] - 1) < 1e-3


def test_the_words():
    with pytest.raises(InputError) as failure:
        refuse(Verdict(80, {"residual": {"network": 1.234, "linear": 0.461}}), "there")
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
