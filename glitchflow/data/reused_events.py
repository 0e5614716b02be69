"""Events that are there already: the series of another store, or ready Q-plots in an HDF5 file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import h5py
import numpy as np

from glitchflow.config import Experiment, parse, upgrade
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError
from glitchflow.signal.types import Event, Recipe

VIRGO = "virgo_dataset"  # the interTwin Virgo use case's only dataset: (event, channel, time, frequency), strain first
NEIGHBOURS = 32  # events of a file without times that share a split


def stored_series(experiment: Experiment) -> Recipe:
    """The events of a store that kept its series: to make their Q-plots anew with other settings."""
    path = experiment.ingest.series_from
    old = store.open_store(path)
    if "series" not in old:
        raise InputError(f"ingest.series_from = {path}: has no series; generate it with store.series=float32")
    before = parse(upgrade(old.attributes["config"]), path)
    if before.series != experiment.series:
        raise InputError(
            f"ingest.series_from = {path}: has series of {before.series}, not {experiment.series}"
        )
    if before.derived != experiment.derived:
        raise InputError(
            f"ingest.series_from = {path}: holds derived channels already; take its `derived` over as it is"
        )
    if Path(path) == experiment.dataset:
        raise InputError(f"ingest.series_from = {path}: is what would be written; choose another workdir")
    gps, block = np.asarray(old["gps"][:]), experiment.split.block
    recorded = old.attributes["recorded"]
    return Recipe(
        events=len(old),
        channels=old.channels,
        labels=old.labels,
        witnessed=old.attributes["witnessed_labels"],
        couplings=old.attributes["couplings"],
        event=partial(_stored_event, old),
        split_key=(lambda i: int(gps[i] // block)) if recorded else int,
        recorded=recorded,
    )


def _stored_event(old: store.Dataset, index: int) -> Event:
    known = "witnessed_series" in old
    return Event(
        series=np.asarray(old["series"][index]),
        witnessed=np.asarray(old["witnessed_series"][index]) if known else None,
        label=int(np.asarray(old["label"][index])),
        gps=float(np.asarray(old["gps"][index])),
        snr=float(np.asarray(old["snr"][index])),
    )


def ready_qplots(experiment: Experiment) -> Recipe:
    """The events of an HDF5 file of Q-plots, one dataset `virgo_dataset` (event, channel, time, frequency) float32.

    Channels are named by `ingest.channels` where it is given. Raises `InputError` for another dataset or shape.
    """
    path, (f, t) = experiment.ingest.qplots_from, experiment.qplot.shape
    try:
        with h5py.File(path) as file:
            shape = file[VIRGO].shape
    except (OSError, KeyError) as error:
        raise InputError(
            f"ingest.qplots_from = {path}: no HDF5 file with a dataset {VIRGO}: {error}"
        ) from None
    if len(shape) != 4 or shape[2:] != (t, f) or shape[1] < 2:
        raise InputError(
            f"ingest.qplots_from = {path}: {VIRGO} is of shape {shape}, not (event, channel, {t}, {f}) as qplot.shape"
            " (frequency, time) says, with at least one witness"
        )
    names = [c.name for c in experiment.ingest.channels] or [
        "STRAIN",
        *(f"AUX_{i}" for i in range(1, shape[1])),
    ]
    if len(names) != shape[1]:
        raise InputError(f"ingest.channels: {len(names)} names for the {shape[1]} channels of {path}")
    return Recipe(
        events=shape[0],
        channels=names,
        labels=["background", "recorded"],
        witnessed=[],
        couplings={},
        event=partial(_ready_event, path),
        split_key=lambda i: i // NEIGHBOURS,
        recorded=True,
    )


def _ready_event(path: str, index: int) -> Event:
    """One event; the file knows neither its time nor its SNR."""
    with h5py.File(path) as file:
        energy = np.asarray(file[VIRGO][index], dtype=np.float32).transpose(0, 2, 1)
    bad = "" if np.isfinite(energy).all() else "not a number in its Q-plots"
    return Event(np.empty((0, 0)), None, 1, float("nan"), float("nan"), np.nan_to_num(energy), bad)
