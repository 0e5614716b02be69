"""The whole experiment, and the settings of different sections that contradict each other.

Each check raises ValueError("key = value: what is allowed").
"""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from glitchflow.config.analysis import Baseline, Clean, Evaluate, Harm, Infer, Report, Scan, Veto
from glitchflow.config.base import File, Section, key
from glitchflow.config.recipes import Detector
from glitchflow.config.sections import (
    Cluster,
    Derived,
    Ingest,
    Loader,
    Mlflow,
    Model,
    QPlot,
    Series,
    Simulate,
    Split,
    Store,
    Train,
    Tune,
    Whiten,
)


class Experiment(Section):
    """The whole configuration. See each section's class for its keys."""

    workdir: File = key("runs/default", "directory that every stage writes under", validate_default=True)
    seed: int = key(1, "seed of everything random", ge=0)
    series: Series = key(Series(), "the stretch of time series behind each event")
    simulate: Simulate = key(Simulate(), "synthetic events")
    ingest: Ingest = key(Ingest(), "recorded events")
    derived: list[Derived] = key([], "channels computed from witnesses")
    whiten: Whiten = key(Whiten(), "how series are whitened")
    qplot: QPlot = key(QPlot(), "geometry of the Q-plots")
    store: Store = key(Store(), "layout of the stores")
    split: Split = key(Split(), "train, validation and test")
    loader: Loader = key(Loader(), "batches")
    model: Model = key(Model(), "the network")
    train: Train = key(Train(), "the training run")
    mlflow: Mlflow = key(Mlflow(), "a copy of the training run in MLflow")
    tune: Tune = key(Tune(), "the sweep")
    infer: Infer = key(Infer(), "generation with a trained network")
    baseline: Baseline = key(Baseline(), "what a dataset can teach")
    evaluate: Evaluate = key(Evaluate(), "scores")
    scan: Scan = key(Scan(), "which witnesses coincide with the strain")
    clean: Clean = key(Clean(), "the cleaned strain")
    veto: Veto = key(Veto(), "veto segments")
    harm: Harm = key(Harm(), "what cleaning does to signals")
    report: Report = key(Report(), "the page")
    cluster: Cluster = key(Cluster(), "Ray")

    @property
    def dataset(self) -> str | Path:
        """Where the dataset is: a path, or a URL as a string."""
        where = self.store.path
        return where if "://" in where else Path(where or Path(self.workdir) / "dataset.zarr")

    @property
    def predictions(self) -> Path:
        return Path(self.workdir) / "predictions.zarr"

    @model_validator(mode="after")
    def _agree(self) -> Experiment:
        for check in CHECKS:
            check(self)
        return self


# -- settings that contradict each other ---------------------------------------------------------------------------


def _recorded(e: Experiment) -> bool:
    """Whether the events come from files: what `simulate` says, by default or not, then does not matter."""
    return bool(e.ingest.channels or e.ingest.series_from or e.ingest.qplots_from)


# the ranges of frequency of the families, which a Q-plot must show
BANDS = (
    ("sine_gaussian", "frequency"),
    ("ringdown", "frequency"),
    ("whistle", "low"),
    ("whistle", "high"),
    ("scattered_light", "fringe"),
    ("bilinear", "frequency"),
    ("blip", "frequency"),
)


def _band(e: Experiment) -> None:
    low, high = e.qplot.frange
    nyquist = e.series.sample_rate / 2
    if not 0 < low < high:
        raise ValueError(f"qplot.frange = [{low:g}, {high:g}]: must be 0 < low < high, in Hz")
    if high > nyquist:
        raise ValueError(
            f"qplot.frange = [{low:g}, {high:g}]: beyond {nyquist:g} Hz, half of series.sample_rate"
            f" = {e.series.sample_rate:g}"
        )
    smallest = e.qplot.q if e.qplot.q is not None else e.qplot.qrange[0]
    if smallest < 11**0.5:
        name = "qplot.q" if e.qplot.q is not None else "qplot.qrange"
        raise ValueError(f"{name} = {smallest:g}: Q must be at least sqrt(11) = 3.317")
    if _recorded(e):
        return
    simulate = e.simulate
    bands = {}
    if simulate.recipe == "notebook" and not simulate.notebook.out_of_band:
        bands["simulate.notebook.frequency"] = simulate.notebook.frequency
    if simulate.recipe == "detector":
        for family, which in BANDS:
            settings = getattr(simulate.detector.families, family)
            if settings.weight:
                bands[f"simulate.detector.families.{family}.{which}"] = getattr(settings, which)
    for name, band in bands.items():
        if not low <= band[0] <= band[1] <= high:
            raise ValueError(
                f"{name} = [{band[0]:g}, {band[1]:g}]: must lie inside qplot.frange = [{low:g}, {high:g}]:"
                " no Q-plot shows the rest"
            )


