"""What a coherent twin makes of what it never saw: `python tests/benchmarks/coherent_rows.py RUN DATASET [RUN ...]`.

RUN is a directory in which configs/coherent.yaml was trained, DATASET what it learned from; one pair a seed. Makes new
events of the same detector, beyond those of the dataset, and prints, as markdown, what the trained twin, the same
before its first step, a constant times the strain, the Wiener filter of the recorded witnesses, and the reference
leave of their witnessed part: alone, overlapping, and while gains drift. Then what they put into quiet strain of bursts
that witnesses alone hear. Nothing is trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.config import Experiment, load
from glitchflow.data.store import Dataset, open_store
from glitchflow.methods.method import Block, Truth
from glitchflow.methods.reference import Reference
from glitchflow.signal.simulation.couplings import draw_coupling
from glitchflow.signal.simulation.instrument import draw_instrument
from glitchflow.signal.simulation.recipe import build_recipe
from glitchflow.signal.simulation.timeline import make
from glitchflow.signal.streams import generator
from glitchflow.signal.types import Event, Recipe
from glitchflow.signal.wiener import Wiener, cross_spectra, fit_wiener
from glitchflow.train import checkpoint
from glitchflow.twin.front import Front
from glitchflow.twin.kind import Trained

CONFIG = Path(__file__).parents[2] / "configs" / "coherent.yaml"
FIRST = 1_000_000  # index of the first new event: no dataset has as many
APART = 7200.0  # s between them: two memories of a drift
TRAIN, BLOCK, SEGMENT = 400, 32, 1.0  # events of a filter, events at once, s
LOUD = 5.0  # SNR of a glitch that is made
OTHER = 100  # a stream of random numbers that the simulator does not use
FAST = ("SIM:ACC_X", "SIM:ACC_Y", "SIM:MIC")  # witnesses of what is not slow
DRIFT = "simulate.detector.drift={}"
LINEAR = ("sine_gaussian", "ringdown", "whistle")
HEARING: dict[str, Callable[[int], list[str]]] = {  # by number of the burst
    "a burst in one fast witness": lambda number: [FAST[number % len(FAST)]],
    "in all of them, by other ways than to the strain": lambda _: list(FAST),
}
SITUATIONS = {
    "one at a time": (),
    "1 a second besides": ("simulate.detector.rate=1",),
    "one in 4 s besides": ("simulate.detector.rate=0.25",),
    "gains drift by 20 %": (DRIFT.format("{coupling: 0.2}"),),
    "by 20 %, and each is away for a tenth of the time": (DRIFT.format("{coupling: 0.2, away: 0.1}"),),
}


@dataclass(frozen=True)
class Twin:
    """A trained twin of one seed, and what is fitted to the same events: a filter, and a constant."""

    seed: int
    dataset: Dataset
    trained: Trained
    initial: Trained
    wiener: Wiener
    gain: float  # of the white strain, that leaves least of the witnessed part of what the twin learned from

    @property
    def front(self) -> Front:
        assert isinstance(self.trained.normalisation, Front), "a coherent twin's"
        return self.trained.normalisation

    def white(self, series: NDArray) -> NDArray:
        """The judged middle of series (E, N) in the strain's unit, white."""
        middle, half = series.shape[-1] // 2, round(self.front.span * self.front.rate / 2)
        return self.front.strain(torch.from_numpy(series)).numpy()[:, middle - half : middle + half]

    def power(self, series: NDArray) -> NDArray:
        """The sum of squares (E,) of that."""
        return np.square(self.white(series)).sum(axis=1)

    def removed(self, series: NDArray) -> dict[str, NDArray]:
        """What each method says of recorded series (E, R, N): (E, N) each."""
        names = self.dataset.recorded_channels
        said = self.trained.predict(series, names, BLOCK)
        return {
            "constant": self.gain * series[:, 0],
            "untrained": self.initial.predict(series, names, BLOCK)["removed"],
            "Wiener": self.wiener.predict(series[:, 1:]),
            "y": said["estimate"],
            "twin": said["removed"],
        }


Columns = dict[str, NDArray]  # of events, by name


METHODS = ("constant", "untrained", "Wiener", "twin", "reference")  # what is left by them
PUT_IN = ("constant", "untrained", "Wiener", "y", "twin")


