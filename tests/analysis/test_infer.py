import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import damage_of, descendants, forget_shards, linked, missing_shards, small

from glitchflow.analysis import infer as module
from glitchflow.analysis.clean.clean import find_windows
from glitchflow.analysis.event_figure import draw
from glitchflow.analysis.infer import check_fit, infer
from glitchflow.analysis.opened import open_run
from glitchflow.data.generate import generate
from glitchflow.data.store import dataset as store
from glitchflow.data.store.schema import MARKERS, SPLITS
from glitchflow.errors import InputError
from glitchflow.train import checkpoint
from glitchflow.twin.called import Called


@pytest.fixture
def best(trained_run):
    return checkpoint.find(Path(trained_run.workdir) / "train" / "checkpoints", "best")


@pytest.fixture
def dataset(trained_run):
    return store.open_store(trained_run.dataset)


def test_predictions_are_the_networks_output_as_energies(trained_run, best, dataset):
    predictions = store.open_store(trained_run.predictions)
    stored = dataset.attributes["normalisation"]
    energy = np.asarray(dataset["qplot"][40:44])
    mean, std = (np.array(stored[k])[:, None, None] for k in ("log_mean", "log_std"))
    inputs = ((np.log1p(energy.clip(0)) - mean) / std)[:, 1:].astype(np.float32)
    with torch.no_grad():
        output = best.trained().network(torch.from_numpy(inputs))[:, 0].double().numpy()
    expected = np.expm1(output * std[0] + mean[0]).clip(0)
    np.testing.assert_allclose(predictions["qplot"][40:44], expected, rtol=1e-3, atol=1e-4)


def test_predictions_keep_the_events_own_index_time_label_and_split(trained_run, dataset):
    predictions = store.open_store(trained_run.predictions)
    assert predictions.layout == dataset.layout
    np.testing.assert_array_equal(predictions["event"][:], np.arange(len(dataset)))
    for name in ("gps", "label", "split", "frequency", "time"):
        np.testing.assert_array_equal(predictions[name][:], dataset[name][:])


def test_untrained_predictions_differ(trained_run):
    predictions = store.open_store(trained_run.predictions)
    assert np.abs(predictions["untrained"][:] - predictions["qplot"][:]).mean() > 0.1


def test_an_event_does_not_depend_on_its_batch(best, dataset):
    energy = np.asarray(dataset["qplot"][:8])
    trained = best.trained()
    together, alone = (trained.predict(energy, dataset.channels, batch)["qplot"] for batch in (8, 1))
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["trained_run", "series_run"])
def test_a_gpu_predicts_what_a_cpu_does(kind, gpu, request):
    """Within a thousandth of the loudest, alone or among others."""
    run = request.getfixturevalue(kind)
    best = checkpoint.find(Path(run.workdir) / "train" / "checkpoints", "best")
    dataset, events = store.open_store(run.dataset), np.arange(6)
    expected = best.trained().infer(dataset, events, 4)
    for batch in (4, 1):
        found = best.trained(gpu).infer(dataset, events, batch)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=2e-3, atol=1e-3 * np.abs(values).max())


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("kind", "precision", "compiled", "near"),
    [
        ("trained_run", "tf32", False, 1e-2),  # products of 10 bits
        ("trained_run", "bfloat16", False, 5e-2),  # of 8, through all of a network
        ("trained_run", "float32", True, 1e-3),
        ("trained_run", "bfloat16", True, 5e-2),
        ("series_run", "tf32", False, 1e-2),
        ("series_run", "bfloat16", False, 5e-2),
    ],
)
def test_a_gpu_asked_otherwise_says_nearly_the_same(kind, precision, compiled, near, gpu, request):
    """As shares of the loudest of what the network says in full precision, whichever batch comes first; and what is
    computed afterwards is in full precision again."""
    run = request.getfixturevalue(kind)
    best = checkpoint.find(Path(run.workdir) / "train" / "checkpoints", "best")
    dataset = store.open_store(run.dataset)
    plain, called = best.trained(gpu), Called(precision, compiled)
    said = []
    for parts in ([range(4), range(4, 6)], [range(4, 6), range(4)]):
        torch.compiler.reset()
        network = called.network(plain.network, "cuda")
        other = replace(plain, network=network)
        found = {some[0]: other.infer(dataset, np.array(some), 4) for some in parts}
        said.append({k: np.concatenate([found[0][k], found[4][k]]) for k in found[0]})
    expected = plain.infer(dataset, np.arange(6), 4)
    assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32
    for name, values in expected.items():
        energies = values.ndim == 3  # what energies make of what the network says
        atol = near * np.abs(values).max() * (3 if energies else 1)
        np.testing.assert_allclose(said[0][name], values, rtol=0, atol=atol)
        np.testing.assert_array_equal(said[0][name], said[1][name])


