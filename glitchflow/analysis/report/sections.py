"""What each section of the page shows: values for its template, none where its stage has not written them yet."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from glitchflow.analysis import event_figure
from glitchflow.analysis.drawn import beside
from glitchflow.analysis.inspect import describe, text
from glitchflow.analysis.opened import Opened
from glitchflow.analysis.quiet import quiet as measure_quiet
from glitchflow.analysis.report import charts, events, images
from glitchflow.analysis.report.finding import at, headline_score, nearest
from glitchflow.analysis.report.run import Run
from glitchflow.data.provenance import provenance
from glitchflow.data.view import axes, engine_of, read_series
from glitchflow.figures import curves
from glitchflow.figures.draws import SIDE, side_by_side
from glitchflow.figures.quiet import quiet_time
from glitchflow.score.lines import by_residual, ranked
from glitchflow.score.table import SCORES
from glitchflow.signal.qtransform import whitened
from glitchflow.train.checkpoint import open_checkpoint

QUOTED = (1, 2, 3, 5, 8, 10, 13, 16, 20, 25, 30, 40, 50)  # thresholds of the table, as far as they are there
SCANNED = 40  # witnesses of a scan that are shown; scan.json has all
# what a cell of the table of methods shows, where any has a value: two of which one is the other's price
CELLS = (
    ("residual",),
    ("left", "noise_added"),
    ("power_left", "snr_kept_median"),
    ("power_left_median", "power_left_gated"),
    ("made_worse",),
    ("skill",),
    ("removed", "destroyed"),
    ("snr_left_median", "snr_left_p90"),
    ("efficiency_0.1", "efficiency_1"),
    ("nll",),
    ("iou",),
    ("l1",),
    ("ssim",),
)
KEPT = ("snr_kept_median", "snr_kept_p1", "bias_time", "bias_phase", "bias_mass", "chi2")
WIDE = 7.0  # inches: wider charts would be drawn too small in half the width of the page
CLEANED = "as clean wrote it"  # its row beside the methods'
Values = dict[str, Any] | None


def scores(run: Run) -> Values:
    """List the scores of every family, the witnessed ones together first, with every method by the headline."""
    families = run.result["families"].items()
    rows = [
        {"family": name, "methods": ranked(entry["scores"]), "score": headline_score(entry), **entry}
        for name, entry in sorted(families, key=lambda item: item[0] != "witnessed")
    ]
    known = {s for row in rows for scores in row["scores"].values() for s in SCORES if _known(scores, s)}
    drawn = {name: run.figures[name] for name in ("headline", "left", "price") if name in run.figures}
    return {
        "rows": rows,
        "charts": {name: charts.svg(figure) for name, figure in drawn.items()},
        "wide": {name for name, figure in drawn.items() if figure.get_figwidth() > WIDE},
        "columns": [[SCORES[name] for name in cell] for cell in CELLS if cell[0] in known],
    }


def gallery(run: Run) -> Values:
    """List the events of each family whose Q-plots are shown, chosen by no score; where series are predicted, the first
    of each that a witness may see is drawn with them."""
    families, labels = list(events.gallery(run)), run.dataset.labels
    unseen = [labels[i] for i in (0, *events.unwitnessed(run.dataset))]
    first = [members[0] for name, members in families if name not in unseen]
    predictions, drawn = run.predictions, None
    if predictions is not None and event_figure.SERIES in predictions and first:
        drawn = charts.svg(event_figure.subtracted(run.dataset, predictions, first))
    return {"families": families, "subtracted": drawn}


def quiet(run: Run) -> Values:
    """Draw what a twin that predicts series does to quiet time, frequency by frequency; none where it is not there."""
    predictions = run.predictions
    if predictions is None or event_figure.SERIES not in predictions or "series" not in run.dataset:
        return None
    network = Opened(run.dataset, predictions).network
    if not network.exists():
        return None
    found = measure_quiet(
        run.dataset, open_checkpoint(network).as_named(run.model).trained(), run.evaluate.groups
    )
    if found is None:
        return None
    unit = "the strain's unit" if run.dataset.recorded else "1"  # of what is recorded nobody says
    drawn = quiet_time(found.frequency, found.asd, found.coherence, unit)
    return {"chart": charts.svg(drawn), "windows": found.windows}


def drawn(run: Run) -> Values:
    """Draw real glitches beside drawn ones, family by family; none where none were drawn."""
    if run.samples is None:
        return None
    frequency, time = run.dataset["frequency"][:], run.dataset["time"][:]
    pairs = beside(run.dataset, run.samples, SIDE**2).items()
    charts_of = {name: charts.svg(side_by_side({name: pair}, frequency, time)) for name, pair in pairs}
    return {"families": charts_of, "samples": len(run.samples), "are": run.samples.attributes["series_are"]}


def thresholds(run: Run) -> Values:
    """Tabulate and draw what vetoes and cleaning do at each threshold, and how often noise alone passes it."""
    drawn = {name: charts.svg(run.figures[name]) for name in ("accuracy", "cleaned", "noise_only")}
    table = run.result["thresholds"]
    places = sorted({nearest(table["thresholds"], s) for s in QUOTED})
    noise = at(table["noise_only"], nearest(table["thresholds"], run.threshold))
    return drawn | {"table": table, "noise": noise, "places": places}


def roc(run: Run) -> Values:
    """Draw the ROC, and efficiency against deadtime, with hveto's and iDQ's figures of every method."""
    table, drawn = run.result["veto"], {name: charts.svg(run.figures[name]) for name in ("roc", "veto")}
    chosen = {
        cost: {
            name: {row["percent"]: row for row in found["chosen"] if row["cost"] == cost}
            for name, found in table["methods"].items()
        }
        for cost in ("deadtime", "false_alarm_probability")
    }
    return drawn | {
        "table": table,
        "chosen": chosen,
        "left": run.result["clusters_left"],
        "curves": run.result["roc"],
    }


def kept(run: Run) -> Values:
    """List what cleaning leaves of injected signals, by family and method; none where none were injected."""
    rows = [
        {"family": name, "methods": {m: row for m, row in entry["scores"].items() if _known(row, KEPT[0])}}
        for name, entry in run.result["families"].items()
    ]
    rows = [row for row in rows if row["methods"]]
    return {"rows": rows, "columns": [SCORES[name] for name in KEPT if name in SCORES]} if rows else None


def chance(run: Run) -> Values:
    """Show whether p(glitch) is what it says; none where a network predicts no series."""
    found = run.result.get("chance")
    return {"found": found, "chart": charts.svg(run.figures["chance"])} if found else None


def _known(scores: dict[str, Any], name: str) -> bool:
    return scores.get(name, {}).get("value") is not None


def stretch(run: Run) -> Values:
    """Tabulate what every method, and what clean wrote, did to a stretch whose truth is known; none without a truth."""
    found = dict(run.result.get("stretch") or {})
    if measured := run.measured.get("stretch"):
        found[CLEANED] = measured
    if not found:
        return None
    rows = by_residual(found)
    first = rows[0][1]
    glitches = next((row["veto"]["glitches"] for _, row in rows if row["veto"]), 0)
    told = {"live": first["live"], "quiet": first["quiet"], "signals": first["volume_time"]["signals"]}
    return {"rows": rows, "cleaned": CLEANED if measured else "", "glitches": glitches, **told}


def attribution(run: Run) -> Values:
    """Show which witness carries the vetoes."""
    found = run.result.get("attribution")
    return {"found": found, "chart": charts.svg(run.figures["attribution"])} if found else None


def drift(run: Run) -> Values:
    """Show which witnesses have left the range that the network was trained on."""
    found = run.result.get("drift")
    return {"found": found, "chart": charts.svg(run.figures["drift"])} if found else None


def table(run: Run) -> Values:
    """Describe the columns of the table of events, and the words in it."""
    return {
        "columns": events.COLUMNS,
        "outcomes": events.OUTCOMES,
        "why": events.WHY,
        "total": len(run.dataset),
    }


def training(run: Run) -> Values:
    """Draw the losses of each epoch, and quote the log."""
    log = run.workdir / "train" / "log.txt"
    return {
        "chart": charts.svg(
            curves.loss_curves(
                [e["loss"] for e in run.epochs],
                [e["validation_loss"] for e in run.epochs],
                run.loss,
            )
        ),
        "epochs": run.epochs,
        "log": log.read_text() if log.exists() else "",
    }


def scan(run: Run) -> Values:
    """List the witnesses that a scan found, the most significant first."""
    return {"scan": run.scan, "found": run.scan["channels"][:SCANNED]}


def clean(run: Run) -> Values:
    """List the files of cleaned strain and vetoes."""
    return {"files": run.files, "facts": run.cleaned}


def dataset(run: Run) -> Values:
    """Say what the store holds, and an event of each family: the strain and its witnesses."""
    words = text(describe(run.dataset) | {"damaged": {}, "problems": []})
    examples = []
    for family, (event, *_) in events.gallery(run):
        drawn = images.channels(run, event)
        chart = _series(run, event) if "series" in run.dataset else None
        examples.append(
            {"family": family, "event": event, "figure": drawn, "series": chart, **_loudest(run, event)}
        )
    return {"text": words, "examples": examples}


def _loudest(run: Run, event: int) -> dict[str, float]:
    """The strain's loudest pixel."""
    energy = np.asarray(run.dataset["qplot"][event, 0])
    frequency, time = axes(run.dataset, event)
    row, column = np.unravel_index(int(energy.argmax()), energy.shape)
    return {
        "energy": float(energy.max()),
        "frequency": float(frequency[row]),
        "time": float(time[column]),
        "q": float(np.asarray(run.dataset["q"][event, 0])),
    }


