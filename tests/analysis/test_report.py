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
from helpers import edit_attributes, linked, small
from markupsafe import Markup

from glitchflow.analysis.report import charts, events, images, report, sections
from glitchflow.analysis.report.finding import finding
from glitchflow.analysis.report.page import render
from glitchflow.analysis.report.run import gather
from glitchflow.data.store import open_store
from glitchflow.errors import InputError
from glitchflow.figures.evaluation import figures

ROOT = Path(__file__).parents[2]


def data_of(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.S)
    return json.loads(text)


def energies(image):
    levels = np.frombuffer(zlib.decompress(base64.b64decode(image["data"])), np.uint8)
    return image["peak"] * (levels.reshape(image["shape"]) / images.LEVELS) ** 2


@pytest.fixture(scope="module", autouse=True)
def _series_are_drawn_once():
    """Of the shared dataset's events: two thirds of the time that a page takes."""
    draw, drawn = sections._series, {}

    def once(run, event):
        if event not in drawn:
            drawn[event] = draw(run, event)
        return drawn[event]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "_series", once)
        yield


@pytest.fixture(scope="module")
def gathered(trained_run):
    """What there is of the full run."""
    return gather(trained_run)


@pytest.fixture(scope="module")
def page(gathered):
    """The full run's page."""
    return render(gathered)


@pytest.fixture(scope="module")
def data(page):
    """What the full run's page hands its script."""
    return data_of(page)


@pytest.fixture
def undrawn(monkeypatch):
    """Charts, which other tests draw, are empty: they are nearly all of the time that a page takes."""
    chart = Markup("<svg></svg>")
    monkeypatch.setattr(sections, "_series", lambda *_: chart)  # not among those that are drawn once
    monkeypatch.setattr(charts, "svg", lambda figure: chart)


@pytest.fixture
def full(trained_run, tmp_path):
    """The full run in a directory that a test may add to."""
    return linked(trained_run, tmp_path, "dataset.zarr", "predictions.zarr", "train", "evaluation")


def test_a_full_run(full, capsys):
    page = report(full).read_text()
    headline, words = capsys.readouterr().err.splitlines()[-1].split(". ", 1)
    assert headline.startswith("The network is ") and headline in page
    assert words in page  # the finding is said on the screen, too
    for absent in ("train", "infer", "evaluate"):
        assert f"Not there yet: run <code>glitchflow {absent}</code>" not in page.split('id="roc"')[0]
    for text in (
        "witnessed",
        "scattered_light",
        "oracle",
        "untrained",
        "removed / destroyed",
        "loudest_thresholded",
        "worker 0 of 2",
    ):
        assert text in page
    assert (
        page.count("<svg") >= 2 + 3 + 2 + 1 + 4
    )  # headline and price, thresholds, ROC, losses, series of four families
    assert not re.findall(r"(?:src|href)=['\"]?(?:http|//|file)", page), "self-contained"
    assert not re.findall(r"url\((?!#)|@import|fetch\(|XMLHttpRequest", page), "self-contained"


def test_the_figures_hold_the_energies(gathered, data):
    dataset, predictions = gathered.dataset, gathered.predictions
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


def test_every_event_is_listed_with_its_scores(gathered, data):
    columns, dataset = data["columns"], gathered.dataset
    assert columns["event"] == list(range(96))
    assert columns["gps"] == np.asarray(dataset["gps"][:]).tolist()
    assert columns["family"] == [dataset.labels[i] for i in dataset["label"][:]]
    test = set(dataset.indices("test").tolist())
    assert {e for e, s in zip(columns["event"], columns["split"]) if s == "test"} == test
    assert {e for e, level in zip(columns["event"], columns["recorded_level"]) if level is not None} == test
    scores = gathered.scores
    for event, level in zip(scores["event"].astype(int), scores["residual_level"]):
        assert columns["residual_level"][event] == pytest.approx(level, rel=1e-4)


def test_scored_events_come_first_where_not_all_are_listed(gathered, undrawn):
    test = gathered.dataset.indices("test")
    settings = gathered.settings.model_copy(update={"events": len(test) + 3})
    listed = data_of(render(dataclasses.replace(gathered, settings=settings)))["columns"]["event"]
    assert len(listed) == len(test) + 3
    assert set(test.tolist()) <= set(listed)
    assert listed == sorted(listed)