def test_a_missing_witness_shows_what_it_shows_on_average(best, dataset):
    """Its image is empty: what a network sees of it is 0, whatever the others show."""
    energy = np.asarray(dataset["qplot"][:4])
    trained = best.trained()
    wanted = trained.predict(energy, dataset.channels, 4)["qplot"]
    energy[1, 2] = 0
    found = trained.predict(energy, dataset.channels, 4)["qplot"]
    np.testing.assert_array_equal(found[[0, 2, 3]], wanted[[0, 2, 3]])
    assert not np.array_equal(found[1], wanted[1])
    average = np.zeros(energy.shape[2:], np.float32)
    replaced = trained.predict(energy, dataset.channels, 4, {1: average})["qplot"]
    np.testing.assert_array_equal(replaced[1], found[1])


def test_nothing_is_done_twice_and_a_lost_shard_is_made_again(trained_run, tmp_path, monkeypatch):
    experiment = linked(trained_run, tmp_path, "dataset.zarr", "train")
    infer(experiment)
    before = np.asarray(store.open_store(experiment.predictions)["qplot"][:])
    forget_shards(experiment.predictions, 3)
    made = []
    run_tasks = module.run_tasks
    monkeypatch.setattr(module, "run_tasks", lambda job, k, *a: (made.append(list(k)), run_tasks(job, k, *a)))
    infer(experiment)
    infer(experiment)
    assert made == [[3], []]
    np.testing.assert_array_equal(store.open_store(experiment.predictions)["qplot"][:], before)


def elsewhere(run, directory, **infer_settings):
    """The run's dataset in a workdir of its own, without its training."""
    settings = run.infer.model_copy(update=infer_settings)
    return linked(run, directory, "dataset.zarr").model_copy(update={"infer": settings})


def test_a_network_by_its_path_or_by_its_runs_workdir(trained_run, best, tmp_path, monkeypatch):
    """On a store anywhere; its own untrained network comes along."""
    monkeypatch.chdir(Path(trained_run.workdir).parent)
    wanted = np.asarray(store.open_store(trained_run.predictions)["qplot"][:])
    for i, path in enumerate((best.path, Path(trained_run.workdir).name)):  # the second is relative
        (tmp_path / str(i)).mkdir()
        experiment = elsewhere(trained_run, tmp_path / str(i), checkpoint=str(path))
        infer(experiment)
        found = store.open_store(experiment.predictions)
        np.testing.assert_array_equal(found["qplot"][:], wanted)
        assert "untrained" in found
        about = found.attributes["checkpoints"]["qplot"]
        assert Path(about["path"]).is_absolute()
        assert about["step"] == best.step
        assert found.attributes["network"]["channels"] == best.meta.channels


def test_a_checkpoint_alone_is_enough(trained_run, best, tmp_path):
    alone = shutil.copytree(best.path, tmp_path / "twin")
    experiment = elsewhere(trained_run, tmp_path, checkpoint=str(alone))
    infer(experiment)
    found = store.open_store(experiment.predictions)
    assert "untrained" not in found
    wanted = store.open_store(trained_run.predictions)["qplot"][:]
    np.testing.assert_array_equal(found["qplot"][:], wanted)


