"""One self-contained HTML page of a run: the finding, scores, curves, Q-plots, every event. From whatever is there.

run.py       what the run has written                 finding.py  the main finding in words
sections.py  values for each section's template       charts.py   figures as SVG
events.py    the table, and which events are drawn    images.py   their Q-plots
templates/   page.html, page.css, page.js, and a template for each section
"""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError

from glitchflow.analysis.evaluate.evaluate import summary
from glitchflow.analysis.report import events, images
from glitchflow.analysis.report.finding import finding
from glitchflow.analysis.report.run import Run, gather
from glitchflow.analysis.report.sections import SECTIONS, filled
from glitchflow.config import Experiment
from glitchflow.data.objects import write_text
from glitchflow.errors import printable
from glitchflow.methods.table import NETWORK
from glitchflow.progress import say
from glitchflow.score.table import number, share

LACKING = (KeyError, IndexError, TypeError, ValueError, ArithmeticError, UndefinedError)
# what the page is without a file, and the stage that writes it
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "evaluation/events.csv": ("evaluate", {"scores": {}}),
    "evaluation/metrics.json": ("evaluate", {"result": {}, "scores": {}}),
    "train/metrics.jsonl": ("train", {"epochs": []}),
    "scan.json": ("scan", {"scan": {}}),
    "clean/clean.json": ("clean", {"cleaned": {}}),
    "clean/metrics.json": ("clean", {"measured": {}}),
    "baseline.json": ("baseline", {"baseline": {}}),
}


def report(experiment: Experiment) -> Path:
    """Write `workdir/report.html` and return its path. Raises `InputError` where there is not even a dataset."""
    path = Path(experiment.workdir) / "report.html"
    write_text(path, readable(gather(experiment)))
    return path


def readable(run: Run) -> str:
    """The page; without a file that has the right outline and lacks something deeper down, which a line says."""
    try:
        return told(run)
    except LACKING as error:
        for name, (stage, empty) in FILES.items():
            with contextlib.suppress(*LACKING):
                page = told(replace(run, **empty))
                reason = f"{type(error).__name__} {printable(str(error))}"
                say(
                    f"without {name}: {run.workdir}: damaged: {name}: {reason}; run `glitchflow {stage}` again"
                )
                return page
        raise


def told(run: Run) -> str:
    """The page, after the main scores and the finding on the screen."""
    page = render(run)
    if run.result:
        found = finding(run)
        say(summary(run.result))
        say(f"{found.headline}. {found.sentences[0]}")
    return page


def render(run: Run) -> str:
    """Write the page: its templates filled with what the run has, as a string of HTML."""
    values = filled(run)
    return (
        environment()
        .get_template("page.html")
        .render(
            name=run.workdir.name,
            workdir=str(run.workdir),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            finding=finding(run),
            sections=[s for s in SECTIONS if s.name in values and (values[s.name] is not None or not s.only)],
            values=values,
            data=payload(run, values),
            evaluate=run.evaluate,
            result=run.result,
            threshold=run.threshold,
            network=NETWORK,
        )
    )


def payload(run: Run, values: dict[str, Any]) -> dict[str, Any]:
    """Collect what the page's script works on: the table of events, and the figures by their names."""
    shown = {
        event for _, members in (values.get("gallery") or {"families": []})["families"] for event in members
    }
    drawn = events.choose(run)
    for event in shown:
        drawn.setdefault(event, "gallery")
    figures = events.figures(run, drawn, shown)
    figures |= {f"channels-{e['event']}": e["figure"] for e in values["dataset"]["examples"]}
    return {
        "colours": images.viridis(),
        "levels": images.LEVELS,
        "threshold": run.threshold,
        "command": events.command(run),
        "formats": {column.key: column.decimals for column in events.COLUMNS},
        "unwitnessed": [run.dataset.labels[i] for i in events.unwitnessed(run.dataset)],
        "columns": events.table(run, drawn),
        "figures": figures,
    }


def environment() -> Environment:
    """Load the templates: everything escaped, and a name that is not there an error."""
    found = Environment(
        loader=PackageLoader("glitchflow.analysis.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    found.filters |= {
        "share": share,
        "number": number,
        "share_of": share_of,
        "percent": percent,
        "plain": plain,
    }
    return found


def share_of(row: dict[str, Any]) -> str:
    """Write the interval of a row whose value is called `share`."""
    return share({"value": row["share"], "low": row["low"], "high": row["high"]})


def percent(value: Any) -> str:
    """Write a share in percent; a dash where it is not known."""
    return f"{value:.1%}" if isinstance(value, float) else "–"


def plain(value: Any, form: str) -> str:
    """Write a number in a format; a dash where it is not known."""
    return "–" if value is None else f"{value:{form}}"
