"""A training run: the one that all tests share, and what is refused before. Ray Train itself: test_interruption.py."""

import json
import re
import shutil
from pathlib import Path

import pytest
from helpers import linked, small

from glitchflow.config import Train
from glitchflow.data import lease
from glitchflow.errors import Died, InputError, RunError
from glitchflow.train import checkpoint
from glitchflow.train.fit import accelerated, ended, fallen, fit, launch, lost, run_workers
from glitchflow.train.loop import train
from glitchflow.train.setup import training_of
from glitchflow.train.tracking import read_metrics
from glitchflow.train.tune.sweep import sweep


def run_of_its_own(dataset_run, tmp_path, **train):
    run = linked(dataset_run, tmp_path, "dataset.zarr")
    return run.model_copy(update={"train": run.train.model_copy(update=train)})


def losses(experiment):
    lines = read_metrics(Path(experiment.workdir) / "train" / "metrics.jsonl")
    return [x["validation_loss"] for x in lines if x["kind"] == "epoch"]


def test_a_finished_run_is_left_alone(trained_run, monkeypatch):
    monkeypatch.setattr("glitchflow.train.fit.launch", lambda *_, **__: pytest.fail("trained again"))
    before = losses(trained_run)
    assert fit(trained_run).exists()
    assert losses(trained_run) == before


def test_other_settings_are_refused(trained_run):
    other = trained_run.model_copy(update={"model": trained_run.model.model_copy(update={"width": 6})})
    with pytest.raises(InputError, match=r"was begun with model.width = 4, not 6; --overwrite it"):
        fit(other)


def test_lanes_that_nobody_named_are_those_that_a_run_was_begun_with(trained_run, tmp_path, monkeypatch):
    """Its batches stay the same for every number of workers."""
    monkeypatch.setattr("glitchflow.train.fit.launch", lambda *_, **__: pytest.fail("trained again"))
    shutil.copytree(Path(trained_run.workdir) / "train", tmp_path / "train")
    for path in (tmp_path / "train" / "checkpoints").glob("*/meta.json"):
        meta = json.loads(path.read_text())
        meta["config"]["loader"]["lanes"] = 8  # as begun by eight workers
        del meta["sha256"]["meta.json"]
        path.write_text(json.dumps(meta))
    run = run_of_its_own(trained_run, tmp_path)

    def among(workers):
        return run.model_copy(update={"train": run.train.model_copy(update={"workers": workers})})

    assert fit(among(2)).exists()
    line = (
        f"train.workers = 9: must be at most loader.lanes = 8, with which {tmp_path}/train was begun;"
        " --overwrite it or choose another workdir"
    )
    with pytest.raises(InputError, match=f"^{re.escape(line)}$"):
        fit(among(9))


