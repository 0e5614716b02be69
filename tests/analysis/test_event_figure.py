"""`glitchflow inspect STORE --event N`: the command that the report gives for the events it does not draw."""

import shlex
import shutil

import numpy as np
import pytest
from helpers import edit_attributes, run_here
from PIL import Image

from glitchflow.analysis.event_figure import draw
from glitchflow.analysis.report import events
from glitchflow.analysis.report.run import gather
from glitchflow.errors import InputError


def test_the_command_of_the_report_draws_the_event(trained_run, tmp_path, monkeypatch):
    line = events.command(gather(trained_run)).format(event=17)
    monkeypatch.chdir(tmp_path)
    done = run_here(*shlex.split(line)[1:])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "inspect: wrote event-17.png\n"
    picture = Image.open(tmp_path / "event-17.png")
    assert picture.width > 1500, "four images side by side"
    assert len(np.unique(np.asarray(picture.convert("L")))) > 50


@pytest.mark.ci
def test_dataset_and_predictions_differ(trained_run, tmp_path):
    witnesses = draw(str(trained_run.dataset), 17, str(tmp_path / "w.png"))
    response = draw(str(trained_run.predictions), 17, str(tmp_path / "new" / "r.png"))
    tall, wide = Image.open(witnesses), Image.open(response)
    assert tall.height > 2 * wide.height, "four channels above each other"
    assert wide.width > 2 * tall.width


def test_a_moved_run_finds_its_dataset_beside_the_predictions(trained_run, tmp_path):
    moved = shutil.copytree(trained_run.predictions, tmp_path / "run" / "predictions.zarr")
    edit_attributes(moved, dataset="/nowhere/dataset.zarr")
    with pytest.raises(InputError, match="the dataset it is of is at neither /nowhere/dataset"):
        draw(str(moved), 3)
    (tmp_path / "run" / "dataset.zarr").symlink_to(trained_run.dataset)
    assert draw(str(moved), 3, str(tmp_path / "e.svg")).read_text().startswith("<?xml")


@pytest.mark.parametrize(
    "event, figure, message",
    [
        (96, "", "--event 96: .* holds events 0 to 95"),
        (-1, "", "--event -1: .* holds events 0 to 95"),
        (None, "x.png", "--figure x.png: is of one event: give its index with --event N"),
        (3, "x.zarr", "--figure x.zarr: its name must end in one of .*pdf, .*png, .*svg"),
        (3, "/proc/x/y.png", "--figure /proc/x/y.png: cannot be written: "),
    ],
)
def test_wrong_input(dataset_run, event, figure, message):
    with pytest.raises(InputError, match=message):
        draw(str(dataset_run.dataset), event, figure)