def _series(run: Run, event: int) -> Markup:
    """The stored series of an event over the span that its Q-plot shows."""
    made = run.dataset.config
    rate, qplot = made.series.sample_rate, made.qplot
    channels = run.dataset.channels
    series = read_series(run.dataset, np.array([event]), channels)[0]
    white = whitened(engine_of(run.dataset, channels, "mask"), series[None])[0]
    time = (np.arange(series.shape[-1]) - series.shape[-1] // 2) / rate
    span = qplot.span if qplot.window == "fixed" else made.series.duration
    shown = np.abs(time) <= span / 2
    columns = {"whitened, in standard deviations of noise": white, "as recorded": series}
    drawn = {words: values[:, shown] for words, values in columns.items()}
    return charts.series(drawn, channels, time[shown])


def settings(run: Run) -> Values:
    """Quote the configuration, the attributes of the dataset and the meta data of the checkpoint as JSON."""
    values = {"Configuration": run.configuration, "Dataset": run.dataset.attributes}
    if run.checkpoint:
        values["Checkpoint"] = run.checkpoint
    return {"texts": {title: json.dumps(value, indent=1) for title, value in values.items()}}


def done(run: Run) -> dict[str, bool]:
    """Say of each stage whether it has written what the page shows; of those that the run's twin is for."""
    stages = {
        "generate": True,  # or ingest: without it there is no report
        "baseline": bool(run.baseline),
        "train": bool(run.epochs),
        "sample": run.samples is not None,
        "infer": run.predictions is not None,
        "evaluate": bool(run.result),
        "scan": bool(run.scan),
        "clean": bool(run.files),
    }
    others = PREDICTS if run.draws else DRAWS
    return {name: there for name, there in stages.items() if there or name not in others}


def ran(run: Run) -> Values:
    """Say what was run: dataset, model, versions; and which stages are missing."""
    attributes, meta, stages = run.dataset.attributes, run.checkpoint, done(run)
    if attributes["source"] != "simulate":
        stages = {"ingest": True, **{k: v for k, v in stages.items() if k != "generate"}}
    made = {"dataset": run.dataset.provenance}
    if meta.get("provenance"):
        made["network"] = meta["provenance"]
    if run.predictions is not None:
        made["predictions"] = run.predictions.provenance
    made["this page"] = provenance()
    labels, splits = (np.asarray(run.dataset[name][:]) for name in ("label", "split"))
    return {
        "stages": stages,
        "made": made,
        "attributes": attributes,
        "meta": meta,
        "families": {n: int((labels == i).sum()) for i, n in enumerate(run.dataset.labels)},
        "splits": {n: int((splits == i).sum()) for i, n in enumerate(("train", "validation", "test"))},
        "skipped": int((splits < 0).sum()),
    }


@dataclass(frozen=True)
class Section:
    """Describes a section of the page: its template's name is its anchor; without its `stage` it has no values."""

    name: str
    title: str
    stage: str
    values: Callable[[Run], Values]
    null: tuple[str, str] = ("", "")  # a key of metrics.json that may hold nothing, and what that means
    only: bool = False  # whether it is left out where it has no values


# stages that only a twin which predicts is for, and those that only one which draws is
PREDICTS, DRAWS = ("baseline", "scan", "infer", "evaluate", "clean"), ("sample",)
NO_SIGNALS = ("families", "signals are injected into datasets made with store.series=float32")
NO_VETO = ("attribution", "there is no veto to attribute, or the network is not there any more")
NO_RANGE = ("drift", "the training’s ranges are not known")
SECTIONS = (
    Section("run", "What was run", "", ran),
    Section("scores", "Scores", "evaluate", scores),
    Section("stretch", "Against the truth of the stretch", "", stretch, only=True),
    Section("gallery", "Recorded, generated, residual", "infer", gallery),
    Section("drawn", "Real glitches beside drawn ones", "sample", drawn),
    Section("quiet", "What it does to quiet time", "infer", quiet, only=True),
    Section("thresholds", "Against the threshold", "evaluate", thresholds),
    Section("roc", "ROC, and what vetoes cost", "evaluate", roc),
    Section("chance", "Is p(glitch) what it says", "evaluate", chance, only=True),
    Section("kept", "What is kept of signals", "evaluate", kept, NO_SIGNALS),
    Section("attribution", "Which witness carries the veto", "evaluate", attribution, NO_VETO),
    Section("drift", "Drift of the witnesses", "evaluate", drift, NO_RANGE),
    Section("events", "All events", "", table),
    Section("training", "Training", "train", training),
    Section("scan", "Which witnesses are worth it", "scan", scan),
    Section("clean", "Cleaned strain and veto segments", "clean", clean),
    Section("dataset", "Dataset", "generate", dataset),
    Section("definitions", "Definitions", "", lambda run: {}),
    Section("settings", "Settings", "", settings),
)


def filled(run: Run) -> dict[str, Values]:
    """Make the values of each section whose stage the run's twin is for; None where that has not run."""
    there = {"": True, **done(run)}
    return {s.name: s.values(run) if there[s.stage] else None for s in SECTIONS if s.stage in there}
