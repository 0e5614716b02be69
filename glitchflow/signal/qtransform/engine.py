"""The Q-transform that the sections of an experiment describe."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.config.sections import QPlot, Series, Whiten
from glitchflow.errors import InputError
from glitchflow.signal.qtransform.transform import QTransform


def build_engine(
    series: Series, qplot: QPlot, whiten: Whiten, invalid: str = "raise", asd: NDArray | None = None
) -> QTransform:
    """Builds the Q-transform of series of this length and rate, whitened and shown as the sections say.

    invalid: "raise" or "mask" dead channels. asd: (A,) or (C, A) on 0 ... Nyquist, in series units / sqrt(Hz), to
    whiten by where `whiten.asd` names none itself.
    Raises `InputError` where there is no such transform.
    """
    if whiten.asd == "file":
        asd = read_asd(whiten.file, series)
    by: Any = whiten.asd == "event" if asd is None else torch.from_numpy(asd)
    settings = {name: getattr(qplot, name) for name in ("frange", "mismatch", "select")}
    settings |= _image(series, qplot, whiten) | (
        {"qrange": qplot.qrange} if qplot.q is None else {"q": qplot.q}
    )
    settings |= {"fduration": whiten.length, "fftlength": whiten.fftlength, "highpass": whiten.highpass}
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


def _image(series: Series, qplot: QPlot, whiten: Whiten) -> dict[str, Any]:
    """Returns the engine's settings for what of the whole Q-plot is shown."""
    if qplot.window == "fixed":
        start = (series.duration - qplot.span) / 2
        return {"outseg": (start, start + qplot.span), "shape": qplot.shape, "logf": qplot.log_frequency}
    outseg = (whiten.settle, series.duration - whiten.settle)
    return {"outseg": outseg, "tres": qplot.tres, "fres": qplot.fres, "crop": qplot.shape}


def read_asd(path: str, series: Series) -> NDArray[np.float64]:
    """Reads amplitude spectral densities (C, A) from a text file: Hz from 0 to Nyquist evenly, then a column a channel.

    They are in series units / sqrt(Hz). One column comes back as (A,), which serves every channel. Raises
    `InputError` for another grid, a value that is not positive, or a file that cannot be read.
    """
    try:
        table = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(f"whiten.file = {path}: cannot be read: {error}") from None
    nyquist, frequency = series.sample_rate / 2, table[:, 0]
    if len(table) < 2 or not np.allclose(frequency, np.linspace(0, nyquist, len(table)), atol=1e-6 * nyquist):
        raise InputError(f"whiten.file = {path}: must be evenly spaced from 0 to {nyquist:g} Hz, Nyquist")
    values = table[:, 1:].T
    if not len(values) or not (np.isfinite(values).all() and (values[:, 1:-1] > 0).all()):
        raise InputError(f"whiten.file = {path}: must have a column of positive values in 1/sqrt(Hz)")
    return values[0] if len(values) == 1 else np.ascontiguousarray(values)