def test_a_key_that_there_was_not_when_a_run_was_begun_has_its_default(trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr("glitchflow.train.fit.launch", without_ray)
    here = run_of_its_own(trained_run, tmp_path)
    shutil.copytree(Path(trained_run.workdir) / "train", tmp_path / "train")
    last = checkpoint.by_step(tmp_path / "train" / "checkpoints")[-1] / "meta.json"
    meta = json.loads(last.read_text())
    del meta["config"]["train"]["precision"], meta["config"]["loader"]["drop"], meta["sha256"]["meta.json"]
    last.write_text(json.dumps(meta))
    assert fit(here).exists()
    other = here.model_copy(update={"train": here.train.model_copy(update={"precision": "tf32"})})
    with pytest.raises(InputError, match=r"was begun with train.precision = float32, not tf32; --overwrite"):
        fit(other)


@pytest.mark.parametrize("workers, asked", [(3, 3), ([1, 3], (1, 3)), ([3, 3], 3)])
def test_ray_train_is_told_what_is_said_of_the_workers(tmp_path, monkeypatch, workers, asked):
    given = {}

    class Trainer:
        """In place of Ray Train's."""

        def __init__(self, _function, **settings):
            given.update(settings)

        def fit(self):
            """Train nothing."""

    monkeypatch.setattr("ray.train.torch.TorchTrainer", Trainer)
    run_workers(lambda _: None, {}, Train(workers=workers, timeout=7.5), tmp_path, False)
    assert given["torch_config"].timeout_s == 7.5
    assert given["scaling_config"].num_workers == asked


def test_workers_that_fail_again_and_again_begin_again_while_they_get_on(dataset_run, tmp_path, monkeypatch):
    steps, said = iter([10, 20, 20]), []

    def fail(*_):
        (tmp_path / "checkpoints" / checkpoint.name(next(steps))).mkdir(parents=True, exist_ok=True)
        raise Died("the training workers failed")

    monkeypatch.setattr("glitchflow.train.fit.run_workers", fail)
    monkeypatch.setattr("glitchflow.train.fit.flag_is_up", lambda flag: False)
    monkeypatch.setattr("glitchflow.train.fit.log", lambda path, line: said.append((path.name, line)))
    with pytest.raises(RunError, match=r"^the training workers failed$"):
        launch(training_of(dataset_run), tmp_path, "", False)
    again = f"the training workers failed; workers begin again, from {tmp_path}/checkpoints/step-000000"
    assert said == [("log.txt", f"{again}{step}") for step in (10, 20)]
    assert not list(steps)


@pytest.mark.parametrize("restarts, stopped", [(0, False), (2, True)])
def test_workers_that_are_to_end_do_not_begin_again(dataset_run, tmp_path, monkeypatch, restarts, stopped):
    def fail(*_):
        (tmp_path / "checkpoints" / checkpoint.name(10)).mkdir(parents=True)
        raise Died("the training workers failed")

    monkeypatch.setattr("glitchflow.train.fit.run_workers", fail)
    monkeypatch.setattr("glitchflow.train.fit.flag_is_up", lambda flag: stopped)
    with pytest.raises(Died):
        launch(training_of(run_of_its_own(dataset_run, tmp_path, restarts=restarts)), tmp_path, "", False)


def test_what_a_worker_says_is_wrong_is_not_tried_again(dataset_run, tmp_path, monkeypatch):
    def fail(*_):
        (tmp_path / "checkpoints" / checkpoint.name(10)).mkdir(parents=True)
        raise RunError("the disk is full")

    monkeypatch.setattr("glitchflow.train.fit.run_workers", fail)
    with pytest.raises(RunError, match=r"^the disk is full$"):
        launch(training_of(dataset_run), tmp_path, "", False)


def test_what_a_changing_number_of_workers_costs_is_said():
    assert (
        lost(Train(workers=[4, 4]))
        == lost(Train(workers=4))
        == lost(Train(workers=[1, 4], checkpoint_every="600s"))
        == ""
    )
    assert lost(Train(workers=[1, 4])) == (
        "train.workers = [1, 4]: where their number changes training goes on from the last checkpoint, that of an"
        " epoch's end; train.checkpoint_every=600s makes more of them"
    )


@pytest.mark.parametrize("running", [True, False])
def test_more_workers_than_the_cluster_can_hold(dataset_run, tmp_path, monkeypatch, running):
    """Told before the baselines are, of a Ray that is there and of one that would be started."""
    monkeypatch.setattr("glitchflow.train.fit.gate", lambda *_: pytest.fail("the baselines came first"))
    if not running:
        monkeypatch.setattr("glitchflow.train.fit.at_hand", lambda _: False)
        monkeypatch.setattr("glitchflow.train.fit.affordable", lambda _: 2)
    experiment = run_of_its_own(dataset_run, tmp_path, workers=4)
    with pytest.raises(InputError, match=r"train.workers = 4: needs 4 CPUs, the cluster has 2"):
        fit(experiment)


def test_a_loss_that_cannot_be_imported(dataset_run, tmp_path):
    experiment = run_of_its_own(dataset_run, tmp_path, loss="glitchflow.testing_does_not_exist:loss")
    with pytest.raises(InputError, match=r"train.loss = glitchflow.testing_does_not_exist:loss"):
        fit(experiment)


def test_how_a_run_ended_is_the_last_line_of_its_metrics(tmp_path):
    ended(tmp_path)
    for line, words in (
        ({"kind": "failed", "step": 5, "reason": "the loss is not finite"}, "^the loss is not finite$"),
        (
            {"kind": "stopped", "step": 5, "reason": "stopped"},
            "^stopped; the same command goes on from there$",
        ),
    ):
        (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        with pytest.raises(RunError, match=words):
            ended(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"kind": "epoch", "step": 6}) + "\n")
    ended(tmp_path)


def run_with(experiment, **train):
    return experiment.model_copy(update={"train": experiment.train.model_copy(update=train)})


