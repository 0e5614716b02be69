"""The whole experiment: every section, where its stores are, and what a stage may read of it."""

from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr, model_validator

from glitchflow.config import checks
from glitchflow.config.analysis import (
    Baseline,
    Clean,
    Evaluate,
    Harm,
    Infer,
    Online,
    Report,
    Sample,
    Scan,
    Veto,
)
from glitchflow.config.base import Local, Section, key
from glitchflow.config.reads import Reads
from glitchflow.config.recorded import Ingest
from glitchflow.config.sections import (
    Cluster,
    Derived,
    Generate,
    QPlot,
    Series,
    Simulate,
    Split,
    Store,
    Whiten,
)
from glitchflow.config.stretch import Stretch
from glitchflow.config.training import Loader, Mlflow, Model, Train, Tune


class Experiment(Section):
    """The whole configuration. See each section's class for its keys."""

    workdir: Local = key("runs/default", "directory that every stage writes under", validate_default=True)
    seed: int = key(1, "seed of everything random", ge=0)
    series: Series = key(Series(), "the stretch of time series behind each event")
    simulate: Simulate = key(Simulate(), "synthetic events")
    stretch: Stretch = key(Stretch(), "hours of the simulated detector, as frame files")
    ingest: Ingest = key(Ingest(), "recorded events")
    derived: list[Derived] = key([], "channels computed from witnesses")
    whiten: Whiten = key(Whiten(), "how series are whitened")
    qplot: QPlot = key(QPlot(), "geometry of the Q-plots")
    store: Store = key(Store(), "layout of the stores")
    generate: Generate = key(Generate(), "where Q-plots are made")
    split: Split = key(Split(), "train, validation and test")
    loader: Loader = key(Loader(), "batches")
    model: Model = key(Model(), "the network")
    train: Train = key(Train(), "the training run")
    mlflow: Mlflow = key(Mlflow(), "a copy of the training run in MLflow")
    tune: Tune = key(Tune(), "the sweep")
    infer: Infer = key(Infer(), "generation with a trained network")
    sample: Sample = key(Sample(), "glitches that are drawn")
    baseline: Baseline = key(Baseline(), "what a dataset can teach")
    evaluate: Evaluate = key(Evaluate(), "scores")
    scan: Scan = key(Scan(), "which witnesses coincide with the strain")
    clean: Clean = key(Clean(), "the cleaned strain")
    online: Online = key(Online(), "the twin beside the detector")
    veto: Veto = key(Veto(), "veto segments")
    harm: Harm = key(Harm(), "what cleaning does to signals")
    report: Report = key(Report(), "the page")
    cluster: Cluster = key(Cluster(), "Ray")

    _reads: Reads | None = PrivateAttr(None)

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in _KEYS:
            return value
        reads = (super().__getattribute__("__pydantic_private__") or {}).get("_reads")
        return reads.take(name, value) if reads else value

    def limited(self, reads: Reads) -> Self:
        """This experiment, of which only what is listed can be read (the whole of it can still be dumped)."""
        made = self.model_copy()
        made._reads = reads
        return made

    @property
    def dataset(self) -> str | Path:
        """Where the dataset is: a path, or a URL as a string."""
        where = self.store.path
        return where if "://" in where else Path(where or Path(self.workdir) / "dataset.zarr")

    @property
    def predictions(self) -> Path:
        """Returns the path of what `infer` writes."""
        return Path(self.workdir) / "predictions.zarr"

    @property
    def samples(self) -> Path:
        """Returns the path of what `sample` writes."""
        return Path(self.sample.path or Path(self.workdir) / "samples.zarr")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Settings of different sections that contradict each other."""
        recorded = bool(self.ingest.channels or self.ingest.series_from or self.ingest.qplots_from)
        checks.band(self.qplot, self.series)
        checks.window(self.qplot, self.series, self.whiten)
        if not recorded:  # else what `simulate` says, by default or not, does not matter
            checks.transients(self.simulate, self.qplot, self.series)
        if self.simulate.recipe == "detector":  # also beside recorded data: they may be those of a stretch
            checks.detector(self.simulate.detector)
        checks.channels(self.ingest, self.simulate, self.derived, self.loader.witnesses)
        checks.batches(self.loader, self.train)
        return self


_KEYS = frozenset(Experiment.model_fields)
