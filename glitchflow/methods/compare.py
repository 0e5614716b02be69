"""The one loop over all methods: each is fitted to the train split, and says what it takes out of every event.

    train split of the training's store --fit--> fitted methods
    dataset, the events to score --some at a time, in Ray tasks--> each method's w' and energies --> numbers per event

Shapes: E event that is scored, M method, W witness, F frequency, T time, N sample.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glitchflow.cluster import trim
from glitchflow.config import Cluster, Evaluate, Loader, QPlot, Series
from glitchflow.data.build import Job, run_tasks
from glitchflow.data.loader import choose_channels
from glitchflow.data.memory import Memory, Shape
from glitchflow.data.normalise import loudness
from glitchflow.data.scratch import scratch
from glitchflow.data.store import Dataset
from glitchflow.errors import InputError
from glitchflow.methods import method, reference
from glitchflow.methods.coherent import Subtraction
from glitchflow.methods.images import FIT_PIXELS
from glitchflow.methods.memory import FIT_BYTES, FIT_EVENTS, block_events, scoring
from glitchflow.methods.method import Block, Fit, Method, Read, Train
from glitchflow.methods.table import METHODS, predicted, row_of
from glitchflow.methods.treat import expect, make, read_block
from glitchflow.progress import say
from glitchflow.score import levels, safety, skill
from glitchflow.score.levels import Rule
from glitchflow.score.made import Columns
from glitchflow.score.metrics import NOISE_ENERGY
from glitchflow.score.sample import Scored, join
from glitchflow.score.table import measure
from glitchflow.signal.recorded.recording import Recording
from glitchflow.signal.types import Array, Energies, Indices
from glitchflow.twin.estimate import Estimator, estimator_of

PERIODS = 10  # of the lowest frequency in a Wiener filter: it resolves a tenth of it
PART = 256  # events of a task at most
FEW = 64  # events that are scored here: they take no longer than a Ray to start, a quarter of a second each


@dataclass(frozen=True)
class Basis:
    """Says what a network was trained on: the channels it sees, and what it learned from."""

    channels: list[str]  # the strain, then its witnesses
    training: Dataset | None  # whose train split it learned from; None where that is not there any more
    loudness: list[list[float]] | None  # quantiles of each channel's loudness over that train split


def basis_of(dataset: Dataset, loader: Loader) -> Basis:
    """Say what a network would be trained on here. Raises `InputError` where the train split is empty."""
    if dataset.normalisation is None:
        raise InputError(f"{dataset.path}: its train split is empty, there is nothing to learn from")
    chosen = choose_channels(dataset.channels, loader.witnesses)
    return Basis([dataset.channels[i] for i in chosen], dataset, None)


def fit_methods(
    dataset: Dataset,
    basis: Basis,
    threshold: float,
    subset: int | None = None,
    predictions: Mapping[str, Read | Subtraction] | None = None,
    settings: Evaluate = Evaluate(),  # noqa: B008  a section never changes
    truth: Recording | None = None,
) -> Fit:
    """Fit every method that can be made here to the train split that the network learned from.

    threshold: clean.threshold; subset: events of the train split to learn from at most; predictions: what networks
    say of `dataset`, by method, as `Train` has them; settings: of Wiener filters, and of the band that is measured;
    truth: about its events, where it has none itself. Raises `InputError` where settings do not fit the dataset.
    """
    known = predictions or {}
    segment, band = lengths(settings, dataset.config.series, dataset.config.qplot)
    read = {name: one for name, one in known.items() if callable(one)}
    train = train_of(basis, threshold, subset, read, segment)
    trim()  # of the shards that its images were read from
    if not len(train.target):
        say("no train split to fit methods to: the network is scored beside few others")
    there = {*facts(train, dataset), *known} | ({"truth"} if truth else set())
    rows = {name: predicted(name, one) for name, one in known.items()}
    methods = {name: row for name, row in {**METHODS, **rows}.items() if row.needs <= there}
    methods |= {name: _able(name, "evaluate.methods", there, dataset) for name in settings.methods}
    fitted = {name: method.fit(train) for name, method in methods.items()}
    return Fit(methods, fitted, basis.channels[1:], train.floor, band, truth)


def fit_method(dataset: Dataset, basis: Basis, name: str, threshold: float, settings: Evaluate) -> Fit:
    """Fit one method alone, that of `clean.method`; see `fit_methods`.

    Raises `InputError` for one that there is not, that needs what is not there, or that is told the truth.
    """
    segment, band = lengths(settings, dataset.config.series, dataset.config.qplot)
    train = train_of(basis, threshold, None, {}, segment)
    row = _able(name, "clean.method", facts(train, dataset), dataset)
    if row.truth:
        raise InputError(f"clean.method = {name}: is told the truth, which nobody knows of a strain")
    return Fit({name: row}, {name: row.fit(train)}, basis.channels[1:], train.floor, band)


def _able(name: str, key: str, there: set[str], dataset: Dataset) -> Method:
    """A method that is named, where there is all that it needs."""
    row = row_of(name, key)
    if lacking := row.needs - there:
        raise InputError(
            f"{key} = {name}: needs {', '.join(sorted(lacking))}, which {dataset.path} does not have"
        )
    return row


def lengths(settings: Evaluate, series: Series, qplot: QPlot) -> tuple[float, tuple[float, float]]:
    """Return the s of a Wiener filter and the band in Hz that is measured, on a store of such series and Q-plots.

    Raises `InputError` where its series are too short or too slow for them.
    """
    segment, band = (
        settings.segment or min(PERIODS / qplot.frange[0], qplot.span),
        settings.band or qplot.frange,
    )
    if segment > series.duration:
        raise InputError(
            f"evaluate.segment = {segment:g}: must be at most series.duration = {series.duration:g} s"
        )
    if not 0 < band[0] < band[1] <= series.sample_rate / 2:
        raise InputError(
            f"evaluate.band = [{band[0]:g}, {band[1]:g}]: must be 0 < low < high <= {series.sample_rate / 2:g} Hz,"
            " half of series.sample_rate"
        )
    return segment, band


def compare(
    dataset: Dataset, events: Indices, fit: Fit, rule: Rule | None, cluster: Cluster, whole: bool = True
) -> Scored:
    """Score what every method does to some events, ascending indices.

    rule: what a cluster is, where clusters are asked for; whole: False for those of what is recorded and generated
    alone, without what is left. Many events are shared out as tasks on a cluster, some of a shard each, and joined in
    their order, so that the result does not depend on how many CPUs there are.
    """
    say(f"{', '.join(fit.methods)}: {len(events)} events")
    comparison = Comparison(dataset, fit, rule, whole)
    parts, found = list(parts_of(dataset, events)), Gathered(events)
    if len(parts) > 1:
        job = Job(comparison.score, "scoring", comparison.memory.total)
        run_tasks(job, {part: len(part) for part in parts}, cluster, keep=found.put)
    else:
        found.put(parts[0], comparison.score(parts[0]))
    about = {name: dataset.events(name, events) for name in ("label", "gps", "snr")}
    return Scored(events, **about, loudness=found.loudness, columns=found.columns, covered=found.covered)


def parts_of(dataset: Dataset, events: Indices) -> Iterator[tuple[int, ...]]:
    """Share out events, ascending indices, as tasks: some of one shard each, or all in one where there are few."""
    if len(events) <= FEW:
        yield tuple(events.tolist())
        return
    shards = events // dataset.layout.shard
    for shard in np.unique(shards):
        mine = events[shards == shard]
        for start in range(0, len(mine), PART):
            yield tuple(mine[start : start + PART].tolist())


@dataclass(frozen=True)
class Part:
    """Holds every method's numbers for the events of a task; see `Scored`."""

    loudness: Array
    columns: dict[str, Columns]
    covered: dict[str, NDArray[np.uint8]]