def test_training_needs_a_finished_dataset(tmp_path):
    with pytest.raises(
        InputError, match=r"dataset.zarr: no store there; make one with `glitchflow generate`"
    ):
        fit(small(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_best_checkpoint_is_returned(trained_run):
    directory = Path(trained_run.workdir) / "train" / "checkpoints"
    best = checkpoint.open_checkpoint(checkpoint.best(directory))
    assert best.loss == min(losses(trained_run))
    assert best.meta.channels == ["SIM:STRAIN", "SIM:ACC", "SIM:SUS", "SIM:FRINGE"]


def test_a_checkpoint_says_all_about_itself(trained_run):
    best = checkpoint.find(Path(trained_run.workdir) / "train" / "checkpoints", "last")
    assert best.meta.kind == "image"
    read = {name: trained_run.model_dump(mode="json")[name] for name in ("seed", "loader", "model", "train")}
    assert best.meta.config == read | {"loader": read["loader"] | {"lanes": 4}}  # null stands for a number
    assert {"torch", "ray", "glitchflow"} <= set(best.meta.provenance["versions"])
    assert best.meta.geometry["qplot"]["shape"] == [16, 16]
    assert best.meta.geometry["whiten"]["fftlength"] == 2
    assert list(best.meta.geometry["derived"]) == ["SIM:FRINGE"]
    assert set(best.meta.sha256) == {"weights.pt", "state.pt", "meta.json"}
    state = best.state()
    assert state["optimizer"]["state"]
    assert state["progress"]["epoch"] == 2
    assert state["progress"]["step"] == best.step


def refuse(dataset, terms, path):
    """In place of `gate`."""
    raise InputError("teaches nothing")


def without_ray(training, directory, flag, gpu):
    """In place of `launch`: the loop in this process."""
    train(training, directory)


def test_overwrite_deletes_nothing_before_the_new_run_can_begin(trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr("glitchflow.train.fit.launch", without_ray)
    here = linked(trained_run, tmp_path, "dataset.zarr")
    shutil.copytree(Path(trained_run.workdir) / "train", tmp_path / "train")
    best = checkpoint.best(tmp_path / "train" / "checkpoints")
    deep = here.model_copy(update={"model": here.model.model_copy(update={"options": {"depth": 9}})})
    for settings, words in (
        (deep, "depth"),
        (run_with(here, workers=4), "the cluster has 2"),
        (run_with(here, init_from=str(best)), "train.init_from = .*: --overwrite would delete it"),
    ):
        with pytest.raises(InputError, match=words):
            fit(settings, overwrite=True)
        assert checkpoint.open_checkpoint(best).weights()
    monkeypatch.setattr("glitchflow.train.fit.gate", refuse)
    with pytest.raises(InputError, match="teaches nothing"):
        fit(here, overwrite=True)
    assert checkpoint.open_checkpoint(best).weights()
    monkeypatch.undo()
    monkeypatch.setattr("glitchflow.train.fit.launch", without_ray)
    fit(run_with(here, epochs=1, workers=1), overwrite=True)
    assert losses(here) != losses(trained_run)
    assert len(losses(here)) == 1


def test_workers_that_no_single_node_can_hold(dataset_run, monkeypatch):
    nodes = [{"Alive": True, "Resources": {"CPU": 3.0}}] * 2
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 6.0})
    train = dataset_run.train
    for workers in (2, [2, 8]):  # of a pair the fewest are enough
        assert accelerated(train.model_copy(update={"workers": workers, "threads": 3})) is False
    with pytest.raises(
        InputError, match=r"needs 3 times 2 CPUs on one node each, the cluster's nodes hold 2"
    ):
        accelerated(train.model_copy(update={"workers": 3, "threads": 2}))


@pytest.mark.parametrize(
    ("device", "gpus", "said"),
    [
        (
            "auto",
            1.0,
            "train.device = auto: the workers get CPUs, since the cluster has 1 GPU(s) for train.workers = 2",
        ),
        ("auto", 2.0, ""),
        ("auto", 0.0, ""),
        ("cpu", 1.0, ""),
    ],
)
def test_gpus_that_are_too_few_are_told(dataset_run, monkeypatch, device, gpus, said):
    resources = {"CPU": 4.0, "GPU": gpus}
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": resources}])
    monkeypatch.setattr("ray.cluster_resources", lambda: resources)
    train = dataset_run.train.model_copy(update={"workers": 2, "threads": 1, "device": device})
    assert fallen(train, accelerated(train)) == said


def test_two_runs_in_one_directory_are_refused(trained_run):
    directory = Path(trained_run.workdir) / "train"
    with (
        lease.hold(directory),
        pytest.raises(RunError, match=r"train: another run is writing it \(process"),
    ):
        fit(trained_run)
    assert fit(trained_run).exists()


def test_the_gate_is_asked_when_the_settings_are_right_and_before_anything_is_trained(
    dataset_run, tmp_path, monkeypatch
):
    (tmp_path / "dataset.zarr").symlink_to(dataset_run.dataset)
    for stage in ("fit", "tune.sweep"):
        monkeypatch.setattr(f"glitchflow.train.{stage}.gate", refuse)
    with pytest.raises(InputError, match="depth"):
        fit(small(tmp_path, model={"name": "unet", "options": {"depth": 9}}))
    with pytest.raises(InputError, match="teaches nothing"):
        fit(small(tmp_path))
    with pytest.raises(InputError, match="teaches nothing"):
        sweep(small(tmp_path, tune={"space": {"train.lr": {"uniform": [0.001, 0.01]}}}))
    assert not (tmp_path / "train" / "checkpoints").exists()


def test_what_the_dataset_can_teach_is_said_before_and_kept_beside_the_run(trained_run):
    judged = json.loads((Path(trained_run.workdir) / "baseline.json").read_text())
    assert judged["verdict"]["teaches"] is True


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_ray_train_gives_its_worker_the_gpu(dataset_run, tmp_path, compiled):
    """On auto, in bfloat16, eager and compiled: it says so, learns, and what it keeps is as good on a CPU."""
    run = run_of_its_own(dataset_run, tmp_path, workers=1, epochs=3, precision="bfloat16", compile=compiled)
    best = fit(run)
    assert "worker 0 of 1" in (log := (tmp_path / "train" / "log.txt").read_text())
    assert re.search(r": cuda:0 \(.+\), 1 CPU\(s\), no backend\n", log)
    assert "worker 0: train split in GPU memory, " in log
    assert losses(run)[-1] < losses(run)[0]
    assert {value.device.type for value in checkpoint.open_checkpoint(best).weights().values()} == {"cpu"}
