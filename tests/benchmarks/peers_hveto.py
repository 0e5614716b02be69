"""What hveto's rounds veto of a stretch, beside our vetoes; see peers.py.

    Q-plots -> triggers of each channel -> hveto chooses rounds on the train split -> vetoes of the test split

Shapes: C channel (the strain first), T trigger, V veto segment, R round.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import challenge
import numpy as np
from numpy.typing import NDArray
from peers_home import Home, NotRun, Said
from scipy.ndimage import label, maximum_position

from glitchflow.analysis.evaluate import veto_scores
from glitchflow.config import Evaluate, Loader, Veto
from glitchflow.data.store import Dataset, open_store
from glitchflow.data.view import axes, column_edges
from glitchflow.methods.compare import Comparison, basis_of, lengths, parts_of, train_of
from glitchflow.methods.method import Fit
from glitchflow.methods.table import METHODS
from glitchflow.score import segments, vetoes
from glitchflow.score.levels import RECORDED, Levels, Rule
from glitchflow.score.sample import join
from glitchflow.score.statistics import Bootstrap
from glitchflow.score.table import plain
from glitchflow.signal.types import NOISE_ENERGY, Array, Indices

OURS = ("loudest_witness", "linear", "wiener_mask")
LEAST = 5.5  # SNR of a trigger: below it noise has them, and hveto's own lowest threshold is 6
BLOCK = 64  # events whose Q-plots are in memory at once
DEADTIMES = {"0.1": 0.001, "1": 0.01}


@dataclass(frozen=True)
class Triggers:
    """Times in GPS s, frequencies in Hz, SNR and channels of triggers, (T,) each."""

    time: Array
    frequency: Array
    snr: Array
    channel: Array


def peaks(energy: NDArray[np.float32]) -> tuple[Indices, Array]:
    """The loudest pixel (event, channel, frequency, time) of each cluster of energies (E, C, F, T), (K, 4), and its SNR
    (K,) as Omicron's: sqrt(2 E / mean of noise - 2)."""
    least, places = (LEAST**2 + 2) / 2 * NOISE_ENERGY, []
    for event, channel in np.argwhere((energy >= least).any(axis=(2, 3))):
        image = energy[event, channel]
        marked, count = label(image >= least, np.ones((3, 3)))
        found = maximum_position(image, marked, range(1, count + 1))
        places += [(event, channel, row, column) for row, column in found]
    at = np.array(places, int).reshape(-1, 4)
    return at, np.sqrt(2 * energy[tuple(at.T)].astype(np.float64) / NOISE_ENERGY - 2)


def triggers_of(dataset: Dataset, split: str) -> Triggers:
    """The triggers of a split's Q-plots, of recorded channels: what is derived from them is not hveto's."""
    events, names = dataset.indices(split), dataset.channels
    derived = {item.name for item in dataset.config.derived}
    places = np.array([k for k, name in enumerate(names) if name not in derived])
    frequency, parts = axes(dataset, 0)[0], []
    for start in range(0, len(events), BLOCK):
        some = events[start : start + BLOCK]
        (event, channel, row, column), snr = (
            part.T for part in peaks(dataset.events("qplot", some, places.tolist()))
        )
        edges = column_edges(dataset, some)
        middle = (edges[event, column] + edges[event, column + 1]) / 2
        parts.append((middle, frequency[row], snr, places[channel]))
    return Triggers(*(np.concatenate(part) for part in zip(*parts)))


@dataclass(frozen=True)
class Rounds:
    """What hveto chose: of each round the channel that won, its window in s and least SNR, (R,) each."""

    winner: Array
    window: Array
    least: Array

    def spans(self, triggers: Triggers, first: int) -> Array:
        """The spans (V, 2) in GPS s that the first so many rounds veto."""
        found = [np.zeros((0, 2))]
        for winner, window, least in zip(self.winner[:first], self.window, self.least):
            at = triggers.time[(triggers.channel == winner) & (triggers.snr >= least)]
            found.append(np.stack([at - window / 2, at + window / 2], axis=1))
        return np.concatenate(found)


@dataclass(frozen=True)
class Split:
    """A split of a stretch as vetoes are judged on it."""

    judged: veto_scores.Judged
    triggers: Triggers

    def vetoed(self, rounds: Rounds, first: int) -> Array:
        """The veto segments (V, 2), apart and ascending, of the first so many rounds."""
        return segments.ends(segments.joined(rounds.spans(self.triggers, first)) & self.judged.watch.known)

    def tally(self, rounds: Rounds, first: int) -> vetoes.Tally:
        """What the first so many rounds cover of it."""
        return vetoes.tally(self.vetoed(rounds, first), self.judged.watch)


