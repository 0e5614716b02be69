"""What a run has written so far: the report draws what is here and names what is not.

dataset.zarr              -> Run.dataset       baseline.json             -> Run.baseline
train/metrics.jsonl       -> Run.epochs        train/checkpoints/        -> Run.checkpoint
predictions.zarr          -> Run.predictions   evaluation/metrics.json   -> Run.result
evaluation/events.csv     -> Run.scores        scan.json                 -> Run.scan
samples.zarr              -> Run.samples
clean/                    -> Run.cleaned, Run.measured, Run.files
"""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glitchflow.analysis.drawn import twin_of
from glitchflow.analysis.given import GIVEN
from glitchflow.analysis.opened import Opened, open_predictions
from glitchflow.analysis.report.written import Cleaned, Judgement, Measured, Metrics, Scan
from glitchflow.config import Evaluate, Experiment, Report
from glitchflow.data import objects, store
from glitchflow.data.identity import recipe
from glitchflow.errors import InputError, RunError
from glitchflow.figures.evaluation import figures
from glitchflow.progress import say
from glitchflow.train import checkpoint
from glitchflow.train.tracking import read_metrics
from glitchflow.twin import kinds

NUMBERS = (
    "event",
    "recorded_level",
    "generated_level",
    "residual_level",
)  # columns of events.csv that are needed


@dataclass(frozen=True)
class Run:
    """Holds everything a report is made from; empty where its stage has not run."""

    workdir: Path
    settings: Report
    evaluate: Evaluate
    loss: str  # train.loss
    model: str  # model.name
    configuration: dict[str, Any]  # the whole of it, to be shown
    dataset: store.Dataset
    predictions: store.Dataset | None
    samples: store.Dataset | None  # what a generative twin drew
    checkpoint: dict[str, Any]  # meta.json of the network that generated the predictions, or of the best one
    epochs: list[dict[str, Any]]
    baseline: dict[str, Any]
    result: dict[str, Any]  # evaluation/metrics.json
    scores: dict[str, NDArray]  # evaluation/events.csv by column, (scored event,) each
    scan: dict[str, Any]
    cleaned: dict[str, Any]  # clean/clean.json
    measured: dict[str, Any]  # clean/metrics.json
    files: list[str]  # under clean/, relative to workdir

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Draw what evaluate draws of its scores."""
        return figures(self.result) if self.result else {}

    @property
    def draws(self) -> bool:
        """Say whether the run is of a twin that draws and does not predict."""
        return kinds.of(self.model).draws

    @property
    def threshold(self) -> float:
        """Return the energy s at which events are vetoed."""
        return self.result["veto"]["truth"] if self.result else self.evaluate.veto


def gather(experiment: Experiment) -> Run:
    """Read what there is. Raises `InputError` where there is not even a dataset."""
    if not store.exists(experiment.dataset):
        raise InputError(f"{experiment.dataset}: no store there; run `glitchflow generate` or `ingest` first")
    workdir, dataset = Path(experiment.workdir), store.open_store(experiment.dataset)
    predictions = _predictions(experiment.predictions, dataset)
    result = _written(workdir, "evaluation/metrics.json", Metrics, "evaluate")
    lines = read_metrics(workdir / "train" / "metrics.jsonl")
    return Run(
        workdir=workdir,
        settings=experiment.report,
        evaluate=experiment.evaluate,
        loss=experiment.train.loss,
        model=experiment.model.name,
        configuration=experiment.model_dump(mode="json"),
        dataset=dataset,
        predictions=predictions,
        samples=_samples(experiment.samples, dataset),
        checkpoint=_checkpoint(
            workdir / "train" / "checkpoints", None if predictions is None else Opened(dataset, predictions)
        ),
        epochs=[line for line in lines if line["kind"] == "epoch"],
        baseline=_written(workdir, "baseline.json", Judgement, "baseline"),
        result=result,
        scores=_read_columns(workdir / "evaluation" / "events.csv") if result else {},
        scan=_written(workdir, "scan.json", Scan, "scan"),
        cleaned=_written(workdir, "clean/clean.json", Cleaned, "clean"),
        measured=_written(workdir, "clean/metrics.json", Measured, "clean"),
        files=sorted(str(p.relative_to(workdir)) for p in (workdir / "clean").rglob("*") if p.is_file()),
    )


def _predictions(path: Path, dataset: store.Dataset) -> store.Dataset | None:
    """Those of this dataset, if they are finished; a line says why others are left out."""
    if not store.exists(path):
        return None
    try:
        return open_predictions(path, dataset)
    except InputError as error:
        say(f"without predictions: {error}")
        return None


def _samples(path: Path, dataset: store.Dataset) -> store.Dataset | None:
    """Draws, if they are finished and what drew them is there and learned from this dataset; a line says why others are
    left out."""
    if not store.exists(path):
        return None
    try:
        samples, now = store.open_store(path), recipe(dataset)
        if twin_of(samples).meta.dataset.get("recipe", now) != now:
            raise InputError(f"{path}: was drawn by a twin of another dataset than {dataset.path}")
        if samples.attributes["series_are"] == GIVEN:
            raise InputError(f"{path}: holds {GIVEN}, which no page shows")
    except InputError as error:
        say(f"without draws: {error}")
        return None
    return samples


def _checkpoint(directory: Path, opened: Opened | None) -> dict[str, Any]:
    paths = [] if opened is None else [opened.network]
    for path in (*paths, checkpoint.best(directory), *checkpoint.by_step(directory)[-1:]):
        if path is not None and (path / "meta.json").exists():
            return checkpoint.open_checkpoint(path).meta.model_dump(mode="json") | {"name": path.name}
    return {}


def _written(workdir: Path, name: str, kind: Any, stage: str) -> dict[str, Any]:
    """What a stage wrote, empty where it did not; a line says why a damaged file, or an old one, is left out."""
    try:
        return objects.read(workdir, name, kind) or {}
    except RunError as error:
        say(f"without {name}: {error}; run `glitchflow {stage}` again")
        return {}


def _read_columns(path: Path) -> dict[str, NDArray]:
    """Columns of a CSV file: numbers where all of a column are (empty is NaN), else words; none where it is damaged."""
    if not path.exists():
        return {}
    with path.open(newline="", errors="replace") as file:
        names, *rows = list(csv.reader(file)) or [[]]
    columns = {name: _column(list(values)) for name, *values in zip(names, *rows)}
    numbers = {name for name, values in columns.items() if values.dtype.kind == "f"}
    if not set(NUMBERS) <= numbers or any(len(row) != len(names) for row in rows):
        say(f"without {path.name}: {path} is damaged or a former version's; run `glitchflow evaluate` again")
        return {}
    return columns


def _column(values: list[str]) -> NDArray:
    try:
        return np.array([float(value or "nan") for value in values])
    except ValueError:
        return np.array(values)
