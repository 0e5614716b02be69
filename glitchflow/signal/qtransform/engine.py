"""The Q-transform that the sections of an experiment describe."""

import warnings
from typing import Any

import numpy as np
import torch

from glitchflow.config import QPlot, Series, Whiten
from glitchflow.errors import InputError
from glitchflow.signal.qtransform.transform import QTransform
from glitchflow.signal.types import Array
from glitchflow.signal.whiten import asd_frequencies


def build_engine(
    series: Series,
    qplot: QPlot,
    whiten: Whiten,
    invalid: str = "raise",
    asd: Array | None = None,
    limits: Array | None = None,
) -> QTransform:
    """Builds the Q-transform of series of this length and rate, whitened and shown as the sections say.

    invalid: "raise" or "mask" dead channels. asd: (A,) or (C, A) in series units / sqrt(Hz), at `asd_frequencies` of
    `whiten.fftlength`, which a store keeps and `whiten.asd: dataset` and `file` whiten by; without it a file is read,
    and what depends on a dataset's is not whitened. limits: (C,) Hz, see `QTransform`.
    Raises `InputError` where there is no such transform.
    """
    if whiten.asd == "file" and asd is None:
        asd = read_asd(whiten.file, series.sample_rate, whiten.fftlength)
    by: Any = whiten.asd == "event" if asd is None else torch.from_numpy(_to_nyquist(asd, series, whiten))
    settings = {name: getattr(qplot, name) for name in ("frange", "mismatch", "select")}
    settings |= _image(series, qplot, whiten) | (
        {"qrange": qplot.qrange} if qplot.q is None else {"q": qplot.q}
    )
    settings |= {"fduration": whiten.length, "fftlength": whiten.fftlength, "highpass": whiten.highpass}
    settings |= {"kind": whiten.filter, "limits": limits}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a band cut short, which is refused here
            engine = QTransform(series.duration, series.sample_rate, whiten=by, invalid=invalid, **settings)
    except ValueError as error:
        raise InputError(f"qplot: {error}") from None
    low, high = qplot.frange
    if engine.frange[1] < high:
        raise InputError(
            f"qplot.frange = [{low:g}, {high:g}]: the lowest Q, {float(engine.qs[0]):.3g}, reaches"
            f" {engine.frange[1]:g} Hz at series.sample_rate = {series.sample_rate:g}"
        )
    return engine


def whitened(engine: QTransform, series: Array) -> Array:
    """Returns (E, C, N) series as an engine whitens them before it takes their tiles."""
    return engine._condition(torch.from_numpy(series), 0)[0].numpy()


def _image(series: Series, qplot: QPlot, whiten: Whiten) -> dict[str, Any]:
    """Returns the engine's settings for what of the whole Q-plot is shown."""
    if qplot.window == "fixed":
        start = (series.duration - qplot.span) / 2
        return {"outseg": (start, start + qplot.span), "shape": qplot.shape, "logf": qplot.log_frequency}
    outseg = (whiten.settle, series.duration - whiten.settle)
    return {"outseg": outseg, "tres": qplot.tres, "fres": qplot.fres, "crop": qplot.shape}


def _to_nyquist(asd: Array, series: Series, whiten: Whiten) -> Array:
    """Returns an ASD that ends at Nyquist, as the transform wants it; of a periodogram of odd length it does not."""
    known = asd_frequencies(series.sample_rate, whiten.fftlength)
    wanted = np.linspace(0, series.sample_rate / 2, asd.shape[-1])
    if known[-1] == wanted[-1]:
        return np.asarray(asd)
    return np.apply_along_axis(lambda row: np.interp(wanted, known, row), -1, asd)


def read_asd(path: str, sample_rate: float, fftlength: float | None) -> Array:
    """Reads amplitude spectral densities from text: a column of Hz, then one for all channels or one a channel.

    Returns (A,), or (C, A), at `asd_frequencies`: interpolated on a doubly logarithmic scale, constant beyond the ends;
    at 0 Hz what the file says, if it does.
    Raises `InputError` for a file that cannot be read, descending frequencies, or a value that is not positive.
    """
    try:
        table = np.loadtxt(path, ndmin=2).T
    except (OSError, ValueError) as error:
        raise InputError(f"whiten.file = {path}: cannot be read: {error}") from None
    known, values = table[0, table[0] > 0], table[1:, table[0] > 0]
    good = len(values) and np.isfinite(table).all() and (values > 0).all() and (np.diff(known) > 0).all()
    if not good or len(known) < 2:
        raise InputError(
            f"whiten.file = {path}: needs ascending Hz and a column of positive 1/sqrt(Hz), or one a channel"
        )
    wanted = np.log(np.maximum(asd_frequencies(sample_rate, fftlength), known[0]))
    rows = np.exp([np.interp(wanted, np.log(known), np.log(row)) for row in values])
    if table[0, 0] == 0 and (table[1:, 0] > 0).all():
        rows[:, 0] = table[1:, 0]
    return rows[0] if len(rows) == 1 else rows
