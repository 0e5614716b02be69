from pathlib import Path

import numpy as np
import pytest
import torch

from glitchflow.analysis import infer as module
from glitchflow.analysis.infer import check_fit, generate_energy, infer
from glitchflow.config import InputError
from glitchflow.data import store
from glitchflow.train import checkpoint


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
        output = best.network()(torch.from_numpy(inputs))[:, 0].double().numpy()
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
    network = best.network()
    together = generate_energy(network, best, energy, dataset.channels, batch=8)
    alone = generate_energy(network, best, energy, dataset.channels, batch=1)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_nothing_is_done_twice_and_a_lost_shard_is_made_again(trained_run, tmp_path, monkeypatch):
    for name in ("dataset.zarr", "train"):
        (tmp_path / name).symlink_to(Path(trained_run.workdir) / name)
    experiment = trained_run.model_copy(update={"workdir": str(tmp_path)})
    infer(experiment)
    before = np.asarray(store.open_store(experiment.predictions)["qplot"][:])
    (experiment.predictions / store.MARKERS / "00003.json").unlink()
    made = []
    run_shards = module.run_shards
    monkeypatch.setattr(
        module, "run_shards", lambda make, k, *a, **b: (made.append(k), run_shards(make, k, *a, **b))
    )
    infer(experiment)
    infer(experiment)
    assert made == [[3]]
    np.testing.assert_array_equal(store.open_store(experiment.predictions)["qplot"][:], before)


def test_predictions_of_another_checkpoint_are_not_mixed(trained_run):
    settings = trained_run.infer.model_copy(update={"checkpoint": "initial"})
    with pytest.raises(InputError, match=r"predictions.zarr: holds predictions of .*--overwrite it"):
        infer(trained_run.model_copy(update={"infer": settings}))


def test_a_store_without_a_channel_is_refused(best, dataset):
    meta = best.meta | {"channels": ["SIM:STRAIN", "SIM:MIC"]}
    with pytest.raises(InputError, match="has no channel SIM:MIC, which "):
        check_fit(checkpoint.Checkpoint(best.path, meta), dataset)


def test_a_store_of_another_geometry_is_refused(best, dataset):
    geometry = best.meta["geometry"] | {"qplot": best.meta["geometry"]["qplot"] | {"span": 1.5}}
    with pytest.raises(InputError, match=r"qplot.span = 2.0, but .* was trained on 1.5"):
        check_fit(checkpoint.Checkpoint(best.path, best.meta | {"geometry": geometry}), dataset)
