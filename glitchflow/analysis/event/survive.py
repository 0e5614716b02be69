"""Whether a signal would survive there: compact binaries are added to the strain where what is removed is loudest.

Signals are in the strain alone, as those of `evaluate` are: what a network makes of the witnesses stays, and one that
fits to the strain, or masks it, is asked again. A signal is loudest just before it ends, so that where the worst place
for it is depends on it: it is tried to end at the loudest moment and some later ones, and the worst one is told.

Shapes: S signal, N sample.
"""

from typing import Any

import numpy as np

from glitchflow.analysis.evaluate.injections import in_band
from glitchflow.analysis.evaluate.signals import BANK, Heard, Signal
from glitchflow.analysis.event.said import say_of
from glitchflow.analysis.event.window import Window
from glitchflow.config import Harm
from glitchflow.errors import InputError
from glitchflow.progress import say
from glitchflow.score import matched
from glitchflow.signal.types import Array
from glitchflow.twin.estimate import estimator_of, shown_of
from glitchflow.twin.kind import Trained

LATER = (
    0.0,
    0.01,
    0.025,
    0.05,
    0.1,
)  # after the loudest moment, of the span that Q-plots show: signals' ends


def survival(
    window: Window, network: Trained, threshold: float, harm: Harm, whole: Array
) -> list[dict[str, Any]]:
    """List, of a light, a middling and a heavy signal of `harm.mass`, the share of its SNR that is kept at worst.

    Each has the least SNR of `harm.snr`, in which a fit to the strain tells it least from noise. whole: what the
    network removes (N,) of the strain as it is. Nothing where `harm.signals` is 0, nothing is removed, or, with a line
    that says so, where no signal sweeps through the band.
    """
    removed = np.abs(window.seen.whiten(whole[None, None])[0, 0])
    if not harm.signals or not removed.any():
        return []
    try:
        in_band(harm, window.dataset.config.qplot.frange)
    except InputError as reason:
        say(f"no signals are tried: {reason}")
        return []
    (shown,) = shown_of(window.dataset, np.array([window.event or 0]))
    heard = Heard(estimator_of(window.dataset), window.series[0], shown)
    judged = (heard.time >= window.axes[1][0]) & (heard.time <= window.axes[1][-1])
    loudest = float(heard.time[np.where(judged, removed, 0).argmax()])
    rows = []
    for mass in np.geomspace(*harm.mass, 3).tolist():
        ends = [loudest + later * float(np.ptp(window.axes[1])) for later in LATER]
        kept = _kept(
            window, network, threshold, whole, heard, [_made(heard, harm, mass, end) for end in ends]
        )
        worst = int(np.argmin(kept))
        rows.append({"mass": mass, "snr": harm.snr[0], "time": ends[worst], "kept": kept[worst]})
    return rows


def _made(heard: Heard, harm: Harm, mass: float, end: float) -> Array:
    """A signal (N,) of the least SNR in the strain's unit."""
    signal = Signal(mass, 0.0, harm.snr[0], end).bank(heard.time, harm.start, BANK[:1])[0]
    spectrum = heard.spectra(signal)
    return np.asarray(signal * (harm.snr[0] / np.sqrt(matched.inner(spectrum, spectrum))))


def _kept(
    window: Window, network: Trained, threshold: float, whole: Array, heard: Heard, signals: list[Array]
) -> list[float]:
    """The share of each signal's SNR that is left of it."""
    kept = []
    for signal in signals:
        taken = say_of(window, network, threshold, {}, window.series[0] + signal) - whole
        kept.append(float(matched.kept(heard.spectra(signal), heard.spectra(signal - taken))))
    return kept