LEVELS = {  # recorded, generated, residual: at s = 16
    3: (80, 50, 8),  # vetoed rightly, 10 % left
    5: (40, 60, 20),  # vetoed rightly, half is left
    6: (90, 2, 90),  # missed, the loudest
    8: (17, 9, 17),  # missed
    9: (5, 30, 3),  # false
    11: (4, 3, 4),  # quiet
    12: (20, 30, 19),  # vetoed rightly, nearly all is left
}


@pytest.fixture
def told(gathered):
    """Events of known levels; of no family it is known whether witnesses see it."""
    columns = zip(*LEVELS.values())
    scores = {
        f"{n}_level": np.array(v, float) for n, v in zip(("recorded", "generated", "residual"), columns)
    }
    attributes = {**gathered.dataset.attributes, "witnessed_labels": []}
    dataset = dataclasses.replace(gathered.dataset, attributes=attributes)
    return dataclasses.replace(
        gathered, dataset=dataset, scores={"event": np.array(list(LEVELS), float), **scores}
    )


def test_the_telling_events(told):
    assert events.choose(told) == {3: "best", 12: "worst", 6: "missed", 9: "false", 5: "best", 8: "missed"}


def test_what_no_witness_sees_is_missed_last(gathered):
    labels = np.asarray(gathered.dataset["label"][:])
    blips, seen = (
        np.flatnonzero(labels == gathered.dataset.labels.index(n))[0] for n in ("blip", "sine_gaussian")
    )
    scores = {
        "event": [blips, seen],
        "recorded_level": [90, 20],
        "generated_level": [1, 1],
        "residual_level": [9, 9],
    }
    ordered = {name: np.array(column, float) for name, column in scores.items()}
    assert list(events.choose(dataclasses.replace(gathered, scores=ordered))) == [seen, blips]


@pytest.mark.parametrize("most", [0, 1, 4])
def test_no_more_figures_than_asked_for(told, most):
    few = dataclasses.replace(told, settings=told.settings.model_copy(update={"figures": most}))
    assert list(events.choose(few)) == [3, 12, 6, 9][:most]


def test_large_qplots_are_averaged():
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


def test_dataset_and_training(trained_run, tmp_path, undrawn):
    page = report(linked(trained_run, tmp_path, "dataset.zarr", "train")).read_text()
    assert "Not there yet: run <code>glitchflow train</code>" not in page
    assert "A network was trained for 2 epochs; its best validation loss is" in page
    for stage in ("infer", "evaluate"):
        assert f"Not there yet: run <code>glitchflow {stage}</code>" in page
    assert re.search(r"checkpoint step-\d{8} after 2 epochs", page)


@pytest.mark.parametrize(
    "content, reason",
    [
        ('{"events": 3, "families": {}}', "form: Field required"),
        ('{"events": 3, "fam', "Invalid JSON: EOF while parsing a string at line 1 column 18"),
        ("[]", "Input should be an object"),
    ],
)
def test_scores_of_an_older_version_or_damaged_are_left_out(full, tmp_path, capsys, undrawn, content, reason):
    (tmp_path / "evaluation").unlink()
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "metrics.json").write_text(content)
    assert "Nothing is scored yet" in report(full).read_text()
    said = " ".join(capsys.readouterr().err.split())
    assert f"without evaluation/metrics.json: {tmp_path}: damaged: evaluation/metrics.json: {reason}" in said
    assert "; run `glitchflow evaluate` again" in said


@pytest.mark.ci
@pytest.mark.parametrize("name, stage", [("baseline.json", "baseline"), ("scan.json", "scan")])
def test_other_damaged_files_are_left_out(full, tmp_path, capsys, name, stage):
    (tmp_path / name).write_text("{}")
    render(gather(full))
    assert f"; run `glitchflow {stage}` again" in capsys.readouterr().err


def without(*keys):
    """What takes something out of a JSON file, deep down."""

    def spoil(text):
        whole = value = json.loads(text)
        for key in keys[:-1]:
            value = value[key]
        del value[keys[-1]]
        return json.dumps(whole)

    return spoil


