"""One self-contained HTML page of a run: scores, curves, Q-plots, settings. Made from whatever is there so far.

    dataset.zarr                -> what it holds, an event of each family: the strain above its witnesses
    train/metrics.jsonl         -> loss curves
    evaluation/metrics.json     -> scores beside baselines and oracle, against thresholds
    predictions.zarr            -> recorded, generated, before training, residual

Shapes: C channel, F frequency, T time.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glitchflow.analysis.evaluate import NETWORK, share, summary
from glitchflow.config import Experiment, InputError
from glitchflow.data import store
from glitchflow.data.inspect import inspect
from glitchflow.progress import say
from glitchflow.score import metrics, plots
from glitchflow.score.statistics import Interval, Proportion
from glitchflow.signal.whiten import whiten
from glitchflow.train.tracking import read_metrics

CURVES = (
    NETWORK,
    "linear",
    "median",
    "untrained",
    "oracle",
)  # drawn against thresholds; all are in the table


def report(experiment: Experiment) -> Path:
    """Write `workdir/report.html` and return its path. Raises `InputError` where there is not even a dataset."""
    if not store.exists(experiment.dataset):
        raise InputError(f"{experiment.dataset}: no store there; run `glitchflow generate` or `ingest` first")
    dataset = store.open_store(experiment.dataset)
    result = _read_json(Path(experiment.workdir) / "evaluation" / "metrics.json")
    parts = [f"<h1>GlitchFlow: {html.escape(Path(experiment.workdir).name)}</h1>"]
    if result:
        say(summary(result))
        parts.append(f"<pre>{html.escape(summary(result))}</pre>")
    for title, stage, make in SECTIONS:
        body = "".join(make(experiment, dataset, result))
        missing = f"<p class='missing'>Not there yet: run <code>glitchflow {stage}</code>.</p>"
        parts.append(f"<section><h2>{title}</h2>{body or missing}</section>")
    made = datetime.now(UTC).isoformat(timespec="seconds")
    parts.append(f"<footer>made {made} from {html.escape(str(experiment.workdir))}</footer>")
    path = Path(experiment.workdir) / "report.html"
    temporary = path.with_suffix(".partial")
    temporary.write_text(PAGE.replace("{body}", "\n".join(parts)), encoding="utf-8")
    temporary.replace(path)
    return path


# -- sections: each yields pieces of HTML, none where its stage has not run -----------------------------------------


def _scores(experiment: Experiment, dataset: store.Dataset, result: dict[str, Any]) -> Iterator[str]:
    if not result:
        return
    yield (
        f"<p>{result['events']} events of the test split. <b>Loss</b>: mean {result['loss']} per pixel in"
        f" {result['normalisation']} units, lower is better; <b>above network</b>: how much higher than the trained"
        " network's on the same events. <b>Excess power removed</b> by spectral subtraction, where the witnesses"
        " explain at least 5 b (recorded data: where the energy is at least 10). <b>IoU</b>: overlap of the masks at"
        f" energy {experiment.evaluate.mask:g}. Brackets: 95 % bootstrap intervals over events.</p>"
    )
    yield "<table><tr><th>family<th>generator<th>loss<th>above network<th>excess power removed<th>IoU</tr>"
    for family, entry in result["families"].items():
        rows = entry["scores"]
        for i, (name, row) in enumerate(rows.items()):
            title = f"<td rowspan={len(rows)}><b>{html.escape(family)}</b><br>{entry['events']} events"
            kind = " class=network" if name == NETWORK else ""
            above = _number(row["loss_above_network"], "+.4f") if name != NETWORK else "–"
            yield (
                f"<tr{kind}>{title if i == 0 else ''}<td>{name}<td>{_number(row['loss'], '.4f')}<td>{above}"
                f"<td>{share(row['excess_removed'])}<td>{_number(row['iou'], '.2f')}</tr>"
            )
    yield "</table>"
    bars = {
        family: {n: _interval(rows["scores"][n]["excess_removed"]) for n in CURVES if n in rows["scores"]}
        for family, rows in result["families"].items()
        if rows["witnessed"] or not dataset.attributes["witnessed_labels"]
    }
    yield _figure(plots.excess_by_family(bars), "Share of the excess power removed, per family.")


def _thresholds(experiment: Experiment, dataset: store.Dataset, result: dict[str, Any]) -> Iterator[str]:
    if not result:
        return
    table = result["thresholds"]
    names = [name for name in CURVES if name in table]
    pictures = {
        "accuracy": "An event is vetoed at s where the generated Q-plot has a cluster of energies of at least s;"
        " it should be where the recorded one has. Unwitnessed glitches count as missed.",
        "cleaned": "Share of events whose residual after spectral subtraction has no cluster at s.",
    }
    for score, words in pictures.items():
        curves = {name: _proportion(table[name][score]) for name in names}
        label = {"accuracy": "veto accuracy", "cleaned": "events without a cluster"}[score]
        yield _figure(plots.against_threshold(table["thresholds"], curves, label), words)
    yield "<p>Background events that have a cluster by chance: "
    noise = table["noise_only"]
    yield (
        ", ".join(f"{v:.0%} at {s:g}" for s, v in zip(table["thresholds"], noise["value"]) if v is not None)
        + ".</p>"
    )


def _training(experiment: Experiment, dataset: store.Dataset, result: dict[str, Any]) -> Iterator[str]:
    directory = Path(experiment.workdir) / "train"
    epochs = [line for line in read_metrics(directory / "metrics.jsonl") if line["kind"] == "epoch"]
    if not epochs:
        return
    curves = plots.loss_curves(
        [e["loss"] for e in epochs], [e["validation_loss"] for e in epochs], experiment.train.loss
    )
    yield _figure(
        curves, "Loss of every epoch: training as the weights changed, validation at the epoch's end."
    )
    log = directory / "log.txt"
    if log.exists():
        yield f"<details><summary>Log of the workers</summary><pre>{html.escape(log.read_text())}</pre></details>"


def _gallery(experiment: Experiment, dataset: store.Dataset, result: dict[str, Any]) -> Iterator[str]:
    if not store.exists(experiment.predictions):
        return
    predictions = store.open_store(experiment.predictions)
    for label, events in _examples(dataset, "test", experiment.report.gallery):
        for event in events:
            recorded = np.maximum(np.asarray(dataset["qplot"][event, 0]), 0)
            generated = np.asarray(predictions["qplot"][event])
            images = {"recorded": recorded}
            if "untrained" in predictions:
                images["generated before training"] = np.asarray(predictions["untrained"][event])
            images |= {
                "generated": generated,
                "residual": metrics.subtract(recorded[None], generated[None])[0],
            }
            frequency, time, name = _axes(dataset, event)
            figure = plots.qplot_row(images, frequency, time, f"{label}, {name}", _loud(recorded))
            yield _figure(figure, "")


def _examples_by_family(
    experiment: Experiment, dataset: store.Dataset, result: dict[str, Any]
) -> Iterator[str]:
    text, _ = inspect(dataset.path)
    yield f"<pre>{html.escape(text)}</pre>"
    split = "test" if len(dataset.indices("test")) else None
    for label, (event, *_) in _examples(dataset, split, 1):
        frequency, time, name = _axes(dataset, event)
        energy = np.maximum(np.asarray(dataset["qplot"][event]), 0)
        figure = plots.witnesses_and_strain(
            energy, dataset.channels, frequency, time, title=f"{label}, {name}", maximum=_loud(energy[0])
        )
        peak = np.unravel_index(int(energy[0].argmax()), energy[0].shape)
        words = (
            f"Loudest pixel of {dataset.channels[0]}: {energy[0].max():.2f} at"
            f" {frequency[peak[0]]:.1f} Hz, {time[peak[1]]:+.4f} s; Q {float(np.asarray(dataset['q'][event, 0])):.3f}."
        )
        yield _figure(figure, words)
        if "series" in dataset:
            words = "The series behind it: whitened as for the Q-plots, and as they are, which shows slow motions."
            yield _figure(_series(dataset, event, f"{label}, {name}"), words)


def _series(dataset: store.Dataset, event: int, title: str) -> Figure:
    """The stored series of an event over the span that its Q-plot shows."""
    config = dataset.attributes["config"]
    rate, qplot = config["series"]["sample_rate"], config["qplot"]
    series = np.asarray(dataset["series"][event])
    white, _ = whiten(
        torch.from_numpy(series), rate, fduration=qplot["fduration"], fftlength=qplot["fftlength"]
    )
    time = (np.arange(series.shape[-1]) - series.shape[-1] // 2) / rate
    shown = (
        np.abs(time) <= (qplot["span"] if qplot["window"] == "fixed" else config["series"]["duration"]) / 2
    )
    columns = {"whitened, in standard deviations of noise": white.numpy(), "as recorded": series}
    shown_columns = {words: values[:, shown] for words, values in columns.items()}
    return plots.series_rows(shown_columns, dataset.channels, time[shown], title)


def _settings(experiment: Experiment, dataset: store.Dataset, result: dict[str, Any]) -> Iterator[str]:
    for title, value in (
        ("Configuration", experiment.model_dump(mode="json")),
        ("Dataset", dataset.attributes),
    ):
        text = html.escape(json.dumps(value, indent=1))
        yield f"<details><summary>{title}</summary><pre>{text}</pre></details>"


SECTIONS: tuple[tuple[str, str, Callable[..., Iterator[str]]], ...] = (
    ("Scores", "evaluate", _scores),
    ("Recorded, generated, residual", "infer", _gallery),
    ("Against the threshold", "evaluate", _thresholds),
    ("Training", "train", _training),
    ("Dataset", "generate", _examples_by_family),
    ("Settings", "", _settings),
)


# -- pieces ------------------------------------------------------------------------------------------------------


def _examples(dataset: store.Dataset, split: str | None, count: int) -> Iterator[tuple[str, list[int]]]:
    """The first events of each family that occurs, in a split or anywhere."""
    events = np.arange(len(dataset)) if split is None else dataset.indices(split)
    labels = np.asarray(dataset["label"][:])[events]
    for i, name in enumerate(dataset.labels):
        found = events[labels == i][:count]
        if len(found):
            yield name, [int(event) for event in found]


def _axes(dataset: store.Dataset, event: int) -> tuple[NDArray, NDArray, str]:
    """Frequencies (F,) in Hz, times (T,) in s from the event's GPS time, and the event's name."""
    gps = float(np.asarray(dataset["gps"][event]))
    name = f"event {event}, GPS {gps:.3f}"
    if "frequency" in dataset:
        return np.asarray(dataset["frequency"][:]), np.asarray(dataset["time"][:]), name
    qplot = dataset.attributes["config"]["qplot"]
    f, t = dataset["qplot"].shape[2:]
    frequency = float(np.asarray(dataset["frequency0"][event])) + qplot["fres"] * np.arange(f)
    return frequency, float(np.asarray(dataset["time0"][event])) - gps + qplot["tres"] * np.arange(t), name


def _loud(strain: NDArray) -> float:
    """The top of the colour scale: the strain's loudest pixel, and never so low that noise looks like a signal."""
    return max(20.0, float(strain.max()))


