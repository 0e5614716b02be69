"""Do no harm: where the generated energies are known to be right, wrong or nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import write_predictions

from glitchflow.analysis.evaluate import injections as harm
from glitchflow.analysis.opened import open_run
from glitchflow.config.sections import Loader
from glitchflow.data.store import dataset as store
from glitchflow.methods.compare import basis_of, compare
from glitchflow.score.table import Bootstrap


def measured(run, tmp_path, energy, **harm_keys):
    """The scores with given energies in place of a network's."""
    (tmp_path / "dataset.zarr").symlink_to(Path(run.workdir) / "dataset.zarr")
    settings = run.harm.model_copy(update={"snr": (8.0, 20.0), **harm_keys})
    experiment = run.model_copy(update={"workdir": str(tmp_path), "harm": settings})
    write_predictions(experiment, energy(store.open_store(experiment.dataset)))
    opened = open_run(experiment)
    dataset, basis = opened.dataset, basis_of(opened.dataset, Loader())
    unit = Unit.of("l1", basis.strain)
    sample = compare(dataset, dataset.indices("test"), basis, unit, None, opened.generated)
    trial = harm.Trial(settings, experiment.clean.threshold, Bootstrap(experiment.seed, 100))
    return harm.measure(opened, sample, trial, dataset.indices("validation")), dataset


def test_it_is_part_of_the_evaluation(trained_run):
    result = json.loads((Path(trained_run.workdir) / "evaluation" / "metrics.json").read_text())
    found = result["do_no_harm"]
    assert found["mask"] == {"threshold": trained_run.clean.threshold}
    assert set(found["kept"]) == set(found["wiener_kept"]) == {"alone", "on_glitches", "blip"}
    assert found["wiener_excess_removed"]["value"] > 0
    for entry in found["kept"].values():
        assert 0 <= entry["p01"] <= entry["median"] <= 1.01


def test_a_network_that_generates_nothing_removes_and_harms_nothing(trained_run, tmp_path):
    found, dataset = measured(trained_run, tmp_path, lambda d: np.ones(d["witnessed"].shape, np.float32))
    assert found["excess_removed"]["value"] == pytest.approx(0, abs=1e-3)
    label = np.asarray(dataset["label"][:])[dataset.indices("test")]
    for name, label_of in (("alone", 0), ("blip", dataset.labels.index("blip"))):
        each = 1 if name == "blip" else trained_run.harm.signals
        entry = found["kept"][name]
        assert entry["events"] == each * (label == label_of).sum()
        assert entry["median"] == entry["p01"] == pytest.approx(1, abs=1e-9)


def test_the_witnessed_energies_remove_the_glitches_and_keep_the_signals(trained_run, tmp_path):
    found, _ = measured(
        trained_run, tmp_path, lambda d: np.asarray(d["witnessed"][:]), thresholds=[2.0, 30.0]
    )
    assert found["excess_removed"]["value"] > 0.7
    assert found["kept"]["alone"]["p01"] > 0.999
    assert found["kept"]["blip"]["p01"] > 0.999
    assert 0.3 < found["kept"]["on_glitches"]["p01"] < found["kept"]["on_glitches"]["median"]
    low, high = found["validation"]
    assert (low["threshold"], high["threshold"]) == (2.0, 30.0)
    assert low["excess_removed"]["value"] > high["excess_removed"]["value"]
    assert low["kept"]["on_glitches"]["median"] <= high["kept"]["on_glitches"]["median"]
    assert "validation, clean.threshold 30: excess power removed" in harm.summary(found)


def test_a_network_that_sees_glitches_everywhere_harms_signals(trained_run, tmp_path):
    found, _ = measured(
        trained_run, tmp_path, lambda d: np.full(d["witnessed"].shape, 1e4, np.float32), reach=0.0
    )
    for entry in found["kept"].values():
        assert entry["median"] < 0.8
