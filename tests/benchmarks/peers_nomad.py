"""What gw-nomad expects of a strain whose noise is modulated all the time, beside our filters; see peers.py.

    white noise -> strain and witnesses -> frames -> fitted to the first seconds -> what is left of the rest

What shakes the detector reaches the strain twice: as it is, and as a vibration times a slow swing, each of twice the
strain's own power in a band, each by a resonance of its own. A witness hears each of the three. Shapes: N sample.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import challenge
import numpy as np
from peers_franc import Data
from peers_home import Home, NotRun, Said
from scipy.signal import iirpeak, lfilter

from glitchflow.config import Derived
from glitchflow.data.frames import write_frame
from glitchflow.signal.derive import append_derived
from glitchflow.signal.simulation.noise import advanced_detector_asd
from glitchflow.signal.types import Array, Indices
from glitchflow.signal.wiener import cross_spectra, fit_wiener

SEED, RATE, BAND = 1, 512, (10.0, 200.0)  # Hz
START, FITTED, END, FRAME = 1_400_000_000, 768, 1280, 64  # GPS s, s, s, s
STRAIN, STEADY, VIBRATION, SWING = "SIM:STRAIN", "SIM:GROUND", "SIM:ACC", "SIM:ASC"
PRODUCT = Derived(name="SIM:ACC_ASC", function="product", channels=[VIBRATION, SWING])
SEGMENT = 1.0  # s of our filters: ten periods of the lowest frequency, as `evaluate.segment` is by default
SENSOR = 0.1  # noise of each witness over what it hears
SLOWEST, FASTEST = 0.05, 0.5  # Hz of the swing
EDGE = 8  # s that are not judged at either end: what whitening spoils there
ORDERS = {"gw-nomad, order 0": 0, "gw-nomad, order 1": 1}


@dataclass(frozen=True)
class Made:
    """Series (N,): of each channel in its own unit, and w, what the three put into the strain."""

    series: dict[str, Array]
    witnessed: Array


def within(series: Array, low: float, high: float) -> Array:
    """What of a series lies in a band, Hz."""
    spectrum, frequency = np.fft.rfft(series), np.fft.rfftfreq(len(series), 1 / RATE)
    return np.fft.irfft(np.where((frequency >= low) & (frequency <= high), spectrum, 0), len(series))


def scaled(series: Array, asd: Array) -> Array:
    """A series times an amplitude at each frequency of it."""
    return np.fft.irfft(np.fft.rfft(series) * asd, len(series))


def asd_of(samples: int) -> Array:
    """Amplitude of the strain's own noise for unit white noise, in its unit, at each frequency of so many samples."""
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), BAND[0] / 2)
    return advanced_detector_asd(frequency) * np.sqrt(RATE / 2)


def make() -> Made:
    """All that is known, the same each time."""
    rng, samples = np.random.default_rng(SEED), END * RATE
    steady, vibration, own = (within(rng.standard_normal(samples), *BAND) for _ in range(3))
    swing = within(rng.standard_normal(samples), SLOWEST, FASTEST)
    swing /= swing.std()
    paths = (lfilter(*iirpeak(f, 3, RATE), x) for f, x in ((35.0, steady), (60.0, vibration * swing)))
    witnessed = sum(np.sqrt(2) * own.std() * one / one.std() for one in paths)
    heard = {STEADY: steady, VIBRATION: vibration, SWING: swing}
    series = {n: x + SENSOR * x.std() * rng.standard_normal(samples) for n, x in heard.items()}
    series[SWING] = within(series[SWING], 0, 5)  # its sensor is slow
    asd = asd_of(samples)
    return Made({STRAIN: scaled(own + witnessed, asd)} | series, scaled(witnessed, asd))