@pytest.mark.ci
def test_the_train_split_can_be_left_out(trained_run, dataset, tmp_path):
    """What is scored is what it was, and nothing else is known; what needs the rest says so."""
    experiment = linked(trained_run, tmp_path, "dataset.zarr", "train")
    less = experiment.model_copy(update={"infer": trained_run.infer.model_copy(update={"train": False})})
    infer(less)
    found, whole = (store.open_store(run.predictions) for run in (less, trained_run))
    train = np.asarray(dataset["split"][:]) == SPLITS.index("train")
    for name in ("qplot", "untrained"):
        np.testing.assert_allclose(found[name][:][~train], whole[name][:][~train], rtol=1e-4, atol=1e-5)
        assert np.isnan(found[name][:][train]).all()
    for name in ("event", "gps", "label", "split"):
        np.testing.assert_array_equal(found[name][:], whole[name][:])
    path, event = found.path, int(np.flatnonzero(train)[0])
    again = "was made with infer.train=false; `glitchflow infer CONFIG infer.train=true --overwrite` makes it whole"
    cleaned = f"clean.split = all: {path} {again}; clean.split=test cleans what was scored"
    with pytest.raises(InputError, match=f"^{re.escape(cleaned)}$"):
        find_windows(open_run(less), "all")
    assert len(find_windows(open_run(less), "test").events)
    with pytest.raises(InputError, match=re.escape(f"--event {event}, of the train split: {path} {again}")):
        draw(path, event, str(tmp_path / "event.png"))
    with pytest.raises(
        InputError, match=re.escape("holds no train split (infer.train was false); --overwrite it")
    ):
        infer(experiment)
    infer(experiment, overwrite=True)
    np.testing.assert_array_equal(store.open_store(path)["qplot"][:], whole["qplot"][:])


def test_without_a_train_split_something_must_be_left(trained_run, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(store.Dataset, "indices", lambda self, split: np.arange(0))
    experiment = elsewhere(trained_run, tmp_path, checkpoint=trained_run.workdir, train=False)
    with pytest.raises(InputError, match=r"infer\.train = false: .*dataset\.zarr: has no test split"):
        infer(experiment)


def test_predictions_for_another_dataset_are_not_mixed(trained_run, tmp_path, ray_session):
    generate(small(tmp_path, seed=4))
    path = str(tmp_path / "dataset.zarr")
    other = trained_run.model_copy(update={"store": trained_run.store.model_copy(update={"path": path})})
    with pytest.raises(InputError, match=r"holds predictions for another dataset .*choose another workdir"):
        infer(other)


@pytest.mark.ci
def test_predictions_grow_with_their_dataset(trained_run, tmp_path, ray_session):
    """The events that were there stay as they are, the new ones are those of a whole run."""
    grown, whole = (small(tmp_path / name, seed=4) for name in ("grown", "whole"))
    network = trained_run.infer.model_copy(update={"checkpoint": trained_run.workdir, "untrained": False})
    for events in (33, 40):
        simulate = grown.simulate.model_copy(update={"events": events})
        grown = grown.model_copy(update={"simulate": simulate, "infer": network})
        generate(grown)
        infer(grown)
    whole = whole.model_copy(update={"simulate": grown.simulate, "infer": network})
    generate(whole)
    infer(whole)
    found, wanted = (store.open_store(run.predictions) for run in (grown, whole))
    for name in ("qplot", "event", "gps", "split"):
        np.testing.assert_array_equal(found[name][:], wanted[name][:])


def test_predictions_of_another_checkpoint_are_not_mixed(trained_run):
    settings = trained_run.infer.model_copy(update={"checkpoint": "initial"})
    with pytest.raises(InputError, match=r"predictions.zarr: holds predictions of .*--overwrite it"):
        infer(trained_run.model_copy(update={"infer": settings}))


def test_unless_asked_for_nothing_is_said_of_how_a_network_was_called(trained_run):
    about = store.open_store(trained_run.predictions).attributes["checkpoints"]
    assert [set(about[name]) for name in ("qplot", "untrained")] == [{"path", "step", "weights"}] * 2


def test_a_precision_that_a_cpu_has_none_of_is_float32_and_said_once(trained_run, tmp_path, capfd):
    """The predictions are told apart by what was asked, and hold what float32 gives."""
    experiment = elsewhere(trained_run, tmp_path, checkpoint=trained_run.workdir, precision="tf32")
    infer(experiment)
    line = "infer.precision = tf32: products of a GPU, which a CPU has none of: float32\n"
    assert capfd.readouterr().err.count(line) == 1
    found = store.open_store(experiment.predictions)
    np.testing.assert_array_equal(found["qplot"][:], store.open_store(trained_run.predictions)["qplot"][:])
    assert found.attributes["checkpoints"]["untrained"]["precision"] == "tf32"
    infer(experiment)
    plain = experiment.infer.model_copy(update={"precision": "float32"})
    with pytest.raises(InputError) as error:
        infer(experiment.model_copy(update={"infer": plain}))
    assert str(error.value) == (
        f"{experiment.predictions}: was begun with infer.precision = tf32, not float32; --overwrite it or choose"
        " another workdir"
    )


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("precision", "bfloat16", "infer.precision = float32, not bfloat16"),
        ("compile", True, "infer.compile = false, not true"),
    ],
)
def test_predictions_are_not_continued_with_a_network_called_otherwise(trained_run, key, value, words):
    settings = trained_run.infer.model_copy(update={key: value})
    with pytest.raises(InputError) as error:
        infer(trained_run.model_copy(update={"infer": settings}))
    assert str(error.value) == (
        f"{trained_run.predictions}: was begun with {words}; --overwrite it or choose another workdir"
    )


