"""What the page says, and what of it holds without a browser; see test_report_browser.py for the rest."""

import base64
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import small

from glitchflow.analysis.report import charts, events, images, report
from glitchflow.analysis.report.finding import finding
from glitchflow.analysis.report.page import render
from glitchflow.analysis.report.run import gather
from glitchflow.analysis.report.sections import SECTIONS
from glitchflow.config import InputError
from glitchflow.data import store

ROOT = Path(__file__).parents[2]


def linked(run, directory, *names):
    for name in names:
        (directory / name).symlink_to(Path(run.workdir) / name)
    return run.model_copy(update={"workdir": str(directory)})


def data_of(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.S)
    return json.loads(text)


def energies(image):
    levels = np.frombuffer(zlib.decompress(base64.b64decode(image["data"])), np.uint8)
    return image["peak"] * (levels.reshape(image["shape"]) / images.LEVELS) ** 2


@pytest.fixture
def full(trained_run, tmp_path):
    return linked(trained_run, tmp_path, "dataset.zarr", "predictions.zarr", "train", "evaluation")


def test_a_full_run(full):
    page = report(full).read_text()
    for absent in ("train", "infer", "evaluate"):
        assert f"Not there yet: run <code>glitchflow {absent}</code>" not in page.split('id="roc"')[0]
    for text in (
        "witnessed",
        "scattered_light",
        "oracle",
        "untrained",
        "excess power removed",
        "worker 0 of 2",
    ):
        assert text in page
    assert page.count("<svg") >= 1 + 2 + 1 + 4  # excess, thresholds, losses, series of four families
    assert not re.findall(r"(?:src|href)=['\"]?(?:http|//|file)", page), "self-contained"
    assert not re.findall(r"url\((?!#)|@import|fetch\(|XMLHttpRequest", page), "self-contained"


def test_the_figures_hold_the_energies(full):
    data = data_of(render(gather(full)))
    dataset, predictions = store.open_store(full.dataset), store.open_store(full.predictions)
    event = data["columns"]["event"][int(np.argmax([w == "missed" for w in data["columns"]["why"]]))]
    figure = data["figures"][str(event)]
    recorded = np.maximum(dataset["qplot"][event, 0], 0)
    generated = predictions["qplot"][event]
    b = 1 / np.log(2)
    expected = {
        "recorded": recorded,
        "generated": generated,
        "residual": recorded * b / np.maximum(generated, b),
    }
    shown = {image["name"]: energies(image) for image in figure["images"]}
    for name, energy in expected.items():
        step = energy.max() / images.LEVELS  # of the square root's levels, at the loudest
        np.testing.assert_allclose(shown[name], energy, atol=step, rtol=1e-3, err_msg=name)
    assert figure["top"] == pytest.approx(max(20, recorded.max()), abs=0.01)
    assert figure["frequency"]["logarithmic"]
    f, t = dataset["frequency"][:], dataset["time"][:]
    assert figure["frequency"]["low"] < f[0] < f[-1] < figure["frequency"]["high"]
    assert figure["time"]["high"] - figure["time"]["low"] == pytest.approx((t[1] - t[0]) * len(t))


def test_every_event_is_listed_with_its_scores(full):
    columns = data_of(render(gather(full)))["columns"]
    dataset = store.open_store(full.dataset)
    assert columns["event"] == list(range(96))
    assert columns["gps"] == np.asarray(dataset["gps"][:]).tolist()
    assert columns["family"] == [dataset.labels[i] for i in dataset["label"][:]]
    test = set(dataset.indices("test").tolist())
    assert {e for e, s in zip(columns["event"], columns["split"]) if s == "test"} == test
    assert {e for e, level in zip(columns["event"], columns["recorded_level"]) if level is not None} == test
    scores = gather(full).scores
    for event, level in zip(scores["event"].astype(int), scores["residual_level"]):
        assert columns["residual_level"][event] == pytest.approx(level, rel=1e-4)


