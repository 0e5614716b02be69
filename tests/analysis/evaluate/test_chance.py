"""p(glitch) of a small coherent twin: fitted on validation, and read again for its own weights alone."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from glitchflow.analysis.evaluate.chance import _covered, read
from glitchflow.errors import InputError


@pytest.fixture
def directory(series_run) -> Path:
    return Path(series_run.workdir) / "evaluation"


def test_columns_cover_the_slots_they_reach_into():
    edges = np.array([0.0, 0.05, 0.1, 0.15, 0.2, 0.25])
    found = _covered(np.array([False, True, False, False, True]), edges, 4)
    assert found.tolist() == [True, True, False, True]
    assert _covered(np.zeros(5, bool), edges, 4).tolist() == [False] * 4


def test_what_is_louder_is_no_less_probable_and_bins_hold_every_slot(directory):
    metrics = json.loads((directory / "metrics.json").read_text())
    schema = Path(__file__).parents[3] / "docs" / "metrics.schema.json"
    jsonschema.validate(metrics, json.loads(schema.read_text()))
    found = metrics["chance"]
    assert found == json.loads((directory / "chance.json").read_text())
    assert found["energy"] == 16
    assert (np.diff(found["snr"]) > 0).all() and (np.diff(found["p"]) >= 0).all()
    assert found["p"][0] > 0 and found["p"][-1] < 1
    slots = sum(row["slots"] for row in found["reliability"])
    assert slots == metrics["events"] * 32, "of two seconds each"
    assert (directory / "chance.png").exists()


def test_it_is_read_for_the_network_that_it_is_of(directory, tmp_path):
    told = json.loads((directory / "chance.json").read_text())
    assert read(directory, told["checkpoint"]["weights"] + "abc").p == told["p"]
    assert read(directory, "0" * 64) is None
    assert read(tmp_path, "0" * 64) is None
    (tmp_path / "chance.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"chance\.json: cannot be read; `glitchflow evaluate` makes it again"
    ):
        read(tmp_path, "0" * 64)


def test_a_network_of_images_has_none(trained_run):
    there = Path(trained_run.workdir) / "evaluation"
    assert json.loads((there / "metrics.json").read_text())["chance"] is None
    assert not (there / "chance.json").exists()