@pytest.mark.ci
@pytest.mark.parametrize(
    "name, spoil, reason, stage",
    [
        (
            "evaluation/metrics.json",
            without("families", "sine_gaussian", "scores", "wiener", "residual"),
            "KeyError 'residual'",
            "evaluate",
        ),
        (
            "evaluation/metrics.json",
            without("roc", "mean", "false_positive"),
            "KeyError 'false_positive'",
            "evaluate",
        ),
        (
            "evaluation/events.csv",
            lambda text: re.sub(r"^\d+,", "1000000,", text, count=1, flags=re.M),
            "IndexError index 1000000 is out of bounds",
            "evaluate",
        ),
    ],
)
def test_what_lacks_something_deep_down_is_left_out(
    full, trained_run, tmp_path, capsys, undrawn, name, spoil, reason, stage
):
    (tmp_path / "evaluation").unlink()
    shutil.copytree(Path(trained_run.workdir) / "evaluation", tmp_path / "evaluation")
    (tmp_path / name).write_text(spoil((tmp_path / name).read_text()))
    assert report(full).exists()
    said = " ".join(capsys.readouterr().err.split())
    assert f"without {name}: {tmp_path}: damaged: {name}: {reason}" in said
    assert f"; run `glitchflow {stage}` again" in said


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: text.rindex(",", 0, len(text) // 2)],
        lambda text: text.replace("event,", "number,", 1),
        lambda text: "",
    ],
)
def test_a_damaged_table_of_events_is_left_out(full, trained_run, tmp_path, capsys, spoil):
    (tmp_path / "evaluation").unlink()
    copy = shutil.copytree(Path(trained_run.workdir) / "evaluation", tmp_path / "evaluation")
    text = (copy / "events.csv").read_text()
    (copy / "events.csv").write_text(spoil(text))
    assert gather(full).scores == {}
    said = capsys.readouterr().err
    assert f"{copy / 'events.csv'} is damaged or a former version's; run `glitchflow evaluate` again" in said


def test_predictions_of_another_dataset_are_left_out(trained_run, full, tmp_path, capsys):
    (tmp_path / "predictions.zarr").unlink()
    copy = shutil.copytree(trained_run.predictions, tmp_path / "predictions.zarr")
    edit_attributes(copy, dataset_identity="another")
    assert gather(full).predictions is None
    assert "without predictions: " in capsys.readouterr().err


def test_nothing_at_all(tmp_path):
    with pytest.raises(
        InputError, match=r"dataset.zarr: no store there; run `glitchflow generate` or `ingest`"
    ):
        report(small(tmp_path))


@pytest.fixture
def alter(gathered):
    """alter(change) -> Run whose metrics.json went through `change`."""

    def altered(change):
        result = json.loads(json.dumps(gathered.result))
        change(result)
        return dataclasses.replace(gathered, result=result)

    return altered


@pytest.mark.ci
def test_no_background_events(alter):
    def none(result):
        noise = result["thresholds"]["noise_only"]
        noise["events"] = [0] * len(noise["events"])
        noise["value"] = [None] * len(noise["value"])

    page = render(alter(none))
    assert "There are no background events among those scored" in page


# -- sections of what other stages add -----------------------------------------------------------------------------

HALF = {"value": 0.5, "low": 0.25, "high": 0.75}


def add_everything(result):
    for name, row in result["families"]["witnessed"]["scores"].items():
        value = 0.995 if name == "network" else 0.75
        row["snr_kept_median"] = {"value": value, "low": value, "high": value}
        row["snr_kept_p1"] = {"value": 0.5, "low": 0.25, "high": 0.75}
    row = {"name": "SIM:<ACC>", "carried": 7, "share": 0.7, "low": 0.4, "high": 0.9, "families": {"blip": 7}}
    parts = {"witnesses": [row], "groups": [], "everything": row}
    result["attribution"] = {"threshold": 16.0, "vetoes": 12, "attributed": 10, **parts}
    channel = {"name": "SIM:SUS", "low": 0.5, "high": 2.0, "flagged": 3, "below": 1, "above": 2}
    channel |= {"median": 1.0, "trained_median": 1.1, "distance": 0.2}
    told = {
        "statistic": "mean",
        "vetoes": 12,
        "vetoes_not_trusted": 2,
        "beyond": 0.001,
        "chance_distance": 0.3,
    }
    result["drift"] = {"events": 24, "flagged": 3, "channels": [channel], **told}