def _window(e: Experiment) -> None:
    usable = e.series.duration - 2 * e.whiten.settle
    simulated = e.simulate.recipe == "detector" and not _recorded(e)
    jitter = 2 * e.simulate.detector.jitter if simulated else 0.0
    if e.qplot.window == "fixed" and e.qplot.span > usable:
        raise ValueError(
            f"qplot.span = {e.qplot.span:g}: longer than the {usable:g} s that series.duration ="
            f" {e.series.duration:g} leaves after whiten.length = {e.whiten.length:g}"
        )
    if e.qplot.window == "fixed" and jitter > e.qplot.span:
        raise ValueError(
            f"simulate.detector.jitter = {jitter / 2:g}: would put transients outside qplot.span = {e.qplot.span:g}"
        )
    if abs(e.series.samples - e.series.duration * e.series.sample_rate) > 1e-6:
        raise ValueError(
            f"series.duration = {e.series.duration:g}: must be a whole number of samples at {e.series.sample_rate:g} Hz"
        )


def _channels(e: Experiment) -> None:
    if e.ingest.channels:
        names, where = [c.name for c in e.ingest.channels], "ingest.channels"
    elif e.ingest.series_from:
        return  # that store knows its channels
    elif e.simulate.recipe == "detector":
        detector = e.simulate.detector
        names, where = [detector.strain, *detector.witnesses], "simulate.detector"
        _families(detector)
    elif e.simulate.recipe == "notebook":
        notebook = e.simulate.notebook
        names, where = [notebook.strain, *notebook.names], "simulate.notebook"
    else:
        return
    for derived in e.derived:
        for channel in derived.channels:
            _known("derived.channels", channel, names[1:], where)
        names.append(derived.name)
    if len(set(names)) != len(names):
        raise ValueError(f"{where}: channel names must differ: {', '.join(names)}")
    for name_of_key, chosen in (
        ("loader.witnesses", e.loader.witnesses),
        ("ingest.witnesses", e.ingest.witnesses),
    ):
        for name in chosen if isinstance(chosen, list) else ():  # a file that is not there yet names none
            _known(name_of_key, name, names[1:], where)
    if e.ingest.witnesses and (e.ingest.series_from or e.ingest.qplots_from):
        raise ValueError(
            "ingest.witnesses: chooses among the files of ingest.channels; of a store's channels, loader.witnesses does"
        )
    if e.ingest.labels and len(e.ingest.labels) != len(e.ingest.times.gps):
        raise ValueError(f"ingest.labels: {len(e.ingest.labels)} for {len(e.ingest.times.gps)} ingest.times")


def _families(detector: Detector) -> None:
    """The witnesses that families name exist, and no family counts as witnessed that nothing sees."""
    where, families = "simulate.detector.families", detector.families
    if detector.background < 1 and not any(family.weight for _, family in families):
        raise ValueError(f"{where}: every weight is 0; set one, or simulate.detector.background=1")
    if families.scattered_light.weight:
        name = families.scattered_light.witness
        _known(f"{where}.scattered_light.witness", name, detector.witnesses, "simulate.detector")
    for family in ("sine_gaussian", "ringdown", "whistle", "bilinear"):
        settings = getattr(families, family)
        if not settings.weight:
            continue
        for name in settings.witnesses:
            _known(f"{where}.{family}.witnesses", name, detector.witnesses, "simulate.detector")
        if not detector.seeing(family):
            raise ValueError(
                f"{where}.{family}.witnesses = []: means all but those of slow motions, and"
                " simulate.detector.witnesses has no other"
            )
    _apart(detector)


def _apart(detector: Detector) -> None:
    """What a family's draws must not mix up."""
    where, families = "simulate.detector.families", detector.families
    vibration, swing = families.bilinear.witnesses
    if families.bilinear.weight and (vibration in detector.slow or swing == families.scattered_light.witness):
        raise ValueError(
            f"{where}.bilinear.witnesses = [{vibration}, {swing}]: must be two, and neither that of scattered light"
        )
    low, high = families.whistle.low, families.whistle.high
    if families.whistle.weight and low[1] >= high[0]:
        raise ValueError(
            f"{where}.whistle.low = [{low[0]:g}, {low[1]:g}]: must lie below whistle.high = [{high[0]:g}, {high[1]:g}]"
        )


def _known(where: str, name: str, names: list[str], source: str) -> None:
    if name not in names:
        raise ValueError(
            f"{where} = {name}: not a witness of {source}; there are: {', '.join(names) or 'none'}"
        )


def _batches(e: Experiment) -> None:
    if e.loader.lanes % e.train.workers:
        raise ValueError(f"train.workers = {e.train.workers}: must divide loader.lanes = {e.loader.lanes}")
    if e.loader.batch % e.loader.lanes:
        raise ValueError(
            f"loader.batch = {e.loader.batch}: must be a multiple of loader.lanes = {e.loader.lanes}"
        )


CHECKS = (_band, _window, _channels, _batches)
