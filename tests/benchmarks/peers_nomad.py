"""What gw-nomad expects of a stretch in which noise is modulated all the time, beside our filters; see peers.py.

    frames of a stretch -> fitted to its first seconds -> what is left of the rest, second by second (analysis/truth.py)

The stretch is of the detector of configs/stretch.yaml without what a stationary filter has no hope of: each second a
vibration times a slow swing (the family `bilinear`, a witness for each), and noise that a third witness shares. Shapes:
C channel (the strain first), N sample.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import challenge
import numpy as np
from igwn_segments import segment, segmentlist
from peers_home import Home, NotRun, Said

from glitchflow.analysis import truth
from glitchflow.config import Experiment, Source, load
from glitchflow.methods.compare import lengths
from glitchflow.score.statistics import Bootstrap
from glitchflow.score.table import plain
from glitchflow.signal.derive import append_derived
from glitchflow.signal.recorded.recording import read_channel
from glitchflow.signal.types import Array
from glitchflow.signal.wiener import Wiener, cross_spectra, fit_wiener

CONFIG = Path(__file__).parents[2] / "configs" / "stretch.yaml"
START, FITTED, END = 1_400_000_000, 768, 1280  # GPS s, s, s
PIECE, BEFORE = 64, 8  # s of a block that our filters see at once, and of what they see beyond it
OTHERS = ("scattered_light", "sine_gaussian", "ringdown", "whistle", "blip", "chirp")
KEYS = (
    f"stretch.duration={END}",
    "stretch.signals=0",
    "simulate.detector.rate=1",
    "simulate.detector.drift.noise=0",
    "simulate.detector.drift.coupling=0",
    "simulate.detector.faults.rate=0",
    f"simulate.detector.families={{{', '.join(f'{name}: {{weight: 0}}' for name in OTHERS)}}}",
    "simulate.detector.subsystems=[{name: PEM, count: 2, rate: 512, telling: 1, shared: 0.5, band: [12, 40]}]",
)
WITNESSES = ("SIM:ACC_X", "SIM:ACC_Y", "SIM:SUS", "SIM:PEM_1", "SIM:PEM_2")
SWING = "SIM:ASC"  # which modulates
ORDERS = {"gw-nomad, order 0": 0, "gw-nomad, order 1": 1}

Expected = Callable[
    [int, int], Array
]  # GPS second, seconds -> what a method expects of the strain there, (N,)


@dataclass(frozen=True)
class Frames:
    """The stretch, as frame files."""

    path: Path
    made: Experiment

    @property
    def rate(self) -> int:
        """Hz of the strain, and of every witness here."""
        return int(self.made.series.sample_rate)

    def read(self, names: tuple[str, ...], start: int, seconds: int) -> Array:
        """Series (C, N) of some channels from a GPS second on."""
        sources = [Source(name=name, files=[f"{self.path}/*.gwf"]) for name in names]
        return np.stack([read_channel(source, start, seconds, self.rate) for source in sources])

    def witnesses(self, derived: bool, start: int, seconds: int) -> Array:
        """Series (C, N) of the witnesses, and of what is derived from them."""
        names = (*WITNESSES, SWING)
        found = self.read(names, start, seconds)
        made = self.made.derived if derived else []
        return append_derived(found, names, made, self.rate, np.random.default_rng(start))

    @property
    def stretch(self) -> truth.Stretch:
        """The same as what is measured by its truth."""
        strain, none = (
            self.made.simulate.detector.strain,
            {n: np.zeros(0) for n in ("gps", "snr", "witnessed")},
        )
        recorded, harm = Source(name=strain, files=[f"{self.path}/*.gwf"]), self.made.harm
        where, band = self.path / "truth", self.made.qplot.frange
        return truth.Stretch(recorded, where, self.rate, band, harm.mass, harm.start, none, none, ([], []))


def frames_of(home: Home) -> Frames:
    """Make the stretch, where it is not there."""
    keys = (*KEYS, f"workdir={home.path / 'modulated'}")
    command = [sys.executable, "-c", "from glitchflow.cli import main; main()", "stretch", str(CONFIG), *keys]
    subprocess.run(command, check=True)
    return Frames(home.path / "modulated" / "frames", load(CONFIG, list(keys)))


def ours(frames: Frames, derived: bool) -> Expected:
    """A Wiener filter of the whole fitted time, by the length and band that `evaluate` has by default."""
    made, starts = frames.made, range(START, START + FITTED, PIECE)
    segment, _ = lengths(made.evaluate, made.series, made.qplot)
    strain = (frames.made.simulate.detector.strain,)
    pieces = (
        (frames.read(strain, start, PIECE), frames.witnesses(derived, start, PIECE)[None]) for start in starts
    )
    wiener: Wiener = fit_wiener(
        cross_spectra(pieces, round(segment * frames.rate)), frames.rate, made.qplot.frange
    )
    return lambda start, seconds: wiener.predict(frames.witnesses(derived, start, seconds)[None])[0]


def nomad(home: Home, frames: Frames, order: int) -> Said:
    """What gw-nomad says of the seconds that it was not fitted to. Raises `NotRun`."""
    job = {
        "target": frames.made.simulate.detector.strain,
        "frames": sorted(str(path) for path in frames.path.glob("*.gwf")),
        "witnesses": WITNESSES,
        "modulations": [SWING],
        "rate": frames.rate,
        "band": frames.made.qplot.frange,
        "order": order,
        "train": (START, START + FITTED),
        "apply": (START + FITTED, START + END),
    }
    made, minutes = home.ask("gw-nomad", job)
    return made | {"about": np.array(json.dumps({"minutes": minutes}))}


def said(made: Said) -> Expected:
    """What a peer said from some GPS second on; nothing before and after."""
    series, start, rate = made["said"], int(made["start"]), int(made["rate"])

    def expected(first: int, seconds: int) -> Array:
        whole, at = np.zeros(seconds * rate), (first - start) * rate
        low, high = max(at, 0), min(at + len(whole), len(series))
        whole[low - at : high - at] = series[low:high]
        return whole

    return expected


def measured(frames: Frames, methods: Mapping[str, Expected], first: int, last: int) -> dict[str, Any]:
    """What methods leave from one GPS second to another; see `truth.measure`."""
    stretch, known = frames.stretch, segmentlist([segment(first, last)])

    def treated(strain: Array, start: int) -> dict[str, Array]:
        seconds = len(strain) // frames.rate
        return {name: strain - expected(start, seconds) for name, expected in methods.items()}

    spans = truth.spans_of([(START, START + END)], known)
    found = {span: truth.second_by_second(stretch, treated, span) for span in spans}
    return plain(truth.measure(stretch, found, known, {}, Bootstrap(frames.made.seed, 200)))


def records(home: Home) -> list[dict[str, Any]]:
    """The record of gw-nomad and our filters on the seconds that all of them have something to say of."""
    frames, about = frames_of(home), {name: {"sees": False} for name in ORDERS}
    methods: dict[str, Expected] = {
        "nothing": lambda start, seconds: np.zeros(seconds * frames.rate),
        "wiener": ours(frames, derived=False),
        "wiener_derived": ours(frames, derived=True),
    }
    first, last = START + FITTED + PIECE, START + END - BEFORE
    for name, order in ORDERS.items():
        print(f"== {name}", flush=True)
        try:
            made, more = home.kept(name, partial(nomad, home, frames, order))
        except NotRun as reason:
            about[name]["error"] = str(reason)
            continue
        about[name] |= more
        methods[name] = said(made)
        first = max(first, int(made["start"]) + BEFORE)
        last = min(last, int(made["start"]) + len(made["said"]) // int(made["rate"]) - BEFORE)
    found = measured(frames, methods, first, last)
    scores = {name: {s: one[s]["value"] for s in ("residual", "noise_added")} for name, one in found.items()}
    together = {
        "glitches": None,
        "events": last - first,
        "methods": {n: {s: v for s, v in one.items() if v is not None} for n, one in scores.items()},
    }
    minutes = {name: one["minutes"] for name, one in about.items() if "minutes" in one}
    task = {"task": f"peers, {last - first} s of modulated noise", "seed": frames.made.seed}
    return [task | {"minutes": minutes, "families": {challenge.TOGETHER: together}, "peers": about}]