def opened(run: str, store: str) -> Twin:
    dataset = open_store(store)
    checkpoints = Path(run) / "train" / "checkpoints"
    trained, initial = (checkpoint.find(checkpoints, name).trained() for name in ("best", "initial"))
    front, some = trained.normalisation, dataset.indices("train")[:TRAIN]
    assert isinstance(front, Front), "a coherent twin's"
    places = list(range(len(dataset.recorded_channels)))
    starts = range(0, len(some), BLOCK)
    blocks = (
        dataset.events("series", some[start : start + BLOCK], places).astype(np.float64) for start in starts
    )
    spectra = cross_spectra(((block[:, 0], block[:, 1:]) for block in blocks), round(SEGMENT * front.rate))
    wiener = fit_wiener(spectra, front.rate, front.band)
    twin = Twin(dataset.config.seed, dataset, trained, initial, wiener, 0.0)
    both = power = 0.0
    for start in starts:
        events = some[start : start + BLOCK]
        w = twin.white(dataset.events("witnessed_series", events).astype(np.float64))
        strain = twin.white(dataset.events("series", events, [0])[:, 0].astype(np.float64))
        both, power = both + float((w * strain).sum()), power + float(np.square(strain).sum())
    return replace(twin, gain=both / power)


def detector(twin: Twin, keys: Sequence[str]) -> tuple[Experiment, Recipe]:
    """The detector that a twin was trained on, with other keys."""
    experiment = load(str(CONFIG), [f"seed={twin.seed}", f"simulate.stride={APART}", *keys])
    parts = experiment.simulate, experiment.series, experiment.derived, experiment.seed
    recipe = build_recipe(*parts)
    known = twin.dataset.couplings["linear"]
    if any(known[name] != path for name, path in recipe.couplings["linear"].items()):
        raise SystemExit(f"{twin.dataset.path}: has other couplings than {CONFIG} with its seed")
    return experiment, recipe


def referenced(experiment: Experiment, recipe: Recipe, events: Sequence[Event], recorded: NDArray) -> NDArray:
    """What the reference removes of events, (E, N): all witnesses are there, in the detector's order."""
    instrument = draw_instrument(experiment.simulate.detector, experiment.series, experiment.seed)[0]
    places = list(range(recorded.shape[1] - 1))
    truth = Truth(None, np.stack([one.witnessed for one in events]), np.array([one.label for one in events]))  # type: ignore[arg-type]
    block = Block(
        events=np.arange(len(events)),
        gps=np.array([one.gps for one in events]),
        energies=None,  # type: ignore[arg-type]
        strain=recorded[:, 0],
        witnesses=recorded[:, 1:],
        valid=np.ones((len(events), len(places)), bool),
        rate=experiment.series.sample_rate,
        shown=[],
        truth=truth,
    )
    found = Reference(instrument, recipe.labels, recipe.witnessed, places).removed(block).series
    assert found is not None, "a method of series"
    return found


def heard(twin: Twin, event: Event) -> int:
    """How many witnessed transients have their centres in what is judged of an event."""
    half = twin.front.span / 2
    return sum(one.witnessed and abs(one.gps - event.gps) < half for one in event.transients)


def situation(twin: Twin, keys: Sequence[str], count: int) -> Columns:
    """New events of the twin's detector with other keys: how many transients are `heard`, the power `there` of w, and
    what each method leaves of it, (E,) each."""
    experiment, recipe = detector(twin, keys)
    channels = len(twin.dataset.recorded_channels)
    parts = []
    for numbers in batches(count):
        events = [recipe.event(number) for number in numbers]
        recorded = np.stack([one.series[:channels] for one in events])
        w, removed = np.stack([one.witnessed for one in events]), twin.removed(recorded)
        if not experiment.simulate.detector.timeline:  # of several at a time it would be no bound
            removed["reference"] = referenced(experiment, recipe, events, recorded)
        left = {name: twin.power(w - series) for name, series in removed.items()}
        parts.append(
            {"heard": np.array([heard(twin, one) for one in events]), "there": twin.power(w), **left}
        )
    return joined(parts)


def batches(count: int) -> Iterator[range]:
    """Indices of new events, as many as are made at once."""
    last = FIRST + count
    return (range(start, min(start + BLOCK, last)) for start in range(FIRST, last, BLOCK))


