"""Where the field's own tools stand beside ours: `python tests/benchmarks/peers.py --store DATASET [--workdir DIR]`.

Each peer is installed once into an environment of its own under the working directory (outside the measured time; it is
no dependency of ours), is handed the data that our methods see as a .npz file by peers_bridge.py, which runs there, and
what it hands back is scored as every method is.

    franc     a Wiener filter, one that is fitted anew for each event, and two that adapt (LMS, polynomial LMS): of
              witnesses and a strain that are whitened and kept to the band of the Q-plots, for of raw strain all of
              them overflow. The step of the adapting ones is chosen on the validation split

Prints a table by the scores of docs/scores.md, with whether a method sees the target when it is applied and, of one
that did not run, its error; writes peers.json, whose records are as challenge.py's. What a peer has said is kept, so an
interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import challenge
import numpy as np
from scipy.signal import welch

from glitchflow.analysis.evaluate.evaluate import rows_of
from glitchflow.config import Evaluate, Loader
from glitchflow.data.store import Dataset, open_store
from glitchflow.data.view import read_series
from glitchflow.methods.compare import Comparison, basis_of, lengths, parts_of, train_of
from glitchflow.methods.method import Block, Fit, Method, Removed
from glitchflow.methods.table import METHODS
from glitchflow.score.sample import Scored, join
from glitchflow.score.statistics import Bootstrap
from glitchflow.score.table import plain
from glitchflow.signal.types import Array, Indices

BRIDGE = Path(__file__).with_name("peers_bridge.py")
PACKAGES = {"franc": ("franc==0.3.10",)}
OURS = ("nothing", "wiener", "wiener_derived")
TRAIN, VALIDATION, FEW = (
    300,
    60,
    50,
)  # events: fitted to, tuned on, and of a filter that is fitted anew for each
TAPS = 128  # 0.25 s at 512 Hz: the longest that keeps the polynomial filter within minutes
MIDDLE = 8.0  # s of an event that a filter is applied to which is fitted anew for each
LIMIT = 600.0  # s in which a peer has to answer
STEPS = (0.003, 0.01, 0.03, 0.1, 0.3)  # of an adapting filter, as a share of the largest stable one
SHOWN = ("residual", "left", "noise_added", "noise_above_5", "snr_left_median", "snr_left_p90")


class NotRun(Exception):
    """Says in a line why a peer did not run."""


# -- another environment ---------------------------------------------------------------------------------------------


def environment(home: Path, peer: str) -> Path:
    """The Python of a peer's own environment, made where it is not there. Raises `NotRun` with the last line of pip."""
    where = home / "environments" / peer
    python, done = where / "bin" / "python", where / "installed"
    if not done.exists():
        print(f"== pip install {' '.join(PACKAGES[peer])}", flush=True)
        venv.create(where, with_pip=True, clear=True)
        _checked([str(python), "-m", "pip", "install", "--quiet", *PACKAGES[peer]])
        done.touch()
    return python


def ask(python: Path, peer: str, home: Path, job: Mapping[str, Any]) -> tuple[dict[str, Array], float]:
    """What a peer makes of some arrays and numbers, and the minutes that it took. Raises `NotRun` with its error."""
    given, made = home / f"{peer}_given.npz", home / f"{peer}_made.npz"
    np.savez(given, **job)
    began = time.monotonic()
    _checked([str(python), str(BRIDGE), peer, str(given), str(made)])
    with np.load(made) as found:
        return dict(found), (time.monotonic() - began) / 60


