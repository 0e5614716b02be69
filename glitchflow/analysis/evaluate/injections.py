"""Do no harm: how much of a glitch, and how little of a signal, the cleaning takes away, at one mask setting.

Compact-binary signals are added to the strain alone, before it is whitened and cleaned; the witnesses, and with them
the generated energies, stay as they are. What is left of a signal is the cleaned strain with it minus the cleaned
strain without it, matched-filtered with the signal itself: no property of the cleaning is taken for granted.

Shapes: E event, N sample of its series, F frequency and T time of its Q-plot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.analysis.clean.subtraction import Twin, as_twin, tapered
from glitchflow.analysis.evaluate.event_scores import share
from glitchflow.analysis.evaluate.scored import Sample, plain
from glitchflow.config import Experiment
from glitchflow.data.store import dataset as store
from glitchflow.progress import say
from glitchflow.score import matched, metrics
from glitchflow.score.mask import removal_mask
from glitchflow.score.statistics import Interval
from glitchflow.signal.simulation.families import inspiral
from glitchflow.signal.simulation.recipe import build_recipe
from glitchflow.signal.streams import SIGNALS, generator

Array = NDArray[np.float64]
Transients = Callable[[int], Array]
ALONE, GLITCHES = "alone", "on_glitches"


@dataclass(frozen=True)
class Block:
    """Some events of a split: their series, and what is known about them."""

    events: NDArray[np.int64]  # (E,)
    label: NDArray[np.int8]
    series: Array  # (E, C, N)
    recorded: NDArray[np.float32]  # (E, F, T)
    witnessed: NDArray[np.float32] | None

    @property
    def strain(self) -> Array:
        return self.series[:, 0]


def measure(
    experiment: Experiment,
    dataset: store.Dataset,
    predictions: store.Dataset,
    sample: Sample,
) -> dict[str, Any]:
    """The scores of a sample of events, beside the Wiener filter's, and of other thresholds on the validation split.

    The dataset must hold `series`.
    """
    twin, settings = as_twin(dataset, predictions), experiment.harm
    threshold = experiment.clean.threshold
    say(f"do no harm: {settings.signals} signals in each of {len(sample.events)} events")
    (found,) = _scores(experiment, twin, sample.events, [threshold])
    result: dict[str, Any] = {
        "mask": {"threshold": threshold},
        "signals": settings.model_dump(mode="json", exclude={"thresholds"}),
        "excess_removed": asdict(found.removed),
        "kept": found.kept,
        # a prediction from witnesses alone is the same with and without a signal in the strain
        "wiener_excess_removed": None,
        "wiener_kept": {
            name: entry | {"median": 1.0, "p01": 1.0} if entry["events"] else entry
            for name, entry in found.kept.items()
        },
    }
    wiener = _wiener_removed(experiment, dataset, sample)
    if wiener is not None:
        result["wiener_excess_removed"] = asdict(wiener)
    if settings.thresholds:
        validation = dataset.indices("validation")[: experiment.loader.subset.validation]
        tried = _scores(experiment, twin, validation, settings.thresholds)
        result["validation"] = [
            {"threshold": value, "excess_removed": asdict(scores.removed), "kept": scores.kept}
            for value, scores in zip(settings.thresholds, tried)
        ]
    result = plain(result)
    say(summary(result))
    return result


def summary(result: dict[str, Any]) -> str:
    """A line for the events scored, and one for each threshold tried on the validation split."""
    lines = [_line("scored events", result["mask"]["threshold"], result)]
    lines += [_line("validation", entry["threshold"], entry) for entry in result.get("validation", [])]
    return "\n".join(lines)


def _line(split: str, threshold: float, entry: dict[str, Any]) -> str:
    kept = ", ".join(
        f"{name} {row['median']:.2%} (1st percentile {row['p01']:.1%}, {row['events']})"
        for name, row in entry["kept"].items()
        if row["events"]
    )
    removed = share(entry["excess_removed"])
    return (
        f"  {split}, clean.threshold {threshold:g}: excess power removed {removed}; SNR kept: {kept or '–'}"
    )


# -- scores of one threshold -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scores:
    removed: Interval
    kept: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class _Case:
    """Signals in some events of a block: with `sign` 1 they are added to the strain, with -1 they are in it already."""

    group: str
    some: NDArray[np.int64]  # places in the block
    signal: Array
    psd: Array
    sign: int


def _scores(
    experiment: Experiment, twin: Twin, events: NDArray[np.int64], thresholds: list[float]
) -> list[_Scores]:
    """Scores at each threshold; the series are read once."""
    transient = _transients(twin)
    unwitnessed = [n for n in twin.dataset.labels[1:] if transient and n not in _glitches(twin.dataset)]
    kept: list[dict[str, list[Array]]] = [
        {name: [] for name in (ALONE, GLITCHES, *unwitnessed)} for _ in thresholds
    ]
    excess: list[list[metrics.Excess]] = [[] for _ in thresholds]
    for block in _blocks(twin, events):
        generated = twin.generated(block.events)
        cases = list(_cases(experiment, twin, block, unwitnessed, transient))
        for i, threshold in enumerate(thresholds):
            mask = removal_mask(generated, threshold)
            removed = tapered(twin, block.events, block.strain, mask)
            excess[i].append(_excess(twin, block, removed))
            for case in cases:
                kept[i][case.group].append(_kept(twin, block, case, mask, removed))
    interval = (experiment.seed, experiment.evaluate.bootstrap)
    return [
        _Scores(
            _join(parts).removed(*interval),
            {name: _quantiles(np.concatenate([np.empty(0), *values])) for name, values in by_group.items()},
        )
        for parts, by_group in zip(excess, kept)
    ]


def _cases(
    experiment: Experiment, twin: Twin, block: Block, unwitnessed: list[str], transient: Transients | None
) -> Iterator[_Case]:
    for name, some in _groups(twin.dataset, block, (ALONE, GLITCHES)):
        psd = matched.noise_psd(block.strain[some], twin.made.series.sample_rate)
        for number in range(experiment.harm.signals):
            yield _Case(name, some, _signals(experiment, twin, block.events[some], psd, number), psd, 1)
    for name, some in _groups(twin.dataset, block, unwitnessed):
        assert transient is not None
        signal = np.stack([transient(i) for i in block.events[some].tolist()])
        psd = matched.noise_psd(block.strain[some], twin.made.series.sample_rate)
        yield _Case(name, some, signal, psd, -1)


def _kept(twin: Twin, block: Block, case: _Case, mask: NDArray[np.float32], removed: Array) -> Array:
    """Share of the signals' SNR that is in the cleaned strain with them, minus the cleaned strain without them."""
    some, made = case.some, twin.made
    other = block.strain[some] + case.sign * case.signal
    again = tapered(twin, block.events[some], other, mask[some])
    left = case.signal - case.sign * (again - removed[some])
    return matched.kept(case.signal, left, case.psd, made.series.sample_rate, made.qplot.frange)


