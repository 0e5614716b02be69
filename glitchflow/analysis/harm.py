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

from glitchflow.analysis.collect import Sample, plain
from glitchflow.analysis.scores import share
from glitchflow.analysis.treat import Twin, as_twin, tapered
from glitchflow.config import Experiment
from glitchflow.data import store
from glitchflow.progress import say
from glitchflow.score import matched, metrics
from glitchflow.score.mask import removal_mask
from glitchflow.score.statistics import Interval
from glitchflow.signal.families import inspiral
from glitchflow.signal.simulate import SIGNALS, build_recipe, generator

Array = NDArray[np.float64]
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
    found = _scores(experiment, twin, sample.events, threshold)
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
    validation = dataset.indices("validation")[: experiment.loader.subset.validation]
    result["validation"] = [
        {"threshold": value, "excess_removed": asdict(tried.removed), "kept": tried.kept}
        for value in settings.thresholds
        for tried in [_scores(experiment, twin, validation, value)]
    ]
    result = plain(result)
    say(summary(result))
    return result


def summary(result: dict[str, Any]) -> str:
    """A line for the events scored, and one for each threshold tried on the validation split."""
    lines = [_line("scored events", result["mask"]["threshold"], result)]
    lines += [_line("validation", entry["threshold"], entry) for entry in result["validation"]]
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


def _scores(experiment: Experiment, twin: Twin, events: NDArray[np.int64], threshold: float) -> _Scores:
    dataset = twin.dataset
    transient = _transients(twin)
    unwitnessed = [name for name in dataset.labels[1:] if transient and name not in _glitches(dataset)]
    kept: dict[str, list[Array]] = {name: [] for name in (ALONE, GLITCHES, *unwitnessed)}
    excess = []
    for block in _blocks(twin, events):
        mask = removal_mask(twin.generated(block.events), threshold)
        removed = tapered(twin, block.events, block.strain, mask)
        excess.append(_excess(twin, block, removed))
        for name, some in _groups(dataset, block, (ALONE, GLITCHES)):
            for number in range(experiment.harm.signals):
                signal, psd = _signals(experiment, twin, block, some, number)
                again = tapered(twin, block.events[some], block.strain[some] + signal, mask[some])
                kept[name].append(_kept(twin, signal, signal - (again - removed[some]), psd))
        for name, some in _groups(dataset, block, unwitnessed):
            assert transient is not None
            signal = np.stack([transient(i) for i in block.events[some].tolist()])
            without = tapered(twin, block.events[some], block.strain[some] - signal, mask[some])
            psd = matched.noise_psd(block.strain[some], twin.made.series.sample_rate)
            kept[name].append(_kept(twin, signal, signal - (removed[some] - without), psd))
    return _Scores(
        _join(excess).removed(experiment.seed, experiment.evaluate.bootstrap),
        {name: _quantiles(np.concatenate([np.empty(0), *parts])) for name, parts in kept.items()},
    )


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


def _kept(twin: Twin, signal: Array, left: Array, psd: Array) -> Array:
    made = twin.made
    return matched.kept(signal, left, psd, made.series.sample_rate, made.qplot.frange)


def _quantiles(kept: Array) -> dict[str, Any]:
    median, low = np.quantile(kept, [0.5, 0.01]) if len(kept) else (None, None)
    return {"median": median, "p01": low, "events": len(kept)}


# -- signals -----------------------------------------------------------------------------------------------------


def _signals(
    experiment: Experiment, twin: Twin, block: Block, some: NDArray[np.int64], number: int
) -> tuple[Array, Array]:
    """The `number`th signal of each event at places `some`, in units of strain, and the events' PSDs (E, K)."""
    settings, series = experiment.harm, twin.made.series
    psd = matched.noise_psd(block.strain[some], series.sample_rate)
    time = np.arange(series.samples) / series.sample_rate - series.duration / 2
    signals, wanted = np.empty((len(some), series.samples)), np.empty(len(some))
    for i, event in enumerate(block.events[some].tolist()):
        rng = generator(experiment.seed, SIGNALS, event, number)
        mass, wanted[i] = (float(np.exp(rng.uniform(*np.log(r)))) for r in (settings.mass, settings.snr))
        middle = rng.uniform(-settings.reach, settings.reach)
        signals[i] = inspiral(time - middle, mass, rng.uniform(0, 2 * np.pi), settings.start)
    own = np.sqrt(matched.inner(signals, signals, psd, series.sample_rate, twin.made.qplot.frange))
    return signals * (wanted / own)[:, None], psd


def _transients(twin: Twin) -> Callable[[int], Array] | None:
    """An event's transient as the strain saw it, (N,), where the recipe knows it."""
    if twin.dataset.attributes["source"] != "simulate":
        return None
    recipe = build_recipe(twin.made)
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
