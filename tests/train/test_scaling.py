"""The scalability report: shape and arithmetic, not speed."""

import csv

import pytest

from glitchflow.data.store.dataset import open_store
from glitchflow.errors import InputError
from glitchflow.train.scaling import measure, scaling
from glitchflow.train.setup import prepare, training_of
from glitchflow.train.workers import World


@pytest.mark.parametrize("workers", ["", "0", "two", "1,,2"])
def test_what_is_not_a_number_of_workers(dataset_run, workers):
    with pytest.raises(InputError, match="must be numbers of workers, as 1,2,4"):
        scaling(dataset_run, workers)


def test_a_number_of_workers_that_the_batch_cannot_serve(dataset_run):
    with pytest.raises(
        InputError, match=r"--scaling 9 \(strong\): train.workers = 9: must be at most loader.batch = 8"
    ):
        scaling(dataset_run, "1,9")


def test_settings_that_some_number_of_workers_cannot_have(dataset_run, monkeypatch):
    """Weak scaling's batch grows beyond the train split: said before anything is trained."""
    monkeypatch.setattr("glitchflow.train.scaling._rounds", lambda *_: pytest.fail("something ran"))
    wide = dataset_run.model_copy(update={"loader": dataset_run.loader.model_copy(update={"batch": 32})})
    with pytest.raises(InputError, match=r"loader.batch = 64: more than the 5\d events to train on"):
        scaling(wide, "1,2")


@pytest.fixture
def learner(dataset_run, tmp_path):
    training = training_of(dataset_run)
    return prepare(training, open_store(training.dataset), World(), tmp_path)


def test_rounds_go_over_the_ends_of_epochs(learner):
    rounds = list(measure(learner, 50))
    assert learner.progress.step == 55  # and the ones before the clock starts
    assert len(rounds) == 5
    assert all(0 <= r.waiting < r.seconds for r in rounds)


def test_a_measurement_leaves_no_run_behind(learner, tmp_path):
    list(measure(learner, 10))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_whole_report(dataset_run, tmp_path):
    (tmp_path / "dataset.zarr").symlink_to(dataset_run.dataset)
    directory = scaling(dataset_run.model_copy(update={"workdir": str(tmp_path)}), "1,2", steps=40)
    with (directory / "scaling.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["mode"], r["workers"], r["batch"]) for r in rows] == [
        ("strong", "1", "8"),
        ("strong", "2", "8"),
        ("weak", "1", "8"),
        ("weak", "2", "16"),
    ]
    for row in rows:
        parts = sum(float(row[part]) for part in ("computation", "communication", "waiting"))
        assert parts == pytest.approx(float(row["step"]), rel=0.3)
    assert float(rows[0]["communication"]) == 0
    assert sorted(path.name for path in directory.iterdir()) == ["scaling.csv", "scaling.png"]
