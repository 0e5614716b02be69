"""`glitchflow event CONFIG GPS`: one page about one time, `events/GPS.html`, that needs nothing from a network.

Shapes: C channel, N sample, F frequency, T time, V variant left out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glitchflow.analysis.event.said import left_out, loudest, others, say_of, truth_of
from glitchflow.analysis.event.survive import survival
from glitchflow.analysis.event.window import Window, window_at
from glitchflow.analysis.infer import load_network
from glitchflow.analysis.opened import Opened, open_run
from glitchflow.analysis.report import charts
from glitchflow.analysis.report.page import environment
from glitchflow.config import Evaluate, Experiment, Harm, Veto
from glitchflow.data.objects import write_text
from glitchflow.errors import InputError
from glitchflow.figures.qplots import series_rows, witnesses_and_strain
from glitchflow.figures.subtraction import Subtracted, subtracted
from glitchflow.methods.table import NETWORK, NOTHING
from glitchflow.score import clusters, segments
from glitchflow.signal.types import Array, Energies
from glitchflow.train.checkpoint import open_checkpoint

DRAWN = 6  # witnesses that are drawn: more are no longer looked at, and the table has all
ZOOM = 0.5  # share of what Q-plots show, about the loudest moment of what is removed, that is drawn of witnesses' parts
FAINTEST = 20.0  # a colour scale never ends below, so that noise does not look like a signal


@dataclass(frozen=True)
class Found:
    """Holds what the page tells: what was recorded, what is said of it, and what each witness has to do with that."""

    window: Window
    whole: Array  # (N,) what the network removes
    without: dict[str, Array]  # (N,) the same by the witness, or the group, that is left out
    methods: dict[str, Array | str]  # what others remove (N,), or why they say nothing
    truth: Array | None  # (N,) the witnessed part; None where nobody knows it
    signals: list[dict[str, Any]]  # what is kept of signals there, see `survival`


def event(experiment: Experiment, gps: float) -> Path:
    """Write `workdir/events/GPS.html` and return its path.

    Raises `InputError` where a store is missing, the network is not there any more, or nothing shows the strain at
    this time.
    """
    run = open_run(experiment)
    if not run.network.exists():
        raise InputError(
            f"{run.network}: is not there any more; train again, or say infer.checkpoint and infer"
        )
    window = window_at(run.dataset, experiment.ingest.channels, gps)
    found = find(run, window, experiment.evaluate, experiment.harm, experiment.clean.threshold)
    path = Path(experiment.workdir) / "events" / f"{gps:.3f}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(found, gps, experiment.evaluate, experiment.veto))
    return path


def find(run: Opened, window: Window, settings: Evaluate, harm: Harm, threshold: float) -> Found:
    """Ask the network, and others, about a window."""
    network, ready = open_checkpoint(run.network), load_network(str(run.network))
    whole = say_of(window, ready, threshold, {})
    return Found(
        window,
        whole,
        left_out(window, network, ready, run.basis, settings, threshold),
        others(window, run.basis, settings, threshold),
        truth_of(run.dataset, window.event),
        survival(window, ready, threshold, harm, whole),
    )


def render(found: Found, gps: float, settings: Evaluate, veto: Veto) -> str:
    """Fill the page's template: HTML as a string."""
    window, (series, energies) = found.window, found.window.views(found.whole)
    drawn = Subtracted("", window.rate, series, energies, *window.axes)
    return (
        environment()
        .get_template("event.html")
        .render(
            gps=gps,
            store=window.dataset.path,
            about=about(window),
            subtracted=charts.svg(subtracted([drawn])),
            carried=charts.svg(_carried(found)),
            seen=charts.svg(_seen(found)),
            witnesses=witnesses(found),
            groups=[row for row in shares(found) if row["name"] not in window.dataset.channels],
            methods=methods(found),
            signals=found.signals,
            vetoes=vetoes(window, energies, settings, veto),
            threshold=settings.veto,
            levels=levels(window, energies, settings),
            network=NETWORK,
        )
    )


def about(window: Window) -> dict[str, Any]:
    """Say what a store knows of an event; of a time that only files show, its middle."""
    known: dict[str, Any] = {"middle": window.gps, "event": window.event}
    if window.event is None:
        return known
    dataset, some = window.dataset, np.array([window.event])
    snr, split = float(dataset.events("snr", some)[0]), int(dataset.events("split", some)[0])
    return known | {
        "label": dataset.labels[int(dataset.events("label", some)[0])],
        "snr": snr if snr > 0 else None,
        "split": ("train", "validation", "test")[split] if split in (0, 1, 2) else "none",
    }


# -- numbers -----------------------------------------------------------------------------------------------------