@dataclass
class Gathered:
    """Puts the numbers of all parts together, as they come: of 10^6 events they are more than memory should hold."""

    events: Indices  # (E,) ascending
    loudness: Array = field(default_factory=lambda: np.zeros((0, 0)))
    columns: dict[str, Columns] = field(default_factory=dict)
    covered: dict[str, NDArray[np.uint8]] = field(default_factory=dict)

    def put(self, events: tuple[int, ...], part: Part) -> None:
        """Put the numbers of some of the events, ascending, in their place."""
        whole = len(self.events)
        if not self.columns:
            self.loudness = scratch((whole, part.loudness.shape[1]))
            for name, columns in part.columns.items():
                self.columns[name] = dict(zip(columns, scratch((len(columns), whole))))
            for name, where in part.covered.items():
                self.covered[name] = scratch((whole, where.shape[1]), where.dtype)
        first = int(np.searchsorted(self.events, events[0]))
        mine = slice(first, first + len(events))
        self.loudness[mine] = part.loudness
        for name, columns in part.columns.items():
            for column, values in columns.items():
                self.columns[name][column][mine] = values
        for name, where in part.covered.items():
            self.covered[name][mine] = where


@dataclass(frozen=True)
class Comparison:
    """Scores the events of a task: what is sent to every one of them."""

    dataset: Dataset
    fit: Fit
    rule: Rule | None
    whole: bool

    @property
    def memory(self) -> Memory:
        """Project the bytes that a task holds at most."""
        return scoring(Shape.stored(self.dataset), 1 + len(self.fit.witnesses), len(self.fit.methods))

    @property
    def block(self) -> int:
        """Count the events that methods see at once."""
        shape = Shape.stored(self.dataset)
        return block_events(1 + len(self.fit.witnesses), shape.image, shape.kept_samples)

    @cached_property
    def estimator(self) -> Estimator | None:
        """Build what masks are applied by; None where the store kept no series."""
        return estimator_of(self.dataset) if "series" in self.dataset else None

    def score(self, events: tuple[int, ...]) -> Part:
        """Return every method's numbers per event."""
        columns, covered = (
            defaultdict[str, list[Columns]](list),
            defaultdict[str, list[NDArray[np.uint8]]](list),
        )
        loud = []
        for start in range(0, len(events), self.block):
            some = np.array(events[start : start + self.block])
            block, recorded = read_block(
                self.dataset, some, self.fit.witnesses, self.estimator, self.fit.truth
            )
            loud.append(loudness(block.energies))
            same: Columns = {}
            if self.rule:
                same, where = levels.recorded_columns(recorded, self.rule)
                column = safety.loudest(recorded)
                same["loudest"] = column.astype(np.float64)
                covered[levels.RECORDED].append(where)
            for name, generated, found in self._found(block, recorded):
                if self.rule and generated is not None:
                    level, where = levels.generated_columns(generated, self.rule)
                    found |= level | {"answer": safety.answer(generated, column)}
                    covered[name].append(where)
                columns[name].append(found | same)
        return Part(
            np.concatenate(loud),
            {name: join(parts) for name, parts in columns.items()},
            {name: np.concatenate(parts) for name, parts in covered.items()},
        )

    def _found(self, block: Block, recorded: Energies) -> Iterator[tuple[str, Energies | None, Columns]]:
        """What each method generates, and the numbers of what it leaves."""
        if not self.whole:
            yield from ((name, generated, {}) for name, generated in expect(self.fit, block))
            return
        for name, made in make(self.fit, self.estimator, block, recorded):
            left = levels.cleaned_columns(made, self.rule) if self.rule else {}
            yield name, made.generated, measure(made) | left


