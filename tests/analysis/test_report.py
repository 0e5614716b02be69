import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import small
from PIL import Image

from glitchflow.analysis.report import report
from glitchflow.config import InputError


def linked(run, directory, *names):
    for name in names:
        (directory / name).symlink_to(Path(run.workdir) / name)
    return run.model_copy(update={"workdir": str(directory)})


def pictures(page):
    data = re.findall(r"src='data:image/png;base64,([^']+)'", page)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in data]


def test_a_full_run(trained_run, tmp_path):
    experiment = linked(trained_run, tmp_path, "dataset.zarr", "predictions.zarr", "train", "evaluation")
    page = report(experiment).read_text()
    assert "Not there yet" not in page
    for text in (
        "witnessed",
        "scattered_light",
        "oracle",
        "untrained",
        "excess power removed",
        "worker 0 of 2",
    ):
        assert text in page
    assert len(pictures(page)) >= 3 + 1 + 4 + 4  # curves, losses, generated events, families
    for picture in pictures(page):
        assert picture.width > 300
        assert len(np.unique(np.asarray(picture.convert("L")))) > 5  # not blank
    assert not re.findall(r"(?:src|href)=['\"]?(?:http|//|file)", page)  # self-contained


def test_a_dataset_alone_says_what_is_missing(dataset_run, tmp_path):
    page = report(linked(dataset_run, tmp_path, "dataset.zarr")).read_text()
    for stage in ("train", "infer", "evaluate"):
        assert f"Not there yet: run <code>glitchflow {stage}</code>" in page
    assert len(pictures(page)) == 4 * 2  # background and three families: Q-plots, and series where stored
    assert page.count("which shows slow motions") == 2 * 4  # caption and description
    assert "Loudest pixel of SIM:STRAIN" in page


def test_nothing_at_all(tmp_path):
    with pytest.raises(
        InputError, match=r"dataset.zarr: no store there; run `glitchflow generate` or `ingest`"
    ):
        report(small(tmp_path))