def _checked(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise NotRun(f"no answer in {LIMIT / 60:g} minutes") from None
    if done.returncode < 0:  # what it said before is no reason
        raise NotRun(f"ended by signal {-done.returncode}")
    if done.returncode:
        raise NotRun(last_line(done.stderr) or f"exit status {done.returncode}")


def last_line(text: str) -> str:
    """The last line of a text that says something, without the bars that would split a table's cell."""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return said[-1].replace("|", "/")[:200] if said else ""


# -- what a filter of a peer's is handed -----------------------------------------------------------------------------


@dataclass(frozen=True)
class White:
    """Divides series by amplitude spectral densities within a band, and multiplies by the strain's again."""

    frequency: Array  # (f,) Hz
    asd: Array  # (C, f), the strain's first
    rate: float  # Hz
    band: tuple[float, float]  # Hz

    def _response(self, samples: int) -> Array:
        """(C, f') by which spectra are divided; infinite outside of the band, whose edges are sharp."""
        at = np.fft.rfftfreq(samples, 1 / self.rate)
        inside = (self.band[0] <= at) & (at <= self.band[1])
        asd = np.stack([np.interp(at, self.frequency, one) for one in self.asd])
        return np.where(inside, asd * np.sqrt(self.rate / 2), np.inf)

    def whiten(self, series: Array) -> Array:
        """Series (E, C, N) of all channels in units of their noise: of the whole band a variance of 1 at most."""
        spectrum = np.fft.rfft(series, axis=-1) / self._response(series.shape[-1])
        return np.fft.irfft(spectrum, series.shape[-1])

    def colour(self, white: Array) -> Array:
        """Whitened series (E, N) in the strain's unit; what lies out of the band is 0."""
        response = self._response(white.shape[-1])[0]
        spectrum = np.fft.rfft(white, axis=-1) * np.where(np.isfinite(response), response, 0)
        return np.fft.irfft(spectrum, white.shape[-1])


def white_of(series: Array, rate: float, band: tuple[float, float]) -> White:
    """The median spectrum of each channel over quiet events (E, C, N)."""
    frequency, power = welch(series, rate, nperseg=2 * int(rate), average="median")
    return White(frequency, np.sqrt(np.median(power, axis=0)), rate, band)


@dataclass(frozen=True)
class Data:
    """A dataset, and which of its events are learned from, tuned on and scored."""

    dataset: Dataset
    witnesses: list[str]

    def events(self, split: str, most: int | None = None) -> Indices:
        """Ascending indices of quiet events and those that witnesses explain, spread over a split."""
        some = self.dataset.indices(split)
        known = [0, *(self.dataset.labels.index(name) for name in self.dataset.witnessed_labels)]
        some = some[np.isin(self.dataset.events("label", some), known)]
        return some if most is None else some[np.linspace(0, len(some) - 1, min(most, len(some))).astype(int)]

    @cached_property
    def white(self) -> White:
        """By which all series are whitened: of quiet train events."""
        events = self.events("train", 4 * TRAIN)
        quiet = events[self.dataset.events("label", events) == 0][:64]
        made = self.dataset.config
        return white_of(self._read(quiet), made.series.sample_rate, made.qplot.frange)

    def series(self, events: Indices) -> Array:
        """Whitened series (E, C, N), the strain first."""
        return self.white.whiten(self._read(events)).astype(np.float32)

    def _read(self, events: Indices) -> Array:
        return read_series(self.dataset, events, [self.dataset.channels[0], *self.witnesses])


# -- franc -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filter:
    """A filter of franc's: its class there, and how it is used here."""

    kind: str
    sees: bool  # the target, when it is applied
    derived: bool = False  # it is handed our derived channels beside the recorded ones
    tuned: bool = False  # its step is chosen on the validation split
    few: bool = False  # it is applied to few events


FILTERS = {
    "franc WF": Filter("WienerFilter", sees=False),
    "franc WF, derived": Filter("WienerFilter", sees=False, derived=True),
    "franc LMS": Filter("LMSFilter", sees=True, tuned=True),
    "franc PolyLMS": Filter("PolynomialLMSFilter", sees=True, tuned=True),
    "franc UWF": Filter("UpdatingWienerFilter", sees=True, few=True),
}


@dataclass(frozen=True)
class Said:
    """A peer's w' as a method: (E, N) of ascending events (E,), read back in any order."""

    events: Indices
    series: Array

    def removed(self, block: Block) -> Removed:
        """What the peer said of a block's events; nothing of those that it was not asked about."""
        place = np.minimum(np.searchsorted(self.events, block.events), len(self.events) - 1)
        known = self.events[place] == block.events
        return Removed(series=np.where(known[:, None], self.series[place], 0).astype(np.float64))


def franc(python: Path, home: Path, filter: Filter, dataset: Dataset) -> tuple[Said, dict[str, float]]:
    """What a filter says of the test events, and its minutes and step. Raises `NotRun`."""
    derived = {item.name for item in dataset.config.derived}
    data = Data(dataset, [n for n in dataset.channels[1:] if filter.derived or n not in derived])
    common = {"kind": filter.kind, "taps": TAPS, "train": data.series(data.events("train", TRAIN))}
    about, step = {}, 0.0
    if filter.tuned:
        known = data.events("validation", VALIDATION)
        tried = {**common, "apply": data.series(known), "steps": np.array(STEPS)}
        made, about["minutes of tuning"] = ask(python, "franc", home, tried)
        span = round(dataset.config.qplot.span * dataset.config.series.sample_rate)
        about["step"] = step = best_step(made["said"], tried["apply"][:, 0], span)
    events = data.events("test", FEW if filter.few else None)
    series = data.series(events)
    middle = slice(None)
    if filter.few:
        half = round(MIDDLE / 2 * dataset.config.series.sample_rate)
        middle = slice(series.shape[-1] // 2 - half, series.shape[-1] // 2 + half)
    job = {**common, "apply": series[..., middle], "steps": np.array([step])}
    made, about["minutes"] = ask(python, "franc", home, job)
    said = np.zeros(series[:, 0].shape)
    said[:, middle] = made["said"][0]
    return Said(events, data.white.colour(said)), about


def kept(python: Path, home: Path, name: str, dataset: Dataset) -> tuple[Said, dict[str, float]]:
    """What a filter says, asked once. Raises `NotRun`."""
    file = home / f"{name.replace(' ', '_').replace(',', '')}.npz"
    if not file.exists():
        said, about = franc(python, home, FILTERS[name], dataset)
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, events=said.events, series=said.series, about=json.dumps(about))
        partial.replace(file)
    with np.load(file) as found:
        return Said(found["events"], found["series"]), json.loads(str(found["about"]))


def best_step(said: Array, target: Array, span: int) -> float:
    """The step after which the least power of the target (E, N) is left over the middle `span` samples.

    said: (steps, E, N). The truth is not asked: nobody who tunes on recorded data has it. Raises `NotRun` where with
    every step all overflows.
    """
    first = (target.shape[-1] - span) // 2
    with np.errstate(over="ignore", invalid="ignore"):
        left = np.square(target - said)[..., first : first + span].sum(axis=(1, 2))
    if not np.isfinite(left).any():
        raise NotRun("overflows with every step")
    return STEPS[int(np.nanargmin(np.where(np.isfinite(left), left, np.nan)))]


# -- scores ----------------------------------------------------------------------------------------------------------


def scored(dataset: Dataset, events: Indices, said: Mapping[str, Said]) -> Scored:
    """Numbers per event of our methods and of peers, over the same events."""
    basis, settings = basis_of(dataset, Loader()), Evaluate()
    segment, band = lengths(settings, dataset.config.series, dataset.config.qplot)
    train = train_of(basis, 0.0, None, {}, segment)
    rows = {name: METHODS[name] for name in OURS}
    fitted = {name: row.fit(train) for name, row in rows.items()}
    rows |= {name: Method(lambda train, one=one: one, seeing=False) for name, one in said.items()}
    comparison = Comparison(
        dataset, Fit(rows, {**fitted, **said}, basis.channels[1:], train.floor, band), None, True
    )
    parts = [comparison.score(part) for part in parts_of(dataset, events)]
    about = {name: dataset.events(name, events) for name in ("label", "gps", "snr")}
    columns = {name: join([part.columns[name] for part in parts]) for name in rows}
    return Scored(
        events, **about, loudness=np.concatenate([p.loudness for p in parts]), columns=columns, covered={}
    )


def some_of(scored: Scored, events: Indices) -> Scored:
    """The same of some of the events."""
    place = np.searchsorted(scored.events, events)
    columns = {m: {n: v[place] for n, v in one.items()} for m, one in scored.columns.items()}
    rows = {name: getattr(scored, name)[place] for name in ("label", "gps", "snr", "loudness")}
    return Scored(events, **rows, columns=columns, covered={})


def record(
    task: str, dataset: Dataset, scored: Scored, about: Mapping[str, dict[str, Any]]
) -> challenge.Record:
    """A record as challenge.py's, and of each peer what else is known: `sees`, minutes, step, error."""
    rows, seed = rows_of(dataset, Evaluate().quiet, None), dataset.config.seed
    metrics = {"families": plain(rows.table(scored, Bootstrap(seed, 200)))}
    minutes = {name: one["minutes"] for name, one in about.items() if "minutes" in one}
    return challenge.record_of(task, seed, metrics, minutes, OURS[0]) | {"peers": dict(about)}


def tables(records: Sequence[challenge.Record]) -> Iterator[str]:
    """A table a record: scores of all witnessed families together, what a method sees, what it took, and errors."""
    for one in records:
        peers = one["peers"]
        rows = {}
        for method in [*challenge.methods([one]), *(name for name in peers if "error" in peers[name])]:
            scores = one["families"][challenge.TOGETHER]["methods"].get(method, {})
            rows[method] = [*(cell(scores.get(score)) for score in SHOWN), *told(peers.get(method, {}))]
        columns = (*SHOWN, "sees the target", "minutes", "step or error")
        together = one["families"][challenge.TOGETHER]
        yield challenge.table(
            f"{one['task']}: seed {one['seed']}, {together['glitches']} glitches", columns, rows
        )


def cell(value: float | None) -> str:
    """A number to three digits; a dash where there is none."""
    return "–" if value is None else f"{value:.3g}"


def told(about: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a table says of a method besides its scores; one of ours, of which nothing is said, is blind."""
    other = about.get("error") or cell(about.get("step"))
    return "yes" if about.get("sees") else "no", cell(about.get("minutes")), other


def subtraction(store: str, home: Path) -> list[challenge.Record]:
    """Records of the filters: all but the slow one over the test split, and all over the few events that it did."""
    dataset = open_store(store)
    said, about = {}, {}
    for name, filter in FILTERS.items():
        print(f"== {name}", flush=True)
        about[name] = {"sees": filter.sees}
        try:
            said[name], more = kept(environment(home, "franc"), home, name, dataset)
            about[name] |= more
        except NotRun as reason:
            about[name]["error"] = str(reason)
        print(f"   {about[name]}", flush=True)
    data = Data(dataset, [])
    found = scored(dataset, data.events("test"), said)
    few = some_of(found, data.events("test", FEW))
    slow = {name for name, filter in FILTERS.items() if filter.few}
    found = Scored(**{**vars(found), "columns": {n: c for n, c in found.columns.items() if n not in slow}})
    fast = {name: one for name, one in about.items() if name not in slow}
    return [record("peers", dataset, found, fast), record(f"peers, {FEW} events", dataset, few, about)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/peers"))
    parser.add_argument(
        "--store", required=True, help="a simulated dataset with series (store.series=float32)"
    )
    arguments = parser.parse_args()
    home = arguments.workdir.resolve()
    home.mkdir(parents=True, exist_ok=True)
    made = home / "peers.json"
    if not made.exists():
        made.write_text(json.dumps(subtraction(arguments.store, home), indent=1))
    print("\n".join(tables(json.loads(made.read_text()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
