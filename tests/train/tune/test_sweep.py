"""Sweeps over a real Ray Tune."""

import csv
import json
import math
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import command
from pydantic import ValidationError

from glitchflow.config import Tune, load
from glitchflow.data import lease
from glitchflow.data.store.dataset import Dataset
from glitchflow.errors import InputError, RunError
from glitchflow.figures.sweep import Trial, draw_trials
from glitchflow.train.fit import fit
from glitchflow.train.tune import search_space as space
from glitchflow.train.tune.sweep import _optuna, conclude, sweep
from glitchflow.train.tune.trials import Work, front, read_trials, write_table

METRIC = "validation_nll"  # of image twins
SPACE = {"train.lr": {"loguniform": [1e-4, 2e-2]}, "model.norm": {"choice": ["group", "instance"]}}


def sweeping(dataset_run, tmp_path, train=None, **tune):
    (tmp_path / "dataset.zarr").symlink_to(dataset_run.dataset)
    return dataset_run.model_copy(
        update={
            "workdir": str(tmp_path),
            "train": dataset_run.train.model_copy(update={"workers": 1, "epochs": 3, **(train or {})}),
            "tune": dataset_run.tune.model_copy(update={"space": SPACE, "trials": 3, "reduction": 2, **tune}),
        }
    )


def tuning(experiment, **tune):
    return experiment.model_copy(update={"tune": experiment.tune.model_copy(update=tune)})


def table(experiment):
    with (Path(experiment.workdir) / "tune" / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_request_that_the_cluster_can_never_hold(dataset_run, tmp_path):
    experiment = sweeping(dataset_run, tmp_path, space={"train.workers": {"choice": [1, 4]}})
    with pytest.raises(InputError, match=r"train.workers = 4: needs 4 CPUs, the cluster has 2"):
        sweep(experiment)


def test_other_settings_are_refused(dataset_run, tmp_path, monkeypatch):
    monkeypatch.setattr("glitchflow.train.tune.sweep._search", lambda *_: None)
    experiment = sweeping(dataset_run, tmp_path, space={"train.workers": {"choice": [1, 4]}})
    with pytest.raises(InputError, match="the cluster has 2"):
        sweep(experiment)
    corrected = tuning(experiment, space=SPACE)  # what was refused has not begun
    with pytest.raises(RunError, match="no trial has finished an epoch"):
        sweep(corrected)
    with pytest.raises(
        InputError, match=r"begun with tune.metric = validation_nll, not validation_iou; --over"
    ):
        sweep(tuning(corrected, metric="validation_iou"))
    harmless = {"train": corrected.train.model_copy(update={"grace": 90.0}), "loader": corrected.loader}
    harmless["loader"] = corrected.loader.model_copy(update={"cache_dir": str(tmp_path / "cache")})
    with pytest.raises(RunError, match="no trial has finished an epoch"):
        sweep(corrected.model_copy(update=harmless))
    with (
        lease.hold(tmp_path / "tune"),
        pytest.raises(RunError, match=r"tune: another run is writing it \(process"),
    ):
        sweep(corrected)


def test_a_metric_that_takes_the_truth(dataset_run, tmp_path, monkeypatch):
    monkeypatch.setattr(Dataset, "__contains__", lambda self, name: name != "witnessed")
    experiment = sweeping(dataset_run, tmp_path, metric="validation_residual")
    words = "tune.metric = validation_residual: takes a dataset that knows the truth, unlike .*dataset.zarr"
    with pytest.raises(InputError, match=words):
        sweep(experiment)


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("model.options.dpth", [1, 2], r"a trial with {'model.options.dpth': 1}: model: .*dpth"),
        ("model.options.depth", [2, 7], r"a trial with {'model.options.depth': 7}: model: .*16"),
        (
            "model.name",
            ["unet", "vnet"],
            r"a trial with {'model.name': 'vnet'}: model.name = vnet: not one of decoder",
        ),
        ("train.device", ["cpu", "gpu"], r"tune.space.train.device: is the same for all trials"),
    ],
)
@pytest.mark.parametrize("search", ["grid", "optuna"])
def test_values_with_which_no_trial_could_begin(dataset_run, tmp_path, key, values, words, search):
    experiment = sweeping(dataset_run, tmp_path, space={key: {"choice": values}}, search=search)
    with pytest.raises(InputError, match=words):
        sweep(experiment)
    assert not (tmp_path / "tune" / "trials").exists()


