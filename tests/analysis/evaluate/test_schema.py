"""evaluation/metrics.json is what its schema in docs/ says."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from glitchflow.score.table import SCORES

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "metrics.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture
def metrics(trained_run):
    return json.loads((Path(trained_run.workdir) / "evaluation" / "metrics.json").read_text())


def test_the_schema_is_one_and_names_every_score():
    VALIDATOR.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["scores"]["required"] == list(SCORES)


def test_what_evaluate_writes_fits_its_schema(metrics):
    VALIDATOR.validate(metrics)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("residual"), "'residual' is a required property"),
        (lambda row: row.update(left=None), "None is not of type 'object'"),
        (lambda row: row["skill"].update(value="0.5"), "'0.5' is not of type 'number', 'null'"),
        (lambda row: row["nll"].pop("low"), "'low' is a required property"),
    ],
)
def test_what_does_not_fit_is_seen(metrics, change, message):
    changed = copy.deepcopy(metrics)
    change(changed["families"]["witnessed"]["scores"]["network"])
    assert [error.message for error in VALIDATOR.iter_errors(changed)] == [message]
