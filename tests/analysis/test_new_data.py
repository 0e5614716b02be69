"""A trained network on data it was not trained on: another store, scored whole, and a stretch to slide over."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from gwpy.timeseries import TimeSeries
from helpers import small

from glitchflow.analysis.evaluate.evaluate import evaluate
from glitchflow.analysis.evaluate.veto_scores import cluster_rule
from glitchflow.analysis.infer import infer
from glitchflow.analysis.opened import open_run
from glitchflow.data.generate import generate, ingest
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError
from glitchflow.methods.compare import Basis, compare, fit_methods

pytestmark = pytest.mark.ci

RATE, START, SECONDS = 256, 1_000_000_000, 128


def with_network(experiment, run, **changes):
    settings = experiment.evaluate.model_copy(update={"split": "all", **changes})
    network = run.infer.model_copy(update={"checkpoint": run.workdir})
    return experiment.model_copy(update={"evaluate": settings, "infer": network})


def scores(experiment):
    return json.loads((evaluate(experiment) / "metrics.json").read_text())


@pytest.fixture(scope="module")
def new_run(trained_run, tmp_path_factory):
    """Forty synthetic events of another seed."""
    experiment = small(tmp_path_factory.mktemp("new"), seed=4, simulate={"events": 40})
    simulate = trained_run.simulate.model_copy(update={"events": 40})
    experiment = with_network(experiment.model_copy(update={"simulate": simulate}), trained_run)
    generate(experiment)
    infer(experiment)
    return experiment


def test_new_data_are_scored_whole_beside_baselines_of_the_networks_own_training(new_run, trained_run):
    result = scores(new_run)
    assert (result["events"], result["split"]) == (40, "all")
    assert sum(entry["events"] for name, entry in result["families"].items() if name != "witnessed") == 40
    old, dataset = store.open_store(trained_run.dataset), store.open_store(new_run.dataset)
    target = np.asarray(dataset["qplot"][:])[:, 0].clip(0)
    train, label = old.indices("train"), np.asarray(old["label"][:])
    known = train[label[train] != old.labels.index("blip")]
    mean = np.asarray(old["qplot"][:])[known, 0].clip(0).mean(axis=0)
    expected = np.abs(target - mean).mean(axis=(1, 2))
    columns = _compared(new_run).columns
    np.testing.assert_allclose(columns["mean"]["l1"], expected, rtol=1e-4)
    assert {"linear", "oracle", "network", "untrained"} <= set(columns)


def _compared(experiment, basis=None):
    run = open_run(experiment)
    fit = fit_methods(run.dataset, basis or run.basis, 16.0, None, run.generated)
    return compare(
        run.dataset,
        np.arange(len(run.dataset)),
        fit,
        cluster_rule(run.dataset, experiment.evaluate),
        experiment.cluster,
    )


def test_drift_is_measured_against_what_the_checkpoint_remembers(new_run, trained_run):
    """The training's store may be gone: the ranges are in the checkpoint, methods that are fitted are not."""
    old, basis = store.open_store(trained_run.dataset), open_run(new_run).basis
    train = np.asarray(old["qplot"][:])[old.indices("train"), 1:].clip(0)
    loudness = np.log1p(train.astype(float)).mean((2, 3))
    np.testing.assert_allclose(np.array(basis.loudness)[1:, -1], loudness.max(axis=0), atol=1e-6)
    dataset = store.open_store(new_run.dataset)
    gone = Basis(basis.channels, None, basis.loudness)
    sample = _compared(new_run, gone)
    blind = {"nothing", "gate", "loudest_witness", "loudest_thresholded"}
    assert set(sample.columns) == {"network", "untrained", *blind}
    np.testing.assert_allclose(
        sample.loudness,
        np.log1p(np.asarray(dataset["qplot"][:])[:, 1:].clip(0).astype(float)).mean((2, 3)),
        rtol=1e-6,
    )


def test_the_store_it_was_trained_on_is_not_scored_whole(trained_run):
    settings = trained_run.evaluate.model_copy(update={"split": "all"})
    with pytest.raises(
        InputError, match=r"evaluate.split = all: .* holds the events that the network was trained on"
    ):
        evaluate(trained_run.model_copy(update={"evaluate": settings}))


