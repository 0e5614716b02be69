"""Events that are there already: the series of another store, or ready Q-plots in an HDF5 file."""

from functools import partial
from typing import Any

import h5py
import numpy as np

from glitchflow.config import Ingest
from glitchflow.data.content import Content
from glitchflow.data.store import Dataset, open_store
from glitchflow.errors import InputError, RunError, printable
from glitchflow.signal.types import Event, Recipe, Transient

NEIGHBOURS = 32  # events of a file without times that share a split


def stored_series(content: Content) -> Recipe:
    """The events of a store that kept its series: to make their Q-plots anew with other settings.

    Raises `InputError` for one without series, or with others than `series` and `derived` say.
    """
    path = content.ingest.series_from
    old = open_store(path)
    if "series" not in old:
        raise InputError(f"ingest.series_from = {path}: has no series; generate it with store.series=float32")
    before = old.config
    if before.series != content.series:
        raise InputError(f"ingest.series_from = {path}: has series of {before.series}, not {content.series}")
    if before.derived != content.derived:
        raise InputError(
            f"ingest.series_from = {path}: holds derived channels already; take its `derived` over as it is"
        )
    labels = old["label"][:]
    return Recipe(
        events=len(old),
        channels=old.channels,
        labels=old.labels,
        witnessed=old.witnessed_labels,
        couplings=old.couplings,
        event=partial(_stored_event, old),
        split_key=int,
        recorded=old.recorded,
        times=old["gps"][:] if old.recorded else None,
        shared="shared_series" in old,
        label=lambda i: int(labels[i]),
        attributes={
            "rates": old.attributes.get("rates", {}),
            "derived_seed": old.attributes.get("derived_seed", before.seed),
        },
    )


def _stored_event(old: Dataset, index: int) -> Event:
    one = np.array([index])
    return Event(
        series=old.all_series(one)[0],
        witnessed=old["witnessed_series"][index].astype(np.float64) if "witnessed_series" in old else None,
        label=int(old["label"][index]),
        gps=float(old["gps"][index]),
        snr=float(old["snr"][index]),
        skipped=old.skipped.get(index, ""),
        transient=old["transient_series"][index][0].astype(np.float64) if "transient_series" in old else None,
        transients=_transients(old, index),
        valid=old["valid"][index] if "valid" in old else None,
        shared=old["shared_series"][index].astype(np.float64) if "shared_series" in old else None,
    )


def _transients(old: Dataset, index: int) -> tuple[Transient, ...]:
    if "transient_event" not in old:
        return ()
    family, gps, snr, witnessed = (old[f"transient_{name}"] for name in ("family", "gps", "snr", "witnessed"))
    return tuple(
        Transient(int(family[row]), float(gps[row]), float(snr[row]), bool(witnessed[row]))
        for row in np.flatnonzero(old["transient_event"][:] == index)
    )


def ready_qplots(ingest: Ingest, pixels: tuple[int, int]) -> Recipe:
    """The events of an HDF5 file of Q-plots: one dataset (event, channel, time, frequency) float32, strain first.

    pixels: (F, T) of an image. Channels are named by `ingest.channels` where it is given. What the file says of itself,
    as the seed it was made with, is kept among the attributes; the axes of its images it does not say.
    Raises `InputError` for another dataset or shape.
    """
    path, name, (f, t) = ingest.qplots_from, ingest.qplots_dataset, pixels
    try:
        with h5py.File(path) as file:
            told = {key: _plain(value) for one in (file, file[name]) for key, value in one.attrs.items()}
            shape: tuple[int, ...] = getattr(file[name], "shape", ())
    except Exception as error:  # noqa: BLE001  h5py raises anything on a bad file
        raise InputError(
            f"ingest.qplots_from = {path}: no HDF5 file with a dataset ingest.qplots_dataset = {name}: {error}"
        ) from None
    if len(shape) != 4 or shape[2:] != (t, f) or shape[1] < 2:
        raise InputError(
            f"ingest.qplots_from = {path}: {name} is of shape {shape}, not (event, channel, {t}, {f}) as qplot.shape"
            " (frequency, time) says, with at least one witness"
        )
    names = [c.name for c in ingest.channels] or ["STRAIN", *(f"AUX_{i}" for i in range(1, shape[1]))]
    if len(names) != shape[1]:
        raise InputError(f"ingest.channels: {len(names)} names for the {shape[1]} channels of {path}")
    return Recipe(
        events=shape[0],
        channels=names,
        labels=["background", "recorded"],
        witnessed=[],
        couplings={},
        event=partial(_ready_event, path, name, (shape[1], f, t)),
        split_key=lambda i: i // NEIGHBOURS,
        recorded=True,
        attributes={"axes": "not known", "qplots_attributes": told},
    )


def _plain(value: Any) -> Any:
    """An attribute of HDF5 as JSON."""
    plain = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    return plain if isinstance(plain, bool | int | float | str | list) else str(plain)


def _ready_event(path: str, name: str, shape: tuple[int, int, int], index: int) -> Event:
    """One event of shape (C, F, T); the file knows neither its time nor its SNR. One that cannot be read is skipped.

    Raises `RunError` where the file cannot be opened: then it is not the event that is bad.
    """
    try:
        file = h5py.File(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be opened: {printable(str(error))}") from None
    with file:
        try:
            energy = np.asarray(file[name][index], dtype=np.float32).transpose(0, 2, 1)
            bad = "" if np.isfinite(energy).all() else "not a number in its Q-plots"
        except Exception as error:  # noqa: BLE001  h5py raises anything on a bad file
            energy, bad = np.zeros(shape, np.float32), f"{path}: {printable(str(error))}"
    return Event(np.empty((0, 0)), None, 1, float("nan"), float("nan"), np.nan_to_num(energy), bad)