def test_compiling_a_coherent_twin_is_refused_before_anything_is_asked(series_run, monkeypatch):
    monkeypatch.setattr(module, "run_tasks", lambda *_: pytest.fail("it was asked"))
    settings = series_run.infer.model_copy(update={"compile": True})
    experiment = series_run.model_copy(update={"infer": settings})
    with pytest.raises(InputError) as error:
        infer(experiment)
    assert str(error.value) == (
        "infer.compile = true: torch.compile has no code for complex spectra, of which a coherent twin is made;"
        " leave it off"
    )


def saying(best, **other):
    """A checkpoint that says something else of itself."""
    return replace(best, meta=best.meta.model_copy(update=other))


def test_a_store_without_a_channel_is_refused(best, dataset):
    with pytest.raises(InputError, match="has no channel SIM:MIC, which "):
        check_fit(saying(best, channels=["SIM:STRAIN", "SIM:MIC"]), dataset)


def test_a_store_of_another_geometry_is_refused(best, dataset):
    geometry = best.meta.geometry | {"qplot": best.meta.geometry["qplot"] | {"span": 1.5}}
    with pytest.raises(InputError, match=r"qplot.span = 2.0, but .* was trained on 1.5"):
        check_fit(saying(best, geometry=geometry), dataset)


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("series", "sample_rate", 512.0, "series.sample_rate = 256.0, but .* was trained on 512.0"),
        ("qplot", "newer", 1, "qplot.newer = None, but .* was trained on 1"),
        ("derived", "SIM:FRINGE", {"function": "rms"}, "derived.SIM:FRINGE = {.*'scatter'.*}, but .*'rms'"),
    ],
)
def test_a_store_whose_images_are_made_otherwise_is_refused(best, dataset, section, key, value, words):
    geometry = best.meta.geometry | {section: best.meta.geometry[section] | {key: value}}
    with pytest.raises(InputError, match=words):
        check_fit(saying(best, geometry=geometry), dataset)


def test_a_store_of_another_strain_is_refused(best, dataset):
    other = saying(best, channels=["SIM:ACC", "SIM:STRAIN"])
    with pytest.raises(InputError, match=r"its strain is SIM:STRAIN, that of .* is SIM:ACC"):
        check_fit(other, dataset)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_killed_in_the_middle_it_resumes_to_the_same_predictions(trained_run, tmp_path, share):
    """kill -9 of the driver once so many of the shards are there; what it left of its Ray is ended by hand."""
    network = trained_run.infer.model_copy(update={"checkpoint": trained_run.workdir, "batch": 4})
    simulate = trained_run.simulate.model_copy(update={"events": 1536})
    changes = {"workdir": str(tmp_path), "simulate": simulate, "infer": network}
    experiment = trained_run.model_copy(update=changes)
    generate(experiment)
    (tmp_path / "x.yaml").write_text(experiment.model_dump_json())
    command = [str(Path(sys.executable).parent / "glitchflow"), "infer", str(tmp_path / "x.yaml")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    markers = experiment.predictions / MARKERS
    shards = store.open_store(experiment.dataset).layout.shards
    while running.poll() is None and len(list(markers.glob("*.json"))) < share * shards:
        time.sleep(0.005)
    left = [child for child, _ in descendants(running.pid)]
    running.kill()
    running.wait()
    for child in left:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    missing = missing_shards(experiment.predictions)
    assert 0 < len(missing) < shards, "it was in the middle"
    with pytest.raises(InputError, match=f"incomplete, {len(missing)} of {shards} shards missing"):
        store.open_store(experiment.predictions)
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    found = store.open_store(experiment.predictions)
    assert damage_of(experiment.predictions) == {}
    whole = experiment.model_copy(update={"workdir": str(tmp_path / "whole")})
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "dataset.zarr").symlink_to(experiment.dataset)
    infer(whole)
    wanted = store.open_store(whole.predictions)
    for name in ("qplot", "untrained", "event", "gps", "label", "split"):
        np.testing.assert_array_equal(found[name][:], wanted[name][:])