def joined(parts: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# -- bursts that the strain never hears --------------------------------------------------------------------------


def given(rng: np.random.Generator, _name: str) -> np.random.Generator:
    return rng


def bursts(twin: Twin, hearing: Callable[[int], list[str]], count: int) -> Columns:
    """The power of what each method makes of quiet time in which witnesses alone hear a burst, (E,) each, and of the
    same without it (`NAME, quiet`). Each burst has ways of its own to the witnesses."""
    experiment, recipe = detector(twin, ["simulate.detector.background=1"])
    settings, series, seed = experiment.simulate.detector, experiment.series, experiment.seed
    instrument, _ = draw_instrument(settings, series, seed)
    channels = len(twin.dataset.recorded_channels)
    time = np.arange(series.samples) / series.sample_rate - series.duration / 2
    parts = []
    for numbers in batches(count):
        quiet = np.stack([recipe.event(number).series[:channels] for number in numbers])
        loud = quiet.copy()
        for recorded, number in zip(loud, numbers, strict=True):
            rng, family = generator(seed, OTHER, number), LINEAR[number % len(LINEAR)]
            way, _ = draw_coupling(settings, "elsewhere", hearing(number), series, seed, partial(given, rng))
            shaken = replace(instrument, couplings={family: way})
            snr = float(np.exp(rng.uniform(*np.log(settings.snr))))
            made = make(shaken, family, rng, time, experiment.simulate.time(number), snr, 0)
            for channel, added in made.heard.items():
                recorded[channel] += added
        said = {
            name + words: twin.power(removed)
            for words, recorded in (("", loud), (", quiet", quiet))
            for name, removed in twin.removed(recorded).items()
        }
        parts.append(said)
    return joined(parts)


# -- what is printed ---------------------------------------------------------------------------------------------


def over_seeds(values: Sequence[float], form: str) -> str:
    """The mean, and each seed's."""
    if not len(values) or np.isnan(values).any():
        return "–"
    each = " / ".join(format(value, form) for value in values)
    return f"{np.mean(values):{form}} ({each})"


def left(columns: Columns, method: str, some: NDArray) -> float:
    some = some & (columns["there"] >= 1)
    return float(columns[method][some].sum() / columns["there"][some].sum()) if method in columns else np.nan


def lines_of(words: str, rows: Sequence[Columns]) -> Iterator[str]:
    """Rows of the table of what is left: of events by how many transients they hear, where that differs."""
    several = any((columns["heard"] > 1).any() for columns in rows)
    cuts = {", one heard": (1, 1), ", two": (2, 2), ", three and more": (3, 99)} if several else {"": (1, 1)}
    for which, (least, most) in cuts.items():
        chosen = [(columns["heard"] >= least) & (columns["heard"] <= most) for columns in rows]
        cells = [
            over_seeds(
                [left(columns, method, some) for columns, some in zip(rows, chosen, strict=True)], ".3f"
            )
            for method in METHODS
        ]
        yield f"| {words}{which} | {sum(some.sum() for some in chosen)} | 1 | " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", metavar="RUN DATASET")
    parser.add_argument("--events", type=int, default=400, help="of each row and seed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    twins = [opened(*pair) for pair in zip(arguments.pairs[::2], arguments.pairs[1::2], strict=True)]
    print(f"| left | events | nothing | {' | '.join(METHODS)} |\n" + "|---" * (3 + len(METHODS)) + "|")
    for words, keys in SITUATIONS.items():
        rows = [situation(twin, keys, arguments.events) for twin in twins]
        print("\n".join(lines_of(words, rows)), flush=True)
    head = f"share given an SNR > {LOUD:g}, median SNR"
    print(f"\n| {head} | {' | '.join(PUT_IN)} |\n" + "|---" * (1 + len(PUT_IN)) + "|")
    for words, hearing in HEARING.items():
        rows = [bursts(twin, hearing, arguments.events) for twin in twins]
        for which, name in ((", quiet", "no burst"), ("", words)):
            if which and words != next(iter(HEARING)):
                continue
            cells = []
            for method in PUT_IN:
                found = np.sqrt(np.stack([columns[method + which] for columns in rows]))
                cells.append(f"{over_seeds((found > LOUD).mean(axis=1), '.1%')}, {np.median(found):.1f}")
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