def _blocks(twin: Twin, events: NDArray[np.int64]) -> Iterator[Block]:
    names = ["label", "series", "qplot", *(["witnessed"] if "witnessed" in twin.dataset else [])]
    for start in range(0, len(events), twin.block):
        for found, values in twin.dataset.blocks(events[start : start + twin.block], *names):
            label, series, qplot, *witnessed = values
            recorded = np.maximum(qplot[:, 0], 0)
            yield Block(found, label, series, recorded, witnessed[0] if witnessed else None)


def _glitches(dataset: store.Dataset) -> list[str]:
    """The families that cleaning is for: the witnessed ones, and of recorded data all."""
    return dataset.attributes["witnessed_labels"] or dataset.labels[1:]


def _groups(
    dataset: store.Dataset, block: Block, names: tuple[str, ...] | list[str]
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Places in a block of the events that belong to each group that has any there."""
    number = {name: [i] for i, name in enumerate(dataset.labels)}
    number |= {ALONE: [0], GLITCHES: [dataset.labels.index(name) for name in _glitches(dataset)]}
    for name in names:
        some = np.flatnonzero(np.isin(block.label, number[name]))
        if len(some):
            yield name, some


def _excess(twin: Twin, block: Block, removed: Array) -> metrics.Excess:
    """Energy above noise of the glitches, before and after, in the recorded strain's own whitening and units."""
    labels = [twin.dataset.labels.index(name) for name in _glitches(twin.dataset)]
    some = np.flatnonzero(np.isin(block.label, labels))
    if not len(some):
        return metrics.Excess(np.empty(0), np.empty(0), np.empty(0, np.int64))
    strain = block.strain[some]
    left = twin.engine(strain[:, None], companion=strain - removed[some]).companion
    assert left is not None
    witnessed = None if block.witnessed is None else block.witnessed[some]
    return metrics.residual_power(block.recorded[some], left.numpy(), witnessed)


def _join(parts: list[metrics.Excess]) -> metrics.Excess:
    fields = ((p.before, p.after, p.pixels) for p in parts)
    before, after, pixels = zip(*fields) if parts else ([np.empty(0)],) * 3
    return metrics.Excess(np.concatenate(before), np.concatenate(after), np.concatenate(pixels))


def _quantiles(kept: Array) -> dict[str, Any]:
    median, low = np.quantile(kept, [0.5, 0.01]) if len(kept) else (None, None)
    return {"median": median, "p01": low, "events": len(kept)}


# -- signals -----------------------------------------------------------------------------------------------------


def _signals(experiment: Experiment, twin: Twin, events: NDArray[np.int64], psd: Array, number: int) -> Array:
    """The `number`th signal of each event, in units of strain: (E, N). psd: (E, K)."""
    settings, series = experiment.harm, twin.made.series
    time = np.arange(series.samples) / series.sample_rate - series.duration / 2
    signals, wanted = np.empty((len(events), series.samples)), np.empty(len(events))
    for i, event in enumerate(events.tolist()):
        rng = generator(experiment.seed, SIGNALS, event, number)
        mass, wanted[i] = (float(np.exp(rng.uniform(*np.log(r)))) for r in (settings.mass, settings.snr))
        middle = rng.uniform(-settings.reach, settings.reach)
        signals[i] = inspiral(time - middle, mass, rng.uniform(0, 2 * np.pi), settings.start)
    own = np.sqrt(matched.inner(signals, signals, psd, series.sample_rate, twin.made.qplot.frange))
    return signals * (wanted / own)[:, None]


def _transients(twin: Twin) -> Transients | None:
    """An event's transient as the strain saw it, (N,), where the recipe knows it."""
    if twin.dataset.attributes["source"] != "simulate":
        return None
    recipe = build_recipe(twin.made.simulate, twin.made.series, twin.made.derived, twin.made.seed)
    if recipe.event(0).transient is None:
        return None

    def transient(index: int) -> Array:
        found = recipe.event(index).transient
        assert found is not None
        return found

    return transient


# -- the classical subtraction beside it -------------------------------------------------------------------------


def _wiener_removed(experiment: Experiment, dataset: store.Dataset, sample: Sample) -> Interval | None:
    """Excess power that the Wiener filter removes: that of all witnesses, derived channels among them."""
    name = next((n for n in ("wiener + derived", "wiener") if n in sample.residual), None)
    if name is None:
        return None
    some = np.isin(sample.label, [dataset.labels.index(family) for family in _glitches(dataset)])
    excess = metrics.residual_power(sample.recorded, sample.residual[name], sample.witnessed)
    return excess.of(some).removed(experiment.seed, experiment.evaluate.bootstrap)
