"""The table of faults: each case by one rule (`judge`). `make faults` runs them all, `make test` some of each kind."""

from pathlib import Path

import pytest
import torch
from faults.cases import Case, judge
from faults.configuration import CASES
from faults.files import CHECKPOINT, CHECKPOINTS, STORES
from helpers import small, staged

from glitchflow.data.generate import generate
from glitchflow.train import checkpoint
from glitchflow.twin.kinds import build_network

CHOSEN = 5  # one in so many is in `make test` too


def table(cases: list[Case]) -> pytest.MarkDecorator:
    """All cases as parameters, by name."""
    rows = [
        pytest.param(case, id=case.name, marks=() if k % CHOSEN == 0 else pytest.mark.slow)
        for k, case in enumerate(cases)
    ]
    return pytest.mark.parametrize("case", rows)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A place with a configuration, a store of 8 events and a checkpoint."""
    place = tmp_path_factory.mktemp("whole")
    experiment = small(place, simulate={"events": 12}, split={"validation": 0.3, "test": 0.3})
    (place / "config.yaml").write_text(experiment.model_copy(update={"workdir": "."}).model_dump_json())
    generate(staged("generate", experiment))
    model = {"name": "unet", "width": 2, "options": {"depth": 1}, "seed": 1}
    meta = {
        "step": 7,
        "model": model,
        "channels": ["S", "W"],
        "shape": [4, 4],
        "geometry": {"qplot": {"q": 9.0}},
        "normalisation": {"kind": "log1p", "offset": [0.5, 0.5], "scale": [1.0, 2.0]},
        "metrics": {"validation_loss": 0.5},
    }
    weights = build_network(model, 1, (4, 4)).state_dict()
    made = checkpoint.save(place / "train" / "checkpoints", meta, weights, {"at": torch.zeros(1)})
    assert str(made).endswith(CHECKPOINT)
    return place


def test_the_page_counts_what_there_is():
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()
    kinds = {
        "files of a configuration": sum(case.name.startswith("file: ") for case in CASES),
        "values of keys": sum(case.name.startswith("value: ") for case in CASES),
        "command lines": sum(": " not in case.name for case in CASES),
        "files of a store, `inspect --verify`": sum(case.name.startswith("inspect") for case in STORES),
        "files of a store, `generate --verify`": sum(case.name.startswith("generate") for case in STORES),
        "files of a checkpoint, `export`": len(CHECKPOINTS),
    }
    for kind, count in kinds.items():
        assert f"| {kind} | {count} |" in page
    assert f"| together | {sum(kinds.values())} |" in page


@table(CASES)
def test_configuration(case, whole, tmp_path):
    assert judge(case, whole, tmp_path / "place") == ""


@table(STORES)
def test_stores(case, whole, tmp_path):
    assert judge(case, whole, tmp_path / "place") == ""


@table(CHECKPOINTS)
def test_checkpoints(case, whole, tmp_path):
    assert judge(case, whole, tmp_path / "place") == ""