def test_every_section_is_there_with_its_numbers(alter, undrawn):
    page = render(alter(add_everything))
    parts = {
        name: page.split(f'<section id="{name}"')[1].split("</section>")[0]
        for name in ("roc", "kept", "attribution", "drift")
    }
    assert parts["roc"].count("<svg") == 2 and "efficiency / deadtime<th>use percentage" in parts["roc"]
    for words in ("<b>witnessed</b>", "SNR kept, median", "99.5% [99.5%, 99.5%]", "50.0% [25.0%, 75.0%]"):
        assert words in parts["kept"]
    assert "for 10 of\n  12 vetoes at s = 16" in parts["attribution"]
    assert "blip 7" in parts["attribution"]
    assert "SIM:&lt;ACC&gt;" in parts["attribution"], "names are escaped"
    assert "SIM:<ACC>" not in page
    assert "3 of 24 events" in parts["drift"]
    for part in parts.values():
        assert "Not there yet" not in part


def test_nothing_to_show_says_why(alter, undrawn):
    def nothing(result):
        result["attribution"] = result["drift"] = None
        for entry in result["families"].values():
            for row in entry["scores"].values():
                row["snr_kept_median"] = dict.fromkeys(("value", "low", "high"))

    page = render(alter(nothing))
    assert "Nothing to show: there is no veto to attribute, or the network is not there any more." in page
    assert "Nothing to show: signals are injected into datasets made with store.series=float32." in page
    assert "Nothing to show: the training’s ranges are not known." in page


SCANNED = {
    "strain": "SIM:STRAIN",
    "events": 96,
    "events_with_peak": 80,
    "resolvable": False,
    "smallest_p": 0.01,
    "channels": [
        {
            "channel": f"SIM:{name}",
            "significance": significance,
            "p_adjusted": 0.5,
            "chosen": significance > 3,
            "iou": {**HALF, "chance": 0.1},
            "correlation": {**HALF, "chance": 0.0},
        }
        for name, significance in (("ACC", 9.25), ("SUS", 1.0))
    ],
}


def test_scan_and_cleaned_files(full, tmp_path, undrawn):
    (tmp_path / "scan.json").write_text(json.dumps(SCANNED))
    (tmp_path / "clean").mkdir()
    facts = {"treated": 5, "windows": 24, "channel": "SIM:STRAIN_CLEAN", "deadtime": 0.0312}
    facts["veto"] = {"flag": "SIM:GLITCHFLOW:1", "segments": 7, "threshold": 16.0}
    (tmp_path / "clean" / "clean.json").write_text(json.dumps(facts))
    (tmp_path / "clean" / "veto.hdf5").touch()
    page = report(full).read_text()
    for words in (
        "1 of 2 witnesses coincide with",
        "Not resolvable: with so few events no p-value is below 0.01",
        "9.2 σ",
        "5 of 24 windows of SIM:STRAIN_CLEAN treated",
        "7 segments at s = 16, deadtime 3.12",
        '<a href="clean/veto.hdf5">',
    ):
        assert words in page


def test_the_finding_names_what_is_kept_and_drift(alter):
    told = finding(alter(add_everything))
    words = " ".join(told.sentences)
    assert (
        "cleaning keeps 99.5% [99.5%, 99.5%] of the signal-to-noise ratio (median; 1st percentile 50.0%)"
        in words
    )
    assert "In 3 of 24 events a witness is out of the range" in words
    assert [number[0] for number in told.numbers][-2:] == ["99.5%", "12.5%"]


def interval(value, width=0.05):
    return {"value": value, "low": value - width, "high": value + width}


@pytest.mark.parametrize(
    "network, headline",
    [
        (0.1, "The network is better than every other method"),
        (0.38, "The network is not clearly better than linear"),
        (0.6, "The network is worse than linear"),
        (0.97, "The network is not clearly better than doing nothing"),
        (1.2, "The network is worse than doing nothing"),
    ],
)
def test_the_headline(alter, network, headline):
    def change(result):
        known = {"network": interval(network), "linear": interval(0.4), "nothing": interval(1, 0)}
        for name, row in result["families"]["witnessed"]["scores"].items():
            row["residual"] = known.get(name, interval(0.05 if name in ("oracle", "untrained") else 3.0))

    told = finding(alter(change))
    assert told.headline == headline
    assert (
        f"the network’s residual is {network:.3f} [{network - 0.05:.3f}, {network + 0.05:.3f}]; the best other method,"
        " linear, 0.40, doing nothing 1.00, the perfect mask 0.05, the reference 3.00, itself before"
        " training 0.05"
    ) in told.sentences[0]


