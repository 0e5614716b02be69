"""launch/cwl: what its steps say of the stages, and the whole workflow under cwltool, where there is one.

CWLTOOL names the command, where it is not on the PATH: its dependencies do not go with our pins.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import small

from glitchflow.analysis.inspect import inspect
from glitchflow.cli import STAGES
from glitchflow.config import load

ROOT = Path(__file__).parents[2]
CWL = ROOT / "launch" / "cwl"


def test_each_step_is_a_stage_that_writes_what_the_step_hands_on():
    steps = yaml.safe_load((CWL / "twin.cwl").read_text())["steps"]
    assert list(steps) == ["generate", "train", "infer", "evaluate"]
    page = (ROOT / "docs" / "stages.md").read_text()
    for name, step in steps.items():
        assert step["in"]["stage"]["default"] == name in STAGES
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert f"`{step['in']['makes']['default']}" in row
    earlier = [f"{name}/made" for name in steps]
    for k, step in enumerate(list(steps.values())[1:], 1):
        assert step["in"]["before"]["source"] == earlier[:k], "a step sees what was made before it"


def test_the_example_is_an_experiment():
    example = yaml.safe_load((CWL / "twin.yaml").read_text())
    assert load(CWL / example["config"]["location"], example["overrides"]).simulate
    assert example.keys() <= yaml.safe_load((CWL / "twin.cwl").read_text())["inputs"].keys()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_workflow_runs_under_cwltool(tmp_path):
    cwltool = shutil.which(os.environ.get("CWLTOOL", "cwltool"))
    if not cwltool:
        pytest.skip("no cwltool on the PATH and CWLTOOL is not set: nothing to run a workflow with")
    experiment = small(tmp_path, train={"workers": 1, "epochs": 1})
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    location = {"class": "File", "location": (tmp_path / "small.yaml").as_uri()}
    overrides = ["simulate.events=80"]
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({"config": location, "overrides": overrides}))
    line = [cwltool, "--preserve-environment", "PYTHONPATH", "--outdir", "out", "--provenance", "crate"]
    own = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*line, CWL / "twin.cwl", "job.yaml"], cwd=tmp_path, env=own, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made = json.loads(done.stdout)
    assert {name: Path(output["path"]).name for name, output in made.items()} == {
        "dataset": "dataset.zarr",
        "trained": "train",
        "predictions": "predictions.zarr",
        "evaluation": "evaluation",
    }
    text, intact = inspect(made["dataset"]["path"], True, True)
    assert intact
    assert json.loads(text)["events"] == 80
    assert "network" in (tmp_path / "out" / "evaluation" / "metrics.json").read_text()
    assert (tmp_path / "crate" / "metadata" / "manifest.json").is_file()
