"""The exported program gives the network's numbers, for every model and any number of events."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from glitchflow.data.normalise import Normalisation
from glitchflow.data.store.dataset import open_store
from glitchflow.errors import InputError, RunError
from glitchflow.model import IMAGE_MODELS, build
from glitchflow.train import checkpoint
from glitchflow.train.export import export, largest_difference, make_program
from glitchflow.twin import image

NORMALISATION = Normalisation("log1p", [0.5, 0.7, 0.9], [1.1, 1.2, 1.3])


@pytest.fixture(scope="module")
def exported(trained_run) -> Path:
    return export(trained_run)


def test_the_program_equals_inference_on_the_store(trained_run, exported):
    dataset = open_store(trained_run.dataset)
    energy = np.asarray(dataset["qplot"][:5])
    trained = checkpoint.find(Path(trained_run.workdir) / "train" / "checkpoints", "best")
    wanted = trained.trained().predict(energy, dataset.channels, 5)["qplot"]
    program = torch.export.load(exported / "twin.pt2").module()
    found = program(torch.from_numpy(energy[:, 1:])).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_it_says_what_it_takes(exported):
    about = json.loads((exported / "twin.json").read_text())
    assert about["witnesses"] == ["SIM:ACC", "SIM:SUS", "SIM:FRINGE"]
    assert about["shape"] == [3, 16, 16]
    assert about["geometry"]["qplot"]["q"] == 8
    assert about["largest_relative_difference"] <= 1e-5


@pytest.mark.ci
def test_it_runs_without_glitchflow(exported):
    script = (
        "import sys, torch; p = torch.export.load(sys.argv[1]).module();"
        "print(tuple(p(torch.ones(7, 3, 16, 16)).shape), 'glitchflow' in sys.modules)"
    )
    line = [sys.executable, "-c", script, str(exported / "twin.pt2")]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == "(7, 16, 16) False\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE_MODELS)
@pytest.mark.parametrize("kind", ["log1p", "max"])
def test_every_model(name, kind):
    normalisation = Normalisation(kind, NORMALISATION.offset, NORMALISATION.scale)
    form, shape = image.KIND.exported, (2, 16, 32)
    twin = form.program(build(name, 2, (16, 32), seed=1), normalisation).eval()
    assert largest_difference(make_program(twin, form, shape), twin, form, shape) <= 1e-5


def test_a_network_that_ends_above_a_floor():
    form, shape, network = image.KIND.exported, (2, 16, 32), build("decoder", 2, (16, 32), seed=1)
    image.finish(network, NORMALISATION, "whittle")
    twin = form.program(network, NORMALISATION).eval()
    program = make_program(twin, form, shape)
    assert largest_difference(program, twin, form, shape) <= 1e-5
    assert program.module()(torch.zeros(2, *shape)).min() >= image.LEAST * (1 - 1e-6)


class Undecided(torch.nn.Module):
    def forward(self, x):
        return x[:, :1] if float(x.sum()) > 0 else -x[:, :1]


def test_a_network_that_cannot_be_exported_is_refused_in_one_line():
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 1, 1), Undecided())
    with pytest.raises(RunError, match=r"^torch cannot export this network: [^\n]*$"):
        make_program(image.Program(network, NORMALISATION), image.KIND.exported, (2, 8, 8))


def test_there_must_be_a_checkpoint(dataset_run, tmp_path):
    with pytest.raises(InputError, match="no best checkpoint; run `glitchflow train` first"):
        export(dataset_run.model_copy(update={"workdir": str(tmp_path)}))
