"""Signals survive: what every method leaves of signals that are added to the strain, in one exam for all of them.

    1. which glitches can hold a signal, with more than half of its SNR^2 where witnesses explain something
    2. compact binaries on those glitches, as many more in quiet events; and glitches that no witness sees, as they are
    3. what each method leaves of each, and what a search would say of it: signals.py

What a method makes of the witnesses stays as it is, for signals are in the strain alone: a mask takes its share of a
signal, and a series predicted from witnesses takes nothing; a method that looks at the strain is asked again. Signals
are the same for every method, and an event's depend on the seed and its index alone.

Shapes: E event, S signal of an event, M method, F frequency and T time of a Q-plot, N sample.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from glitchflow.analysis.evaluate import signals
from glitchflow.analysis.evaluate.signals import BANK, VERDICT, Heard
from glitchflow.config import Cluster, Harm
from glitchflow.data.build import Job, run_tasks
from glitchflow.data.scratch import scratch
from glitchflow.data.store import Dataset
from glitchflow.errors import InputError
from glitchflow.methods.compare import Comparison, parts_of
from glitchflow.methods.method import Block, Fit
from glitchflow.methods.treat import Taken, alone, ask, read_block, take
from glitchflow.progress import say
from glitchflow.score import matched
from glitchflow.score.made import Columns
from glitchflow.score.metrics import NOISE_ENERGY
from glitchflow.signal.simulation.families import last_orbit
from glitchflow.signal.simulation.recipe import build_recipe
from glitchflow.signal.streams import SIGNALS, generator
from glitchflow.signal.types import Array, Flags, Indices
from glitchflow.twin.estimate import Estimator, estimator_of

TRIES = 8  # masses drawn for a first signal before its glitch counts as one that holds none
MORE_TRIES = 64  # for the others on a glitch that holds one
AT_ONCE = 64  # signals of a task, about: a second or two of a core
UNKNOWN = np.array([np.nan])  # the mass of a transient, which is in no bank
Part = tuple[int, ...]  # events of a task


def examine(
    dataset: Dataset, settings: Harm, seed: int, cluster: Cluster, events: Indices, fit: Fit
) -> dict[str, Columns]:
    """Examine every method by signals in some events, ascending indices.

    Returns by method the columns `VERDICT`, (E, S) each, NaN where an event has fewer signals; see `signals.examine`.
    Nothing where the dataset holds no series, or no signals are asked for. Raises `InputError` for signals that no
    Q-plot shows.
    """
    if "series" not in dataset or not settings.signals:
        return {}
    in_band(settings, dataset.config.qplot.frange)
    exam = Exam(dataset, fit, settings, seed)
    label = dataset.events("label", events)
    able = exam.over(exam.able, events[np.isin(label, exam.glitches)], cluster, "placing signals")
    holders = [event for part in able for event in part]
    quiet = events[label == 0].tolist()
    counts = dict.fromkeys(events[np.isin(label, exam.unwitnessed)].tolist(), 1)
    for some in (holders, quiet):
        counts |= dict.fromkeys(some, math.ceil(settings.signals / max(1, len(some))))
    say(
        f"{sum(counts[e] for e in holders)} signals on {len(holders)} glitches,"
        f" {sum(counts[e] for e in quiet)} in {len(quiet)} quiet events"
    )
    exam = replace(exam, counts=counts)
    found = exam.over(exam.examine, np.array(sorted(counts), np.int64), cluster, "examining signals")
    return _columns(events, fit, {event: verdicts for part in found for event, verdicts in part.items()})


def in_band(settings: Harm, frange: tuple[float, float]) -> None:
    """Check that signals sweep through some of the band, Hz. Raises `InputError` where they do not."""
    last = last_orbit(settings.mass[1])
    if settings.start >= frange[1]:
        raise InputError(
            f"harm.start = {settings.start:g}: must be below {frange[1]:g} Hz, the end of the store's qplot.frange;"
            " harm.signals=0 injects none"
        )
    if last <= frange[0]:
        raise InputError(
            f"harm.mass = [{settings.mass[0]:g}, {settings.mass[1]:g}]: the heaviest ends at {last:.3g} Hz, below the"
            f" store's qplot.frange = [{frange[0]:g}, {frange[1]:g}]"
        )


def _columns(events: Indices, fit: Fit, found: Mapping[int, Array]) -> dict[str, Columns]:
    """By method and name, from the verdicts (S, M, `VERDICT`) on the signals of each event that has any."""
    most = max((len(verdicts) for verdicts in found.values()), default=1)
    table = scratch((len(fit.methods), len(VERDICT), len(events), most))
    table[:] = np.nan
    for place, event in enumerate(events.tolist()):
        if event in found:
            table[:, :, place, : len(found[event])] = found[event].transpose(1, 2, 0)
    return {name: dict(zip(VERDICT, rows)) for name, rows in zip(fit.methods, table)}


@dataclass(frozen=True)
class Exam:
    """Examines the events of a task: what is sent to every one of them."""

    dataset: Dataset
    fit: Fit
    settings: Harm
    seed: int
    counts: Mapping[int, int] = field(default_factory=dict)  # signals of each event that has any

    @cached_property
    def estimator(self) -> Estimator:
        """Build what masks are applied by."""
        return estimator_of(self.dataset)

    @property
    def comparison(self) -> Comparison:
        """Say what is compared, for the size of its blocks."""
        return Comparison(self.dataset, self.fit, None, False)

    @property
    def glitches(self) -> list[int]:
        """Number the families that cleaning is for: the witnessed ones, and of recorded data all."""
        dataset = self.dataset
        return [dataset.labels.index(name) for name in dataset.witnessed_labels or dataset.labels[1:]]

    @property
    def unwitnessed(self) -> list[int]:
        """Number the families that cleaning should leave alone, where the recipe knows their transients."""
        known = self.transient is not None
        return [i for i in range(1, len(self.dataset.labels)) if known and i not in self.glitches]

    @cached_property
    def transient(self) -> Callable[[int], Array | None] | None:
        """Find an event's transient as the strain saw it, (N,); None where no recipe tells."""
        if self.dataset.source != "simulate":
            return None
        made = self.dataset.config
        recipe = build_recipe(made.simulate, made.series, made.derived, made.seed)
        return (
            (lambda event: recipe.event(event).transient) if recipe.event(0).transient is not None else None
        )

    def over(self, work: Callable[[Part], Any], events: Indices, cluster: Cluster, label: str) -> list[Any]:
        """Do some work on events, in tasks where they have many signals; returns what it made of each part of them."""
        parts = [some for part in parts_of(self.dataset, events) for some in self._shared_out(part)]
        if len(parts) < 2:
            return [work(part) for part in parts]
        job = Job(work, label, self.comparison.memory.total)
        return list(run_tasks(job, {part: len(part) for part in parts}, cluster).values())

    def _shared_out(self, events: Part) -> list[Part]:
        """Split events into parts of about `AT_ONCE` signals; one whose signals are not counted yet has one."""
        signals_of = np.array([self.counts.get(event, 1) for event in events])
        part = (np.cumsum(signals_of) - signals_of) // AT_ONCE
        return [tuple(np.array(events)[part == p].tolist()) for p in np.unique(part)]

    def able(self, events: Part) -> list[int]:
        """List the glitches that hold a signal."""
        found = []
        for block in self._blocks(events):
            for event, heard, pixels in zip(block.events.tolist(), self._heard(block), self._pixels(block)):
                if signals.place(heard, heard.inside(pixels), self.settings, self._random(event, 0), TRIES):
                    found.append(event)
        return found

    def examine(self, events: Part) -> dict[int, Array]:
        """Return the verdicts (S, M, `VERDICT`) on the signals of each event."""
        found = {}
        for block in self._blocks(events):
            asked = ask(self.fit, block)
            for place, (heard, pixels) in enumerate(zip(self._heard(block), self._pixels(block))):
                event, treat = int(block.events[place]), self._treatment(block, place, asked, heard)
                verdicts = np.full((self.counts[event], len(asked), len(VERDICT)), np.nan)
                for number, (bank, ratios) in enumerate(self._signals(event, heard, pixels)):
                    verdicts[number] = 1, 0, 0, ratios[0] - 1, 0  # of what takes nothing away
                    taken = {m: part for m, part in treat(bank[0]).items() if part.any()}
                    if taken:
                        parts = np.stack(list(taken.values()))
                        verdicts[number, list(taken)] = signals.examine(heard, bank, ratios, parts)
                found[event] = verdicts
        return found

    def _treatment(
        self, block: Block, place: int, asked: dict[str, Taken], heard: Heard
    ) -> Callable[[Array], dict[int, Array]]:
        """Find what methods, by place, take (N,) of a signal (N,) in an event: those that can take any.

        What a method of series makes of the witnesses alone is the same with a signal as without. One that looks at the
        strain is asked again.
        """
        masks = {m: one.mask[place] for m, one in enumerate(asked.values()) if one.mask is not None}
        masks = {m: mask for m, mask in masks.items() if mask.any()}
        tiles = heard.tiles(np.stack(list(masks.values()))) if masks else []
        names = [
            name for name, row in self.fit.methods.items() if not row.seeing and asked[name].mask is None
        ]
        looking = replace(self.fit, methods={name: self.fit.methods[name] for name in names})

        def taken(signal: Array) -> dict[int, Array]:
            found = dict(zip(masks, heard.taken(signal, tiles))) if masks else {}
            again = ask(looking, alone(block, place, heard.strain + signal)) if names else {}
            for name, one in again.items():
                before = asked[name].series
                assert one.series is not None and before is not None, "it has no mask"
                found[list(asked).index(name)] = one.series[0] - before[place]
            return found

        return taken

    def _signals(self, event: int, heard: Heard, pixels: Flags) -> Iterator[tuple[Array, Array]]:
        """Each signal of an event with its bank, (B, N), and the masses in it over the signal's."""
        label = int(self.dataset["label"][event])
        if label in self.unwitnessed:
            assert self.transient is not None
            transient = self.transient(event)
            assert transient is not None, "its recipe tells of every event or of none"
            yield transient[None], UNKNOWN
            return
        inside = heard.inside(pixels)
        for number in range(self.counts[event]):
            rng = self._random(event, number)
            signal = (
                signals.place(heard, inside, self.settings, rng, MORE_TRIES)
                if label in self.glitches
                else signals.draw(self.settings, rng)
            )
            if signal:
                bank = signal.bank(heard.time, self.settings.start)
                spectrum = heard.spectra(bank[0])
                yield bank * (signal.snr / np.sqrt(matched.inner(spectrum, spectrum))), BANK

    def _random(self, event: int, number: int) -> np.random.Generator:
        return generator(self.seed, SIGNALS, event, number)

    def _blocks(self, events: Part) -> Iterator[Block]:
        step = self.comparison.block
        for start in range(0, len(events), step):
            some = np.array(events[start : start + step])
            yield read_block(self.dataset, some, self.fit.witnesses, self.estimator, self.fit.truth)[0]

    def _heard(self, block: Block) -> Iterator[Heard]:
        assert block.strain is not None, "the exam is of datasets with series"
        return (Heard(self.estimator, strain, shown) for strain, shown in zip(block.strain, block.shown))

    def _pixels(self, block: Block) -> Flags:
        """Pixels (E, F, T) that signals are to lie in: where witnesses explain as much as noise has; where nobody
        knows, where any method that looks at them takes as much away."""
        if block.truth is not None:
            return block.truth.energies >= NOISE_ENERGY
        assert block.seen is not None, "the exam is of datasets with series"
        looking = [name for name, method in self.fit.methods.items() if not method.blind]
        taken = take(self.fit, self.estimator, block)
        series = [one.series for name, one in taken.items() if name in looking and one.series is not None]
        energies = block.seen.energies(block.seen.whiten(np.stack(series, axis=1)))
        return np.asarray((energies >= NOISE_ENERGY).any(axis=1))