def test_overwrite_deletes_nothing_before_the_new_sweep_can_begin(dataset_run, tmp_path):
    experiment = sweeping(dataset_run, tmp_path)
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune" / "trials.csv").write_text("precious")
    with pytest.raises(InputError, match="the cluster has 2"):
        sweep(tuning(experiment, space={"train.workers": {"choice": [4]}}), overwrite=True)
    assert (tmp_path / "tune" / "trials.csv").read_text() == "precious"


def test_a_table_of_trials(tmp_path):
    for name, losses, ended in (
        ("a", [0.5, 0.4], True),
        ("b", [0.6], True),
        ("c", [0.7], False),
        ("d", [], False),
        ("e", [], False),
    ):
        home = tmp_path / "trials" / name
        home.mkdir(parents=True)
        (home / "trial.json").write_text('{"values": {"train.lr": 1}, "epochs": 2}')
        line = '{{"kind": "epoch", "step": 1, "validation_loss": {}, "samples_per_second": 10}}\n'
        (home / "metrics.jsonl").write_text("".join(line.format(loss) for loss in losses))
        if ended:
            (home / "ended").touch()
    (tmp_path / "trials" / "e" / "error").write_text("RuntimeError: no")
    trials = read_trials(tmp_path, "validation_loss")
    assert [t.name for t in trials] == ["a", "b", "c", "d", "e"]
    assert [t.state for t in trials] == ["trained", "stopped early", "unfinished", "unfinished", "failed"]
    write_table(trials, tmp_path / "t.csv", "validation_loss")
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == "a,trained,2,0.4,2,10.0,1,1"