def shares(found: Found) -> list[dict[str, Any]]:
    """List, of each witness or group, the share of the power that is removed which changes without it, and the SNR that
    is removed then."""
    names, white = list(found.without), found.window.seen.whiten
    whole, *parts = white(np.stack([found.whole, *found.without.values()])[None])[0]
    power = float(np.square(whole).sum())
    rows = [
        {
            "name": name,
            "share": float(np.square(whole - part).sum()) / power if power else 0.0,
            "removed": _snr(part),
        }
        for name, part in zip(names, parts, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["share"])


def witnesses(found: Found) -> list[dict[str, Any]]:
    """List the channels: the loudest pixel of each, and what it carries; the strain first, then by that."""
    window, carried = found.window, {row["name"]: row for row in shares(found)}
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "valid": bool(valid),
            "energy": energy,
            "time": time,
            "frequency": frequency,
            "share": carried[name]["share"] if name in carried else 0.0,
            "removed": carried[name]["removed"] if name in carried else None,
        }
        for name, valid, (energy, time, frequency) in zip(
            window.dataset.channels, window.valid, loudest(window), strict=True
        )
    ]
    return [rows[0] | {"share": None}, *sorted(rows[1:], key=lambda row: (-row["share"], -row["energy"]))]


def methods(found: Found) -> list[dict[str, Any]]:
    """List what each method removes and leaves over the span that Q-plots show: SNR removed, power left over that
    recorded, and of simulated events `left`."""
    window = found.window
    rows: list[dict[str, Any]] = []
    time = (np.arange(window.series.shape[1]) - window.series.shape[1] // 2) / window.rate
    shown = (time >= window.axes[1][0]) & (time <= window.axes[1][-1])
    nothing = np.zeros_like(found.whole)
    truth = None if found.truth is None else window.seen.whiten(found.truth[None, None])[0, 0, shown]
    for name, removed in {NETWORK: found.whole, **found.methods, NOTHING: nothing}.items():
        if isinstance(removed, str):
            rows.append({"name": name, "why": removed})
            continue
        recorded, taken, left = window.views(removed)[0][:, shown]
        power = float(np.square(left).sum() / np.square(recorded).sum())
        wrong = None if truth is None else float(np.square(truth - taken).sum() / np.square(truth).sum())
        rows.append({"name": name, "why": "", "removed": _snr(taken), "power": power, "left": wrong})
    return rows


def levels(window: Window, energies: Energies, settings: Evaluate) -> dict[str, float]:
    """Find the highest energy at which the strain has a cluster, as recorded, as removed and as left."""
    clamped = np.maximum(energies, 0).astype(np.float32)
    found = clusters.cluster_level(clamped, clusters.pixel_areas(*window.axes), settings.area)
    return dict(zip(("recorded", "removed", "left"), found.tolist()))


def vetoes(window: Window, energies: Energies, settings: Evaluate, veto: Veto) -> list[tuple[float, float]]:
    """Find the veto segments, GPS s, as `clean` writes them: where what is removed has a cluster."""
    frequency, time = window.axes
    removed = np.maximum(energies[1:2], 0).astype(np.float32)
    areas = clusters.pixel_areas(frequency, time)
    covered = clusters.cluster_columns(removed, np.array([settings.veto]), areas, settings.area) > 0
    edges = window.gps + np.append(time, 2 * time[-1] - time[-2])[None]
    spans = segments.covered_spans(covered, edges)
    active = segments.veto_segments(spans, segments.joined(edges[:, [0, -1]]), veto.padding, veto.minimum)
    return [(float(start), float(stop)) for start, stop in active]


def _snr(white: Array) -> float:
    return float(np.sqrt(np.square(white).sum()))


# -- figures -----------------------------------------------------------------------------------------------------


def _carried(found: Found) -> Any:
    """What is removed, white, and what of it goes with each of the witnesses that carry most."""
    window, channels = found.window, found.window.dataset.channels
    names = [row["name"] for row in shares(found) if row["name"] in channels][:DRAWN]
    parts = [found.whole, *(found.whole - found.without[name] for name in names)]
    white = window.seen.whiten(np.stack(parts)[None])[0]
    samples, half = white.shape[1], round(ZOOM / 2 * np.ptp(window.axes[1]) * window.rate)
    at, shown = (np.arange(samples) - samples // 2) / window.rate, window.axes[1]
    loudest = np.where((shown[0] <= at) & (at <= shown[-1]), np.abs(white[0]), -1).argmax()
    middle = int(np.clip(loudest, half, samples - half))
    part = slice(middle - half, middle + half)
    time = at[part]
    return series_rows(
        {"white strain": white[:, part]}, ["removed", *(f"with {name}" for name in names)], time
    )


def _seen(found: Found) -> Any:
    """Q-plots of the strain and of the witnesses that carry most, or are loudest."""
    window = found.window
    names = [row["name"] for row in witnesses(found)][: 1 + DRAWN]
    images = window.energies[[window.dataset.channels.index(name) for name in names]]
    top = max(FAINTEST, float(images[0].max()))
    return witnesses_and_strain(images, names, *window.axes, maximum=top)
