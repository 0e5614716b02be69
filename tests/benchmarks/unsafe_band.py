"""What a filter takes of signals where its witness is unsafe: `python tests/benchmarks/unsafe_band.py`.

On the sea floor the pressure gauge sees, above 0.3 Hz, what the seismometer sees: of what moves the ground both tell. A
Wiener filter of the gauge and the horizontals is fitted to the first half of 2012-03-03 in a safe band (tilt and
compliance) and in the unsafe one, and judged on the second: the power that it leaves there, and the share of the SNR^2
that it leaves of signals, sweeps over the band that move the ground. These reach the gauge by the filter that predicts
it from the vertical, in the band where it sees the ground alone. GLITCHFLOW_TEST_DATA is the directory that m08a/ lies
in: docs/seafloor.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import h5py
import numpy as np
from scipy.signal import chirp, get_window, welch

from glitchflow.signal.types import Array
from glitchflow.signal.wiener import Wiener, cross_spectra, fit_wiener

RATE = 5.0  # Hz
FIRST, SECOND = 1014768015, 1014811215  # GPS s: the halves of 2012-03-03
END = 1200 * 5  # samples at a day's ends that the source tapered
BANDS = {"0.02-0.05 Hz": ((0.02, 0.05), 500.0, False), "0.3-1 Hz": ((0.3, 1.0), 100.0, True)}
CHANNELS = ("M08A:BHZ", "M08A:BH1", "M08A:BH2", "M08A:BDH")


def read(gps: int) -> Array:
    """Half a day of all channels (C, N), the vertical first."""
    name = f"m08a/O-M08A_R-{gps}-43200.hdf5"
    with h5py.File(Path(os.environ["GLITCHFLOW_TEST_DATA"]) / name) as file:
        return np.stack([file[channel][:].astype(np.float64) for channel in CHANNELS])


def fitted(target: Array, others: Array, segment: float, band: tuple[float, float]) -> Wiener:
    """The filters of some channels (W, N) that predict another (N,)."""
    spectra = cross_spectra([(target[None], others[None])], 2 * round(segment * RATE / 2))
    return fit_wiener(spectra, RATE, band)


def row(band: tuple[float, float], segment: float, unsafe: bool) -> tuple[float, float]:
    """The power left in a band of the vertical, and the share of the signals' SNR^2 that is left."""
    first, second = read(FIRST)[:, END:], read(SECOND)[:, :-END]
    wiener = fitted(first[0], first[1:], segment, band)
    left = second[0] - wiener.predict(second[None, 1:])[0]
    frequency, before = welch(second[0], RATE, nperseg=1024 * 5)
    _, after = welch(left, RATE, nperseg=1024 * 5)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    time = np.arange(round(20 * segment * RATE)) / RATE
    signal = chirp(time, band[0], time[-1], band[1]) * get_window("hann", len(time))
    heard = np.zeros((3, len(time)))
    if unsafe:
        heard[2] = fitted(first[3], first[:1], segment, band).predict(signal[None, None])[0]
    kept = np.fft.rfft(np.stack([signal, signal - wiener.predict(heard[None])[0]]))
    at = np.fft.rfftfreq(len(time), 1 / RATE)
    weight = np.where((at >= band[0]) & (at <= band[1]), 1 / np.interp(at, frequency, before), 0)
    own, across = ((weight * kept[0].conj() * one).sum().real for one in kept)
    return float(after[inside].sum() / before[inside].sum()), float((across / own) ** 2)


def main() -> int:
    print("| band | witness | power left | SNR^2 of signals left |\n|---|---|---|---|")
    for name, (band, segment, unsafe) in BANDS.items():
        power, kept = row(band, segment, unsafe)
        print(f"| {name} | {'unsafe' if unsafe else 'safe'} | {power:.3g} | {kept:.3g} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
