"""What a checkpoint or a store names is imported where the configuration names it too, and not under `--no-imports`."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from helpers import edit_attributes, run_here, staged

import glitchflow
from glitchflow.analysis.infer import infer
from glitchflow.config import NO_IMPORTS
from glitchflow.data.identity import identity
from glitchflow.data.store import open_store
from glitchflow.errors import InputError

OWN = "foreign_own:OwnModel"
SAID = f"its network is {OWN}, code that is imported only where"
STAGES = ["export", "infer --overwrite", "sample", "evaluate", "clean --force", "report"]
STAGES += [
    "train workdir=RUN/again store.path=RUN/dataset.zarr train.init_from=RUN/train/checkpoints/step-00000012"
]


def renamed(run: Path) -> None:
    """Every checkpoint of a run says that its network is that module's, as whoever wrote it may say anything."""
    for path in run.glob("train/checkpoints/*/meta.json"):
        meta = json.loads(path.read_text())
        meta["model"] |= {"name": OWN, "options": {}}
        del meta["sha256"]["meta.json"]
        path.write_text(json.dumps(meta))


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """The file that is there once the module was imported."""
    (tmp_path / "foreign_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass OwnModel: ...")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "foreign_own", raising=False)
    monkeypatch.setenv(NO_IMPORTS, "")  # what the command sets ends with the test
    return tmp_path / "ran"


@pytest.fixture(scope="module")
def config(series_run, tmp_path_factory):
    """The configuration of a run whose checkpoints were written by somebody else."""
    place = tmp_path_factory.mktemp("foreign") / "run"
    shutil.copytree(series_run.workdir, place)
    experiment = series_run.model_copy(update={"workdir": str(place)})
    (place / "config.yaml").write_text(experiment.model_dump_json(exclude_unset=True))
    infer(staged("infer", experiment), overwrite=True)  # predictions know where their network lies
    renamed(place)
    return place / "config.yaml"


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_what_a_checkpoint_alone_names(stage, config, ran):
    stage, *options = stage.replace("RUN", str(config.parent)).split()
    done = run_here(stage, config, *options)
    assert done.returncode == 2
    assert f"{SAID} the configuration names it too: model.name={OWN}\n" in done.stderr
    done = run_here(stage, config, *options, f"model.name={OWN}", "model.options={}", "--no-imports")
    assert done.returncode == 2
    assert f"model.name = {OWN}: is not imported under --no-imports; built in are " in done.stderr
    assert not ran.exists()


@pytest.mark.parametrize(
    "stage", ["evaluate", "train workdir=RUN/other loader.fresh=8", "tune loader.fresh=8"]
)
def test_no_stage_imports_what_a_store_alone_names(stage, series_run, ran, tmp_path):
    """Those that draw its events anew, for signals in an exam or to learn from."""
    place = tmp_path / "run"
    shutil.copytree(series_run.workdir, place)
    config = series_run.model_dump(mode="json", exclude_unset=True) | {"workdir": str(place)}
    config |= {
        "store": {"path": str(place / "dataset.zarr")},
        "tune": {"space": {"train.lr": {"choice": [0.001]}}},
    }
    (place / "config.yaml").write_text(json.dumps(config))
    made = open_store(place / "dataset.zarr").attributes["config"]
    made["simulate"]["recipe"] = OWN
    edit_attributes(place / "dataset.zarr", config=made)
    same = identity(open_store(place / "dataset.zarr"))
    edit_attributes(place / "predictions.zarr", dataset_identity=same)
    stage, *options = stage.replace("RUN", str(place)).split()
    done = run_here(stage, place / "config.yaml", *options)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        f"glitchflow: {place}/dataset.zarr: was made by {OWN}, code that is imported only where the configuration names"
        f" it too: simulate.recipe={OWN}",
    )
    done = run_here(stage, place / "config.yaml", *options, f"simulate.recipe={OWN}", "--no-imports")
    assert done.returncode == 2
    assert f"simulate.recipe = {OWN}: is not imported under --no-imports; built in are " in done.stderr
    assert not ran.exists()


@pytest.mark.parametrize("run", ["series_run", "glitches_run"])
def test_from_python_its_user_names_it(run, ran, tmp_path, request):
    place = Path(shutil.copytree(request.getfixturevalue(run).workdir, tmp_path / "run"))
    renamed(place)
    with pytest.raises(InputError, match=re.escape(f'{SAID} it is named: open_twin(..., model="{OWN}")')):
        glitchflow.open_twin(place)
    assert not ran.exists()
    with pytest.raises(InputError, match=f"model {OWN!r} has no option"):
        glitchflow.open_twin(place, model=OWN).sample()