def test_scored_events_come_first_where_not_all_are_listed(full):
    test = store.open_store(full.dataset).indices("test")
    few = full.model_copy(update={"report": full.report.model_copy(update={"events": len(test) + 3})})
    listed = data_of(render(gather(few)))["columns"]["event"]
    assert len(listed) == len(test) + 3
    assert set(test.tolist()) <= set(listed)
    assert listed == sorted(listed)


LEVELS = {  # recorded, generated, residual: at s = 10
    3: (80, 50, 8),  # vetoed rightly, 10 % left
    5: (40, 60, 20),  # vetoed rightly, half is left
    6: (90, 2, 90),  # missed, the loudest
    8: (11, 9, 11),  # missed
    9: (5, 30, 3),  # false
    11: (4, 3, 4),  # quiet
    12: (20, 30, 19),  # vetoed rightly, nearly all is left
}


@pytest.fixture
def told(full):
    columns = zip(*LEVELS.values())
    scores = {
        f"{n}_level": np.array(v, float) for n, v in zip(("recorded", "generated", "residual"), columns)
    }
    return dataclasses.replace(gather(full), scores={"event": np.array(list(LEVELS), float), **scores})


def test_the_telling_events(told):
    assert events.choose(told) == {3: "best", 12: "worst", 6: "missed", 9: "false", 5: "best", 8: "missed"}


@pytest.mark.parametrize("most", [0, 1, 4])
def test_no_more_figures_than_asked_for(told, most):
    settings = told.experiment.report.model_copy(update={"figures": most})
    few = dataclasses.replace(told, experiment=told.experiment.model_copy(update={"report": settings}))
    assert list(events.choose(few)) == [3, 12, 6, 9][:most]


def test_large_qplots_are_averaged(full):
    image = np.random.default_rng(1).exponential(size=(128, 100))
    small = images.quantise(image)
    assert small["shape"] == [64, 64]
    assert energies(small).mean() == pytest.approx(image.mean(), rel=0.02)
    exact = images.coarsen(image)
    np.testing.assert_allclose(exact, image.reshape(64, 2, 100).mean(axis=1))
    uneven = images.coarsen(np.arange(100.0)[:, None])
    assert len(uneven) == 64 and uneven[0] == 0 and uneven[-1] == 98.5


# -- partial runs ------------------------------------------------------------------------------------------------


def test_a_dataset_alone_says_what_is_missing(dataset_run, tmp_path):
    page = report(linked(dataset_run, tmp_path, "dataset.zarr")).read_text()
    for stage in ("train", "infer", "evaluate", "scan", "clean"):
        assert f"Not there yet: run <code>glitchflow {stage}</code>" in page
    assert "Nothing is scored yet" in page
    assert page.count("which shows slow motions") == 4  # a series of background and of three families
    assert "Loudest pixel of SIM:STRAIN" in page
    data = data_of(page)
    assert {name for name in data["figures"] if name.startswith("channels-")}
    assert {image["name"] for image in data["figures"]["0"]["images"]} <= {"recorded"}
    assert "dataset.zarr --event {event}" in data["command"]


def test_dataset_and_training(trained_run, tmp_path):
    page = report(linked(trained_run, tmp_path, "dataset.zarr", "train")).read_text()
    assert "Not there yet: run <code>glitchflow train</code>" not in page
    assert "A network was trained for 2 epochs; its best validation loss is" in page
    for stage in ("infer", "evaluate"):
        assert f"Not there yet: run <code>glitchflow {stage}</code>" in page
    assert re.search(r"checkpoint step-\d{8} after 2 epochs", page)


def test_nothing_at_all(tmp_path):
    with pytest.raises(
        InputError, match=r"dataset.zarr: no store there; run `glitchflow generate` or `ingest`"
    ):
        report(small(tmp_path))


@pytest.fixture
def alter(full):
    """alter(change) -> Run whose metrics.json went through `change`."""
    run = gather(full)

    def altered(change):
        result = json.loads(json.dumps(run.result))
        change(result)
        return dataclasses.replace(run, result=result)

    return altered


def test_no_background_events(alter):
    def none(result):
        noise = result["thresholds"]["noise_only"]
        noise["events"] = [0] * len(noise["events"])
        noise["value"] = [None] * len(noise["value"])

    page = render(alter(none))
    assert "There are no background events in the test split" in page
    assert "by chance: ." not in page


