"""Do no harm: how much of a glitch, and how little of a signal, the cleaning takes away, at one mask setting.

Compact-binary signals are added to the strain alone, before it is whitened and cleaned; the witnesses, and with them
the generated energies, stay as they are. What is left of a signal is the cleaned strain with it minus the cleaned
strain without it, matched-filtered with the signal itself: no property of the cleaning is taken for granted.

Shapes: E event, N sample of its series, F frequency and T time of its Q-plot.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.analysis.opened import Opened
from glitchflow.config import Harm
from glitchflow.data.store import Dataset
from glitchflow.data.view import read_series
from glitchflow.methods.table import NETWORK
from glitchflow.progress import say
from glitchflow.score import matched, metrics
from glitchflow.score.mask import removal_mask
from glitchflow.score.sample import Scored
from glitchflow.score.table import Bootstrap, plain, share
from glitchflow.signal.simulation.families import inspiral
from glitchflow.signal.simulation.recipe import build_recipe
from glitchflow.signal.streams import SIGNALS, generator
from glitchflow.signal.types import Array, Energies
from glitchflow.twin.estimate import Estimator, Shown, estimator_of, shown_of

Transients = Callable[[int], Array]
ALONE, GLITCHES = "alone", "on_glitches"


@dataclass(frozen=True)
class Trial:
    """Says what is injected, the mask that is judged, and how intervals are made."""

    harm: Harm
    threshold: float  # clean.threshold
    interval: Bootstrap


@dataclass(frozen=True)
class Block:
    """Holds some events of a split: their strain, and what is known about them."""

    events: NDArray[np.int64]  # (E,)
    label: NDArray[np.int8]
    strain: Array  # (E, N)
    shown: list[Shown]
    recorded: Energies  # (E, F, T)
    witnessed: Energies | None


@dataclass(frozen=True)
class Treated:
    """Holds a dataset whose events are treated: what `measure` opened and built once."""

    run: Opened
    estimator: Estimator
    transient: Transients | None  # an event's transient as the strain saw it, (N,), where the recipe knows it

    @property
    def glitches(self) -> list[str]:
        """Name the families that cleaning is for: the witnessed ones, and of recorded data all."""
        return self.run.dataset.witnessed_labels or self.run.dataset.labels[1:]

    @property
    def unwitnessed(self) -> list[str]:
        """Name the families that cleaning should leave alone, where the recipe knows their transients."""
        labels = self.run.dataset.labels[1:]
        return [name for name in labels if self.transient and name not in self.glitches]


def measure(run: Opened, sample: Scored, trial: Trial, validation: NDArray[np.int64]) -> dict[str, Any]:
    """Measure the scores of a sample of events, beside the Wiener filter's, and of other thresholds on `validation`
    events.

    The dataset must hold `series`.
    """
    treated = Treated(run, estimator_of(run.dataset), _transients(run.dataset))
    settings, threshold = trial.harm, trial.threshold
    say(f"do no harm: {settings.signals} signals in each of {len(sample.events)} events")
    (found,) = _scores(treated, trial, sample.events, [threshold])
    result: dict[str, Any] = {
        "mask": {"threshold": threshold},
        "signals": settings.model_dump(mode="json", exclude={"thresholds"}),
        **found,
        # a prediction from witnesses alone is the same with and without a signal in the strain
        "wiener_kept": {
            name: entry | {"median": 1.0, "p01": 1.0} if entry["events"] else entry
            for name, entry in found["kept"].items()
        },
    }
    if settings.thresholds:
        tried = _scores(treated, trial, validation, settings.thresholds)
        result["validation"] = [
            {"threshold": value, **scores} for value, scores in zip(settings.thresholds, tried)
        ]
    result = plain(result)
    say(summary(result))
    return result


def summary(result: dict[str, Any]) -> str:
    """Write a line for the events scored, and one for each threshold tried on the validation split."""
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
class _Case:
    """Signals in some events of a block: with `sign` 1 they are added to the strain, with -1 they are in it already."""

    group: str
    some: NDArray[np.int64]  # places in the block
    signal: Array
    psd: Array
    sign: int


def _scores(
    treated: Treated, trial: Trial, events: NDArray[np.int64], thresholds: list[float]
) -> list[dict[str, Any]]:
    """What is removed of glitches and kept of signals at each threshold; the series are read once."""
    groups = (ALONE, GLITCHES, *treated.unwitnessed)
    kept: list[dict[str, list[Array]]] = [{name: [] for name in groups} for _ in thresholds]
    excess: list[list[metrics.Excess]] = [[] for _ in thresholds]
    for block in _blocks(treated, events):
        generated = treated.run.generated[NETWORK](block.events)
        cases = list(_cases(treated, trial, block))
        for i, threshold in enumerate(thresholds):
            mask = removal_mask(generated, threshold)
            removed = treated.estimator.tapered(block.strain, mask, block.shown)
            excess[i].append(_excess(treated, block, removed))
            for case in cases:
                kept[i][case.group].append(_kept(treated, block, case, mask, removed))
    return [
        {
            "excess_removed": asdict(_join(parts).removed(*trial.interval)),
            "kept": {name: _quantiles(np.concatenate([np.empty(0), *v])) for name, v in by_group.items()},
        }
        for parts, by_group in zip(excess, kept)
    ]


def _cases(treated: Treated, trial: Trial, block: Block) -> Iterator[_Case]:
    for name, some in _groups(treated, block, (ALONE, GLITCHES)):
        psd = matched.noise_psd(block.strain[some], treated.estimator.engine.sample_rate)
        for number in range(trial.harm.signals):
            signal = _signals(treated, trial, block.events[some], psd, number)
            yield _Case(name, some, signal, psd, 1)
    for name, some in _groups(treated, block, treated.unwitnessed):
        assert treated.transient is not None
        signal = np.stack([treated.transient(i) for i in block.events[some].tolist()])
        yield _Case(
            name,
            some,
            signal,
            matched.noise_psd(block.strain[some], treated.estimator.engine.sample_rate),
            -1,
        )


def _kept(treated: Treated, block: Block, case: _Case, mask: Energies, removed: Array) -> Array:
    """Share of the signals' SNR that is in the cleaned strain with them, minus the cleaned strain without them."""
    some, shown = case.some, [block.shown[place] for place in case.some.tolist()]
    again = treated.estimator.tapered(block.strain[some] + case.sign * case.signal, mask[some], shown)
    left, made = case.signal - case.sign * (again - removed[some]), treated.run.dataset.config
    return matched.kept(case.signal, left, case.psd, made.series.sample_rate, made.qplot.frange)


