"""A coherent twin through the stages after training: what is written of it, and how it is scored and subtracted."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import linked, staged

from glitchflow.analysis.clean.clean import clean
from glitchflow.analysis.event_figure import draw, response
from glitchflow.analysis.infer import infer
from glitchflow.analysis.opened import BEFORE, open_run
from glitchflow.analysis.report import report as write_report
from glitchflow.data.view import strain_engine
from glitchflow.errors import InputError
from glitchflow.methods.coherent import Subtraction
from glitchflow.methods.treat import read_block
from glitchflow.signal.qtransform import look
from glitchflow.twin import kinds
from glitchflow.twin.estimate import estimator_of


@pytest.fixture
def run(series_run, tmp_path):
    """The small run of a coherent twin, in which more is written."""
    return linked(series_run, tmp_path, "dataset.zarr", "predictions.zarr", "train", "evaluation")


@pytest.fixture(scope="module")
def opened(series_run):
    return open_run(series_run)


def test_predictions_are_series_and_their_q_plots(opened):
    dataset, found = opened.dataset, opened.predictions
    events = np.arange(3)
    strain, removed = dataset.events("series", events)[:, 0], found.events("removed", events)
    assert removed.shape == found.events("estimate", events).shape == strain.shape
    seen = look(estimator_of(dataset).engine, strain)
    energy = seen.energies(seen.whiten(removed[:, None].astype(np.float64)))[:, 0]
    np.testing.assert_allclose(found.events("qplot", events), energy, rtol=1e-3, atol=1e-4)
    assert kinds.KINDS["coherent"].arrays(dataset).keys() <= set(found.names)


def test_what_is_removed_is_asked_again_of_another_strain(opened):
    """The fit looks at the strain: of the recorded one it says what was written."""
    method = opened.methods["network"]
    assert isinstance(method, Subtraction) and opened.subtracts
    events = np.arange(4)
    block, _ = read_block(opened.dataset, events, opened.basis.channels[1:], estimator_of(opened.dataset))
    found = method.removed(block).series
    wanted = opened.predictions.events("removed", events).astype(np.float64)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0.05 * wanted.std())


def test_before_its_training_it_subtracts_as_well(opened, series_run, tmp_path, monkeypatch):
    """The row is that of the checkpoint `initial`, not a mask; of predictions that lack its series there is none."""
    before = opened.methods["untrained"]
    assert isinstance(before, Subtraction)
    run = linked(series_run, tmp_path, "dataset.zarr", "train")
    asked = run.infer.model_copy(update={"checkpoint": "initial", "untrained": False})
    infer(staged("infer", run.model_copy(update={"infer": asked})))
    alone = open_run(run)
    events = np.arange(4)
    np.testing.assert_array_equal(before.estimate(events), alone.predictions.events("estimate", events))
    assert alone.methods["network"].front == before.front and "untrained" not in alone.methods
    block, _ = read_block(opened.dataset, events, opened.basis.channels[1:], estimator_of(opened.dataset))
    found, trained = (opened.methods[name].removed(block) for name in ("untrained", "network"))
    assert found.generated is None and found.mask is None
    assert not np.array_equal(found.series, trained.series)
    monkeypatch.setitem(BEFORE, "estimate", "what_earlier_versions_did_not_write")
    assert "untrained" not in opened.methods and "untrained" in opened.generated


def test_what_earlier_predictions_lack_is_said(series_run, tmp_path, monkeypatch, capfd):
    run = linked(series_run, tmp_path, "dataset.zarr", "train", "predictions.zarr")
    infer(staged("infer", run))
    assert "earlier version" not in capfd.readouterr().err
    monkeypatch.setitem(BEFORE, "estimate", "since")
    infer(staged("infer", run))
    path = tmp_path / "predictions.zarr"
    assert (
        f"{path}: is of an earlier version, and has no since: --overwrite adds it" in capfd.readouterr().err
    )


@pytest.mark.ci
def test_it_is_scored_among_the_methods(run):
    metrics = json.loads(Path(run.workdir, "evaluation", "metrics.json").read_text())
    scores = metrics["families"]["witnessed"]["scores"]["network"]
    assert scores["left"]["value"] > 0 and scores["snr_kept_median"]["value"] > 0.9
    assert scores["skill"]["value"] is None  # what it removes holds strain
    assert metrics["families"]["witnessed"]["scores"]["untrained"]["skill"]["value"] is None
    assert "thresholds_tried" not in metrics
    page = write_report(staged("report", run)).read_text()
    assert "windows without a glitch of the test split" in page and "coherence with" in page
    assert "with what is removed over it and what is left beneath" in page


def test_an_event_is_drawn_before_and_after(opened, tmp_path):
    """What is left is the cleaned series' energy, not the recorded one turned down."""
    dataset, predictions = opened.dataset, opened.predictions
    strain, removed = dataset["series"][3, 0].astype(np.float64), predictions["removed"][3].astype(np.float64)
    seen = look(strain_engine(dataset), strain[None])
    expected = seen.energies(seen.whiten((strain - removed)[None, None]))[0, 0]
    images = response(dataset, predictions, 3)
    np.testing.assert_allclose(images["residual"], expected, rtol=1e-3, atol=1e-3)
    assert draw(predictions.path, 3, str(tmp_path / "e.png")).stat().st_size > 10_000


def test_clean_subtracts_its_series(run, opened):
    directory = clean(
        staged("clean", run.model_copy(update={"clean": run.clean.model_copy(update={"split": "test"})})),
        force=True,
    )
    paths = sorted(directory.glob("*.hdf5"))
    assert Path(directory / "clean.json").exists() and paths


def test_parts_of_its_estimate_are_known_of_recorded_files_alone(run):
    settings = run.clean.model_copy(update={"split": "test", "groups": True})
    with pytest.raises(InputError) as error:
        clean(staged("clean", run.model_copy(update={"clean": settings})), force=True)
    assert str(error.value) == (
        "clean.groups = true: of a coherent network on recorded files alone parts are known"
    )