def test_a_store_without_a_test_split_says_how_it_can_be_scored(new_run, tmp_path):
    split = new_run.split.model_copy(update={"test": 0.0})
    settings = new_run.evaluate.model_copy(update={"split": "test"})
    none = new_run.model_copy(update={"workdir": str(tmp_path), "split": split, "evaluate": settings})
    generate(none)
    infer(none)
    with pytest.raises(
        InputError, match=r"its test split is empty; evaluate.split=all scores a store of new data"
    ):
        evaluate(none)


def test_predictions_for_fewer_events_are_refused(new_run, tmp_path):
    (tmp_path / "predictions.zarr").symlink_to(new_run.predictions)
    other = new_run.model_copy(
        update={"workdir": str(tmp_path), "simulate": new_run.simulate.model_copy(update={"events": 41})}
    )
    generate(other)
    with pytest.raises(
        InputError, match=r"is of another dataset than .*, or of fewer events; run `glitchflow infer`"
    ):
        evaluate(other)


# -- a stretch ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stretch_run(trained_run, tmp_path_factory):
    """Two minutes of recorded noise, the last quarter of it with an accelerometer that rattles; windows each second."""
    directory = tmp_path_factory.mktemp("stretch")
    rng, time = np.random.default_rng(2), np.arange(SECONDS * RATE) / RATE
    series = {name: rng.standard_normal(time.size) for name in ("SIM:STRAIN", "SIM:ACC", "SIM:SUS")}
    burst = 12 * np.sin(2 * np.pi * 45 * time) * (np.abs(time % 8 - 4) < 0.1)
    for name in ("SIM:STRAIN", "SIM:ACC"):
        series[name] += burst
    series["SIM:ACC"] += 10 * rng.standard_normal(time.size) * (time > 96) * (time % 1 < 0.2)
    sources = []
    for name, values in series.items():
        path = directory / f"{name[4:]}.h5"
        TimeSeries(values, t0=START, sample_rate=RATE, name=name, channel=name).write(
            path, path=name, format="hdf5"
        )
        sources.append({"name": name, "files": [str(path)]})
    times = {"start": START + 8, "end": START + SECONDS - 8, "stride": 1}
    experiment = small(directory, seed=4, ingest={"channels": sources, "times": times}, split={"block": 16.0})
    experiment = with_network(experiment, trained_run, thresholds=[1, 4, 8, 16], veto=8.0)
    ingest(experiment)
    infer(experiment)
    return experiment, scores(experiment)


def test_on_a_stretch_vetoes_cost_deadtime(stretch_run):
    experiment, result = stretch_run
    dataset = store.open_store(experiment.dataset)
    assert result["events"] == len(dataset) == SECONDS - 16 - 1
    veto = result["veto"]
    assert veto["analysed_seconds"] == SECONDS - 16, "112 s, though 111 windows are 222 s long together"
    deadtime = veto["methods"]["network"]["curves"]["deadtime"]
    generated = np.asarray(store.open_store(experiment.predictions)["qplot"][:])
    place = veto["thresholds"].index(16)
    seconds = np.zeros(SECONDS)
    for gps in np.asarray(dataset["gps"][:])[generated.max(axis=(1, 2)) >= 16]:
        seconds[round(gps - START) - 1 : round(gps - START) + 1] = 1
    assert deadtime["value"][place] <= seconds.sum() / (SECONDS - 16), "parts of windows, not windows"
    assert (np.diff(deadtime["value"]) <= 0).all()
    assert all(0 <= low <= high for low, high in zip(deadtime["low"], deadtime["high"]))


def test_vetoes_out_of_range_are_not_to_be_trusted(stretch_run):
    experiment, result = stretch_run
    drift = result["drift"]
    acc = next(row for row in drift["channels"] if row["name"] == "SIM:ACC")
    table = pyarrow.parquet.read_table(Path(experiment.workdir) / "evaluation" / "events.parquet").to_pydict()
    gps, trusted = np.array(table["gps"]), np.array(table["trusted"])
    rattling = gps - START > 98
    assert acc["above"] >= rattling.sum() > 10
    assert not trusted[rattling].any(), "every event of the time when it rattles is flagged"
    assert drift["flagged"] == (~trusted).sum()
    assert drift["vetoes_not_trusted"] == (np.array(table["veto"]) & ~trusted).sum()


def test_recorded_data_have_no_background_to_resolve(stretch_run):
    _, result = stretch_run
    assert set(result["families"]) == {"recorded"}
    assert result["thresholds"]["noise_only"]["resolvable"] == [False] * 4
    assert result["thresholds"]["noise_only"]["value"] == [None] * 4
    assert result["veto"]["methods"]["network"]["chosen"] == [], "no validation split of its own chooses"