def train_of(
    basis: Basis, threshold: float, subset: int | None, predictions: Mapping[str, Read], segment: float
) -> Train:
    """Read the train split that the network learned from, at most its first `subset` events; empty where it is gone.

    What no witness explains is left out, where that is known: it would teach what nothing can predict. segment: s of a
    Wiener filter.
    """
    training, none = basis.training, np.empty((0, len(basis.channels), 1, 1), np.float32)
    if training is None or not len(training.indices("train")):
        return Train(none[:, 1:], none[:, 0], np.full(1, NOISE_ENERGY), threshold, predictions=predictions)
    events = training.indices("train")[:subset]
    label = training.events("label", events)
    known = [0, *(training.labels.index(name) for name in training.witnessed_labels)]
    some = events[np.isin(label, known)] if training.witnessed_labels else events
    most = FIT_BYTES // (4 * math.prod(training["qplot"].shape[2:]))
    some = some[: max(1, min(FIT_EVENTS, most))]
    places = [training.channels.index(name) for name in basis.channels]
    strain = _clamped(training, some, places[:1])[:, 0]
    pixels = FIT_PIXELS // strain.shape[-1]
    seen = some[: max(1, min(pixels, most // len(places)))]
    witnessed = training.events("witnessed", some) if "witnessed" in training else None
    floor = skill.floor(strain, witnessed, training.events("label", some))
    series = None
    if "series" in training:
        derived = {item.name for item in training.config.derived}
        names = basis.channels[1:]
        recorded = [place for place, name in enumerate(names) if name not in derived]
        series = method.Series(training, events, names, recorded, segment)
    witnesses = _clamped(training, seen, places[1:])
    return Train(witnesses, strain, floor, threshold, series, predictions)


def _clamped(dataset: Dataset, events: Indices, places: list[int]) -> Energies:
    """Energies (E, C, F, T), at least 0, of some channels."""
    energy = dataset.events("qplot", events, places)
    return np.maximum(energy, 0, out=energy)


def facts(train: Train, dataset: Dataset) -> set[str]:
    """Name what there is for methods to be fitted to and applied to; see `Method.needs`."""
    series = train.series if "series" in dataset else None
    there = {
        "train": len(train.target) > 0,
        "truth": "witnessed" in dataset,
        "series": series is not None,
        "recorded": series is not None and len(series.recorded) > 0,
        "derived": series is not None and len(series.recorded) < len(series.witnesses),
        "couplings": series is not None and reference.told(series.dataset, dataset) is not None,
    }
    return {*train.predictions, *(name for name, known in there.items() if known)}