def _blocks(treated: Treated, events: NDArray[np.int64]) -> Iterator[Block]:
    dataset, size = treated.run.dataset, treated.estimator.block
    for start in range(0, len(events), size):
        some = events[start : start + size]
        yield Block(
            events=some,
            label=dataset.events("label", some),
            strain=read_series(dataset, some, dataset.channels[:1])[:, 0],
            shown=shown_of(dataset, some),
            recorded=np.maximum(dataset.events("qplot", some)[:, 0], 0),
            witnessed=dataset.events("witnessed", some) if "witnessed" in dataset else None,
        )


def _groups(treated: Treated, block: Block, names: Sequence[str]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Places in a block of the events that belong to each group that has any there."""
    labels = treated.run.dataset.labels
    number = {name: [i] for i, name in enumerate(labels)}
    number |= {ALONE: [0], GLITCHES: [labels.index(name) for name in treated.glitches]}
    for name in names:
        some = np.flatnonzero(np.isin(block.label, number[name]))
        if len(some):
            yield name, some


def _excess(treated: Treated, block: Block, removed: Array) -> metrics.Excess:
    """Energy above noise of the glitches, before and after, in the recorded strain's own whitening and units."""
    glitches = dict(_groups(treated, block, [GLITCHES]))
    if not glitches:
        return metrics.Excess(np.empty(0), np.empty(0), np.empty(0, np.int64))
    some = glitches[GLITCHES]
    strain = block.strain[some]
    left = treated.estimator.engine(strain[:, None], companion=strain - removed[some]).companion
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


def _signals(treated: Treated, trial: Trial, events: NDArray[np.int64], psd: Array, number: int) -> Array:
    """The `number`th signal of each event, in units of strain: (E, N). psd: (E, K)."""
    settings, series = trial.harm, treated.run.dataset.config.series
    time = np.arange(series.samples) / series.sample_rate - series.duration / 2
    signals, wanted = np.empty((len(events), series.samples)), np.empty(len(events))
    for i, event in enumerate(events.tolist()):
        rng = generator(trial.interval.seed, SIGNALS, event, number)
        mass, wanted[i] = (float(np.exp(rng.uniform(*np.log(r)))) for r in (settings.mass, settings.snr))
        middle = rng.uniform(-settings.reach, settings.reach)
        signals[i] = inspiral(time - middle, mass, rng.uniform(0, 2 * np.pi), settings.start)
    own = np.sqrt(
        matched.inner(signals, signals, psd, series.sample_rate, treated.run.dataset.config.qplot.frange)
    )
    return signals * (wanted / own)[:, None]


def _transients(dataset: Dataset) -> Transients | None:
    """An event's transient as the strain saw it, (N,), where the recipe knows it."""
    if dataset.source != "simulate":
        return None
    made = dataset.config
    recipe = build_recipe(made.simulate, made.series, made.derived, made.seed)
    if recipe.event(0).transient is None:
        return None

    def transient(index: int) -> Array:
        found = recipe.event(index).transient
        assert found is not None
        return found

    return transient
