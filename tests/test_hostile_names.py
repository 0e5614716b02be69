"""Names from files in every page: no element and no attribute comes of them that is not the template's."""

import json
from collections import Counter
from html.parser import HTMLParser

import pytest
from helpers import linked, small, staged

from glitchflow.analysis.evaluate.evaluate import evaluate
from glitchflow.analysis.event import event
from glitchflow.analysis.infer import infer
from glitchflow.analysis.report import report
from glitchflow.analysis.scan import scan
from glitchflow.config import parse
from glitchflow.data.generate import generate
from glitchflow.data.store import open_store
from glitchflow.online.monitor import Monitor
from glitchflow.train.loop import train
from glitchflow.train.setup import training_of

WICKED = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</script></style></svg></title><b>",
    "a$\\frac{$b {{ 7*7 }} {0}",
    "line\nend\r\x1b[2J",
    "x" * 300,
    "\u202etxt.exe\u2066",
    "<!--",
]


class Elements(HTMLParser):
    """Counts the elements of a page, with the names of their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found: Counter = Counter()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found[tag, *sorted(name for name, _ in attributes)] += 1

    def handle_comment(self, data):
        self.found["comment"] += 1


def elements(page: str) -> Counter:
    return Elements(page).found


@pytest.mark.parametrize("name", WICKED)
def test_the_live_page(name):
    def page(strain: str, row: str) -> str:
        monitor = Monitor(strain)
        monitor.now = ((row, row),)
        return monitor.page().decode()

    assert elements(page(name, name)) == elements(page("X:STRAIN", "row"))


def pages(run, directory):
    """The report, and the page of an event of the test split."""
    there = linked(run, directory, "dataset.zarr", "train", "predictions.zarr", "evaluation")
    scan(staged("scan", there))
    dataset = open_store(there.dataset)
    (first, *_) = dataset.indices("test")
    paths = report(staged("report", there)), event(staged("event", there), float(dataset["gps"][int(first)]))
    return [elements(path.read_text()) for path in paths]


@pytest.mark.slow
def test_report_and_event(ray_session, series_run, tmp_path):
    """Of a run whose channels and directory have such names, beside one with good ones."""
    first, second, *_, fringe = (name for name in WICKED if len(name) < 300 and "\n" not in name)
    wicked = tmp_path / "<img src=x onerror=alert(1)>"
    good = small(
        wicked,
        simulate={"events": 48},
        store={"series": "float64"},
        model=series_run.model.model_dump(),
        train={"loss": "l2", "workers": 1, "epochs": 1},
    )
    text = good.model_dump_json()
    for name, other in {"SIM:ACC": first, "SIM:SUS": second, "SIM:FRINGE": fringe}.items():
        text = text.replace(json.dumps(name), json.dumps(other))
    experiment = parse(json.loads(text))
    generate(staged("generate", experiment))
    train(training_of(experiment), wicked / "train")
    infer(staged("infer", experiment))
    evaluate(staged("evaluate", experiment))
    for directory in ("good", "bad"):
        (tmp_path / directory).mkdir()
    for good, bad in zip(pages(series_run, tmp_path / "good"), pages(experiment, tmp_path / "bad")):
        assert bad.keys() <= good.keys()
        scripts = [sum(n for (tag, *_), n in page.items() if tag == "script") for page in (good, bad)]
        assert scripts[0] == scripts[1]
