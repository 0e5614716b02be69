"""A run made by the last version that wrote schema 1 (tests/data/schema1/README.md) is still read by every stage."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import damage_of
from omegaconf import OmegaConf

from glitchflow.analysis.clean.clean import clean
from glitchflow.analysis.evaluate.evaluate import evaluate
from glitchflow.analysis.infer import infer
from glitchflow.analysis.inspect import inspect
from glitchflow.config import Experiment, parse, upgrade
from glitchflow.data.generate import generate, ingest
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError, RunError

PACKED = Path(__file__).parent / "schema1"


@pytest.fixture
def run(tmp_path) -> Experiment:
    """A copy of the run, and today's experiment of the same settings."""
    with zipfile.ZipFile(PACKED / "run.zip") as packed:
        packed.extractall(tmp_path)
    values = OmegaConf.to_container(OmegaConf.load(PACKED / "config.yaml"))
    return parse(upgrade(values) | {"workdir": str(tmp_path), "cluster": {"cpus": 1}})


def test_what_it_holds(run):
    dataset = store.open_store(run.dataset)
    assert dataset.known.version == 1
    assert dataset.config.whiten.fftlength == 1
    assert dataset.config.store.series == "float64"
    assert dataset["qplot"][:].shape == (20, 4, 16, 16)
    assert dataset["label"].dtype == "int8"
    assert dataset.recorded_channels == dataset.channels
    events = np.array([0, 7, 19])
    np.testing.assert_array_equal(dataset.all_series(events), dataset["series"][:][events])
    assert "valid" not in dataset
    text, intact = inspect(str(run.dataset), verify=True)
    assert intact
    assert "every shard matches its checksum" in text


def test_its_damage_is_found(run):
    dataset = store.open_store(run.dataset)
    file = run.dataset / "qplot" / "c" / "7" / "0" / "0" / "0"
    changed = bytearray(file.read_bytes())
    changed[40] ^= 1
    file.write_bytes(changed)
    (run.dataset / "split" / "c" / "3").unlink()
    (run.dataset / ".done" / "00009.json").unlink()
    for read, message in (
        (lambda: dataset["qplot"][7], "damaged: shard 7: qplot differs from its checksum"),
        (lambda: dataset["qplot"][9], "damaged: the marker of shard 9 is missing"),
    ):
        with pytest.raises(RunError, match=message):
            read()
    damage = damage_of(run.dataset)
    assert damage[7] == "qplot differs from its checksum"
    assert damage[9] == "missing"


def test_it_is_complete_for_generate_and_is_not_written_to(run):
    assert generate(run) == run.dataset
    longer = run.model_copy(update={"simulate": run.simulate.model_copy(update={"events": 24})})
    with pytest.raises(
        InputError, match=r"was written by an earlier version \(schema 1\), which this one reads"
    ):
        generate(longer)
    assert len(store.open_store(run.dataset)) == 20


@pytest.mark.ci
def test_infer_evaluate_and_clean(run, ray_session):
    infer(run)
    predictions = store.open_store(run.predictions)
    assert predictions.known.version == 2
    assert predictions["qplot"][:].any(axis=(1, 2)).all()
    evaluate(run)
    assert (Path(run.workdir) / "evaluation" / "metrics.json").exists()
    clean(run)
    assert (Path(run.workdir) / "clean" / "clean.json").exists()


def test_qplots_made_anew_from_its_series(run, ray_session, tmp_path):
    changes = {
        "workdir": str(tmp_path / "again"),
        "ingest": run.ingest.model_copy(update={"series_from": str(run.dataset)}),
    }
    again = store.open_store(ingest(run.model_copy(update=changes)))
    old = store.open_store(run.dataset)
    assert again.known.version == 2
    for name in ("split", "gps"):
        np.testing.assert_array_equal(again[name][:], old[name][:], err_msg=name)
    for name in ("qplot", "witnessed"):  # within rounding: the old ones may be another type of CPU's
        most = 3e-6 * old[name][:].max()
        np.testing.assert_allclose(again[name][:], old[name][:], rtol=0, atol=most, err_msg=name)
    for name, values in old.normalisation.items():
        np.testing.assert_allclose(again.normalisation[name], values, rtol=1e-5, err_msg=name)
