"""A run of ready Q-plots, of which nobody knows axes, families or times: every stage that follows takes them."""

import json
import re

import h5py
import numpy as np
import pytest
from helpers import small, staged

from glitchflow.analysis.clean.clean import clean
from glitchflow.analysis.evaluate.evaluate import evaluate
from glitchflow.analysis.infer import infer
from glitchflow.analysis.report import report
from glitchflow.config import Generate, Ingest
from glitchflow.data.generate import ingest
from glitchflow.data.reused_events import _ready_event, ready_qplots
from glitchflow.errors import InputError, RunError
from glitchflow.train.loop import train
from glitchflow.train.setup import training_of

pytestmark = pytest.mark.ci

CROPS = {"qplot": {"shape": [12, 16], "window": "loudest", "tres": 0.016, "fres": 0.5}}
WHOLE = {"qplot": {"shape": [12, 16]}}


@pytest.mark.parametrize("images", [CROPS, WHOLE], ids=["crops", "whole"])
@pytest.mark.usefixtures("ray_session")
def test_every_stage_takes_ready_images(tmp_path, images, capsys):
    energy = np.random.default_rng(0).exponential(size=(70, 4, 16, 12)).astype("f4")
    energy[::2, :2, 6:9, 4:7] += 40  # the strain's, and the first witness's
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["virgo_dataset"] = energy
    given = {"qplots_from": str(tmp_path / "v.h5")}
    experiment = small(tmp_path / "run", derived=[], ingest=given, train={"workers": 1}, **images)
    ingest(staged("ingest", experiment.model_copy(update={"generate": Generate(device="auto")})))
    assert "generate.device" not in capsys.readouterr().err  # nothing is transformed
    train(training_of(experiment), tmp_path / "run" / "train")
    infer(staged("infer", experiment))
    scores = json.loads((evaluate(staged("evaluate", experiment)) / "metrics.json").read_text())
    assert set(scores["families"]["recorded"]["scores"]) >= {"network", "linear", "nothing"}
    assert 0 < scores["veto"]["analysed_seconds"] < scores["events"] * 8, "an event's window counts once"
    page = report(staged("report", experiment)).read_text()
    assert "<h1>" in page and "no strain" not in page
    with pytest.raises(InputError, match=r"was made from ready Q-plots, which have no strain to clean$"):
        clean(staged("clean", experiment))


def test_an_event_that_cannot_be_read_is_skipped(tmp_path):
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "virgo_dataset", data=np.ones((2, 2, 4, 4), "f4"), chunks=(1, 2, 4, 4), fletcher32=True
        )
        at = file["virgo_dataset"].id.get_chunk_info(1).byte_offset
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    made = ready_qplots(Ingest(qplots_from=str(path), qplots_dataset="virgo_dataset"), (4, 4))
    whole, damaged = made.event(0), made.event(1)
    assert whole.skipped == "" and (whole.energy == 1).all()
    assert damaged.skipped.startswith(f"{path}: ") and damaged.energy.shape == whole.energy.shape


def test_a_file_that_cannot_be_opened_is_no_bad_event(tmp_path):
    with pytest.raises(RunError, match=rf"^{re.escape(str(tmp_path))}/gone.h5: cannot be opened: "):
        _ready_event(f"{tmp_path}/gone.h5", "qplots", (1, 2, 2), 0)