def test_without_series_the_headline_is_skill(alter):
    def change(result):
        result["form"] = "energies"
        for row in result["families"]["witnessed"]["scores"].values():
            row["residual"] = row["left"] = row["noise_added"] = dict.fromkeys(("value", "low", "high"))
            row["skill"] = interval(0.0)
        result["families"]["witnessed"]["scores"]["network"]["skill"] = interval(0.7)

    run = alter(change)
    assert finding(run).headline == "The network is better than every other method"
    assert (
        finding(run)
        .sentences[0]
        .startswith("On 16 witnessed events, the network’s skill is 0.700 [0.650, 0.750]")
    )
    assert "headline" in run.figures and "price" in run.figures
    render(run)


def test_what_is_removed_is_never_told_without_its_price(alter):
    def change(result):
        for name, row in result["families"]["witnessed"]["scores"].items():
            removed, destroyed = {"network": (0.7, 0.1), "constant": (0.2, 0.5)}.get(name, (0.1, 0.3))
            row["removed"], row["destroyed"] = interval(removed), interval(destroyed)

    told = finding(alter(change))
    assert (
        "It removes 70.0% of their energy and destroys 10.0% where no witness sees anything (constant 20.0% for 50.0%;"
    ) in " ".join(told.sentences)
    assert ("70.0%", "of the glitches’ energy removed", "10.0% destroyed beside them") in told.numbers


def test_methods_stand_by_the_headline_trivial_ones_among_them(gathered, page):
    table = page.split('<section id="scores"')[1].split("</details>")[0]
    names = re.findall(r'<th scope="row">([\w]+)', table)
    residual = gathered.result["families"]["witnessed"]["scores"]
    assert {"nothing", "constant", "gate", "mean", "loudest_witness", "untrained"} <= set(names)
    assert names == sorted(names, key=lambda name: residual[name]["residual"]["value"])


def test_recorded_data_without_witnessed_families(alter):
    """The finding is of the largest family that is no background."""

    def change(result):
        families = result["families"]
        del families["witnessed"]
        for entry in families.values():
            entry["witnessed"] = False
        families["blip"]["events"] = 1000

    run = alter(change)
    assert "On 1000 “blip” events, the network’s NLL per pixel is" in " ".join(finding(run).sentences)
    render(run)


def test_of_recorded_data_methods_stand_by_the_power_left_beside_what_it_costs(alter, undrawn):
    """Whoever takes everything leaves no power: who looks at no witness is no rival, and the signals' part is shown."""
    left = {"network": 0.3, "wiener": 0.5, "gate": 0.0, "nothing": 1.0}

    def change(result):
        families = result["families"]
        del families["witnessed"]
        for entry in families.values():
            entry["witnessed"] = False
            for known in ("oracle", "reference"):
                del entry["scores"][known]  # nobody has the truth
            for name, row in entry["scores"].items():
                row |= dict.fromkeys(row, dict.fromkeys(("value", "low", "high")))
                row["power_left"] = row["power_left_gated"] = interval(left.get(name, 0.9))
                row |= {"power_left_median": interval(0.2), "made_worse": interval(0.04, 0.01)}
                row["snr_kept_median"] = interval(0.02 if name == "gate" else 0.97, 0.01)
        families["blip"]["events"] = 1000

    run = alter(change)
    told, page = finding(run), render(run)
    assert told.headline == "The network is better than every other method"
    assert told.sentences[0] == (
        "On 1000 “blip” events, the network’s power left is 0.300 [0.250, 0.350];"
        " the best other method, wiener, 0.50, doing nothing 1.00, itself before training 0.90."
    )
    assert told.sentences[1] == (
        "Of the median window it leaves 0.200 [0.150, 0.250] of the power in the band, and makes"
        " 4.0% [3.0%, 5.0%] of the windows worse. What no witness sees stays."
    )
    assert ("4.0%", "of windows made worse", "power left: 0.30") in told.numbers
    table = page.split('<section id="scores"')[1].split("</details>")[0]
    assert re.findall(r'<th scope="row">([\w]+)', table)[:3] == ["gate", "network", "wiener"]
    heads = re.findall(r"<th>([^<]*)", table)
    assert heads == [
        "method",
        "power left / SNR kept, median",
        "power left, median / power left, gated",
        "windows made worse",
    ]
    assert "0.000 [-0.050, 0.050] / 2.0% [1.0%, 3.0%]" in table
    assert page.count("The headline per family") == 1