# -- sections of what other stages add -----------------------------------------------------------------------------

HALF = {"value": 0.5, "low": 0.25, "high": 0.75}
KEPT = {"median": 0.995, "p01": 0.97, "events": 200}


def add_everything(result):
    points = {"threshold": [50, 10, 1], "false_positive": [0, 0.1, 1], "true_positive": [0.3, 0.8, 1]}
    result["roc"] = {name: points | {"auc": HALF} for name in ("network", "linear", "oracle")}
    result["do_no_harm"] = {
        "mask": {"floor": 2.5},
        "excess_removed": HALF,
        "wiener_excess_removed": None,
        "kept": {"alone": KEPT, "on_glitches": {**KEPT, "median": 0.75}},
        "wiener_kept": None,
    }
    row = {"name": "SIM:<ACC>", "carried": 7, "share": 0.7, "low": 0.4, "high": 0.9}
    result["attribution"] = {"threshold": 10.0, "vetoes": 10, "witnesses": [row], "groups": []}
    channel = {"name": "SIM:SUS", "low": 0.5, "high": 2.0, "flagged": 3}
    result["drift"] = {"events": 24, "flagged": 3, "channels": [channel]}


def test_every_section_is_there_with_its_numbers(alter):
    page = render(alter(add_everything))
    parts = {
        name: page.split(f'<section id="{name}"')[1].split("</section>")[0]
        for name in ("roc", "harm", "attribution", "drift")
    }
    assert "Area under the curve" in parts["roc"] and "<svg" in parts["roc"]
    assert (
        "99.5&nbsp;%" in parts["harm"] and "75.0&nbsp;%" in parts["harm"] and "floor = 2.5" in parts["harm"]
    )
    assert "10 vetoes at s = 10" in parts["attribution"]
    assert "SIM:&lt;ACC&gt;" in parts["attribution"], "names are escaped"
    assert "SIM:<ACC>" not in page
    assert "3 of 24 events" in parts["drift"]
    for part in parts.values():
        assert "Not there yet" not in part


def test_the_finding_names_harm_and_drift(alter):
    told = finding(alter(add_everything))
    words = " ".join(told.sentences)
    assert "Cleaning keeps 99.5% (median; 1st percentile 97.0%)" in words
    assert "In 3 of 24 events a witness is out of the range" in words
    assert [number[0] for number in told.numbers][-2:] == ["99.5%", "12.5%"]


@pytest.mark.parametrize(
    "low, high, headline",
    [
        (0.1, 0.3, "The network is better than every baseline"),
        (-0.1, 0.3, "The network is not clearly better than the linear baseline"),
        (-0.3, -0.1, "The network is worse than the linear baseline"),
    ],
)
def test_the_headline(alter, low, high, headline):
    def change(result):
        for name, row in result["families"]["witnessed"]["scores"].items():
            row["loss"]["value"] = 1.0 if name == "linear" else 2.0
            row["loss_above_network"] = {"value": (low + high) / 2, "low": low, "high": high}

    assert finding(alter(change)).headline == headline


def test_recorded_data_without_witnessed_families(alter):
    """The finding is of the largest family that is no background."""

    def change(result):
        families = result["families"]
        del families["witnessed"]
        for entry in families.values():
            entry["witnessed"] = False
        families["blip"]["events"] = 1000

    run = alter(change)
    assert "1000 “blip” test events" in " ".join(finding(run).sentences)
    render(run)


def test_charts_follow_the_pages_colours(full):
    chart = charts.losses(gather(full).epochs, "l1")
    assert chart.startswith("<svg viewBox=")
    assert "currentColor" in chart and "var(--network)" in chart
    assert "#000000" not in chart and "#ffffff" not in chart
    assert chart == charts.losses(gather(full).epochs, "l1"), "no dates, no random names"


def test_a_built_wheel_has_the_templates(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "glitchflow", source / "glitchflow", ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = source.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {"page.html", "page.css", "page.js", *(f"{section.name}.html" for section in SECTIONS)}
    assert {f"glitchflow/analysis/report/templates/{name}" for name in wanted} <= names