def _figure(figure: Figure, words: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    caption = f"<figcaption>{html.escape(words)}</figcaption>" if words else ""
    return f"<figure><img alt='{html.escape(words)}' src='data:image/png;base64,{data}'>{caption}</figure>"


def _number(interval: dict[str, Any], form: str) -> str:
    if interval["value"] is None:
        return "–"
    return f"{interval['value']:{form}} <small>[{interval['low']:{form}}, {interval['high']:{form}}]</small>"


def _interval(value: dict[str, Any]) -> Interval:
    return Interval(*(np.nan if value[k] is None else value[k] for k in ("value", "low", "high")))


def _proportion(value: dict[str, Any]) -> Proportion:
    return Proportion(*(np.array(value[k]) for k in ("hits", "events", "low", "high")))


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>GlitchFlow report</title>
<style>
:root { color-scheme: light dark; --text: #1a1a1a; --back: #fff; --line: #ccc; --mark: #e8f1fa; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6e6; --back: #16181c; --line: #444; --mark: #1d2f42; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
tr.network td { background: var(--mark); } tr.network td[rowspan] { background: none; }
small { opacity: .7; } pre { overflow-x: auto; font-size: .8rem; }
figure { margin: 1rem 0; break-inside: avoid; } img { max-width: 100%; background: #fff; border-radius: 4px; }
figcaption { font-size: .85rem; } .missing { opacity: .7; } footer { margin-top: 3rem; font-size: .8rem; opacity: .7; }
</style></head><body>
{body}
</body></html>
"""