def frames(made: Mapping[str, Array], directory: Path) -> list[str]:
    """The channels (N,) as frame files, made where they are not there."""
    directory.mkdir(exist_ok=True)
    paths = []
    for first in range(0, len(made[STRAIN]) // RATE, FRAME):
        path = directory / f"S-SIM_MODULATED-{START + first}-{FRAME}.gwf"
        some = slice(first * RATE, (first + FRAME) * RATE)
        if not path.exists():
            series = {name: one[some].copy() for name, one in made.items()}
            write_frame(path, START + first, FRAME, series, "gwf", "format")
        paths.append(str(path))
    return paths


def ours(made: Made, derived: bool) -> Array:
    """What a Wiener filter of the fitted seconds expects of the strain (N,)."""
    names = [STEADY, VIBRATION, SWING]
    series = np.stack([made.series[name] for name in names])
    given = append_derived(series, names, [PRODUCT] if derived else [], RATE, np.random.default_rng(SEED))
    strain, fitted = made.series[STRAIN][None], slice(FITTED * RATE)
    spectra = cross_spectra([(strain[:, fitted], given[None, :, fitted])], round(SEGMENT * RATE))
    return fit_wiener(spectra, RATE, BAND).predict(given[None])[0]


def nomad(home: Home, made: Made, order: int) -> Said:
    """What gw-nomad says of the seconds that it was not fitted to. Raises `NotRun`."""
    job = {
        "target": STRAIN,
        "frames": frames(made.series, home.path / "modulated"),
        "witnesses": [STEADY, VIBRATION],
        "modulations": [SWING],
        "rate": RATE,
        "band": BAND,
        "order": order,
        "train": (START, START + FITTED),
        "apply": (START + FITTED, START + END),
    }
    said, minutes = home.ask("gw-nomad", job)
    return said | {"about": np.array(json.dumps({"minutes": minutes}))}


def joined(data: Data, events: Indices) -> tuple[Indices, Array]:
    """The seconds that windows of recorded data show, and their whitened series (C, N) as one, the target first: the
    middle of each window, which its ends have not spoiled, wherever there is one."""
    made, white = data.dataset.config, data.series(events)
    samples, span = made.series.samples, round(made.qplot.span * made.series.sample_rate)
    middle = slice((samples - span) // 2, (samples + span) // 2)
    first = starts(data, events)
    whole = np.full((white.shape[1], np.ptp(first) + samples), np.nan)
    for place, one in zip(first - first.min(), white):
        part = whole[:, place : place + samples]
        np.copyto(part, one, where=np.isnan(part))
        part[:, middle] = one[:, middle]
    known = np.isfinite(whole[0])
    return first.min() + np.flatnonzero(known), whole[:, known]


def starts(data: Data, events: Indices) -> Indices:
    """The first sample (E,) of each window, counted from GPS 0."""
    made = data.dataset.config.series
    start = (data.dataset.events("gps", events) - made.duration / 2) * made.sample_rate
    return np.rint(start).astype(np.int64)


def of_windows(home: Home, data: Data, band: tuple[float, float]) -> Said:
    """What gw-nomad, order 0, says of the test windows of recorded data, fitted to a band, Hz.

    All its lengths and rates are those of a band from some 10 Hz: what it is handed is played as fast as `RATE` has it.
    Raises `NotRun`.
    """
    test, samples = data.events("test"), data.dataset.config.series.samples
    (_, learned), (seconds, judged) = (joined(data, data.events(split)) for split in ("train", "test"))
    block = FRAME * RATE
    fitted, asked = (
        learned.shape[1] // block,
        -(-(judged.shape[1] + RATE) // block),
    )  # it keeps the last second
    judged = np.pad(judged, ((0, 0), (0, asked * block - judged.shape[1])))
    series = np.concatenate([learned[:, -fitted * block :], judged], axis=1)
    names = [STRAIN, *(f"SIM:{name.replace(':', '_')}" for name in data.witnesses)]
    begun, rate = START + fitted * FRAME, data.dataset.config.series.sample_rate
    job = {
        "target": STRAIN,
        "frames": frames(dict(zip(names, series)), home.path / "windows"),
        "witnesses": names[1:],
        "modulations": np.array([], str),
        "rate": RATE,
        "band": [edge * RATE / rate for edge in band],
        "order": 0,
        "train": (START, begun),
        "apply": (
            begun - 2 * FRAME,
            begun + asked * FRAME,
        ),  # it begins a file late, and its first one is dropped
    }
    said, minutes = home.ask("gw-nomad", job)
    found = np.zeros(len(seconds))
    first = round((float(said["start"]) - begun) * RATE)
    if first > 0:
        raise NotRun(f"says nothing of the first {first / rate:g} s")
    some = said["said"][-first:][: len(found)]
    found[: len(some)] = some
    place = np.searchsorted(seconds, starts(data, test))
    white = np.stack([found[p : p + samples] for p in place])
    return {
        "events": test,
        "series": data.white.colour(white),
        "about": np.array(json.dumps({"minutes": minutes})),
    }


def placed(said: Said) -> Array:
    """What a peer said from some GPS second on, among all samples (N,); not a number where it said nothing."""
    whole = np.full(END * RATE, np.nan)
    first = round((float(said["start"]) - START) * RATE)
    whole[first : first + len(said["said"])] = said["said"]
    return whole


def scores(made: Made, expected: Mapping[str, Array]) -> Iterator[tuple[str, dict[str, float]]]:
    """By method `residual`, and `power_left` of the whole strain, in the band and in units of its own noise, over those
    samples after the fitted ones of which every method says something."""
    known = np.flatnonzero(np.isfinite(sum(expected.values())))
    judged = slice(max(known[0], FITTED * RATE) + EDGE * RATE, known[-1] + 1 - EDGE * RATE)
    asd = asd_of(END * RATE)

    def power(series: Array) -> float:
        white = scaled(np.nan_to_num(series), 1 / asd)
        return float(np.square(within(white, *BAND)[judged]).sum())

    w, strain = made.witnessed, made.series[STRAIN]
    for name, one in expected.items():
        left = {"residual": power(w - one) / power(w), "power_left": power(strain - one) / power(strain)}
        yield name, left


def records(home: Home) -> list[dict[str, Any]]:
    """The record of gw-nomad and our filters on the seconds that all of them have something to say of."""
    made = make()
    about: dict[str, dict[str, Any]] = {name: {"sees": False} for name in ORDERS}
    expected = {
        "nothing": np.zeros(END * RATE),
        "wiener": ours(made, False),
        "wiener_derived": ours(made, True),
    }
    for name, order in ORDERS.items():
        print(f"== {name}", flush=True)
        try:
            said, more = home.kept(name, partial(nomad, home, made, order))
        except NotRun as reason:
            about[name]["error"] = str(reason)
            continue
        about[name] |= more
        expected[name] = placed(said)
    together = {"glitches": None, "events": 1, "methods": dict(scores(made, expected))}
    minutes = {name: one["minutes"] for name, one in about.items() if "minutes" in one}
    task = {"task": "peers, modulated noise", "seed": SEED, "minutes": minutes}
    return [task | {"families": {challenge.TOGETHER: together}, "peers": about}]