def test_a_search_hears_what_the_table_has(tmp_path, ray_session):
    """Also where the trial ended by itself, before all its epochs and after its best one."""
    from glitchflow.train.tune.driver import Driver

    epochs = [(0.5, 10), (math.nan, 20), (0.4, 40), (0.6, 20)]
    training = SimpleNamespace(train=SimpleNamespace(epochs=9, grace=1.0))
    work = Work(lambda values: training, tmp_path, "validation_loss", "flag", False)
    home = work.home({"values": {"train.lr": 1}})
    home.mkdir(parents=True)
    lines = [{"kind": "epoch", "step": 1, "validation_loss": a, "samples_per_second": b} for a, b in epochs]
    (home / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (home / "ended").touch()
    driver = Driver.__new__(Driver)
    driver.setup({"values": {"train.lr": 1}}, work)
    with driver.lease:
        heard = [driver.step() for _ in range(5)]
    assert [one["score"] for one in heard] == [0.5, 0.5, 0.4, 0.4, 0.4]
    assert [one["done"] for one in heard] == [False] * 4 + [True]
    (trial,) = read_trials(tmp_path, "validation_loss")
    assert (heard[-1]["score"], heard[-1]["seconds_per_event"]) == (trial.score, 1 / trial.samples_per_second)


@pytest.mark.parametrize("cost", ["none", "seconds_per_event"])
def test_what_optuna_keeps_of_a_trial(tmp_path, cost):
    pytest.importorskip("optuna", reason="the extra [optuna] is not installed")
    settings = Tune(space=SPACE, search="optuna", scheduler="none", metric="validation_loss", cost=cost)
    search = _optuna(settings, 1, tmp_path)
    numbers = {"score": 0.4, "seconds_per_event": 0.05, "validation_loss": 0.6}
    for name, result in (("a", numbers), ("b", {"done": True}), ("c", numbers | {"score": math.nan})):
        search.suggest(name)
        search.on_trial_result(name, numbers | {"training_iteration": 1})
        search.on_trial_complete(name, result)
    kept = search._ot_study.trials
    assert kept[0].values == ([0.4] if cost == "none" else [0.4, 0.05])
    assert [one.state.name for one in kept] == ["COMPLETE", "FAIL", "FAIL"]


def made(name, score, speed):
    return Trial(name, {"model.width": speed}, "trained", [score], score, 1, speed)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_front_is_what_no_other_beats_in_both(sign):
    """Of two that are equal both are on it; one without a score is not."""
    numbers = {
        "best": (0.1, 10),
        "slower": (0.1, 5),
        "fast": (0.3, 80),
        "as fast": (0.3, 80),
        "worse": (0.4, 70),
    }
    trials = [made(name, sign * score, speed) for name, (score, speed) in numbers.items()]
    trials.append(replace(trials[0], name="none", score=None, samples_per_second=1000.0))
    assert [t.name for t in front(trials, sign) if t.front] == ["best", "fast", "as fast"]


def test_the_front_is_drawn():
    trials = front([made("a", 0.1, 10), made("b", 0.2, 40), made("c", 0.3, 20)], 1)
    axes = draw_trials(trials, METRIC).axes
    others, line = axes[1].get_lines()
    assert others.get_xydata().tolist() == [[50, 0.3]]
    assert line.get_xydata().tolist() == [[25, 0.2], [100, 0.1]]
    assert [axis.get_xlabel() for axis in axes] == ["epoch", "training time an event [ms]", "model.width"]


@pytest.mark.parametrize("tune", [{"search": "random", "scheduler": "none"}, {"search": "optuna"}])
def test_two_numbers_are_searched_by_optuna_alone(tune):
    with pytest.raises(
        ValidationError, match="cost = seconds_per_event: takes search=optuna and scheduler=none"
    ):
        Tune(cost="seconds_per_event", **tune)


def test_what_a_sweep_wrote_and_is_damaged_is_named(dataset_run, tmp_path):
    home = tmp_path / "tune" / "trials" / "a"
    home.mkdir(parents=True)
    (home / "trial.json").write_text('{"values": {"train.lr": 1}}')
    with pytest.raises(RunError, match=f"^{home}: damaged: trial.json: epochs: Field required$"):
        read_trials(tmp_path / "tune", METRIC)
    (tmp_path / "tune" / "sweep.json").write_text("[")
    with pytest.raises(RunError, match=f"^{tmp_path}/tune: damaged: sweep.json: Invalid JSON: "):
        sweep(sweeping(dataset_run, tmp_path))


@pytest.mark.slow
def test_a_sweep_stopped_and_resumed_and_its_best_settings_trained(dataset_run, tmp_path):
    experiment = sweeping(dataset_run, tmp_path, trials=4, train={"epochs": 4})

    def stop_after_the_first_epoch():
        while not any(trial.curve for trial in read_trials(tmp_path / "tune", METRIC)):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_after_the_first_epoch, daemon=True).start()
    with pytest.raises(RunError, match="the sweep was stopped; the same command goes on"):
        sweep(experiment)
    before = {trial.name: trial.curve for trial in read_trials(tmp_path / "tune", METRIC)}
    best = sweep(experiment)
    trials = {trial.name: trial for trial in read_trials(tmp_path / "tune", METRIC)}
    assert set(trials) == {space.name(values) for values in space.candidates(experiment)}
    for name, curve in before.items():
        assert trials[name].curve[: len(curve)] == curve  # nothing was trained twice
    rows = table(experiment)
    assert {"trained"} <= {row["state"] for row in rows} <= {"trained", "stopped early"}
    assert float(rows[0][METRIC]) == min(float(row[METRIC]) for row in rows)
    assert (best.parent / "trials.png").stat().st_size > 10_000
    found = load(best)
    assert f"{found.train.lr:.6g}" == f"{float(rows[0]['train.lr']):.6g}"
    assert fit(found).exists()
    assert sweep(experiment) == best  # over again: everything is there already


def test_the_best_settings_do_not_name_the_cluster_of_the_sweep(dataset_run, tmp_path):
    cluster = dataset_run.cluster.model_copy(update={"address": "head:6379", "cpus": 2})
    experiment = sweeping(dataset_run, tmp_path).model_copy(update={"cluster": cluster})
    home = tmp_path / "tune" / "trials" / "a"
    home.mkdir(parents=True)
    (home / "trial.json").write_text('{"values": {"train.lr": 0.007}, "epochs": 1}')
    (home / "metrics.jsonl").write_text('{"kind": "epoch", "step": 1, "validation_nll": 0.5}\n')
    found = load(conclude(experiment, tmp_path / "tune", METRIC))
    assert (found.cluster.address, found.cluster.cpus, found.train.lr) == ("", 2, 0.007)


