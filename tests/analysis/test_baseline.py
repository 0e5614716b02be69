"""The learnability gate: what a dataset can teach, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import small

from glitchflow.analysis.baseline import baseline
from glitchflow.config.training import Subset
from glitchflow.data.generate import generate
from glitchflow.data.store.dataset import open_store
from glitchflow.errors import InputError
from glitchflow.methods import learnability
from glitchflow.methods import learnability as module
from glitchflow.methods.learnability import table, verdict
from glitchflow.methods.table import METHODS
from glitchflow.score.made import Who
from glitchflow.score.statistics import Bootstrap

NAMES = {name for name in METHODS if name not in ("network", "untrained")}


def gate(experiment):
    """As training calls it."""
    terms = learnability.Terms.of(experiment)
    learnability.gate(open_store(experiment.dataset), terms, Path(experiment.workdir) / "baseline.json")


@pytest.fixture(scope="module")
def judged(dataset_run, tmp_path_factory):
    """The shared dataset, judged in a workdir of its own."""
    directory = tmp_path_factory.mktemp("judged")
    (directory / "dataset.zarr").symlink_to(Path(dataset_run.dataset))
    experiment = dataset_run.model_copy(update={"workdir": str(directory)})
    return experiment, json.loads(baseline(experiment).read_text())


def test_every_method_per_family(judged):
    _, result = judged
    assert set(result["families"]) == {"background", "sine_gaussian", "scattered_light", "blip", "witnessed"}
    for family, entry in result["families"].items():
        assert NAMES - {"reference"} <= set(entry["scores"]) <= NAMES
        for name, row in entry["scores"].items():
            assert (row["left"]["value"] is not None) == entry["witnessed"], (family, name)


def test_it_is_judged_on_the_validation_split(judged):
    experiment, result = judged
    assert result["events"] == len(open_store(experiment.dataset).indices("validation"))


def test_the_wiener_filter_finds_a_linear_family_and_not_the_rest(judged):
    scores = {name: entry["scores"] for name, entry in judged[1]["families"].items()}
    assert scores["sine_gaussian"]["wiener"]["left"]["value"] < 0.85  # of whole series a glitch is a tenth
    assert scores["scattered_light"]["wiener"]["left"]["value"] > 0.9
    assert scores["sine_gaussian"]["nothing"]["left"]["value"] == pytest.approx(1)


def test_it_says_in_words_that_the_data_can_teach(judged):
    _, result = judged
    found = result["verdict"]
    assert found["teaches"] is True
    assert found["gain"]["low"] > 0
    events = result["families"]["witnessed"]["events"]
    assert found["words"].startswith(f"the data can teach: over {events} witnessed and ")
    assert " quiet validation events the oracle's NLL per pixel is " in found["words"]
    text = table(result)
    assert text.endswith(found["words"])
    assert "nan" not in text
    for name in result["families"]["witnessed"]["scores"]:
        assert text.count(f"\n    {name:<20}") == len(result["families"])


def test_train_lets_it_pass_and_does_not_measure_twice(judged, monkeypatch, capsys):
    monkeypatch.setattr(module, "measure", lambda *a: pytest.fail("measured again"))
    gate(judged[0])
    assert "the data can teach" in "".join(capsys.readouterr())


def test_other_settings_are_measured_anew(judged, monkeypatch):
    experiment, _ = judged
    monkeypatch.setattr(module, "measure", lambda *a: pytest.fail("measured again"))
    changed = experiment.model_copy(
        update={"loader": experiment.loader.model_copy(update={"subset": Subset(train=20)})}
    )
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        gate(changed)


@pytest.mark.parametrize("content", [b"", b'{"made_from": ', b"[]", b"\xff\x00"])
def test_a_damaged_file_is_measured_anew(judged, tmp_path, monkeypatch, content):
    experiment, result = judged
    path = tmp_path / "baseline.json"
    path.write_bytes(content)
    asked = []
    monkeypatch.setattr(module, "judge", lambda dataset, terms, path: asked.append(path) or result)
    learnability.gate(open_store(experiment.dataset), learnability.Terms.of(experiment), path)
    assert asked == [path]


def test_data_that_cannot_teach_are_refused_unless_told_otherwise(ray_session, tmp_path):
    """Transients far below the noise: even who knows them exactly predicts the strain no better."""
    quiet = small(tmp_path)
    detector = quiet.simulate.detector.model_copy(update={"snr": (0.01, 0.02)})
    simulate = quiet.simulate.model_copy(update={"detector": detector})
    experiment = quiet.model_copy(update={"simulate": simulate})
    generate(experiment)
    with pytest.raises(InputError, match=r"the data cannot teach: .* baseline.refuse=false trains on it"):
        gate(experiment)
    told = experiment.baseline.model_copy(update={"refuse": False})
    gate(experiment.model_copy(update={"baseline": told}))
    scores = json.loads((tmp_path / "baseline.json").read_text())["families"]["witnessed"]["scores"]
    assert "wiener" not in scores, "no series, no Wiener filter"


def test_recorded_data_have_no_oracle():
    some = np.ones(9, bool)
    who = {"recorded": Who(family=some, glitch=~some, quiet=~some, ratio=32.0)}
    found = verdict({"nothing": {"nll": np.ones(9)}}, who, [], Bootstrap(1, 10))
    assert found["teaches"] is None
    assert np.char.startswith(found["words"], "no oracle")