def test_a_stretch_is_told_by_evaluates_methods_and_by_what_clean_wrote(alter, undrawn):
    """One table, the best residual first; without a truth there is no such section."""
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    row = {
        "live": 534.0,
        "quiet": 246,
        "residual": interval,
        "noise_added": interval,
        "volume_time": {"signals": 16, "background": 477, "cleaned": interval, "vetoed": interval},
        "veto": {
            "efficiency": interval,
            "efficiency_witnessed": interval,
            "deadtime": 0.034574,
            "efficiency_over_deadtime": 15.7,
            "use_percentage": interval,
            "significance": 39.0,
            "glitches": 88,
            "segments": 44,
        },
    }
    gate = row | {"residual": {"value": 4.65, "low": 4.0, "high": 5.0}, "veto": None}
    run = alter(lambda result: result.update(stretch={"gate": gate, "network": row}))
    better = row | {"residual": {"value": 0.25, "low": 0.2, "high": 0.3}}
    page = render(dataclasses.replace(run, measured={"stretch": better}))
    section = page.split('<section id="stretch"')[1].split("</section>")[0]
    named = re.findall(r'<th scope="row">(.*)', section)
    assert named == ["as clean wrote it", "network", "gate"]
    assert "534&nbsp;s" in section and "88 glitches" in section and "3.5%" in section
    assert 'id="stretch"' not in render(dataclasses.replace(run, result=run.result | {"stretch": None}))


def test_charts_follow_the_pages_colours(gathered, page):
    chart, again = (charts.svg(figures(gathered.result)["accuracy"]) for _ in range(2))
    assert chart.startswith("<svg viewBox=")
    assert "currentColor" in chart and "var(--network)" in chart
    assert "#000000" not in chart and "#ffffff" not in chart
    assert chart == again, "no dates, no random names"
    best = min(e["validation_loss"] for e in gathered.epochs)
    assert f"best: {best:.4g}, epoch" in page, "numbers in words are not shortened"


@pytest.mark.ci
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
    wanted = {"page.html", "page.css", "page.js", *(f"{section.name}.html" for section in sections.SECTIONS)}
    assert {f"glitchflow/analysis/report/templates/{name}" for name in wanted} <= names


# -- a twin that draws -------------------------------------------------------------------------------------------


def test_a_generative_run_shows_real_beside_drawn_and_asks_for_no_stage_that_it_has_not(
    glitches_run, tmp_path
):
    page = report(linked(glitches_run, tmp_path, "dataset.zarr", "train", "samples.zarr")).read_text()
    assert "70 glitches were drawn (glitches alone)" in page
    for family in ("sine_gaussian", "scattered_light", "blip"):
        assert f"{family}, drawn" in page
    assert "Not there yet" not in page
    assert 'id="gallery"' not in page and 'id="roc"' not in page
    without = tmp_path / "without"
    without.mkdir()
    page = report(linked(glitches_run, without, "dataset.zarr", "train")).read_text()
    assert "Not there yet: run <code>glitchflow sample</code>" in page and "glitchflow infer" not in page


def test_draws_whose_twin_is_gone_are_left_out(glitches_run, tmp_path, capsys):
    shutil.copytree(Path(glitches_run.workdir) / "samples.zarr", tmp_path / "samples.zarr")
    gone = tmp_path / "gone"
    edit_attributes(tmp_path / "samples.zarr", checkpoint={"path": str(gone), "step": 1})
    run = gather(linked(glitches_run, tmp_path, "dataset.zarr"))
    assert run.samples is None
    assert (
        f"without draws: {tmp_path}/samples.zarr: {gone}, which drew it, is not there any more"
        in capsys.readouterr().err
    )


def test_draws_of_another_dataset_and_what_are_none_are_left_out(glitches_run, tmp_path, capsys):
    """Real glitches beside them would be others than the twin learned from."""
    run = linked(glitches_run, tmp_path, "dataset.zarr", "samples.zarr")
    named = run.model_copy(update={"sample": run.sample.model_copy(update={"path": str(run.dataset)})})
    assert gather(named).samples is None
    assert (
        f"without draws: {run.dataset}: holds no draws; `glitchflow sample` writes them"
        in capsys.readouterr().err
    )
    assert gather(run).samples is not None
    changed = tmp_path / "other.zarr"
    shutil.copytree(run.dataset, changed)
    config = open_store(changed).attributes["config"]
    edit_attributes(changed, config=config | {"seed": config["seed"] + 1})
    other = run.model_copy(update={"store": run.store.model_copy(update={"path": str(changed)})})
    assert gather(other).samples is None
    assert (
        f"without draws: {run.samples}: was drawn by a twin of another dataset than {changed}"
        in capsys.readouterr().err
    )