@pytest.mark.ci
def test_optuna_may_suggest_what_does_not_fit_together(dataset_run, tmp_path):
    """That trial is lost and says why, not the sweep."""
    pytest.importorskip("optuna", reason="the extra [optuna] is not installed")
    domains = {"loader.lanes": {"choice": [3]}, "loader.batch": {"choice": [8]}}
    experiment = sweeping(dataset_run, tmp_path, search="optuna", trials=1, space=domains)
    with pytest.raises(RunError, match="no trial has finished an epoch"):
        sweep(experiment)
    (trial,) = read_trials(tmp_path / "tune", METRIC)
    assert trial.state == "failed"
    assert "loader.lanes = 3" in (tmp_path / "tune" / "trials" / trial.name / "error").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_driver_of_a_sweep(dataset_run, tmp_path):
    """kill -9; what its trials have done is not done again, and the best settings do not name its cluster."""
    experiment = sweeping(dataset_run, tmp_path, trials=3, train={"epochs": 6})
    first = command(experiment, "tune")
    while not any(trial.curve for trial in read_trials(tmp_path / "tune", METRIC)):
        assert first.poll() is None
        time.sleep(0.1)
    first.kill()
    first.wait()
    before = {trial.name: trial.curve for trial in read_trials(tmp_path / "tune", METRIC)}
    second = command(experiment, "tune")
    assert second.wait(timeout=600) == 0, second.stderr.read()
    trials = {trial.name: trial for trial in read_trials(tmp_path / "tune", METRIC)}
    assert {trial.state for trial in trials.values()} <= {"trained", "stopped early"}
    assert len(trials) == 3
    for name, curve in before.items():
        assert trials[name].curve[: len(curve)] == curve


@pytest.mark.slow
def test_a_trial_that_falls_behind_is_stopped_early(dataset_run, tmp_path):
    """One at a time, the better one first: nothing depends on which is faster."""
    domains = {"train.lr": {"choice": [5e-3, 1e-8]}}
    experiment = sweeping(dataset_run, tmp_path, space=domains, search="grid", concurrent=1)
    sweep(experiment)
    assert [row["state"] for row in table(experiment)] == ["trained", "stopped early"]


@pytest.mark.slow
def test_several_workers_a_trial_and_a_grid(dataset_run, tmp_path):
    domains = {"model.norm": {"choice": ["group", "instance"]}}
    experiment = sweeping(
        dataset_run,
        tmp_path,
        space=domains,
        search="grid",
        scheduler="none",
        train={"workers": 2, "epochs": 1},
    )
    sweep(experiment)
    assert [row["state"] for row in table(experiment)] == ["trained"] * 2
    for log in (tmp_path / "tune" / "trials").glob("*/log.txt"):
        assert "worker 1 of 2" in log.read_text()


@pytest.mark.slow
def test_optuna(dataset_run, tmp_path):
    pytest.importorskip("optuna", reason="the extra [optuna] is not installed")
    experiment = sweeping(dataset_run, tmp_path, search="optuna", trials=2, train={"epochs": 1})
    sweep(experiment)
    assert len(table(experiment)) == 2
    more = experiment.model_copy(update={"tune": experiment.tune.model_copy(update={"trials": 3})})
    sweep(more)
    assert len(table(experiment)) == 3


@pytest.mark.slow
def test_optuna_searches_for_two_numbers_at_once(dataset_run, tmp_path):
    pytest.importorskip("optuna", reason="the extra [optuna] is not installed")
    two = {"search": "optuna", "cost": "seconds_per_event", "scheduler": "none"}
    experiment = sweeping(dataset_run, tmp_path, **two, trials=3, train={"epochs": 1})
    sweep(experiment)
    rows = table(experiment)
    assert [row["state"] for row in rows] == ["trained"] * 3
    best = max(float(row["samples_per_second"]) for row in rows)
    on_front = [row for row in rows if row["front"] == "1"]
    assert rows[0] in on_front and best in [float(row["samples_per_second"]) for row in on_front]