@dataclass(frozen=True)
class Stretch:
    """A dataset whose windows lie side by side in a stretch, and our methods on it."""

    dataset: Dataset
    rule: Rule

    @cached_property
    def comparison(self) -> Comparison:
        """Our methods, fitted."""
        basis, settings = basis_of(self.dataset, Loader()), Evaluate()
        length, band = lengths(settings, self.dataset.config.series, self.dataset.config.qplot)
        train = train_of(basis, 0.0, None, {}, length)
        rows = {name: METHODS[name] for name in OURS}
        fit = Fit(rows, {n: row.fit(train) for n, row in rows.items()}, basis.channels[1:], train.floor, band)
        return Comparison(self.dataset, fit, self.rule, False)

    def split(self, name: str) -> Split:
        """A split, with what our methods generate in it."""
        events = self.dataset.indices(name)
        parts = [self.comparison.score(part) for part in parts_of(self.dataset, events)]
        columns = {method: join([part.columns[method] for part in parts]) for method in OURS}
        covered = {m: np.concatenate([part.covered[m] for part in parts]) for m in (RECORDED, *OURS)}
        judged = veto_scores.judge(self.dataset, events, Levels.of(columns, covered))
        return Split(judged, triggers_of(self.dataset, name))


def hveto(home: Home, dataset: Dataset) -> Said:
    """The rounds that hveto chooses by the triggers of the train split. Raises `NotRun`."""
    found = triggers_of(dataset, "train")
    known = segments.joined(column_edges(dataset, dataset.indices("train"))[:, [0, -1]])
    given = {"segments": segments.ends(known), "band": dataset.config.qplot.frange}
    made, minutes = home.ask("hveto", vars(found) | given)
    return made | {"about": np.array(json.dumps({"minutes": minutes, "triggers": len(found.time)}))}


def scores_of(test: Split, vetoed: Array, tally: vetoes.Tally, seed: int) -> dict[str, float | None]:
    """hveto's figures of merit of veto segments (V, 2)."""
    figures = vetoes.figures([tally], seed, 200)
    chance = vetoes.chance(vetoed, test.judged.watch)
    names = ("efficiency", "deadtime", "efficiency_over_deadtime", "use_percentage")
    return {n: figures[n].at(0).value for n in names} | {"significance": chance.significance}


def peers_scores(rounds: Rounds, validation: Split, test: Split, seed: int) -> dict[str, Any]:
    """Of all rounds, and of so many that cost no more of the validation split than each of `DEADTIMES`."""
    tallies = [validation.tally(rounds, first) for first in range(len(rounds.winner) + 1)]
    chosen = {f"hveto, all {len(rounds.winner)} rounds": len(rounds.winner)}
    for percent, most in DEADTIMES.items():
        cheap = [k for k, one in enumerate(tallies) if one["seconds"].sum() <= most * one["analysed"].sum()]
        chosen[f"hveto, {percent} % of time"] = max(cheap)
    return {
        name: scores_of(test, test.vetoed(rounds, first), test.tally(rounds, first), seed)
        for name, first in chosen.items()
    }


def our_scores(validation: Split, test: Split, rule: Rule, seed: int) -> dict[str, Any]:
    """The same of our methods, at the thresholds that the validation split chooses."""
    table, _ = veto_scores.veto_table(test.judged, validation.judged, rule, Veto(), Bootstrap(seed, 200))
    found = {}
    for name, one in table["methods"].items():
        for row in one["chosen"]:
            if row["cost"] == "deadtime":
                names = ("efficiency", "deadtime", "efficiency_over_deadtime", "use_percentage")
                figures = {n: row[n]["value"] for n in names} | {
                    "significance": row["chance"]["significance"]
                }
                found[f"{name}, {row['percent']} % of time"] = figures
    return found


def records(home: Home, store: str) -> list[dict[str, Any]]:
    """The record of hveto and our vetoes on the test split of a stretch."""
    dataset = open_store(store)
    stretch, seed = Stretch(dataset, veto_scores.cluster_rule(dataset, Evaluate())), dataset.config.seed
    validation, test = stretch.split("validation"), stretch.split("test")
    methods, about = our_scores(validation, test, stretch.rule, seed), {}
    print("== hveto", flush=True)
    try:
        made, more = home.kept("hveto", partial(hveto, home, dataset))
        rounds = Rounds(made["winner"], made["window"], made["least"])
        for k, winner in enumerate(rounds.winner):
            told = (dataset.channels[winner], rounds.window[k], rounds.least[k], made["significance"][k])
            print("   round {}: {}, window {:g} s, SNR {:g}, significance {:.0f}".format(k + 1, *told))
        found = peers_scores(rounds, validation, test, seed)
        methods, about = methods | found, {name: {"sees": False} | more for name in found}
    except NotRun as reason:
        about["hveto"] = {"sees": False, "error": str(reason)}
    watch = test.judged.watch
    together = {
        "glitches": int(np.isfinite(watch.glitch).sum()),
        "events": len(watch.edges),
        "methods": plain(methods),
    }
    task = {"task": f"peers, vetoes of {abs(watch.known):.0f} s", "seed": seed, "minutes": {}}
    return [task | {"families": {challenge.TOGETHER: together}, "peers": about}]
